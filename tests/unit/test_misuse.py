"""What a caller may ask for in a wrong or unusual way: answered, or refused before any pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gen_eval.errors import NumericalError, UsageError
from gen_eval.evaluation import Evaluation, evaluate
from gen_eval.extractors import Pixels
from gen_eval.images import open_images
from gen_eval.passing import Request, summarize
from gen_eval.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from gen_eval.resize import tf1_bilinear

RNG = np.random.default_rng(0)
FAKE, REAL = (RNG.integers(0, high, (n, 8, 8, 3), dtype=np.uint8) for n, high in ((230, 256), (260, 220)))


def measure(generated=FAKE, reference=REAL, **options):
    (result,) = evaluate(["frechet:pixels"], generated=generated, reference=reference, **options)
    return result


def test_a_collapsed_generator_has_a_distance():
    white = np.full_like(FAKE, 255)
    planes = torch.from_numpy(REAL).permute(0, 3, 1, 2).float()
    reference = tf1_bilinear(planes, 8).flatten(1).double().numpy()
    expected = ((255 - reference.mean(0)) ** 2).sum() + np.cov(reference, rowvar=False).trace()
    assert measure(white, protocol="pytorch-fid").value == pytest.approx(expected, rel=1e-9)


def test_the_method_can_be_chosen_and_is_recorded():
    found = [measure(params={"method": method}) for method in ("auto", "nuclear", "sqrtm")]
    assert found[2].params["method"] == "sqrtm"
    assert [one.value for one in found] == pytest.approx([found[0].value] * 3, rel=1e-8)
    with pytest.raises(UsageError, match="unknown parameter 'methd': did you mean 'method'"):
        measure(params={"methd": "auto"})


def test_a_single_name_and_a_protocol_of_ones_own_are_taken():
    (found,) = evaluate(
        "frechet:pixels", generated=FAKE, reference=REAL, protocol=PROTOCOLS[DEFAULT_PROTOCOL]
    )
    assert found.value == measure().value


@pytest.mark.parametrize(
    ("argument", "value"), [("batch_size", 0), ("batch_size", -1), ("workers", -1), ("rows", -1)]
)
def test_numbers_out_of_range_are_refused(argument, value):
    with pytest.raises(UsageError, match=f"{argument} must be at least"):
        measure(**{argument: value})


@pytest.mark.parametrize("argument", ["rows", "batch_size", "workers", "n", "seed"])
@pytest.mark.parametrize("value", [2.5, "2"])
def test_numbers_that_are_not_whole_are_refused(argument, value):
    with pytest.raises(UsageError, match=f"{argument} must be a whole number, found {value!r}"):
        evaluate("frechet:pixels", reference=REAL, generated=generate, **{"n": 20, argument: value})
    evaluate("frechet:pixels", reference=REAL, generated=generate, **{"n": 20, argument: np.int64(20)})


def generate(seeds):
    return seeds.repeat(3, 4, 4, 1).movedim(3, 0).remainder(256).byte()


def test_an_empty_path_is_not_the_current_folder():
    with pytest.raises(UsageError, match="an empty path"):
        measure("")


@pytest.mark.parametrize(
    ("rows", "message"),
    [({"generated": 2.5}, "whole number"), ({"generatd": 5}, "unknown set to keep rows of 'generatd'")],
)
def test_rows_of_sets_are_checked(rows, message):
    with pytest.raises(UsageError, match=message):
        measure(rows=rows)


def test_rows_may_be_kept_of_one_set_alone():
    measured = Evaluation(["frechet:pixels"], reference=REAL, rows={"generated": 50})
    (result,) = measured.measure(FAKE)
    sizes = {role: len(index) for role, (index, _) in result.contributions.items()}
    assert sizes == {"generated": 50, "reference": len(REAL)}


def test_vectors_that_are_no_numbers_name_their_set(tmp_path):
    rows = RNG.normal(size=(60, 4))
    rows[7, 1] = np.nan
    np.save(tmp_path / "bad.npy", rows)
    with pytest.raises(NumericalError, match=r"bad.npy: 1 of 60 feature rows hold NaN or infinity"):
        evaluate(["fd:identity"], generated=tmp_path / "bad.npy", reference=RNG.normal(size=(60, 4)))


def test_extrapolation_without_rows_is_refused_before_any_pass(tmp_path):
    few = summarize(open_images(np.repeat(FAKE, 3, axis=0)), [Request(Pixels(), ("pool",))], rows=50)
    passes = []
    with pytest.raises(UsageError, match="needs every feature row of the generated images.*hold 50 of"):
        evaluate(
            ["frechet-inf:pixels"], generated=few, reference=REAL, progress=lambda *now: passes.append(now)
        )
    assert not passes
