"""Transport distances beside POT (Flamary et al. 2021) and SciPy, on the same rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance, wasserstein_distance_nd

from gen_eval.metrics.transport.exact import wasserstein
from gen_eval.metrics.transport.sliced import sliced_wasserstein

ot = pytest.importorskip("ot", reason="POT is not installed")


@pytest.fixture(scope="module", params=[(200, 200, 2), (300, 300, 512), (150, 200, 64)], ids=str)
def pair(request):
    n, m, d = request.param
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((n, d)) * 1.2 + 0.3, rng.standard_normal((m, d))
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y.astype(np.float32))


@pytest.mark.parametrize("p", [1, 2])
def test_the_exact_distance_is_pots(p, pair):
    costs = cdist(*(rows.double().numpy() for rows in pair)) ** p
    theirs = ot.emd2([], [], costs, numItermax=1_000_000)
    assert wasserstein(*pair, p=p).values["wasserstein"] ** p == pytest.approx(theirs, rel=1e-7)


@pytest.mark.parametrize("p", [1, 2])
def test_each_rows_part_is_that_of_pots_potentials(p, pair):
    """Ours are the mean of the extreme potentials, theirs some: they have one mean, and nearly one spread."""
    costs = cdist(*(rows.double().numpy() for rows in pair)) ** p
    _, log = ot.emd2([], [], costs, log=True, numItermax=1_000_000)
    ours = wasserstein(*pair, p=p)
    value = ours.values["wasserstein"]
    for potentials, role in ((log["u"], "generated"), (log["v"], "reference")):
        contributions = ours.contributions[role].numpy() * len(potentials) * p * value ** (p - 1)
        assert np.corrcoef(contributions, potentials)[0, 1] > 0.95


@pytest.mark.parametrize("p", [1, 2])
def test_the_sliced_distance_is_pots_along_the_same_directions(p, pair):
    x, y = (rows.double() for rows in pair)
    directions = ot.sliced.get_random_projections(x.shape[1], 60, seed=3)
    theirs = ot.sliced_wasserstein_distance(x.numpy(), y.numpy(), p=p, projections=directions)
    largest = ot.max_sliced_wasserstein_distance(x.numpy(), y.numpy(), p=p, projections=directions)
    ours = sliced_wasserstein(x, y, p=p, projections=torch.from_numpy(directions)).values
    assert ours["sliced_wasserstein"] == pytest.approx(theirs, rel=1e-9)
    assert ours["max_sliced"] == pytest.approx(largest, rel=1e-9)


def test_scipys_distances():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((30, 3)), rng.standard_normal((45, 3)) + 0.5
    ours = wasserstein(torch.from_numpy(x), torch.from_numpy(y)).values["wasserstein"]
    assert ours == pytest.approx(wasserstein_distance_nd(x, y), rel=1e-7)
    line = sliced_wasserstein(torch.from_numpy(x[:, :1]), torch.from_numpy(y[:, :1])).values
    assert line["sliced_wasserstein"] == pytest.approx(wasserstein_distance(x[:, 0], y[:, 0]), rel=1e-10)
