"""What a list of measures takes: one extractor a name, one pass a set, as many rows as the neediest wants."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gen_eval.errors import UnknownName, UsageError
from gen_eval.extractors import EXTRACTORS, Pixels
from gen_eval.metrics import Measure, Metric, find_measure
from gen_eval.passing import DEFAULT_ROWS
from gen_eval.planning import Plan, load_extractors, pick_device, role_in
from gen_eval.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from gen_eval.spec import Spec

CPU = torch.device("cpu")
TERMS = PROTOCOLS[DEFAULT_PROTOCOL]


def toy(extractor="pixels", tap="pool", **row):
    metric = Metric("toy", compute=dict, better={"toy": "lower"}, cite="nobody", **row)
    return Measure("toy", metric, extractor, tap)


class Tapped(Pixels):
    """Pixels that can be read at several places."""

    def __init__(self, name="tapped"):
        super().__init__()
        self.name = name
        self.taps = {"pool": 192, "logits": 10, "spatial": 7}

    def spec(self, tap):
        if tap not in self.taps:
            raise UnknownName("tap of tapped", tap, self.taps)
        return Spec(self.name, "none", self.resize, tap)


def plan_of(*measures, row_limit=None):
    names = {measure.extractor for measure in measures}
    return Plan(measures, {name: Tapped(name) for name in names}, TERMS, row_limit)


# --- Plan


MEASURES = st.builds(
    toy,
    st.sampled_from(["one", "two"]),
    st.sampled_from(["pool", "logits", "spatial"]),
    roles=st.sampled_from(
        [
            ("generated",),
            ("generated", "reference"),
            ("generated", "reference", "heldout"),
            ("reference", "heldout"),
        ]
    ),
    by_rows=st.booleans(),
    whole=st.sampled_from([(), ("generated",), ("reference",), ("generated", "reference")]),
)


@given(st.lists(MEASURES, min_size=1, max_size=6), st.sampled_from(["generated", "reference", "heldout"]))
def test_each_extractor_is_asked_once_for_each_tap_that_a_measure_sees(measures, role):
    plan = plan_of(*measures)
    # Held-out images stand for the generated ones, where a metric does not know of them itself.
    mine = [
        measure
        for measure in measures
        if role in measure.metric.roles or (role == "heldout" and "generated" in measure.metric.roles)
    ]
    assert plan.of(role) == mine
    asked = [(request.extractor.name, tap) for request in plan.requests(role) for tap in request.taps]
    assert sorted(asked) == sorted({(measure.extractor, measure.tap) for measure in mine})
    extractors = [request.extractor.name for request in plan.requests(role)]
    assert len(extractors) == len(set(extractors))


@given(
    st.lists(MEASURES, min_size=1, max_size=6),
    st.sampled_from(["generated", "reference"]),
    st.none() | st.integers(0, 10**6),
)
def test_as_many_rows_are_kept_as_the_neediest_measure_wants(measures, role, limit):
    metrics = [measure.metric for measure in measures if role in measure.metric.roles]
    rows = plan_of(*measures, row_limit=limit).rows(role)
    if any(role in metric.whole for metric in metrics):
        assert rows is None  # whatever the limit: the metric has no meaning without
    elif limit is not None:
        assert rows == limit
    elif any(metric.by_rows for metric in metrics):
        assert rows is None
    else:
        assert rows == DEFAULT_ROWS


def test_rows_are_kept_for_the_role_that_needs_them():
    plan = plan_of(toy(whole=("generated",)), toy(roles=("reference",), by_rows=True))
    assert [plan.rows(role) for role in ("generated", "reference", "heldout")] == [None, None, None]
    plan = plan_of(toy(whole=("generated",)))
    assert [plan.rows(role) for role in ("generated", "reference", "heldout")] == [
        None,
        DEFAULT_ROWS,
        None,
    ]


def test_held_out_images_stand_for_the_generated_unless_a_metric_knows_of_them():
    known = ("generated", "reference", "heldout")
    assert role_in(toy().metric, "heldout") == "generated"
    assert role_in(toy(roles=known).metric, "heldout") == "heldout"
    assert all(role_in(toy().metric, role) == role for role in ("generated", "reference"))
    for whole, rows in (("heldout",), None), (("generated",), DEFAULT_ROWS):
        assert plan_of(toy(roles=known, whole=whole)).rows("heldout") == rows


def test_a_role_that_nobody_looks_at_has_no_request():
    assert plan_of(toy(roles=("generated",))).requests("reference") == []


# --- Extractors


def load(*measures, protocol=TERMS, **options):
    return load_extractors(measures, protocol, device=CPU, **options)


@pytest.fixture
def asked(monkeypatch):
    """The options that the loader of a network is called with."""
    calls = []

    def loader(name):
        def loaded(**options):
            calls.append((name, options))
            return Tapped(name)

        return loaded

    for name in ("inception", "other"):
        monkeypatch.setitem(EXTRACTORS, name, loader(name))
    return calls


def test_an_extractor_is_loaded_once_for_all_its_taps_and_told_everything(asked):
    measures = [toy("inception"), toy("inception", "logits"), toy("inception"), toy("other", "spatial")]
    loaded = load(*measures, precision="bf16", offline=True)
    assert list(loaded) == ["inception", "other"]
    (first, options), (second, others) = asked
    assert (first, second) == ("inception", "other")
    assert (options["taps"], others["taps"]) == (["pool", "logits"], ["spatial"])
    for each in (options, others):
        assert (each["precision"], each["device"], each["offline"]) == ("bf16", CPU, True)
        assert each["weights"] is None
    # What the protocol says is of the extractors that it names; others keep their own.
    assert {name: options[name] for name in ("resize", "normalize")} == TERMS.preprocessing["inception"]
    assert not {"resize", "normalize"} & set(others)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_protocol_sets_how_images_reach_a_network(protocol):
    extractors = load(toy(), protocol=PROTOCOLS[protocol])
    assert extractors["pixels"].resize.kernel == PROTOCOLS[protocol].preprocessing["pixels"]["resize"]


def test_an_extractor_of_ones_own_goes_before_the_table(asked):
    mine = Tapped()
    loaded = load(toy("inception"), toy("mine", "logits"), own={"inception": mine, "mine": mine})
    assert loaded == {"inception": mine, "mine": mine}
    assert asked == []
    with pytest.raises(UnknownName, match="unknown tap of tapped 'logit': did you mean 'logits'"):
        load(toy("mine", "logit"), own={"mine": mine})


def test_unknown_names_are_refused_before_anything_is_loaded(asked):
    with pytest.raises(UnknownName, match="unknown extractor 'incepton': did you mean 'inception'"):
        load(toy("inception"), toy("incepton"))
    assert asked == []
    with pytest.raises(UnknownName, match="unknown tap of tapped 'pol'"):
        load(toy("inception", "pol"))


def test_weights_go_to_the_one_network_that_takes_them(asked):
    load(toy("inception"), toy("pixels"), weights="file.pth")
    assert asked[0][1]["weights"] == "file.pth"
    load(toy("inception"), toy("other"), weights={"other": "file.pth"})
    assert [options["weights"] for _, options in asked[1:]] == [None, "file.pth"]


@pytest.mark.parametrize(
    ("names", "weights", "message"),
    [
        (["inception", "other"], "file.pth", r"2 networks \(inception, other\): say which one takes them"),
        (["pixels"], "file.pth", r"0 networks \(none\)"),
        (["inception"], {"incepton": "file.pth"}, "unknown extractor with weights 'incepton': did you mean"),
        (["pixels"], {"pixels": "file.pth"}, "unknown extractor with weights 'pixels'"),
    ],
)
def test_weights_for_no_network_in_particular_are_refused(names, weights, message, asked):
    with pytest.raises(UsageError, match=message):
        load(*map(toy, names), weights=weights)
    assert asked == []


# --- Device


def test_the_device_is_the_one_asked_for_or_what_there_is(monkeypatch):
    assert pick_device("cpu") == pick_device(CPU) == CPU
    for there, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert pick_device() == torch.device(device)
    with pytest.raises(UsageError, match="device 'cuda:1' asked for, but torch finds no CUDA here"):
        pick_device("cuda:1")


@pytest.mark.parametrize("device", ["gpu", "mps", "cuda:x", ""])
def test_a_device_that_is_none_is_refused(device):
    with pytest.raises(UsageError, match=f"device '{device}'"):
        pick_device(device)


# --- Names of measures


@pytest.mark.parametrize(
    ("name", "metric", "extractor", "tap"),
    [
        ("fid", "frechet", "inception", "pool"),
        ("sfid", "frechet", "inception", "spatial"),
        ("fid:pixels", "frechet", "pixels", "pool"),
        ("fd:timm:resnet50", "frechet", "timm:resnet50", "pool"),
        ("frechet:inception/spatial", "frechet", "inception", "spatial"),
        ("frechet-inf:pixels", "frechet-inf", "pixels", "pool"),
    ],
)
def test_a_name_says_metric_extractor_and_tap(name, metric, extractor, tap):
    found = find_measure(name)
    assert (found.name, found.metric.name, found.extractor, found.tap) == (name, metric, extractor, tap)
    assert find_measure(found) is found


def test_naming_the_extractor_of_a_measure_does_not_move_its_tap():
    assert find_measure("sfid:inception").tap == find_measure("sfid").tap


@pytest.mark.parametrize("name", ["", "fidd", "frechet", ":pixels", "fidd:pixels", None, 3])
def test_a_name_of_no_measure_is_refused(name):
    with pytest.raises(UnknownName, match="unknown (measure|metric)"):
        find_measure(name)


@pytest.mark.parametrize("name", ["fid:", "fid:pixel", "frechet:/pool", "fd:pixels:8"])
def test_a_measure_through_no_extractor_is_refused(name):
    with pytest.raises(UnknownName, match="unknown extractor"):
        load(find_measure(name))
