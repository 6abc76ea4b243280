"""Summaries for other tools: written where they measured as the tool does, refused with the way out elsewhere."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from gen_eval import exporting
from gen_eval.errors import IncomparableError
from gen_eval.extractors.network import NORMALIZATIONS
from gen_eval.foreign import FORMATS
from gen_eval.protocols import PROTOCOLS
from gen_eval.spec import Resize, Spec
from gen_eval.stats import Features
from gen_eval.summary import Summary
from gen_eval.terms import WEIGHTS

FEATURES = Features.of(torch.from_numpy(np.random.default_rng(0).normal(size=(40, 5))))
INCEPTION = "inception-2015-12-05"
WRITTEN = {name: each for name, each in FORMATS.items() if each.write}


def spec_of(protocol, network="inception"):
    """What a protocol's features are made by."""
    settings = PROTOCOLS[protocol].preprocessing[network]
    normalize = settings["normalize"]
    return Spec(
        INCEPTION if network == "inception" else network,
        WEIGHTS[INCEPTION, "pool"],
        Resize(299, settings["resize"]),
        str(NORMALIZATIONS.get(normalize, normalize)),
    )


def summary_of(*specs, taps=("pool",)):
    return Summary("real", "ab" * 32, {(spec, tap): FEATURES for spec in specs for tap in taps}, {})


def test_each_format_that_is_written_names_the_protocol_of_its_tool():
    for name, each in WRITTEN.items():
        assert each.protocol in PROTOCOLS, name


@pytest.mark.parametrize("form", WRITTEN)
@pytest.mark.parametrize("protocol", ["torch-fidelity", "pytorch-fid", "clean-fid"])
def test_features_are_written_for_tools_of_their_terms_alone(form, protocol, tmp_path):
    path = tmp_path / f"real{FORMATS[form].extension}"
    summary = summary_of(spec_of(protocol), taps=("pool", "spatial") if form == "adm" else ("pool",))
    theirs = FORMATS[form].protocol
    if spec_of(theirs) == spec_of(protocol):
        exporting.export(summary, path, form)
        assert path.exists()
        return
    with pytest.raises(IncomparableError) as caught:
        exporting.export(summary, path, form)
    message = str(caught.value)
    resizes = [spec_of(each).resize.kernel for each in (protocol, theirs)]
    assert f"resize: {resizes[0]} against {resizes[1]}" in message
    assert f"geneval stats real --protocol {theirs} -o" in message
    assert not path.exists()
    exporting.export(summary, path, form, other_terms=True)
    assert path.exists()


def test_a_format_of_the_same_layout_whose_tool_measures_so_is_named(tmp_path):
    with pytest.raises(IncomparableError, match="with --to edm;"):
        exporting.export(summary_of(spec_of("torch-fidelity")), tmp_path / "real.npz", "pytorch-fid")
    with pytest.raises(IncomparableError, match="safetensors`; --other-terms"):
        exporting.export(summary_of(spec_of("clean-fid")), tmp_path / "real.pt", "torch-fidelity")


def test_the_network_and_its_arithmetic_are_terms(tmp_path):
    wrong = dataclasses.replace(spec_of("pytorch-fid"), weights="ab", precision="bf16")
    assert exporting.differences([(wrong, "pool")], "pytorch-fid") == [
        f"weights: ab against {WEIGHTS[INCEPTION, 'pool']}",
        "precision: bf16 against fp32",
    ]
    dinov2 = spec_of("edm2", "dinov2")
    assert exporting.differences([(dinov2, "pool")], "pytorch-fid") == ["network: dinov2 against inception"]
    assert exporting.differences([(dinov2, "pool")], "edm2") == []


def test_of_several_networks_those_of_the_tool_are_written():
    summary = summary_of(spec_of("edm2"), spec_of("edm2", "dinov2"))
    chosen = {form: [spec.name for spec, _ in exporting.choose(summary, form)] for form in ("edm", "edm2")}
    assert chosen == {"edm": [INCEPTION], "edm2": [INCEPTION, "dinov2"]}
    (only,) = exporting.choose(summary, "edm", "dinov2 pool")
    assert only[0].name == "dinov2"
