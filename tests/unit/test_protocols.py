"""Protocols: which of a parameter's several values holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gen_eval.errors import UnknownName
from gen_eval.extractors import EXTRACTORS, find_extractor
from gen_eval.extractors.network import NORMALIZATIONS
from gen_eval.metrics import ALIASES, METRICS, find_measure
from gen_eval.planning import find_measures
from gen_eval.protocols import DEFAULT_PROTOCOL, PROTOCOLS, SHOWN, Protocol, find_protocol
from gen_eval.resize import KERNELS

KNOWN = {"kernel": {"k": 1, "seed": 2}, "neighbors": {"k": 3, "method": "auto"}}
NAMES = ["k", "seed", "method", "kernel.k", "kernel.seed", "neighbors.k", "neighbors.method"]
PARAMS = st.dictionaries(st.sampled_from(NAMES), st.integers(10, 99))


def protocol(**params):
    return Protocol("mine", "a test", {}, {name.replace("__", "."): value for name, value in params.items()})


def effective(terms):
    return {metric: terms.params_for(metric, defaults) for metric, defaults in KNOWN.items()}


def test_without_any_the_defaults_hold():
    assert effective(protocol()) == KNOWN


def test_a_name_is_set_in_every_metric_that_has_it_and_in_no_other():
    assert effective(protocol(k=9)) == {
        "kernel": {"k": 9, "seed": 2},
        "neighbors": {"k": 9, "method": "auto"},
    }


def test_a_dotted_name_is_set_in_that_metric_and_goes_before_the_plain_one():
    found = effective(protocol(k=9, kernel__k=8))
    assert (found["kernel"]["k"], found["neighbors"]["k"]) == (8, 9)


def test_what_the_caller_sets_goes_before_the_protocol():
    terms = protocol(k=9, kernel__k=8, seed=7)
    found = effective(terms.with_params({"k": 5}, KNOWN))  # for all: over the protocol's of one too
    assert (found["kernel"], found["neighbors"]["k"]) == ({"k": 5, "seed": 7}, 5)
    found = effective(terms.with_params({"neighbors.k": 5}, KNOWN))
    assert (found["kernel"]["k"], found["neighbors"]["k"]) == (8, 5)
    assert effective(terms) == effective(protocol(k=9, kernel__k=8, seed=7))  # itself unchanged


@given(PARAMS, PARAMS)
def test_precedence_is_callers_for_one_callers_for_all_protocols_for_one_protocols_for_all(mine, callers):
    found = effective(Protocol("mine", "a test", {}, mine).with_params(callers, KNOWN))
    for metric, defaults in KNOWN.items():
        assert list(found[metric]) == list(defaults)
        for name, default in defaults.items():
            places = [
                (callers, f"{metric}.{name}"),
                (callers, name),
                (mine, f"{metric}.{name}"),
                (mine, name),
            ]
            expected = next((values[key] for values, key in places if key in values), default)
            assert found[metric][name] == expected


@given(PARAMS, PARAMS)
def test_what_is_set_later_goes_before_what_was_set_for_as_many(first, second):
    terms = protocol().with_params(first, KNOWN).with_params(second, KNOWN)
    for name, value in second.items():
        assert terms.params[name] == value


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("kk", "did you mean 'k'"),
        ("sed", "did you mean 'seed'"),
        ("kernel.method", ""),
        ("kernel.kernel.k", ""),
        ("nearest.k", ""),
        ("kernel.", ""),
        (".k", ""),
        ("", ""),
    ],
)
def test_a_parameter_that_no_metric_has_is_refused(name, hint):
    with pytest.raises(UnknownName, match=f"unknown parameter '{name}': .*{hint}"):
        protocol().with_params({name: 1}, KNOWN)


def test_a_parameter_of_the_protocol_that_no_metric_asked_for_has_is_no_mistake():
    # A protocol speaks of all metrics, of which a call wants a few.
    assert effective(protocol(mean_dtype="float32").with_params({"k": 4}, KNOWN))["kernel"]["k"] == 4


# --- The table


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_row_speaks_of_what_there_is(name):
    row = PROTOCOLS[name]
    parameters = {parameter for metric in METRICS.values() for parameter in metric.params}
    dotted = {f"{metric.name}.{each}" for metric in METRICS.values() for each in metric.params}
    assert set(row.params) <= parameters | dotted
    assert all(
        settings["resize"] in KERNELS for settings in row.preprocessing.values() if "resize" in settings
    )


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_row_tells_its_tool_and_how_it_was_shown(name):
    row = PROTOCOLS[name]
    assert row.tool
    assert row.meaning
    assert row.shown in SHOWN
    assert row.measures


@pytest.mark.parametrize("name", PROTOCOLS)
def test_networks_and_measures_of_a_row_are_there_and_its_preprocessing_speaks_of_them(name):
    row = PROTOCOLS[name]
    assert set(row.networks) <= set(ALIASES)
    assert set(row.networks.values()) <= set(EXTRACTORS)
    for measure in find_measures([*row.measures, *row.networks], row):
        find_extractor(measure.extractor)
        assert "resize" in row.preprocessing[measure.extractor], measure.name
    own = set(row.preprocessing) - {"inception", "pixels"}
    assert all(row.preprocessing[network].get("normalize", "imagenet") in NORMALIZATIONS for network in own)


def test_measures_that_name_inception_look_through_it_under_every_protocol():
    for row in PROTOCOLS.values():
        assert not {"fid", "sfid", "fid-inf", "intra-fid", "mifid", "kid", "is"} & set(row.networks)


@pytest.mark.parametrize(
    ("name", "asked", "seen"),
    [
        ("torch-fidelity", "pr", "pr"),  # a protocol's numbers do not move
        ("stylegan3", "pr", "pr"),
        ("kynkaanniemi", "pr", "pr:vgg16"),
        ("kynkaanniemi", "precision-recall", "precision-recall:vgg16"),
        ("kynkaanniemi", "pr:inception", "pr:inception"),
        ("kynkaanniemi", "fid", "fid"),
        ("edm2", "fd", "fd:dinov2"),
        ("dgm-eval", "prdc", "prdc:dinov2"),
        ("cmmd", "cmmd", "cmmd"),
    ],
)
def test_a_measure_without_a_network_gets_that_of_the_tool(name, asked, seen):
    (measure,) = find_measures([asked], PROTOCOLS[name])
    assert measure == find_measure(seen)
    assert find_measures([measure], PROTOCOLS[name]) == [measure]  # one that is settled stays as it is


def test_what_a_protocol_says_in_the_words_of_the_metrics():
    params = {
        name: find_protocol(name).params_for("precision-recall", METRICS["precision-recall"].params)
        for name in ("kynkaanniemi", "dgm-eval", "fld", "studiogan")
    }
    balls = {name: (each["k"], each["inclusive"]) for name, each in params.items()}
    assert balls == {
        "kynkaanniemi": (3, True),
        "dgm-eval": (5, False),
        "fld": (3, False),
        "studiogan": (5, False),
    }
    cmmd = find_protocol("cmmd").params_for("cmmd", METRICS["cmmd"].params)
    assert (cmmd["bandwidth"], cmmd["scale"], cmmd["estimator"]) == (10, 1000, "biased")


def test_a_protocol_is_found_by_name_or_is_one():
    assert find_protocol(DEFAULT_PROTOCOL) is PROTOCOLS[DEFAULT_PROTOCOL]
    mine = protocol()
    assert find_protocol(mine) is mine
    with pytest.raises(UnknownName, match="unknown protocol 'pytorchfid': did you mean 'pytorch-fid'"):
        find_protocol("pytorchfid")
