"""Weights at an address whose file name ends in the first digits of their sha256, as those of torchvision do."""

from __future__ import annotations

import http.client
import re
from pathlib import Path, PurePosixPath

import torch

from gen_eval.errors import FetchError
from gen_eval.fetch import cache_dir, is_offline

OFF = "the network is off (offline=True or GEN_EVAL_OFFLINE)"


def fetch_published(url: str, *, offline: bool | None = None) -> Path:
    """The file of an address, from the cache or fetched into it.

    Args:
        url: ends in ``NAME-DIGITS.EXTENSION``.
        offline: never use the network; ``None`` asks the environment variable ``GEN_EVAL_OFFLINE``.

    Returns:
        Its path in the cache; what is there came whole and with that sha256.

    Raises:
        FetchError: if it is not there and cannot be had, or its name has no digits to check it by; says where
            it is and what to do.
    """
    file = PurePosixPath(url)
    path = cache_dir() / "published" / file.name
    if path.is_file():
        return path
    digits = re.search(r"-([0-9a-f]{8,})$", file.stem)
    reason = OFF if digits else "its name has no digits of its sha256, and it is not fetched unchecked"
    if digits and not is_offline(offline):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Written beside its place, checked, and moved there.
            torch.hub.download_url_to_file(url, str(path), digits[1], progress=False)
            return path
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            reason = str(error)
    raise unavailable(file.name, url, reason)


def unavailable(what: str, source: str, reason: str) -> FetchError:
    """The error of weights that are out of reach, with the cure."""
    return FetchError(
        f"the weights {what} could not be had:\n  {source}: {' '.join(reason.split())}\n"
        "Copy the file from a machine that has it and name it with --weights FILE (weights=FILE)."
    )
