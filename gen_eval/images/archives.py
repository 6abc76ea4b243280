"""Zip and tar archives of image files, read in place."""

from __future__ import annotations

import gzip
import io
import posixpath
import shutil
import tarfile
import tempfile
import weakref
import zipfile
import zlib
from pathlib import Path
from threading import Lock
from typing import IO

from gen_eval.errors import ImagesError
from gen_eval.images.files import EncodedFiles, choose_images

ARCHIVE_EXTENSIONS = (".zip", ".tar", ".tar.gz", ".tgz")

_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, NotImplementedError)


class ZipArchive(EncodedFiles):
    """The image files in a zip archive, sorted by member name.

    Args:
        path: the archive.
        name: what to call it; the path as given by default.

    Raises:
        ImagesError: if the archive cannot be read, or holds no image.
    """

    def __init__(self, path: str | Path, name: str | None = None) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except _DAMAGE as error:
            raise _unreadable(path, error) from error
        weakref.finalize(self, self._zip.close)
        self._lock = Lock()
        # Where a name occurs twice, the later member replaces the earlier one, as when unpacking.
        self._members = {
            posixpath.normpath(info.filename): info for info in self._zip.infolist() if not info.is_dir()
        }
        super().__init__(name or str(path), choose_images(self._members, str(path)))

    def open(self, index: int) -> io.BufferedIOBase:
        """Open one member of the archive, unpacked into memory."""
        with self._lock:
            return io.BytesIO(self._zip.read(self._members[self._labels[index]]))


class TarArchive(EncodedFiles):
    """The image files in a tar archive, compressed or not, sorted by member name.

    A compressed archive cannot be read at random: it is unpacked once, to a temporary file that goes
    away with this object.

    Args:
        path: the archive.
        name: what to call it; the path as given by default.

    Raises:
        ImagesError: if the archive cannot be read, or holds no image.
    """

    def __init__(self, path: str | Path, name: str | None = None) -> None:
        try:
            self._file = _plain_tar(path)
            weakref.finalize(self, self._file.close)
            self._members = _index_tar(self._file)
        except _DAMAGE as error:
            raise _unreadable(path, error) from error
        self._lock = Lock()
        super().__init__(name or str(path), choose_images(self._members, str(path)))

    def open(self, index: int) -> io.BufferedIOBase:
        """Open one member of the archive, read into memory."""
        offset, size = self._members[self._labels[index]]
        with self._lock:
            self._file.seek(offset)
            return io.BytesIO(self._file.read(size))


def open_archive(path: str | Path, name: str | None = None) -> ZipArchive | TarArchive:
    """Open a zip or tar archive, told apart by its extension.

    Raises:
        ImagesError: if the archive cannot be read, or holds no image.
    """
    kind = ZipArchive if str(path).lower().endswith(".zip") else TarArchive
    return kind(path, name)


def _plain_tar(path: str | Path) -> IO[bytes]:
    """The uncompressed tar: the file itself, or an unlinked temporary copy."""
    with open(path, "rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    if not compressed:
        return open(path, "rb")
    plain = tempfile.TemporaryFile()  # noqa: SIM115 - the archive keeps it open
    try:
        with gzip.open(path) as packed:
            shutil.copyfileobj(packed, plain, 1 << 20)
    except BaseException:
        plain.close()
        raise
    return plain


def _index_tar(file: IO[bytes]) -> dict[str, tuple[int, int]]:
    """``{name: (offset, size)}`` of the files in a tar; the last one wins where a name occurs twice."""
    members: dict[str, tuple[int, int]] = {}
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            name = posixpath.normpath(member.name)  # "./a.png", as `tar -c .` writes it
            if member.isreg():
                members[name] = (member.offset_data, member.size)
            elif member.islnk():  # a second name of a file further up
                target = posixpath.normpath(member.linkname)
                if target not in members:
                    raise tarfile.ReadError(f"{name} links to {target}, which is not in it")
                members[name] = members[target]
            elif member.issym():
                raise tarfile.ReadError(f"{name} is a symbolic link: pack the files themselves (tar -h)")
        end = tar.offset
    # tarfile takes a damaged header for the end of the archive; the true end is a block of zeros.
    file.seek(end)
    if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise tarfile.ReadError(f"damaged header at byte {end}")
    return members


def _unreadable(path: str | Path, error: Exception) -> ImagesError:
    return ImagesError(
        f"{path} cannot be read as a {Path(path).suffix[1:]} archive ({error or type(error).__name__}): "
        "it may be damaged or cut short"
    )
