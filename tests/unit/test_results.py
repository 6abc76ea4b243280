"""Results: what they say, and that they refuse to be compared on other terms."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from gen_eval.errors import IncomparableError, StoreError
from gen_eval.results import CURES, Result, SetInfo, differences, labelled, read_results, require_comparable
from gen_eval.spec import Resize, Spec

SPEC = Spec("inception", "0123456789abcdef", Resize(299, "tf1-bilinear"), "(x-128)/128")


def result_of(**changes):
    default = Result(
        measure="fid",
        metric="frechet",
        version=1,
        better={"frechet": "lower"},
        params={"ddof": 1},
        protocol="torch-fidelity",
        spec=SPEC,
        tap="pool",
        sets={
            "generated": SetInfo("fake", "aa" * 32, 100),
            "reference": SetInfo("real", "bb" * 32, 200, notes={"gray to RGB": 2}),
        },
        values={"frechet": 12.5, "slope": 3.0},
        errors={"frechet": 0.5},
        biases={"frechet": 0.25},
        warnings=("careful",),
        cite="somebody",
        made_with={"torch": "2.0"},
        seconds=1.23456,
        contributions={
            "generated": (torch.tensor([7, 3, 9, 1]), torch.tensor([0.1, -0.5, 0.7, 0.3]).double())
        },
    )
    return dataclasses.replace(default, **changes)


def with_set(role, **changes):
    sets = dict(result_of().sets)
    sets[role] = dataclasses.replace(sets[role], **changes)
    return result_of(sets=sets)


def test_results_on_the_same_terms_are_comparable():
    require_comparable([])
    require_comparable([result_of()])
    other = with_set("generated", name="other", digest="cc" * 32)
    other = dataclasses.replace(other, values={"frechet": 3.0}, made_with={"torch": "3.0"}, seconds=9.0)
    require_comparable([result_of(), other, with_set("reference", name="moved/real")])


DIFFERENCES = {
    "metric: frechet against kid": result_of(measure="kid", metric="kid"),
    "metric version: 1 against 2": result_of(version=2),
    "parameters: {'ddof': 1} against {'ddof': 0}": result_of(params={"ddof": 0}),
    "tap: pool against logits": result_of(tap="logits"),
    "generated n: 100 against 99": with_set("generated", n=99),
    "generated n: 100 against None": with_set("generated", n=None),
    "reference n: 200 against 199": with_set("reference", n=199),
    "reference images: bbbbbbbbbbbbbbbb against cccccccccccccccc": with_set("reference", digest="cc" * 32),
    "roles: ['generated', 'reference'] against ['generated']": result_of(
        sets={"generated": SetInfo("fake", "aa" * 32, 100)}
    ),
}


def assert_refused(other, line):
    with pytest.raises(IncomparableError) as caught:
        require_comparable([result_of(), result_of(), other])
    message = str(caught.value)
    assert message.splitlines()[1:-1] == [f"  {line}"]
    assert "fid of fake" in message
    assert "not comparable" in message
    assert message.splitlines()[-1].startswith("Measure both on the same terms: ")
    assert CURES[line.split(": ")[0]] in message


@pytest.mark.parametrize("line", DIFFERENCES)
def test_a_term_that_differs_is_refused_and_named(line):
    assert_refused(DIFFERENCES[line], line)


def test_a_spec_that_differs_is_refused_and_its_term_named(other):
    (line,) = SPEC.differences(other.spec)
    assert line.startswith(f"{other.term}: ")
    assert_refused(result_of(spec=other.spec), line)


@pytest.mark.parametrize("role", ["generated", "reference"])
def test_two_unknown_counts_of_other_images_are_not_taken_for_equal(role):
    one, other = with_set(role, n=None), with_set(role, n=None, digest="cc" * 32)
    require_comparable([one, one])
    with pytest.raises(IncomparableError, match=f"{role} n: unknown against unknown too"):
        require_comparable([one, other])


def test_results_without_generated_images_are_compared():
    one = result_of(sets={"reference": SetInfo("real", "bb" * 32, 200)})
    require_comparable([one, one])
    with pytest.raises(IncomparableError, match=r"fid of \? and fid of \? are not comparable"):
        require_comparable([one, dataclasses.replace(one, version=2)])


def test_all_terms_that_differ_are_named_at_once():
    other = dataclasses.replace(
        with_set("generated", n=99), version=2, spec=Spec("pixels", "none", Resize(8, "tf1-bilinear"), "x")
    )
    with pytest.raises(IncomparableError) as caught:
        require_comparable([result_of(), other])
    for term in ("metric version", "generated n", "name", "weights", "resize", "normalize"):
        assert f"  {term}: " in str(caught.value)


def test_value_error_and_bias_are_those_of_the_first_number():
    assert (result_of().value, result_of().error, result_of().bias) == (12.5, 0.5, 0.25)
    others = result_of(errors={"slope": 1.0}, biases={"slope": 2.0})
    assert (others.error, others.bias) == (None, None)


@pytest.mark.parametrize(
    ("measure", "better", "labels"),
    [
        ("fid", {"frechet": "lower"}, {"frechet": "fid", "slope": "slope"}),
        ("fd:dinov2", {"frechet": "lower"}, {"frechet": "fd:dinov2", "slope": "slope:dinov2"}),
        (
            "pr",
            {"precision": "higher", "recall": "higher"},
            {"precision": "precision", "recall": "recall", "radius": "radius"},
        ),
        (
            "pr:clip/pool",
            {"precision": "higher", "recall": "higher"},
            {"precision": "precision:clip/pool", "recall": "recall:clip/pool"},
        ),
    ],
)
def test_a_value_is_called_by_what_tells_it_from_those_of_other_measures(measure, better, labels):
    result = result_of(measure=measure, better=better)
    assert {name: result.label(name) for name in labels} == labels


def test_values_of_one_label_are_told_apart_by_their_measures():
    """None is lost where labels are keys."""
    pr = result_of(measure="pr", better={"precision": "higher", "recall": "higher"})
    prdc = result_of(measure="prdc", better={"precision": "higher", "density": "higher"})
    fid = result_of()
    assert labelled([pr, fid, prdc]) == [
        ("precision of pr", pr, "precision"),
        ("recall", pr, "recall"),
        ("fid", fid, "frechet"),
        ("precision of prdc", prdc, "precision"),
        ("density", prdc, "density"),
    ]


def test_two_names_of_one_measure_are_comparable():
    require_comparable([result_of(measure="fid"), result_of(measure="fd")])


def test_the_worst_images_come_first_by_their_index():
    found = result_of().worst(3)
    assert [index for index, _ in found] == [9, 1, 7]
    assert [contribution for _, contribution in found] == pytest.approx([0.7, 0.3, 0.1])
    assert len(result_of().worst(99)) == 4
    assert result_of().worst(0) == []
    assert result_of().worst(3, role="reference") == []


def test_a_json_line_is_one_line_that_parses_and_says_the_terms():
    line = result_of().json_line()
    assert "\n" not in line
    data = json.loads(line)
    assert (data["measure"], data["value"], data["standard_error"], data["bias"]) == ("fid", 12.5, 0.5, 0.25)
    assert data["values"] == {"frechet": 12.5, "slope": 3.0}
    assert (data["errors"], data["biases"]) == ({"frechet": 0.5}, {"frechet": 0.25})
    assert data["better"] == {"frechet": "lower"}
    assert data["heldout"] is None
    assert Spec.from_json({k: v for k, v in data["spec"].items() if k != "digest"}) == SPEC
    assert data["spec"]["digest"] == SPEC.digest
    assert data["sets"]["generated"] == {
        "name": "fake",
        "digest": "aa" * 32,
        "n": 100,
        "skipped": 0,
        "notes": {},
        "claimed": False,
    }
    assert data["sets"]["reference"]["notes"] == {"gray to RGB": 2}
    assert data["warnings"] == ["careful"]
    assert data["contributions"] == {}, "those of generated images stay where they are"
    assert "per_image" not in data


def test_contributions_of_the_reference_go_along_unless_they_explain_too_much():
    index, numbers = torch.tensor([2, 9, 4]), torch.tensor([0.2, -0.1, -0.1]).double()
    contributions = {"reference": (index, numbers)}
    data = result_of(contributions=contributions, errors={"frechet": 3.0}).to_json()
    found = Result.from_json(json.loads(json.dumps(data))).contributions["reference"]
    assert found[0].tolist() == [2, 4, 9]
    assert found[1].tolist() == pytest.approx([0.2, -0.1, -0.1])
    assert result_of(contributions=contributions, errors={"frechet": 0.1}).to_json()["contributions"] == {}
    with pytest.raises(StoreError, match="its contributions are damaged"):
        Result.from_json({**data, "contributions": {"reference": "AAAA"}})
    before = {name: value for name, value in data.items() if name != "contributions"}
    assert Result.from_json(before).contributions == {}


def test_the_held_out_result_goes_along_in_json():
    held = result_of(values={"frechet": 0.5}, errors={}, biases={})
    data = json.loads(result_of(heldout=held).json_line())
    assert data["heldout"]["value"] == 0.5
    assert data["heldout"]["standard_error"] is None
    assert data["heldout"]["heldout"] is None
    assert data["value"] == 12.5


def test_routes_to_the_same_number_are_no_terms():
    by_one, by_other = (result_of(params={"ddof": 1, "method": method}) for method in ("auto", "sqrtm"))
    require_comparable([by_one, by_other])
    with pytest.raises(IncomparableError, match="ddof"):
        require_comparable([by_one, result_of(params={"ddof": 0, "method": "auto"})])


def test_draws_that_the_error_counts_are_no_terms_and_need_no_record_of_older_results():
    older = result_of(params={"k": 3})
    some = result_of(params={"k": 3, "sample": 10_000, "seed": 1})
    other = result_of(params={"k": 3, "sample": None, "seed": 2020})
    require_comparable([older, some, other])
    with pytest.raises(IncomparableError, match="'k': 3.* against .*'k': 5"):
        require_comparable([some, result_of(params={"k": 5, "sample": 10_000, "seed": 1})])
    waves = {"kernel": "rbf", "seed": 1}
    require_comparable([result_of(params={**waves, "frequencies": 500}), result_of(params=waves)])
    with pytest.raises(IncomparableError, match="seed"):  # it draws the divisions of a test as well
        require_comparable([result_of(params=waves), result_of(params={"kernel": "rbf", "seed": 2})])


# --- Read back


def test_a_result_comes_back_from_its_line():
    held = result_of(values={"frechet": 0.5}, errors={}, biases={}, seconds=0.5)
    one = result_of(
        params={"ddof": 1, "bandwidth": (0.5, (1, 2)), "gamma": None}, heldout=held, seconds=1.235
    )
    back = Result.from_json(json.loads(one.json_line()))
    assert back == one
    assert (back.contributions, back.per_image) == ({}, {})
    assert back.json_line() == one.json_line()
    require_comparable([one, back])


def test_numbers_that_are_none_come_back_as_none():
    one = result_of(values={"frechet": float("nan")}, errors={"frechet": float("inf")})
    back = Result.from_json(json.loads(one.json_line()))
    assert back.values["frechet"] != back.values["frechet"]
    assert back.errors["frechet"] != back.errors["frechet"]


def test_what_others_add_to_a_line_is_left_aside():
    assert Result.from_json({"psi": 0.5, **json.loads(result_of(seconds=1.0).json_line())}) == result_of(
        seconds=1.0
    )


def test_a_file_of_lines_is_read_in_its_order():
    lines = [result_of(measure=name).json_line() + "\n" for name in ("fid", "kid")]
    assert [each.measure for each in read_results([lines[0], "\n", lines[1]], "a.json")] == ["fid", "kid"]


@pytest.mark.parametrize(
    ("line", "number"),
    [("no json", 1), ("[3]", 1), ("3", 1), ("{}", 1), ('{"measure": "fid"}', 1), ('\n{"spec": 3}', 2)],
)
def test_lines_that_are_no_results_are_refused_by_their_number(line, number):
    with pytest.raises(StoreError, match=f"a.json, line {number}: .*geneval evaluate --json"):
        read_results(line.splitlines(keepends=True), "a.json")


@pytest.mark.parametrize("term", ["values", "spec", "sets", "better", "seconds", "heldout"])
def test_a_line_without_one_of_its_terms_is_refused(term):
    data = json.loads(result_of().json_line())
    del data[term]
    with pytest.raises(StoreError, match=term):
        Result.from_json(data)


@pytest.mark.parametrize("content", ["\n", "[]"])
def test_a_file_without_results_is_refused(content):
    with pytest.raises(StoreError, match="a.json holds no result"):
        read_results([content], "a.json")


def test_what_others_make_of_a_file_is_read_as_the_same():
    """`jq .` indents, `jq -s .` makes a list, and editors put a mark at the beginning."""
    objects = [json.loads(result_of(measure=name, seconds=1.0).json_line()) for name in ("fid", "kid")]
    expected = [result_of(measure=name, seconds=1.0) for name in ("fid", "kid")]
    indented = "\n".join(json.dumps(each, indent=2) for each in objects)
    for text in (indented, json.dumps(objects, indent=2), "\ufeff" + "\r\n".join(map(json.dumps, objects))):
        assert read_results(text.splitlines(keepends=True), "a.json") == expected
    with pytest.raises(StoreError, match=r"a.json, line 3: Expecting"):
        read_results(['{"measure": "fid",\n', '"metric":\n', ","], "a.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"measure": 3}, "measure of it is 3, expected a text"),
        ({"version": "x"}, "version of it is 'x', expected a whole number"),
        ({"version": True}, "version of it is True"),
        (
            {"better": ["frechet"]},
            "better of it is .*, expected an object whose values are each lower, higher",
        ),
        ({"better": {"frechet": "larger"}}, "better of it is"),
        ({"better": {"kid": "lower"}}, "it lacks the value kid"),
        ({"params": [1]}, "params of it is .*, expected an object"),
        ({"sets": []}, "sets of it is"),
        ({"sets": {"generated": 3}}, "its generated set is 3, expected an object"),
        ({"sets": {"generated": {"name": "fake"}}}, "its generated set lacks digest"),
        ({"values": {}}, "it lacks the value frechet"),
        ({"values": {}, "better": {}}, "it has no value"),
        ({"values": {"frechet": "12"}}, "values of it is .*, expected .* a number, or null"),
        ({"errors": {"frechet": -5.0}}, "errors of it is .*, expected .* a number, 0 or more, or null"),
        ({"warnings": "careful"}, "warnings of it is 'careful', expected a list of texts"),
        ({"heldout": 3}, "heldout of it is 3"),
        ({"spec": {"name": "inception"}}, "its spec lacks weights"),
    ],
)
def test_terms_that_no_result_has_are_refused(change, message):
    data = json.loads(result_of().json_line()) | change
    with pytest.raises(StoreError, match=f"not a result of gen_eval: {message}"):
        Result.from_json(data)


@pytest.mark.parametrize(
    ("where", "what"), [("sets", "its generated set"), ("spec", "its spec"), ("resize", "its resize")]
)
def test_terms_of_a_later_version_are_refused_with_the_version(where, what):
    data = json.loads(result_of(made_with={"gen_eval": "9.1"}).json_line())
    parts = {"sets": data["sets"]["generated"], "spec": data["spec"], "resize": data["spec"]["resize"]}
    parts[where]["dithered"] = 1
    with pytest.raises(
        StoreError, match=f"{what} has dithered, which .* knows nothing of: version 9.1 wrote"
    ):
        Result.from_json(data)


def test_each_term_that_can_differ_has_a_cure(other):
    found = differences(result_of(), result_of(spec=other.spec))
    assert list(found) == [other.term]
    everything = differences(
        result_of(sets={role: SetInfo(role, role, 1) for role in ("generated", "reference", "heldout")}),
        dataclasses.replace(
            result_of(
                sets={role: SetInfo(role, role + "s", 2) for role in ("generated", "reference", "heldout")}
            ),
            measure="kid",
            metric="kid",
            version=2,
            params={},
            tap="logits",
        ),
    )
    assert set(everything) <= set(CURES)
    assert set(CURES) - set(everything) == {"roles", *(term.name for term in dataclasses.fields(Spec))}
