"""Features in less space: what is lost, and that it is said."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from gen_eval import compact, store
from gen_eval.errors import StoreError, UsageError
from gen_eval.metrics.frechet.frechet import frechet
from gen_eval.metrics.frechet.gaussian import Gaussian
from gen_eval.spec import Resize, Spec
from gen_eval.stats import Features, Sample
from gen_eval.summary import Summary

SPEC = Spec("inception", "0123456789abcdef", Resize(299, "tf1-bilinear"), "(x-128)/128")


def rows(n, d, seed=0, shift=0.0, rank=None):
    """Not negative, with shared factors and scales that differ by powers of ten, as features of Inception."""
    rng = np.random.default_rng(7)
    loadings, scale = rng.normal(0, 0.4, (16, d)), rng.lognormal(-1, 1, d)
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, d)) + rng.normal(size=(n, 16)) @ loadings
    values = np.maximum(values + shift, 0) * scale
    if rank is not None:
        values = values[:, :rank] @ np.random.default_rng(8).normal(size=(rank, d))
    return torch.from_numpy(values).float()


def distance(one, other):
    return frechet(
        *(Gaussian(None, each.moments.mean, each.cov()) for each in (one, other)), method="value"
    ).values["frechet"]


def left_of(features):
    return compact.unpack(compact.pack(features), features.n, features.sample and features.sample.limit)


@pytest.mark.parametrize("shift", [0.01, 0.1, 2.0])
def test_distances_stay(shift):
    features, other = Features.of(rows(3000, 200)), Features.of(rows(2500, 200, seed=1, shift=shift))
    exact = distance(features, other)
    assert distance(left_of(features), other) == pytest.approx(exact, rel=1e-6, abs=1e-4)


def test_the_loss_is_told_and_bounds_what_distances_move_by():
    features, other = Features.of(rows(3000, 200)), Features.of(rows(2500, 200, seed=1, shift=0.1))
    lost, exact = compact.loss(features), distance(features, other)
    assert 0 < lost < 1e-6
    moved = abs(distance(left_of(features), other) - exact)
    assert moved <= 2 * (exact * lost) ** 0.5 + lost


def test_rounding_the_covariance_itself_would_lose_more():
    features = Features.of(rows(3000, 200, rank=20))
    cov, scale = features.cov(), features.cov().diagonal().sqrt()
    rounded = (cov / scale / scale[:, None] * (2**15 - 1)).round() / (2**15 - 1) * scale * scale[:, None]
    lost = distance(features, Features.of_gaussian(features.moments.mean, rounded, features.n))
    assert compact.loss(features) < 0.05 * abs(lost)


@pytest.mark.parametrize("constant", [0, 5])
@pytest.mark.parametrize(("n", "rank"), [(50, None), (500, 20), (500, None)])
def test_any_rank(n, rank, constant):
    values = rows(n, 60, rank=rank)
    values[:, :constant] = 0.25  # features that never change
    features = Features.of(values)
    left = left_of(features)
    assert torch.equal(left.moments.mean, features.moments.mean)
    scale = features.cov().diagonal().clamp_min(1e-12).sqrt()
    assert ((left.cov() - features.cov()) / scale / scale[:, None]).abs().max() < 1e-4
    assert torch.equal(left.moments.scatter, left.moments.scatter.T)


def test_images_that_are_all_alike():
    features = Features.of(torch.full((10, 5), 0.5))
    assert torch.equal(left_of(features).cov(), torch.zeros(5, 5, dtype=torch.float64))


def test_rows_keep_half_precision_and_their_places():
    values = rows(300, 40)
    features = dataclasses.replace(Features.of(values), sample=Sample.of(values, torch.arange(300), 100))
    sample = left_of(features).sample
    assert torch.equal(sample.index, features.sample.index)
    assert sample.limit == 100
    assert sample.rows.dtype == torch.float32
    assert torch.allclose(sample.rows, features.sample.rows, rtol=2**-11, atol=2**-24)


def test_features_too_large_for_half_precision_are_refused():
    with pytest.raises(UsageError, match="beyond 65504"):
        compact.pack(Features.of(rows(30, 5) * 1e6))


def test_statistics_of_unknown_n_are_refused():
    with pytest.raises(UsageError, match="how many images"):
        compact.pack(Features.of_gaussian(torch.zeros(3).double(), torch.eye(3).double()))


# On disk.


def summary_of(features):
    return Summary("real", "ab" * 32, {(SPEC, "pool"): features}, {"torch": "2.0"})


def test_a_file_says_that_it_is_rounded_and_takes_less_space(tmp_path):
    summary = summary_of(Features.of(rows(900, 200)))
    store.save(summary, tmp_path / "exact.safetensors")
    store.save(summary, tmp_path / "small.safetensors", rounded=True)
    small = store.load(tmp_path / "small.safetensors")
    assert small.made_with == {"torch": "2.0", "rounding": compact.MEANING}
    assert small.digest == summary.digest
    left = small.require(SPEC, "pool")
    assert left.n == 900
    assert torch.equal(left.moments.scatter, left_of(summary.features[SPEC, "pool"]).moments.scatter)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("small", "exact")]
    assert sizes[0] < 0.55 * sizes[1]


def test_damage_is_found(tmp_path):
    path = tmp_path / "small.safetensors"
    store.save(summary_of(Features.of(rows(90, 20))), path, rounded=True)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        store.load(path)
