"""Real digits that need no download, split into what was trained on and what was held out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Matrices this small are faster without threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Read only: 1,000 digits to train on and 797 others, as 64 pixels each."""
    pixels = load_digits().data.astype(np.float32)
    order = np.random.default_rng(0).permutation(len(pixels))
    shuffled = torch.from_numpy(pixels[order])
    return shuffled[:1000], shuffled[1000:]
