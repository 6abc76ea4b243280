"""What is said of a result, and which published numbers it may stand beside."""

from __future__ import annotations

import dataclasses
import json

import pytest

from gen_eval.explanation import MEANINGS, PRACTICES, explain, place
from gen_eval.extractors.network import NORMALIZATIONS
from gen_eval.metrics import METRICS, find_measure
from gen_eval.planning import find_measures
from gen_eval.protocols import PROTOCOLS
from gen_eval.results import Result, SetInfo
from gen_eval.spec import Resize, Spec
from gen_eval.terms import WEIGHTS

TRUNK = WEIGHTS["inception-2015-12-05", "pool"]
NETWORKS = {"inception": "inception-2015-12-05", "vgg16": "torchvision:vgg16"}


def result_of(measure="fid", protocol="torch-fidelity", generated=50_000, reference=50_000, **changes):
    """What measuring so many images under a protocol gives, but for the values."""
    terms = PROTOCOLS[protocol]
    (found,) = find_measures([measure], terms)
    metric, settings = found.metric, terms.preprocessing.get(found.extractor, {})
    normalize = settings.get("normalize", "x")
    spec = Spec(
        NETWORKS.get(found.extractor, found.extractor),
        TRUNK,
        Resize(299, settings.get("resize", "tf1-bilinear")),
        str(NORMALIZATIONS.get(normalize, normalize)) if found.extractor != "inception" else normalize,
    )
    sets = {
        "generated": SetInfo("fake", "aa" * 32, generated),
        "reference": SetInfo("real", "bb" * 32, reference),
    }
    default = Result(
        measure=found.name,
        metric=metric.name,
        version=metric.version,
        better=metric.better,
        params=terms.params_for(metric.name, metric.params),
        protocol=protocol,
        spec=spec,
        tap=found.tap,
        sets={role: sets[role] for role in metric.roles},
        values=dict.fromkeys(metric.better, 12.0),
        errors=dict.fromkeys(metric.better, 0.5),
        biases={},
        warnings=(),
        cite=metric.cite,
        made_with={},
        seconds=0.0,
    )
    return dataclasses.replace(default, **changes)


def fitting(result):
    return [each.practice.numbers for each in place(result) if not each.gaps]


def gaps(result, numbers):
    (found,) = [each for each in place(result) if each.practice.numbers == numbers]
    return {gap.term: (gap.found, gap.wanted, gap.cure) for gap in found.gaps}


# --- The tables


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_every_value_that_models_are_judged_by_has_a_meaning(metric):
    assert set(MEANINGS[metric.name]) == set(metric.better)


def test_meanings_are_of_metrics_that_there_are():
    assert set(MEANINGS) == set(METRICS)


@pytest.mark.parametrize("practice", PRACTICES, ids=lambda practice: practice.numbers)
def test_practices_are_of_what_their_protocol_stands_for(practice):
    terms = PROTOCOLS[practice.protocol]
    known = [(each.metric.name, each.extractor) for each in map(find_measure, terms.measures)]
    for name in practice.measures:
        measure = find_measure(name)
        assert (measure.metric.name, measure.extractor) in known


@pytest.mark.parametrize("practice", PRACTICES, ids=lambda practice: practice.numbers)
def test_what_is_measured_as_a_table_was_stands_in_it(practice):
    for measure in practice.measures:
        result = result_of(
            measure, practice.protocol, practice.generated or 7_000, practice.reference_n or 60_000
        )
        assert practice.numbers in fitting(result)


# --- What keeps a number out


FID_50K = "FID by pytorch-fid at 50,000 images"


def test_fewer_images_keep_it_out_and_nothing_else():
    assert gaps(result_of(protocol="pytorch-fid", generated=10_000), FID_50K) == {
        "generated images": ("10,000", "50,000", "generate as many")
    }
    unknown = result_of(protocol="pytorch-fid", generated=None)
    assert gaps(unknown, FID_50K)["generated images"][0] == "unknown"


def test_another_preprocessing_is_named_with_the_protocol_that_cures_it():
    assert gaps(result_of(), FID_50K) == {
        "resize": ("tf1-bilinear", "torch-bilinear", "--protocol pytorch-fid"),
        "pixels": ("(x-128)/128", "x/127.5-1", "--protocol pytorch-fid"),
    }


def test_parameters_keep_it_out_but_not_those_of_rounding_and_routes():
    assert gaps(result_of(protocol="stylegan3"), "FID of edm's tables") == {
        "ddof": ("0", "1", "--protocol edm")
    }
    # float32 means and float64 means: one in the fifth digit.
    assert "FID of edm's tables" in fitting(result_of(protocol="torch-fidelity"))
    result = result_of()
    routes = dataclasses.replace(result, params={**result.params, "method": "sqrtm"})
    assert fitting(routes) == fitting(result)


