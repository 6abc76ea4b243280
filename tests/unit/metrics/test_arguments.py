"""Numbers that engines refuse before they work, and the variance of shares."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gen_eval.errors import UsageError
from gen_eval.metrics import agresti_coull
from gen_eval.metrics.arguments import require_whole


@pytest.mark.parametrize("value", [2, 7, np.int64(3)])
def test_whole_numbers_in_range_pass(value):
    require_whole("folds", value, 2, 7)


@pytest.mark.parametrize("value", [1, 8, 2.5, 3.0, "x", None, True, math.nan])
def test_what_is_no_whole_number_in_range_is_refused(value):
    with pytest.raises(UsageError, match=f"folds must be a whole number from 2 to 7, found {value!r}"):
        require_whole("folds", value, 2, 7)


def test_a_range_may_be_open():
    require_whole("steps", 10**30, 1)
    with pytest.raises(UsageError, match="steps must be a whole number of 1 or more, found 0"):
        require_whole("steps", 0, 1)


def test_the_variance_of_a_share_has_two_more_draws_of_each_outcome():
    assert agresti_coull.variance(0.0, 16) == pytest.approx(0.1 * 0.9 / 20)
    assert agresti_coull.variance(0.25, 16) == pytest.approx(0.3 * 0.7 / 20)
    assert agresti_coull.lack(1.0, 16) == pytest.approx(0.1 * 0.9 / 20)  # as found it is 0
    assert agresti_coull.lack(0.5, 16) == 0
