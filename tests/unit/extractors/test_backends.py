"""Backends: the same features as torch's, whatever the batch; what is missing is refused before work starts."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys

import numpy as np
import pytest
import torch
from torch import nn

from gen_eval import Monitor, evaluate
from gen_eval.errors import UnknownName, UsageError
from gen_eval.extractors import EXTRACTORS, Custom, Inception, backends, inception
from gen_eval.extractors.backends import BACKENDS, TORCH, Exported, Library, settle_backend
from gen_eval.extractors.inception_weights import CONVOLUTIONS
from gen_eval.metrics import find_measure
from gen_eval.planning import load_extractors
from gen_eval.protocols import find_protocol
from gen_eval.results import require_comparable

CPU = torch.device("cpu")
CLOSE = 1e-4  # of the largest feature; 3e-6 is seen
OTHERS = [name for name in BACKENDS if name != TORCH]
each_backend = pytest.mark.parametrize("backend", OTHERS)


def installed(backend):
    for name in (backend, "onnx"):  # not imported here: OpenVINO's import is part of what is tested
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")


@pytest.fixture(scope="module")
def made_up():
    """A state dict of the right shapes, with a head, whose activations neither die out nor blow up."""
    from torchvision.models import inception_v3

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = inception_v3(weights=None, num_classes=1008, aux_logits=False, init_weights=False)
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            elif isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.bias, std=0.1)
                layer.running_mean.normal_(std=0.1)
                layer.running_var.uniform_(0.5, 1.5)
    return net.state_dict()


@pytest.fixture(scope="module")
def weights_file(made_up, folder):
    path = folder / "made-up.pth"
    torch.save(made_up, path)
    return path


@pytest.fixture(scope="module")
def by_torch(weights_file):
    return Inception.load(weights=weights_file)


@pytest.fixture(scope="module", params=OTHERS)
def by_other(request, weights_file):
    installed(request.param)
    return Inception.load(weights=weights_file, backend=request.param)


@pytest.fixture(scope="module")
def batch():
    return torch.rand(3, 3, 299, 299, generator=torch.Generator().manual_seed(0)) * 255


def assert_close(found, expected):
    assert set(found) == set(expected)
    for tap, features in expected.items():
        assert found[tap].shape == features.shape
        assert found[tap].dtype == torch.float32
        largest = float(features.abs().max())
        assert largest > 0.1  # so that something is compared
        assert float((found[tap] - features).abs().max()) <= CLOSE * largest


# --- The same features


def test_every_tap_is_that_of_torch_on_made_up_weights(by_torch, by_other, batch):
    taps = tuple(by_torch.taps)
    assert len(taps) == 7
    expected = by_torch(batch, taps)
    with torch.autocast("cpu", torch.bfloat16):  # of the caller, which must not be written into the network
        found = by_other(batch, taps)
    assert_close(found, expected)
    assert_close(by_other(batch, ("pool",)), {"pool": expected["pool"]})


def test_batches_of_any_size_go_through_one_conversion(by_other, batch, monkeypatch):
    taps = tuple(by_other.taps)
    whole = by_other(batch, taps)
    monkeypatch.setattr(backends, "_export", None)  # a second conversion would fail
    for size in (1, 2):
        parts = [by_other(part, taps) for part in batch.split(size)]
        assert_close({tap: torch.cat([part[tap] for part in parts]) for tap in taps}, whole)


def test_the_backend_is_no_term_of_the_features(by_torch, by_other):
    for tap in by_torch.taps:
        assert by_other.spec(tap) == by_torch.spec(tap)
    assert by_torch.backend.startswith("torch 2.")
    assert by_other.backend.split()[0] in OTHERS
    assert by_other.backend.split()[1][0].isdigit()


@pytest.mark.network
@each_backend
def test_features_are_those_of_torch_on_the_real_weights(backend, trunk, batch):
    installed(backend)
    taps = ("pool", "spatial")
    assert_close(Inception(trunk, backend=backend)(batch[:2], taps), Inception(trunk)(batch[:2], taps))


class Tiny(nn.Module):
    """Means of the image and of its square, as taps."""

    def forward(self, x, taps):
        found = {"mean": x.mean((2, 3)), "square": (x * x).mean((2, 3))}
        return {tap: found[tap] for tap in taps}


def test_a_network_is_converted_when_images_come_once_for_each_choice_of_taps():
    pytest.importorskip("onnx")
    seen = []

    def compiled(path, precision, threads):
        seen.append((path.is_file(), precision, threads))
        return lambda images: [images.mean((2, 3)), (images**2).mean((2, 3))][: len(seen)]

    exported = Exported(Tiny(), 8, Library(lambda: None, lambda: ["fp32"], compiled), "fp32")
    assert not seen
    images = torch.ones(2, 3, 8, 8)
    assert set(exported(images, ("mean",))) == {"mean"}
    exported(images[:1], ("mean",))
    assert seen == [(True, "fp32", torch.get_num_threads())]
    assert set(exported(images, ("mean", "square"))) == {"mean", "square"}
    assert len(seen) == 2


# --- Precision


@each_backend
def test_bf16_is_bf16_or_is_refused(backend, weights_file, by_torch, batch):
    installed(backend)
    if "bf16" not in BACKENDS[backend].precisions():
        with pytest.raises(
            UsageError, match=f"{backend} does not compute in bf16 on this processor, only in fp32"
        ):
            Inception.load(weights=weights_file, backend=backend, precision="bf16")
        return
    fast = Inception.load(weights=weights_file, backend=backend, precision="bf16")
    found, exact = fast(batch)["pool"], by_torch(batch)["pool"]
    assert 1e-3 < float((found - exact).norm() / exact.norm()) < 0.06
    assert fast.spec("pool").differences(by_torch.spec("pool")) == [
        f"precision: bf16 by {backend} against fp32"
    ]


def test_a_precision_that_openvino_silently_leaves_is_an_error(weights_file, batch, monkeypatch):
    installed("openvino")
    library = BACKENDS["openvino"]
    if "bf16" in library.precisions():
        pytest.skip("this processor has bf16, and OpenVINO uses it")
    claims = dataclasses.replace(library, precisions=lambda: ["fp32", "bf16"])
    monkeypatch.setattr(backends, "BACKENDS", {**BACKENDS, "openvino": claims})
    fast = Inception.load(weights=weights_file, backend="openvino", precision="bf16")
    with pytest.raises(UsageError, match="asked for bf16 and chose f32"):
        fast(batch[:1], ("64",))


# --- What cannot run


def test_an_unknown_backend_is_refused_with_the_nearest(monkeypatch):
    monkeypatch.setattr(inception, "fetch", None)  # before anything is fetched
    with pytest.raises(UnknownName, match="unknown backend 'openvno': did you mean 'openvino'"):
        Inception.load(backend="openvno")


@each_backend
@pytest.mark.parametrize("missing", ["library", "onnx"])
def test_a_backend_that_is_not_installed_names_its_extra(backend, missing, monkeypatch):
    if missing == "onnx":
        installed(backend)
    monkeypatch.setitem(sys.modules, "onnx" if missing == "onnx" else backend, None)
    monkeypatch.setattr(inception, "fetch", None)
    with pytest.raises(UsageError, match=rf'not installed .*: pip install "gen_eval\[{backend}\]"'):
        Inception.load(backend=backend)


@each_backend
def test_backends_refuse_other_devices(backend):
    with pytest.raises(UsageError, match=f"backend {backend} runs networks on the CPU, and this is cuda:1"):
        settle_backend(backend, torch.device("cuda:1"), "fp32")
    assert settle_backend(TORCH, torch.device("cuda:1"), "bf16") is None


def load(*names, **options):
    measures = [find_measure(name) for name in names]
    return load_extractors(measures, find_protocol("pytorch-fid"), device=CPU, **options)


def test_other_networks_than_inception_are_refused_before_any_is_loaded(monkeypatch):
    monkeypatch.setitem(EXTRACTORS, "inception", None)
    with pytest.raises(
        UsageError, match="runs inception alone, and vgg16 was asked for too: leave --backend"
    ):
        load("fid", "pr:vgg16", backend="openvino")
    with pytest.raises(UnknownName, match="unknown backend 'onxruntime': did you mean 'onnxruntime'"):
        load("frechet:pixels", backend="onxruntime")


def test_what_has_no_network_or_is_the_callers_own_runs_beside_a_backend(monkeypatch):
    monkeypatch.setitem(EXTRACTORS, "inception", lambda **options: Told(options["backend"]))
    own = Custom(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), size=32)
    found = load("fid", "frechet:pixels", "frechet:mine", own={"mine": own}, backend="openvino")
    assert found["inception"].backend == "openvino"
    assert found["mine"] is own


# --- The record


class Told(Custom):
    """A small network that says what runs it."""

    def __init__(self, backend):
        net = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
        super().__init__(net, size=32, name="told", version="1")
        self.backend = backend


def images(seed, n=16):
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


def test_results_say_what_ran_the_network_for_each_set():
    options = {"reference": images(0), "generated": images(1)}
    (one,) = evaluate("frechet:told", extractors={"told": Told("openvino 1")}, **options)
    assert one.made_with["backend"] == "openvino 1"
    (plain,) = evaluate("frechet:pixels", **options)
    assert "backend" not in plain.made_with


def test_statistics_keep_what_made_them_and_a_monitor_at_rest_does_too(tmp_path):
    from gen_eval import store
    from gen_eval.images import open_images
    from gen_eval.passing import Request, summarize

    path = tmp_path / "real.safetensors"
    store.save(summarize(open_images(images(0)), [Request(Told("torch 2"), ("pool",))]), path)
    monitor = Monitor("frechet:told", reference=path, extractors={"told": Told("openvino 1")})
    monitor.update(torch.from_numpy(images(1)).permute(0, 3, 1, 2))
    (result,) = monitor.compute()
    assert sorted(result.made_with["backend"].split(", ")) == ["openvino 1", "torch 2"]


def test_a_monitor_whose_networks_rest_still_knows_what_ran_them(monkeypatch):
    monkeypatch.setitem(EXTRACTORS, "inception", lambda **options: Told(options["backend"]))
    monitor = Monitor("frechet:inception", backend="openvino")
    for seed, real in ((0, True), (1, False)):
        monitor.update(torch.from_numpy(images(seed)).permute(0, 3, 1, 2), real=real)
    monitor.offload()
    (result,) = monitor.compute()
    assert result.made_with["backend"] == "openvino"


@each_backend
def test_fid_compares_with_that_of_torch(backend, weights_file):
    installed(backend)
    sets = {"generated": images(0, 4), "reference": images(1, 4)}
    one, other = (
        evaluate("fid", weights=weights_file, backend=name, device="cpu", **sets)[0]
        for name in (TORCH, backend)
    )
    require_comparable([one, other])
    assert other.made_with["backend"].startswith(backend)
    assert one.made_with["backend"].startswith(TORCH)
    for name, value in one.values.items():
        assert value > 0
        assert other.values[name] == pytest.approx(value, rel=1e-4)


def test_openvino_is_imported_without_its_telemetry():
    installed("openvino")
    BACKENDS["openvino"].load()
    assert "openvino_telemetry" not in sys.modules
    assert "openvino.tools.ovc.telemetry_stub" in sys.modules


def test_made_up_weights_have_every_convolution(made_up):
    assert {f"{name}.conv.weight" for name in CONVOLUTIONS} <= set(made_up)
