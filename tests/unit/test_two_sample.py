"""Several tests at once: one level for all, one pass, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from gen_eval.errors import UnknownName, UsageError
from gen_eval.metrics import METRICS
from gen_eval.metrics.two_sample.significance import benjamini_hochberg, holm
from gen_eval.two_sample import DEFAULT_TESTS, TESTS, two_sample_test

pytestmark = pytest.mark.usefixtures("one_thread")


def cloud(n, seed, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1, (n, 2))


def test_every_row_with_a_level_is_a_test_and_gives_what_a_report_needs():
    assert set(DEFAULT_TESTS) <= set(TESTS) <= set(METRICS)
    report = two_sample_test(cloud(40, 0), cloud(30, 1), tests=TESTS, permutations=400)
    assert [each.test for each in report.outcomes] == list(TESTS)
    for each in report.outcomes:
        assert 0 < each.p_value <= each.adjusted <= 1
        assert 0 < each.power <= 1
        assert each.result.error > 0


def test_one_distribution_is_not_rejected_and_two_are():
    same = two_sample_test(cloud(100, 0), cloud(80, 1), permutations=200)
    other = two_sample_test(cloud(100, 0), cloud(80, 1, shift=1.0), permutations=200)
    assert not same.differ
    assert same.rejecting == []
    assert {"mean-test", "c2st", "mmd"} <= set(other.rejecting)
    assert other.p_value == min(each.adjusted for each in other.outcomes) <= 0.05


def test_clouds_far_from_the_origin_are_told_apart_as_near_ones_are():
    near, far = (
        two_sample_test(cloud(100, 0) + offset, cloud(80, 1, shift=1.0) + offset, permutations=200)
        for offset in (0.0, 1e8)
    )
    assert near.differ
    assert far.rejecting == near.rejecting


def test_p_values_are_adjusted_for_their_number():
    for correction, adjust in (("holm", holm), ("benjamini-hochberg", benjamini_hochberg)):
        report = two_sample_test(
            cloud(60, 0), cloud(60, 1, shift=0.4), permutations=200, correction=correction
        )
        adjusted = adjust([each.p_value for each in report.outcomes])
        assert [each.adjusted for each in report.outcomes] == adjusted
        # Each test states its power at the level that is surely left to it.
        assert report.outcomes[0].result.params["alpha"] == pytest.approx(0.05 / len(DEFAULT_TESTS))


@pytest.mark.simulation
def test_all_tests_together_err_at_most_at_the_level():
    differ = sum(
        two_sample_test(cloud(24, [1, rep]), cloud(20, [2, rep]), permutations=130, alpha=0.1).differ
        for rep in range(100)
    )
    # One in ten at most, and three standard deviations of chance.
    assert differ <= 10 + 3 * 3


def test_what_a_small_set_cannot_find_a_large_one_can():
    small, large = (
        two_sample_test(cloud(n, 0), cloud(n, 1, shift=0.3), tests=["mmd"], permutations=200)
        for n in (30, 600)
    )
    assert small.outcomes[0].detectable > large.outcomes[0].detectable
    assert small.outcomes[0].power < large.outcomes[0].power
    assert not small.differ
    assert large.differ


def test_images_go_through_the_extractor_and_callables_are_asked_for_n(real, fake):
    def generate(seeds):
        return torch.from_numpy(fake)[seeds].permute(0, 3, 1, 2)

    options = {"extractor": "pixels", "tests": ["mean-test", "nearest-neighbor-test"], "permutations": 99}
    report = two_sample_test(real, generate, n=100, **options)
    assert report.outcomes[0].result.sets["generated"].n == 100
    expected = two_sample_test(real, fake[:100], **options)
    assert [each.p_value for each in report.outcomes] == [each.p_value for each in expected.outcomes]


def test_a_report_is_plain_data():
    report = two_sample_test(cloud(40, 0), cloud(40, 1), tests=["mean-test"], permutations=99)
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert data["differ"] is False
    assert data["tests"][0]["test"] == "mean-test"
    assert data["tests"][0]["result"]["values"]["p_value"] == data["tests"][0]["p_value"]


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"tests": ["c2s"]}, UnknownName, "unknown test 'c2s': did you mean 'c2st'"),
        ({"tests": []}, UsageError, "no tests were asked for"),
        ({"correction": "sidak"}, UnknownName, "unknown correction 'sidak'"),
        ({"alpha": 0}, UsageError, "alpha must lie between 0 and 1, found 0"),
        ({"permutations": 50}, UsageError, "50 permutations give no p-value below 0.02.*at least 120"),
        ({"params": {"alpha": 0.9}}, UsageError, "'alpha' is for all tests together"),
        ({"params": {"mmd.permutations": 0}}, UsageError, "'mmd.permutations' is for all tests together"),
        ({"extractor": "pixels"}, UsageError, "feature vectors, which only measures through 'identity' take"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong, error, message):
    with pytest.raises(error, match=message):
        two_sample_test(cloud(20, 0), cloud(20, 1), **wrong)
