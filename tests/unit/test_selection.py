"""The best checkpoint and when to stop: how often chance passes for progress, and that progress is found."""

from __future__ import annotations

import io
import math

import pytest
import torch

from gen_eval.errors import IncomparableError, StoreError, UsageError
from gen_eval.evaluation import evaluate
from gen_eval.results import Result, SetInfo
from gen_eval.selection import Best
from gen_eval.spec import Resize, Spec

SPEC = Spec("inception", "0123456789abcdef", Resize(299, "tf1-bilinear"), "(x-128)/128")
ERROR = 0.5


def result_of(value, digest="", better="lower", n=100, error=ERROR):
    sets = {"generated": SetInfo("fake", digest, n), "reference": SetInfo("real", "bb", 200)}
    return Result(
        *("fid", "frechet", 1, {"frechet": better}, {}, "torch-fidelity", SPEC, "pool", sets),
        {"frechet": value},
        {} if error is None else {"frechet": error},
        *({}, (), "somebody", {}, 0.0),
    )


def run_until_stop(truth, seed, alpha=0.05, patience=6, better="lower", most=10_000):
    """The labels that passed for improvements before the stop; checkpoint t has the true value ``truth(t)``."""
    rng = torch.Generator().manual_seed(seed)
    best, improved = Best(alpha=alpha, patience=patience), []
    for step in range(most):
        noise = ERROR * float(torch.randn((), generator=rng, dtype=torch.float64))
        if best.update(result_of(truth(step) + noise, better=better), step) and step:
            improved.append(step)
        if best.stop:
            return improved, best
    return improved, best


RUNS = 600


@pytest.mark.parametrize("better", ["lower", "higher"])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_where_nothing_improves_few_runs_say_that_something_did(alpha, better):
    """A walk of pure noise. Bonferroni's bound is from above: with a shared best, fewer."""
    wrong = sum(
        bool(run_until_stop(lambda step: 10.0, seed, alpha, better=better)[0]) for seed in range(RUNS)
    )
    assert wrong / RUNS <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / RUNS)  # three errors of a share
    assert wrong / RUNS >= alpha / 4  # the level is used, not left lying


def test_where_the_model_worsens_it_stops_at_the_first():
    improved, best = run_until_stop(lambda step: 10 + step, 0)
    assert (improved, best.label, best.waited, best.stop) == ([], 0, 6, True)


def test_steady_small_gains_are_found_though_no_two_neighbours_are_told_apart():
    improved, best = run_until_stop(lambda step: 20 - 0.4 * min(step, 30), 1)
    assert len(improved) >= 3
    assert best.label >= 24
    assert best.stop
    assert best.last.verdict(0.05 / 6) != "a"


def test_what_is_kept_is_what_was_better():
    best = Best(patience=2)
    assert best.update(result_of(10.0), "first")
    assert best.last is None
    assert not best.update(result_of(9.5), "not told apart")
    assert (best.label, best.waited, best.stop) == ("first", 1, False)
    assert best.update(result_of(5.0), "better")
    assert (best.label, best.waited, best.result.value) == ("better", 0, 5.0)
    assert best.last.difference == -5.0
    assert not best.update(result_of(4.9), "by chance")
    assert not best.update(result_of(50.0), "worse")
    assert best.stop
    assert best.label == "better"


@pytest.mark.parametrize(
    ("value", "error"),
    [(math.nan, ERROR), (math.inf, ERROR), (-math.inf, ERROR), (1.0, math.nan), (20.0, math.nan)],
)
def test_a_checkpoint_that_is_no_number_is_never_the_best_and_ends_no_training(value, error):
    best = Best(patience=3)
    assert not best.update(result_of(value, error=error), "diverged from the start")
    assert (best.result, best.label, best.waited, best.last) == (None, None, 1, None)
    assert best.update(result_of(10.0), "first")
    assert not best.update(result_of(9.9), "not told apart")
    assert not best.update(result_of(value, error=error), "diverged")
    assert (best.label, best.waited, best.last) == ("first", 2, None)
    with pytest.raises(IncomparableError, match="generated n"):
        best.update(result_of(value, error=error, n=99))
    assert best.update(result_of(5.0), "better")
    for _ in range(3):
        best.update(result_of(value, error=error))
    assert best.stop
    assert best.label == "better"


def measured(seed, n=60):
    """A result whose reference can be paired, as an evaluation gives it."""
    images = torch.randint(
        256, (n, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    return evaluate("frechet:pixels", generated=images.clamp(max=255 - 10 * seed), reference=REFERENCE)[0]


REFERENCE = torch.randint(200, (60, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(99))


@pytest.mark.parametrize("saved_after", [0, 1, 2, 4])
def test_a_state_goes_on_to_the_last_bit(saved_after):
    results = [measured(seed) for seed in range(5)]
    best, other = Best(patience=3), Best(patience=3)
    for step, result in enumerate(results[:saved_after]):
        best.update(result, step)
    file = io.BytesIO()
    torch.save(best.state_dict(), file)
    file.seek(0)
    other.update(results[-1], "replaced")
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other == best
    for step, result in enumerate(results[saved_after:], saved_after):
        assert other.update(result, step) == best.update(result, step)
        assert other == best
    assert best.last.paired == ("reference",)
    assert str(other.result.worst(3)) == str(best.result.worst(3))


def test_a_state_that_is_none_is_refused_and_changes_nothing():
    best = Best()
    best.update(result_of(1.0), "kept")
    state = best.state_dict()
    for wrong in (None, {}, {"format": "gen_eval monitor 1"}):
        with pytest.raises(StoreError, match="expected a state in the format 'gen_eval best 1', found"):
            best.load_state_dict(wrong)
    for name in ("result", "label", "waited", "last"):
        with pytest.raises(StoreError, match=f"damaged: KeyError\\('{name}'\\)"):
            best.load_state_dict({key: state[key] for key in state if key != name})
    for damage in ({"last": {"p": 1}}, {"result": {"values": {}}}, {"result": 3}):
        with pytest.raises(StoreError):
            best.load_state_dict({**state, "waited": 7, **damage})
    assert (best.label, best.waited, best.result.value) == ("kept", 0, 1.0)


def test_what_makes_no_sense_is_refused():
    for alpha in (0, 1, math.nan):
        with pytest.raises(UsageError, match="alpha"):
            Best(alpha=alpha)
    with pytest.raises(UsageError, match="patience is 1 checkpoint or more"):
        Best(patience=0)
    best = Best()
    with pytest.raises(UsageError, match="no standard error"):
        best.update(result_of(1.0, error=None))
    with pytest.raises(UsageError, match=r"found a list: expected one Result"):
        best.update([result_of(1.0)])
    assert (best.result, best.waited) == (None, 0)
    best.update(result_of(1.0))
    with pytest.raises(IncomparableError, match="generated n: 99 against 100"):
        best.update(result_of(1.0, n=99))
