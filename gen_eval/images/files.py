"""Encoded image files: a folder of them, or a list of paths."""

from __future__ import annotations

import hashlib
import io
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import TypeVar

from gen_eval.errors import ImagesError
from gen_eval.images.decode import decode, open_lazily, quiet_pillow
from gen_eval.images.protocol import Broken, Decoded
from gen_eval.progress import Progress
from gen_eval.threads import in_order

T = TypeVar("T")

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")

_SYSTEM_NAMES = ("__MACOSX", "Thumbs.db")  # .DS_Store is hidden anyway
_TAIL = 64 * 1024
_CHECK_BLOCK = 256


class EncodedFiles(ABC):
    """Images that are encoded files, read and decoded one by one in any thread."""

    thread_safe = True

    def __init__(self, name: str, labels: Sequence[str]) -> None:
        self.name = name
        self._labels = labels

    def __len__(self) -> int:
        return len(self._labels)

    def label(self, index: int) -> str:
        """Name one image: its path, relative to the folder or archive."""
        return self._labels[index]

    @abstractmethod
    def open(self, index: int) -> io.BufferedIOBase:
        """Open one encoded file for reading and seeking; called from several threads at once."""

    def read(self, indices: Sequence[int]) -> list[Decoded | Broken]:
        """Read and decode some files; those that fail come back as :class:`Broken`."""
        return [self._read_one(index) for index in indices]

    def _read_one(self, index: int) -> Decoded | Broken:
        try:
            with self.open(index) as file:
                data = file.read()
            pixels, note = decode(data)
        except MemoryError:
            raise  # says nothing about the file
        except Exception as error:  # a broken file makes Pillow raise nearly anything
            return Broken(self.label(index), str(error) or type(error).__name__)
        return Decoded(pixels, hashlib.sha256(data).digest(), note)

    def check(self, progress: Progress) -> list[tuple[str, str]]:
        """Look at the header and the end of each file; a suspect is decoded before it is reported.

        Args:
            progress: told of the files done.

        Returns:
            ``(label, reason)`` of each broken file.
        """
        with quiet_pillow():
            return [
                (found.label, found.reason)
                for found in self._of_each(self._inspect, progress, self.name)
                if found
            ]

    def content(self, progress: Progress) -> str | None:
        """Digest of the encoded files, in order; those that do not decode count too."""
        digest = hashlib.sha256()
        for part in self._of_each(self._hash, progress, f"{self.name}, content"):
            digest.update(part)
        return digest.hexdigest()

    def _of_each(self, look: Callable[[int], T], progress: Progress, task: str) -> Iterator[T]:
        """What a look at each file finds, in order, from many threads."""
        total, done = len(self), 0
        blocks = (range(at, min(at + _CHECK_BLOCK, total)) for at in range(0, total, _CHECK_BLOCK))
        with closing(in_order(look, blocks, os.cpu_count() or 1)) as results:
            for block in results:
                yield from block
                done += len(block)
                progress(task, done, total, "image")

    def _hash(self, index: int) -> bytes:
        try:
            with self.open(index) as file:
                return hashlib.sha256(file.read()).digest()
        except Exception as error:  # as in _read_one, which tells the reason
            return str(error).encode()

    def _inspect(self, index: int) -> Broken | None:
        try:
            with self.open(index) as file:
                suspect = not _looks_whole(file)
        except Exception:  # as in _read_one, which tells the reason
            suspect = True
        if not suspect:
            return None
        outcome = self._read_one(index)
        return outcome if isinstance(outcome, Broken) else None


def _looks_whole(file: io.BufferedIOBase) -> bool:
    """Whether the header is readable and the end is there, as far as one sees without decoding."""
    kind = open_lazily(file).format
    if kind not in ("PNG", "JPEG", "MPO"):
        return True
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL))
    tail = file.read()
    if kind == "PNG":
        return b"IEND" in tail
    # End of image after the last start of scan: the end of an embedded thumbnail does not count.
    return tail.rfind(b"\xff\xd9") > tail.rfind(b"\xff\xda")


class Folder(EncodedFiles):
    """The image files under a folder, at any depth, sorted by relative path.

    Hidden files and what operating systems leave behind are skipped; symbolic links are followed.

    Args:
        path: the folder.
        name: what to call it; the path as given by default.

    Raises:
        ImagesError: if it cannot be listed, or there is no image in it.
    """

    def __init__(self, path: str | Path, name: str | None = None) -> None:
        self._root = str(path)
        try:
            labels = choose_images(_walk(self._root), self._root)
        except OSError as error:
            raise ImagesError(f"{path} cannot be listed: {error}") from error
        super().__init__(name or self._root, labels)

    def open(self, index: int) -> io.BufferedIOBase:
        """Open one file of the folder."""
        return open(os.path.join(self._root, self._labels[index]), "rb")


class Paths(EncodedFiles):
    """A list of image files, in the order given.

    Args:
        paths: the files; they need no particular extension.
        name: what to call the list.
    """

    def __init__(self, paths: Iterable[str | Path], name: str = "list") -> None:
        super().__init__(name, [str(path) for path in paths])

    def open(self, index: int) -> io.BufferedIOBase:
        """Open one file of the list."""
        return open(self._labels[index], "rb")


def choose_images(names: Iterable[str], where: str) -> list[str]:
    """Choose the images among files, in the order that every container of the same files shares.

    Args:
        names: relative POSIX paths of files.
        where: the folder or archive, for messages.

    Returns:
        The names with an image's extension, hidden ones left out, sorted.

    Raises:
        ImagesError: if there are none; says what was found instead.
    """
    visible = [name for name in names if not any(map(_skipped, name.split("/")))]
    chosen = sorted(name for name in visible if name.lower().endswith(EXTENSIONS))
    if chosen:
        return chosen
    expected = f"expected {', '.join(EXTENSIONS)} files, at any depth"
    if not visible:
        raise ImagesError(f"{where} is empty: {expected}")
    suffixes = Counter(PurePosixPath(name).suffix.lower() or "no extension" for name in visible)
    kinds = ", ".join(suffix for suffix, _ in suffixes.most_common(5))
    files = "1 file" if len(visible) == 1 else f"{len(visible)} files"
    raise ImagesError(f"{where} holds no images: found {files} ({kinds}); {expected}")


def _skipped(part: str) -> bool:
    return part.startswith(".") or part in _SYSTEM_NAMES


def _walk(root: str, prefix: str = "", above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[str]:
    """Relative paths of all files. ``above`` holds the folders on the way here: a link to one is a loop."""
    status = os.stat(root)
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    with os.scandir(root) as entries:
        for entry in entries:
            if _skipped(entry.name):
                continue
            # A link that points nowhere counts as a file, to be reported rather than silently left out.
            if entry.is_dir():
                yield from _walk(entry.path, f"{prefix}{entry.name}/", above | {here})
            elif entry.is_file() or entry.is_symlink():  # reading a pipe would wait for ever
                yield prefix + entry.name