@pytest.mark.parametrize(
    ("changes", "term"), [({"weights": "0" * 16}, "weights"), ({"precision": "bf16"}, "precision")]
)
def test_other_weights_and_precisions_keep_it_out_of_all(changes, term):
    result = result_of()
    other = dataclasses.replace(result, spec=dataclasses.replace(result.spec, **changes))
    assert fitting(result)
    assert all(term in [gap.term for gap in each.gaps] for each in place(other))


def test_a_reference_of_another_size_keeps_it_out_where_the_size_is_fixed():
    paper = "precision and recall of the paper by Kynkäänniemi et al., 50,000 images against 50,000"
    found = gaps(result_of("pr", "kynkaanniemi", reference=10_000), paper)
    assert found == {
        "reference images": ("10,000", "50,000", "take 50,000 images of the training set"),
    }


def test_subsets_that_had_to_be_smaller_keep_it_out():
    kid = "KID by torch-fidelity: 100 subsets of 1,000"
    assert gaps(result_of("kid", generated=1_000), kid) == {}
    assert gaps(result_of("kid", generated=5_000, reference=900), kid) == {
        "images of a subset": ("900", "1,000", "take at least as many of each set")
    }


def test_the_same_metric_through_another_network_stands_in_other_tables():
    through_inception = {each.practice.numbers for each in place(result_of("pr"))}
    through_vgg16 = {each.practice.numbers for each in place(result_of("pr:vgg16"))}
    assert through_inception
    assert through_vgg16
    assert not through_inception & through_vgg16
    assert place(result_of("fd:pixels")) == ()


def test_the_nearest_come_first():
    counts = [len(each.gaps) for each in place(result_of(generated=1_000))]
    assert counts == sorted(counts)
    assert len(set(counts)) > 1


# --- In words


def number_of(**changes):
    return explain(result_of(**changes)).numbers[0]


def test_a_number_says_what_it_is_which_way_is_better_and_how_sure():
    number = number_of()
    assert (number.label, number.value, number.better) == ("fid", 12.0, "lower is better")
    assert number.meaning == MEANINGS["frechet"]["frechet"]
    assert "11.02 to 12.98 in 95 of 100 cases" in number.sureness
    assert "no standard error" in number_of(errors={}).sureness
    assert "is no number" in number_of(errors={"frechet": float("nan")}).sureness


def test_what_of_it_is_bias():
    assert "not known: compare it at equal n" in number_of().bias
    assert "unbiased" in number_of(biases={"frechet": 0.0}).bias
    text = number_of(biases={"frechet": 3.0}, generated=2_500).bias
    assert (
        text
        == "about +3 of it, 25% of it, is what 2,500 and 50,000 images bring; infinitely many would give about 9"
    )
    # A bias as large as the value says no more than that: nothing is left to tell.
    assert "infinitely many" not in number_of(biases={"frechet": 14.0}).bias


def test_a_value_that_is_to_be_near_a_target_says_so():
    assert explain(result_of("c2st")).numbers[0].better == "nearer to 0.5 is better"


def test_terms_are_all_there():
    terms = explain(result_of("pr", "kynkaanniemi")).terms
    assert list(terms) == ["generated", "reference", "network", "resize", "protocol", "parameters"]
    assert terms["generated"] == "fake, 50,000 images, content aaaaaaaaaaaa"
    assert "torchvision:vgg16 pool" in terms["network"]
    assert "improved-precision-and-recall-metric" in terms["protocol"]
    assert "k=3" in terms["parameters"]


def test_cautions_are_its_warnings_and_what_the_tool_does_not_have():
    assert explain(result_of()).cautions == ()
    assert explain(result_of(warnings=("few",))).cautions == ("few",)
    (caution,) = explain(result_of("pr")).cautions  # torch-fidelity looks through VGG16
    assert "torch-fidelity 0.4 has no pr" in caution
    assert "pr:vgg16" in caution
    (caution,) = explain(result_of(version=0)).cautions
    assert "version 0 of frechet, which is 1 now" in caution


def test_a_metric_of_somebodys_own_is_explained_as_far_as_can_be():
    found = explain(result_of(measure="fid", metric="mine", better={"frechet": "lower"}))
    assert found.numbers[0].meaning.startswith("see Heusel")
    assert "somebody's own" in found.cautions[0]
    stranger = dataclasses.replace(result_of(), measure="mine", metric="mine", protocol="mine")
    assert explain(stranger).placements == ()


def test_the_plain_data_is_json():
    data = json.loads(json.dumps(explain(result_of(generated=100)).to_json(), allow_nan=False))
    assert data["measure"] == "fid"
    assert data["comparable_with"] == []
    assert all(each["gaps"] for each in data["not_yet_comparable_with"])
    assert json.loads(json.dumps(explain(result_of()).to_json()))["comparable_with"]


def test_numbers_that_are_none_are_null():
    result = result_of(values={"frechet": float("nan")})
    assert json.loads(json.dumps(explain(result).to_json(), allow_nan=False))["numbers"][0]["value"] is None
