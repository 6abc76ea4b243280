"""p-values, power and multiple testing against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import false_discovery_control, norm

from gen_eval.errors import UsageError
from gen_eval.metrics.two_sample.significance import (
    benjamini_hochberg,
    bonferroni,
    holm,
    judge,
    mid_p_value,
    permutation_p_value,
    permutation_p_values,
    power_beyond,
)

NULL = torch.tensor([3.0, 1.0, 2.0, 2.0, 0.0, -1.0, 5.0, 4.0, 2.5]).double()


def test_a_p_value_counts_the_true_labelling_and_ties():
    assert permutation_p_value(2.0, NULL) == (1 + 6) / 10
    assert permutation_p_value(2.0 + 1e-14, NULL) == (1 + 6) / 10  # summed in another order
    assert permutation_p_value(9.0, NULL) == 1 / 10
    assert permutation_p_value(-9.0, NULL) == 1


def test_p_values_of_many_are_those_of_each():
    values = torch.linspace(-2, 6, 33).double()
    each = [permutation_p_value(value, NULL) for value in values.tolist()]
    assert permutation_p_values(values, NULL).tolist() == each
    assert each == [(1 + sum(other >= value for other in NULL.tolist())) / 10 for value in values.tolist()]


def test_a_mid_p_value_counts_ties_by_half():
    assert mid_p_value(2.0, NULL) == pytest.approx((4 + 0.5 * 3) / 10)
    assert mid_p_value(9.0, NULL) == pytest.approx(0.5 / 10)


@pytest.mark.parametrize("alpha", [0.1, 0.25, 0.5, 0.9])
def test_what_is_beyond_the_critical_value_is_what_is_rejected(alpha):
    # With no error the power is whether the effect is beyond it.
    for value in torch.linspace(-2, 6, 33).tolist():
        verdict = judge(value, NULL, error=0.0, alpha=alpha)
        assert (verdict.power == 1) == (verdict.p_value <= alpha)


def test_power_and_detectable_effect_are_those_of_a_normal_statistic():
    power, detectable = power_beyond(2.0, 3.0, 0.5, 0.05)
    assert power == pytest.approx(norm.cdf(2))
    assert power_beyond(2.0, detectable, 0.5, 0.05)[0] == pytest.approx(0.8)
    assert power_beyond(2.0, -9.0, 0.5, 0.05)[0] == 0.05


def test_the_effect_may_be_estimated_otherwise():
    plain, corrected = (judge(4.5, NULL, error=1.0, alpha=0.1, effect=effect) for effect in (None, 3.0))
    assert plain.p_value == corrected.p_value
    assert plain.power == pytest.approx(norm.cdf(-0.5))
    assert corrected.power == pytest.approx(0.1)  # norm.cdf(-2) is below the level


def test_too_few_permutations_find_nothing_and_say_so():
    verdict = judge(9.0, NULL, error=1.0, alpha=0.05)
    assert verdict.values() == {"p_value": 0.1, "power": 0.0}
    assert "use at least 19" in verdict.warnings[0]
    assert judge(9.0, NULL, error=1.0, alpha=0.1).warnings == ()


P_VALUES = [0.01, 0.04, 0.03, 0.005, 0.9, 0.04]


def test_bonferroni_multiplies_by_the_number_of_tests():
    assert bonferroni(P_VALUES) == pytest.approx([0.06, 0.24, 0.18, 0.03, 1.0, 0.24])


def test_holm_rejects_step_by_step():
    """The definition: from the smallest on, until one of k left is above alpha / k."""
    adjusted = np.array(holm(P_VALUES))
    order = np.argsort(P_VALUES)
    for alpha in (0.02, 0.03, 0.05, 0.1, 0.121, 0.5):
        rejected = set()
        for left, at in zip(range(len(P_VALUES), 0, -1), order, strict=True):
            if P_VALUES[at] > alpha / left:
                break
            rejected.add(at)
        assert set(np.flatnonzero(adjusted <= alpha + 1e-15)) == rejected
    assert (adjusted <= np.array(bonferroni(P_VALUES))).all()


def test_benjamini_hochberg_is_scipys():
    drawn = np.random.default_rng(0).random(40) ** 3
    assert benjamini_hochberg(drawn.tolist()) == pytest.approx(false_discovery_control(drawn), rel=1e-12)


@pytest.mark.parametrize("adjust", [bonferroni, holm, benjamini_hochberg])
def test_adjustments_keep_order_and_bounds(adjust):
    assert adjust([]) == []
    assert adjust([0.3]) == [0.3]
    assert adjust([0.0, 1.0]) == [0.0, 1.0]
    for wrong in ([0.5, 1.1], [-0.1], [math.nan]):
        with pytest.raises(UsageError, match="from 0 to 1"):
            adjust(wrong)
