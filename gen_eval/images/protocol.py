"""What every set of images offers, wherever its pixels come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from gen_eval.errors import CorruptImages
from gen_eval.progress import Progress, silent

Pixels: TypeAlias = "npt.NDArray[np.uint8]"


class Decoded(NamedTuple):
    """One image.

    Attributes:
        pixels: uint8 [h, w, 3], C-contiguous and writable.
        digest: sha256 of the encoded file, or of the shape and bytes of an array as it is stored.
        note: what decoding changed, such as ``"gray to RGB"``; ``None`` where it changed nothing.
    """

    pixels: Pixels
    digest: bytes
    note: str | None


class Broken(NamedTuple):
    """A file that does not decode."""

    label: str
    reason: str


class Named(Protocol):
    """What messages and labels ask of a set: its length, and a name for itself and for each of its images."""

    @property
    def name(self) -> str:
        """What the user called the set."""

    def __len__(self) -> int: ...

    def label(self, index: int) -> str:
        """Name one image."""


@runtime_checkable
class Images(Protocol):
    """A set of images in a fixed order.

    Attributes:
        name: what the user called it, for tables and messages.
        thread_safe: whether :meth:`read` may run in worker threads.
    """

    name: str
    thread_safe: bool

    def __len__(self) -> int: ...

    def label(self, index: int) -> str:
        """Name one image: the file's relative path, or ``"#17"``."""

    def read(self, indices: Sequence[int]) -> list[Decoded | Broken]:
        """Read some images, in the order asked for.

        A file that does not decode comes back as :class:`Broken`; what the user's own code raises is let
        through.
        """

    def check(self, progress: Progress) -> list[tuple[str, str]]:
        """Look cheaply at the heads and ends of the files.

        Returns:
            ``(label, reason)`` of each broken file; ``[]`` where there are no files to look at.
        """

    def content(self, progress: Progress) -> str | None:
        """Digest of the content of all images in order, without decoding them.

        Returns:
            hex sha256 over the digests that :meth:`read` tells; ``None`` for images that are made on demand.
        """


def require_unbroken(images: Images) -> None:
    """Look cheaply for broken files, before minutes are spent on the whole ones.

    Raises:
        CorruptImages: names them.
    """
    if broken := images.check(silent):
        raise CorruptImages(images.name, broken)
