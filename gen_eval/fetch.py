"""From (sources, sha256) to a verified file on this machine.

A file may be had from several places: a plain https address, a member of a wheel on a package index, a
member of an npm tarball; several files of one place are joined. Package indexes reach machines that plain
hosts do not (clusters with a mirror, CI), so they are sources of their own. Whatever is returned has been
checked against its sha256 on this very call, except for a file that the user names in the asset's
environment variable.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock
from platformdirs import user_cache_dir

from gen_eval.download import Https, HttpsFiles, Npm, Source, UnreachableError, Wheel, download
from gen_eval.errors import ChecksumMismatch, FetchError, UsageError
from gen_eval.progress import Progress, silent

__all__ = [
    "Asset",
    "Https",
    "HttpsFiles",
    "Npm",
    "Wheel",
    "add",
    "cache_dir",
    "cached",
    "fetch",
    "find",
    "is_offline",
    "named_by_user",
    "sha256_of",
    "verify",
]

_CHUNK = 1 << 18


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


def cache_dir() -> Path:
    """The folder of fetched files: ``GEN_EVAL_CACHE``, or where the system keeps a user's caches."""
    chosen = os.environ.get("GEN_EVAL_CACHE")
    return Path(chosen).expanduser() if chosen else Path(user_cache_dir("gen_eval"))


def named_by_user(asset: Asset) -> Path | None:
    """The file that stands in the asset's environment variable, which need not be one of its files.

    Raises:
        FetchError: if the variable names no file.
    """
    own = os.environ.get(asset.env) if asset.env else None
    if not own:
        return None
    path = Path(own).expanduser()
    if not path.is_file():
        raise FetchError(f"{asset.env} names {path}, which is not a file. Correct it or unset it.")
    return path


def find(asset: Asset) -> Path | None:
    """The asset's file if it is on this machine, without any use of the network.

    Looks at the asset's environment variable, then in the cache, then in installed packages (which are
    not imported).

    Raises:
        FetchError: if the environment variable names no file.
    """
    if own := named_by_user(asset):
        return own
    for source in asset.sources:
        path = _cache_path(asset, source)
        if path.is_file() and sha256_of(path) == source.sha256:
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
    if is_offline(offline):
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
    found = sha256_of(file)
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
    return [(path, sha256_of(path) == expected[path]) for path in cached(asset)]


def is_offline(offline: bool | None) -> bool:
    """Whether the network is off, for the caller or in the environment."""
    if offline is not None:
        return offline
    return os.environ.get("GEN_EVAL_OFFLINE", "").lower() not in ("", "0", "false", "no")


def sha256_of(path: Path) -> str:
    """Of a file, in hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


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
        if not isinstance(source, Wheel) or not isinstance(source.member, str):
            continue
        try:
            located = importlib.metadata.distribution(source.package).locate_file(source.member)
        except importlib.metadata.PackageNotFoundError:
            continue
        path = Path(str(located))
        if path.is_file() and sha256_of(path) == source.sha256:
            return path
    return None


def _failure(asset: Asset, what: str, reasons: Sequence[tuple[Source, str]]) -> FetchError:
    lines = [f"{asset.name} {what}:"]
    lines += [f"  {source}: {' '.join(reason.split())}" for source, reason in reasons]
    if asset.env:
        lines.append(f"If you have a copy of the file, set {asset.env} to its path.")
    return FetchError("\n".join([*lines, asset.advice]).rstrip())


def _accept(part: Path, target: Path, source: Source) -> None:
    """Move a finished download to its place, or throw it away if it is not what it should be."""
    found = sha256_of(part)
    if found != source.sha256:
        part.unlink()
        raise ChecksumMismatch(f"its sha256 is {found}, not {source.sha256}; it was thrown away")
    os.replace(part, target)  # also over a corrupt file, which no reader has been given


def _download(asset: Asset, progress: Progress) -> Path:
    """Try the sources in order; called with the lock held."""
    reasons: list[tuple[Source, str]] = []
    silent_hosts: set[str] = set()
    for source in asset.sources:
        host = urlsplit(source.url).netloc if isinstance(source, (Https, HttpsFiles)) else ""
        if host in silent_hosts:
            reasons.append((source, f"not tried, as {host} does not answer"))
            continue
        target = _cache_path(asset, source)
        try:
            _bring(source, target, asset.name, progress)
            return target
        except (FetchError, OSError) as error:
            if isinstance(error, UnreachableError):
                silent_hosts.add(host)
            reasons.append((source, str(error)))
    raise _failure(asset, "could be had from none of its sources", reasons)


def _bring(source: Source, target: Path, task: str, progress: Progress) -> None:
    """Download a source's file to its place in the cache."""
    part = _part(target)
    resumed = part.exists()
    download(source, part, task, progress)
    try:
        _accept(part, target, source)
    except ChecksumMismatch:
        if not resumed:
            raise
        # What an earlier process left was not the beginning of this file.
        download(source, part, task, progress)
        _accept(part, target, source)
