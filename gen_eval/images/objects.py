"""Images that live in Python objects: lists, torch datasets, and generators called on seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from gen_eval.errors import GenEvalError, ImagesError, UsageError
from gen_eval.images.arrays import channel_axis, from_array, require_uint8, to_numpy
from gen_eval.images.decode import to_rgb
from gen_eval.images.floats import CLAMPED, FloatRange
from gen_eval.images.protocol import Broken, Decoded
from gen_eval.progress import Progress

_KEYS = ("image", "img")


class Indexable(Protocol):
    """What is asked of a list or dataset."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class Items:
    """Images in a list or a torch dataset, read on the calling thread.

    Args:
        items: each is a PIL image, a uint8 array [h, w, c] or [h, w], a uint8 tensor [c, h, w] or [h, w],
            a tuple that begins with one of these, or a dict that has one as ``"image"`` or ``"img"``.
        name: what to call them.

    Raises:
        ImagesError: if there are none.
    """

    thread_safe = False

    def __init__(self, items: Indexable, name: str) -> None:
        if len(items) == 0:
            raise ImagesError(f"{name} is empty: expected at least one image")
        self.name = name
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def label(self, index: int) -> str:
        """Name one image: ``"#17"``."""
        return f"#{index}"

    def read(self, indices: Sequence[int]) -> list[Decoded | Broken]:
        """Fetch some items.

        Raises:
            ImagesError: if an item is not an image; what the dataset itself raises is let through.
        """
        return [_from_item(self._items[index], f"{self.name} {self.label(index)}") for index in indices]

    def check(self, progress: Progress) -> list[tuple[str, str]]:
        """Nothing to check: there are no files."""
        return []

    def content(self, progress: Progress) -> str | None:
        """Unknown until they are made: the user's code may return something else each time."""
        return None


def _from_item(item: Any, name: str) -> Decoded:
    if isinstance(item, (tuple, list)) and item:
        item = item[0]
    elif isinstance(item, Mapping):
        item = next((item[key] for key in _KEYS if key in item), item)
    if isinstance(item, Image.Image):
        return _from_pil(item, name)
    if isinstance(item, (np.ndarray, torch.Tensor)):
        array = to_numpy(item)
        require_uint8(array, name)
        prefer_first = isinstance(item, torch.Tensor)
        return from_array(array, channel_axis(array.shape, prefer_first=prefer_first, name=name))
    found = f"a dict with {sorted(map(str, item))}" if isinstance(item, Mapping) else type(item).__name__
    raise ImagesError(
        f"{name} is {found}; expected a PIL image, a uint8 array or tensor, a tuple that begins with one, "
        "or a dict that has one as 'image' or 'img'"
    )


def _from_pil(image: Image.Image, name: str) -> Decoded:
    try:
        pixels, note = to_rgb(image)
    except (ValueError, OSError) as error:  # the latter of a file cut short, read only now
        raise ImagesError(f"{name} cannot be made RGB: {error}") from error
    return Decoded(pixels, from_array(pixels, 2).digest, note)


def _noted(image: Decoded, note: str | None) -> Decoded:
    return image._replace(note=", ".join(filter(None, (note, image.note))) or None)


class Generated:
    """Images made on demand: image i depends on ``seed + i`` alone.

    Args:
        function: takes int64 seeds [b], and returns uint8 images [b, 3, h, w] or [b, h, w, 3] (or with 1
            channel), as a torch tensor or a numpy array. It is called on the calling thread, without
            gradients.
        n: how many images there are.
        seed: seed of the first one.
        name: what to call them.
        floats: what floats mean where it returns such; ``None`` refuses them.

    Raises:
        UsageError: if ``n`` is not positive.
    """

    thread_safe = False  # a network is called from one thread

    def __init__(
        self,
        function: Callable[[torch.Tensor], Any],
        n: int,
        seed: int,
        name: str,
        floats: FloatRange | None = None,
    ) -> None:
        if n <= 0:
            raise UsageError(f"n is {n}; expected the number of images to generate, at least 1")
        self.name = name
        self._function = function
        self._n = n
        self._seed = seed
        self._floats = floats

    def __len__(self) -> int:
        return self._n

    def label(self, index: int) -> str:
        """Name one image: ``"#17"``."""
        return f"#{index}"

    def read(self, indices: Sequence[int]) -> list[Decoded | Broken]:
        """Generate some images, in one call of the function.

        Raises:
            ImagesError: if the function returns something else than it should.
            UsageError: if it is a network that takes no seeds; what other functions raise is let through.
        """
        seeds = torch.tensor([self._seed + index for index in indices], dtype=torch.int64)
        with torch.no_grad():
            returned = self._called_on(seeds)
        self._verify(returned, len(indices))
        array, notes = self._levels(returned)
        axis = channel_axis(
            array.shape[1:], prefer_first=isinstance(returned, torch.Tensor), name=self._returned
        )
        return [_noted(from_array(image, axis), note) for image, note in zip(array, notes, strict=True)]

    def _called_on(self, seeds: torch.Tensor) -> Any:
        try:
            return self._function(seeds)
        except Exception as error:
            if isinstance(error, GenEvalError) or not isinstance(self._function, torch.nn.Module):
                raise
            raise UsageError(
                f"{self.name} is a network that failed on seeds, int64 [{len(seeds)}]: {error}\nWrap it in a function "
                "that makes its input of them and uint8 images of its output, such as lambda seeds: "
                "to_uint8(network(gen_eval.draws.normal(seeds, 128).float()))"
            ) from error

    @property
    def _returned(self) -> str:
        return f"what {self.name} returned"

    def _verify(self, returned: Any, count: int) -> None:
        expected = f"expected uint8 [{count}, 3, h, w] or [{count}, h, w, 3], a torch tensor or numpy array"
        if not isinstance(returned, (torch.Tensor, np.ndarray)):
            raise ImagesError(f"{self.name} returned {type(returned).__name__}; {expected}")
        if returned.ndim != 4 or len(returned) != count:
            raise ImagesError(
                f"{self.name} returned shape {list(returned.shape)} for {count} seeds; {expected}"
            )

    def _levels(
        self, returned: torch.Tensor | np.ndarray[Any, Any]
    ) -> tuple[np.ndarray[Any, Any], list[str | None]]:
        """What was returned as uint8, and by image what was changed to get there."""
        floating = (
            returned.is_floating_point() if isinstance(returned, torch.Tensor) else returned.dtype.kind == "f"
        )
        if self._floats is None or not floating:
            array = to_numpy(returned)
            require_uint8(array, self._returned)
            return array, [None] * len(array)
        values = torch.as_tensor(returned)
        notes: list[str | None] = [
            f"{self._floats}, {CLAMPED}" if beyond else str(self._floats)
            for beyond in self._floats.beyond(values).tolist()
        ]
        return to_numpy(self._floats.to_uint8(values)), notes

    def check(self, progress: Progress) -> list[tuple[str, str]]:
        """Nothing to check: there are no files."""
        return []

    def content(self, progress: Progress) -> str | None:
        """Unknown until they are made: the user's code may return something else each time."""
        return None
