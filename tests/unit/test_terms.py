"""Features beside what a tool has: each term that differs is named, and nothing else."""

from __future__ import annotations

import dataclasses

import pytest

from gen_eval import exporting
from gen_eval.errors import FetchError
from gen_eval.extractors import Custom
from gen_eval.extractors.inception_weights import WEIGHTS as INCEPTION
from gen_eval.extractors.inception_weights import fingerprint, read_weights
from gen_eval.fetch import fetch
from gen_eval.protocols import PROTOCOLS
from gen_eval.spec import Resize, Spec
from gen_eval.terms import WEIGHTS, extractor_of, gaps

NAME = "inception-2015-12-05"
PYTORCH_FID = Spec(NAME, WEIGHTS[NAME, "pool"], Resize(299, "torch-bilinear"), "x/127.5-1")


@pytest.mark.parametrize(
    ("change", "gap"),
    [
        ({}, {}),
        ({"resize": Resize(299, "pil-bicubic")}, {"resize": ("pil-bicubic", "torch-bilinear")}),
        ({"normalize": "(x-128)/128"}, {"pixels": ("(x-128)/128", "x/127.5-1")}),
        ({"weights": "ab"}, {"weights": ("ab", WEIGHTS[NAME, "pool"])}),
        ({"precision": "bf16"}, {"precision": ("bf16", "fp32")}),
    ],
)
def test_each_term_that_differs_is_found(change, gap):
    spec = dataclasses.replace(PYTORCH_FID, **change)
    assert gaps(spec, "pool", "inception", PROTOCOLS["pytorch-fid"]) == gap


def test_a_network_is_found_by_its_whole_name():
    assert extractor_of(PYTORCH_FID, PROTOCOLS["pytorch-fid"]) == "inception"
    dinov2 = dataclasses.replace(PYTORCH_FID, name="dinov2")
    assert extractor_of(dinov2, PROTOCOLS["edm2"]) == "dinov2"
    assert extractor_of(dinov2, PROTOCOLS["pytorch-fid"]) is None


@pytest.mark.parametrize(
    ("name", "protocol"),
    [("inceptionv3-imagenet", "pytorch-fid"), ("inception", "pytorch-fid"), ("clipped-mine", "cmmd")],
)
def test_a_network_of_somebodys_whose_name_begins_alike_is_another(name, protocol):
    custom = Custom(lambda images: images.mean((2, 3)), size=299, name=name, version="1")
    assert extractor_of(custom.spec("pool"), PROTOCOLS[protocol]) is None
    gap = exporting.differences([(custom.spec("pool"), "pool")], "pytorch-fid")
    assert gap == [f"network: {name} against inception"]


@pytest.mark.network
def test_the_weights_that_tools_have_are_those_that_are_fetched():
    try:
        path = fetch(INCEPTION)
    except FetchError as error:
        pytest.skip(str(error))
    assert WEIGHTS[NAME, "pool"] == WEIGHTS[NAME, "spatial"] == fingerprint(read_weights(path), head=False)
