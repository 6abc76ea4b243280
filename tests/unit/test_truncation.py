"""The curve along psi: which sets are measured, against what, and how it is told."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from gen_eval.errors import IncomparableError, UsageError
from gen_eval.evaluation import evaluate
from gen_eval.extractors import EXTRACTORS
from gen_eval.latent import truncated_normal
from gen_eval.truncation import DEFAULT_PSIS, in_w, in_z, truncation_curve

MEASURES = ("pr:identity", "fd:identity")


def vectors(seed, n=60):
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))


REFERENCE = vectors(0)


def smaller(psi):
    return psi * vectors(1)


class Painter:
    """Images of one colour each, [b, 3, 8, 8], from a latent of three normals."""

    calls = 0

    def latent(self, seeds):
        return torch.stack(
            [torch.randn(3, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
        )

    def synthesize(self, latents):
        Painter.calls += 1
        return (128 + 25 * latents).view(-1, 3, 1, 1).expand(-1, -1, 8, 8)


class Mapped(Painter):
    def mapping(self, z):
        return z / 2 + 1


@pytest.fixture
def pixels(monkeypatch):
    """In the place of Inception, so that the measures' own names can be used."""
    monkeypatch.setitem(EXTRACTORS, "inception", EXTRACTORS["pixels"])


def test_each_point_is_what_evaluate_gives():
    psis = (1.0, 0.3)
    points = truncation_curve(smaller, reference=REFERENCE, measures=MEASURES, psis=psis, params={"k": 4})
    assert [point.psi for point in points] == [1.0, 0.3]
    for point in points:
        alone = evaluate(MEASURES, generated=smaller(point.psi), reference=REFERENCE, params={"k": 4})
        assert [dict(each.values) for each in point.results] == [dict(each.values) for each in alone]
        assert [dict(each.errors) for each in point.results] == [dict(each.errors) for each in alone]
    assert points[0].results[0].value != points[1].results[0].value


def test_values_are_those_that_models_are_judged_by_and_lines_are_json():
    (point,) = truncation_curve(smaller, reference=REFERENCE, measures=MEASURES, psis=[0.5])
    pr, fd = point.results
    assert point.values == {
        "precision:identity": (pr.values["precision"], pr.errors["precision"]),
        "recall:identity": (pr.values["recall"], pr.errors["recall"]),
        "fd:identity": (fd.value, fd.error),
    }
    lines = [json.loads(line) for line in point.json_lines()]
    assert [line["psi"] for line in lines] == [0.5, 0.5]
    assert [line["measure"] for line in lines] == list(MEASURES)
    assert {key: value for key, value in lines[1].items() if key != "psi"} == json.loads(fd.json_line())


def test_the_reference_is_read_once_and_the_generator_called_with_the_same_seeds(pixels, counted):
    asked = []

    def generated(psi):
        def images(seeds):
            asked.append((psi, seeds.tolist()))
            return np.stack([np.full((8, 8, 3), int(40 + psi * seed), np.uint8) for seed in seeds])

        return images

    rng = np.random.default_rng(0)
    reference = counted(rng.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8))
    points = truncation_curve(
        generated, reference=reference, measures="pr", psis=(1.0, 0.5, 0.2), n=6, seed=3, workers=0
    )
    assert reference.reads == 12
    assert asked == [(psi, [3, 4, 5, 6, 7, 8]) for psi in (1.0, 0.5, 0.2)]
    assert [point.results[0].sets["generated"].n for point in points] == [6, 6, 6]


def test_default_measures_and_psis(pixels):
    rng = np.random.default_rng(0)
    reference = rng.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    points = truncation_curve(in_w(Mapped()), reference=reference, n=40)
    assert tuple(point.psi for point in points) == DEFAULT_PSIS
    assert list(points[0].values) == ["precision", "recall", "fid"]
    for point in points:
        assert all(error is not None for _, error in point.values.values())


def test_in_w_moves_images_towards_one(pixels):
    generator = Mapped()
    seeds = torch.arange(40)
    centre = torch.tensor([0.9, 1.0, 1.1])
    at = in_w(generator, centre=centre)
    w = generator.mapping(generator.latent(seeds))
    for psi in (0.0, 0.7, 1.0):
        expected = generator.synthesize(centre + psi * (w - centre)).round().to(torch.uint8)
        assert torch.equal(at(psi)(seeds), expected)
    by_default = in_w(generator)(0.0)(seeds[:1])
    assert by_default.unique().tolist() == [153]  # 128 + 25 of the mean of z / 2 + 1
    with pytest.raises(UsageError, match="no method mapping"):
        in_w(Painter())


@pytest.mark.parametrize("generator", [Painter(), Mapped()])
def test_in_z_keeps_components_within_psi(generator):
    seeds = torch.arange(30)
    z = truncated_normal(seeds, 3, 0.5)
    expected = generator.synthesize(generator.mapping(z) if isinstance(generator, Mapped) else z)
    images = in_z(generator)(0.5)(seeds)
    assert torch.equal(images, expected.round().to(torch.uint8))
    assert torch.equal(in_z(generator)(0.5)(seeds[7:9]), images[7:9])


@pytest.mark.parametrize("psis", [(), (1.0, 0.5, 1.0), (-0.1,), (math.inf,), (math.nan,)])
def test_psis_that_make_no_sense_are_refused_before_anything_is_generated(psis):
    with pytest.raises(UsageError, match="psis are different finite numbers"):
        truncation_curve(lambda psi: pytest.fail("called"), reference=REFERENCE, psis=psis)


def test_sets_of_different_sizes_are_no_curve():
    with pytest.raises(IncomparableError, match="generated n: 60 against 59"):
        truncation_curve(
            lambda psi: smaller(psi)[: 60 if psi == 1 else 59],
            reference=REFERENCE,
            measures=MEASURES,
            psis=(1.0, 0.5),
        )
