"""What is known of a set: features on the terms asked for, or none."""

from __future__ import annotations

import pytest
import torch

from gen_eval.errors import IncomparableError
from gen_eval.stats import Features
from gen_eval.summary import Summary


@pytest.fixture
def summary(spec):
    return Summary("fakes/ünï", "ab" * 32, {(spec, "pool"): Features.of(torch.eye(3))}, made_with={})


def test_features_are_given_on_exactly_their_terms(summary, spec):
    assert summary.require(spec, "pool") is summary.features[spec, "pool"]


def test_features_on_other_terms_are_refused_naming_the_term_and_the_cure(summary, spec, other):
    cure = "--extractor" if other.spec.name != spec.name else "--protocol"
    with pytest.raises(IncomparableError, match=cure) as caught:
        summary.require(other.spec, "pool")
    (line,) = spec.differences(other.spec)
    assert line in str(caught.value)
    assert "fakes/ünï" in str(caught.value)


def test_another_tap_is_refused_by_name(summary, spec):
    with pytest.raises(IncomparableError, match="tap: pool against logits"):
        summary.require(spec, "logits")
