"""Inception: against two independent implementations, whatever the caller has switched on."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gen_eval import resize
from gen_eval.errors import UnknownName, WeightsError
from gen_eval.extractors.inception import TAPS, Inception
from gen_eval.extractors.inception_weights import (
    CONVOLUTIONS,
    WEIGHTS_WITH_HEAD,
    fingerprint,
    read_weights,
)
from gen_eval.passing import Request, default_batch_size
from gen_eval.precision import full_precision
from gen_eval.spec import Resize

pytestmark = pytest.mark.network

CPU = torch.device("cpu")
CLOSE = 1e-5  # of the largest feature


@pytest.fixture(scope="module")
def inception(whole_file):
    return Inception.load(weights=whole_file, taps=TAPS)


def enlarged(images, kernel="tf1-bilinear"):
    to = Resize(299, kernel)
    prepared = [resize.prepare(np.ascontiguousarray(image.permute(1, 2, 0)), to) for image in images]
    return resize.finish(prepared, to, CPU)


@pytest.fixture(scope="module")
def batch(photographs):
    return enlarged(photographs)


@pytest.fixture(scope="module")
def features(inception, batch):
    return inception(batch, tuple(TAPS))


def assert_close(found, expected, tolerance=CLOSE):
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


# --- Against other implementations

# Theirs by our names.
PEER_TAPS = {
    **{dim: dim for dim in ("64", "192", "768")},
    "2048": "pool",
    "logits_unbiased": "logits_unbiased",
    "logits": "logits",
}


@pytest.fixture(scope="module")
def torch_fidelity(whole_file):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the peer's imports say is not ours
        module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
        return module.FeatureExtractorInceptionV3(
            "peer", [*PEER_TAPS], feature_extractor_weights_path=str(whole_file)
        )


@pytest.fixture(scope="module")
def peer_features(torch_fidelity, photographs):
    seen = []
    hook = torch_fidelity.Mixed_6d.branch1x1.conv.register_forward_hook(
        lambda module, inputs, output: seen.append(output)
    )
    try:
        found = dict(zip(PEER_TAPS.values(), torch_fidelity(photographs), strict=True))
    finally:
        hook.remove()
    # guided-diffusion reads TensorFlow's mixed_6/conv, which is NHWC, and keeps 7 channels.
    spatial = seen[0][:, :7].permute(0, 2, 3, 1).flatten(1)
    return {**found, "spatial": spatial}


@pytest.mark.parametrize("tap", TAPS)
def test_every_tap_is_that_of_torch_fidelity_on_photographs(tap, features, peer_features):
    assert_close(features[tap], peer_features[tap])


def test_pool_is_that_of_the_published_script_on_photographs(trunk_file, features, batch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is on its way out; only this test runs a script
        try:
            script = torch.jit.load(str(trunk_file))
        except RuntimeError:
            pytest.skip(f"{trunk_file.name} is a state dict, which has no script to compare with")
        with torch.no_grad():
            expected = script((batch - 128) / 128)
    assert_close(features["pool"], expected)


def test_features_are_those_of_a_network(features):
    # So that the comparisons above compare something.
    assert float(features["pool"].max()) > 0.5
    assert float(features["pool"].min()) >= 0
    assert float((features["pool"][0] - features["pool"][1]).abs().max()) > 0.1
    assert float(features["spatial"].min()) < 0  # before batch norm and ReLU


# --- Taps, shapes and specs


def test_taps_have_the_dimensions_they_announce(inception, features):
    assert dict(inception.taps) == dict(TAPS)
    for tap, dim in TAPS.items():
        assert features[tap].shape == (5, dim)
        assert features[tap].dtype == torch.float32
        assert not features[tap].requires_grad


@pytest.mark.parametrize(
    "taps",
    [
        ("pool",),
        ("spatial",),
        ("logits", "pool"),
        ("logits_unbiased",),
        ("64",),
        ("192", "768"),
        ("64", "pool"),
    ],
    ids=str,
)
def test_only_the_taps_asked_for_come_and_do_not_depend_on_the_others(taps, inception, features, batch):
    found = inception(batch[:2], taps)
    assert set(found) == set(taps)
    for tap in taps:
        assert_close(found[tap], features[tap][:2])


def test_logits_are_the_head_applied_to_pool(features, head):
    unbiased = features["pool"].double() @ head["fc.weight"].double().T
    assert_close(features["logits_unbiased"].double(), unbiased)
    assert_close(features["logits"].double(), unbiased + head["fc.bias"].double())


def test_a_trunk_serves_pool_and_spatial_and_says_where_the_head_is(trunk_state, tmp_path):
    save_file(trunk_state, tmp_path / "trunk.safetensors")
    extractor = Inception.load(weights=tmp_path / "trunk.safetensors", taps=("pool", "spatial"))
    assert set(extractor.taps) == {"64", "192", "768", "pool", "spatial"}
    for tap in ("logits", "logits_unbiased"):
        for ask in (
            lambda tap=tap: extractor.spec(tap),
            lambda tap=tap: extractor(torch.zeros(1, 3, 299, 299), (tap,)),
            lambda tap=tap: Inception.load(weights=tmp_path / "trunk.safetensors", taps=(tap,)),
        ):
            with pytest.raises(WeightsError, match="without the 1008-way classifier") as caught:
                ask()
            assert str(WEIGHTS_WITH_HEAD.sources[0]) in str(caught.value)
            assert "geneval weights add" in str(caught.value)


def test_the_same_trunk_from_any_file_is_the_same_spec(trunk_file, whole_file, whole_safetensors, inception):
    states = [read_weights(path) for path in (trunk_file, whole_file, whole_safetensors)]
    assert len({fingerprint(state, head=False) for state in states}) == 1
    assert len({fingerprint(state, head=True) for state in states[1:]}) == 1
    from_trunk = Inception(states[0])
    for tap in ("pool", "spatial"):
        assert from_trunk.spec(tap) == inception.spec(tap)


def test_the_head_is_in_the_spec_of_the_logits_alone(whole, inception, tmp_path):
    save_file({**whole, "fc.bias": whole["fc.bias"] + 1}, tmp_path / "other.safetensors")
    other = Inception.load(weights=tmp_path / "other.safetensors", taps=("logits",))
    assert other.spec("pool") == inception.spec("pool")
    assert other.spec("spatial") == inception.spec("spatial")
    assert other.spec("logits").weights != inception.spec("logits").weights
    assert inception.spec("logits").weights != inception.spec("pool").weights


def test_any_changed_tensor_changes_the_fingerprint(trunk):
    before = fingerprint(trunk, head=False)
    for name in (f"{CONVOLUTIONS[0]}.weight", f"{CONVOLUTIONS[50]}.beta", f"{CONVOLUTIONS[-1]}.var"):
        changed = {**trunk, name: trunk[name].clone()}
        changed[name].view(-1)[0] += 1e-3
        assert fingerprint(changed, head=False) != before


def test_resize_and_normalisation_are_in_the_spec(trunk):
    one = Inception(trunk)
    other = Inception(trunk, resize="torch-bilinear", normalize="x/127.5-1")
    assert one.spec("pool").differences(other.spec("pool")) == [
        "resize: tf1-bilinear to 299 against torch-bilinear to 299",
        "normalize: (x-128)/128 against x/127.5-1",
    ]


def test_normalisation_is_applied(trunk, features, batch):
    other, few = Inception(trunk, normalize="x/127.5-1"), batch[:2]
    # (x - 128) / 128 of these pixels is x / 127.5 - 1 of those.
    assert_close(other(few * (127.5 / 128))["pool"], features["pool"][:2])
    assert float((other(few)["pool"] - features["pool"][:2]).abs().max()) > 1e-3


def test_unknown_names_are_refused_with_the_nearest(trunk, inception):
    with pytest.raises(UnknownName, match="unknown Inception tap 'pol': did you mean 'pool'"):
        inception.spec("pol")
    with pytest.raises(UnknownName, match="unknown normalisation 'x/127-1': did you mean 'x/127.5-1'"):
        Inception(trunk, normalize="x/127-1")


# --- Batches and the caller's settings


@pytest.mark.parametrize("size", [1, 3, 16])
def test_features_do_not_depend_on_the_batch_size(size, inception, features, batch):
    images = torch.cat([batch, batch.flip(3), batch.flip(2), batch[:1]])  # 16 of them
    found = torch.cat([inception(part)["pool"] for part in images[: max(size, 5)].split(size)])
    assert_close(found[:5], features["pool"])


def test_memory_layout_of_the_input_does_not_matter(inception, features, batch):
    for layout in (torch.contiguous_format, torch.channels_last):
        found = inception(batch[:2].contiguous(memory_format=layout))
        assert_close(found["pool"], features["pool"][:2])


def test_the_input_is_not_written_to(inception, batch):
    images = batch[:1].clone()
    inception(images, tuple(TAPS))
    assert torch.equal(images, batch[:1])


def settings():
    """Everything global that extraction might disturb."""
    return {
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "dtype": torch.get_default_dtype(),
        "matmul": torch.get_float32_matmul_precision(),
        "cuda matmul": torch.backends.cuda.matmul.allow_tf32,
        "cudnn": torch.backends.cudnn.allow_tf32,
        "cudnn enabled": torch.backends.cudnn.enabled,
        "benchmark": torch.backends.cudnn.benchmark,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
        "torch rng": torch.get_rng_state().tolist(),
        "numpy rng": np.random.get_state()[1].tolist(),
    }


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_reduced_precision_of_the_caller_is_neither_used_nor_changed(precision, inception, features, batch):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        expected = settings()
        found = inception(batch[:2], tuple(TAPS))
        assert settings() == expected
    finally:
        torch.set_float32_matmul_precision(before)
    for tap in TAPS:
        assert_close(found[tap], features[tap][:2])


def test_autocast_of_the_caller_is_neither_used_nor_changed(inception, features, batch):
    with torch.autocast("cpu", torch.bfloat16):
        expected = settings()
        found = inception(batch[:2], tuple(TAPS))
        assert settings() == expected
    for tap in TAPS:
        assert found[tap].dtype == torch.float32
        assert_close(found[tap], features[tap][:2])


def test_loading_changes_no_global_state(whole_file):
    before = settings()
    Inception.load(weights=whole_file, taps=("logits",))
    assert settings() == before


def test_settings_are_restored_when_the_network_fails(inception):
    before = settings()
    with pytest.raises(RuntimeError):
        inception(torch.zeros(1, 5, 299, 299))
    assert settings() == before


def test_full_precision_leaves_cudnn_and_its_tuning_on():
    # The fast convolutions of a GPU are cuDNN's; without them the network runs many times slower.
    before = torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark
    with full_precision("cpu"):
        assert (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark) == before


NEWER_SWITCHES = """
import torch
if not hasattr(torch.backends, "fp32_precision"):
    raise SystemExit(3)
owner = torch.backends.{owner}
owner.fp32_precision = "{precision}"
from gen_eval.passing import Request, default_batch_size
from gen_eval.precision import full_precision
a, b = torch.randn(64, 64), torch.randn(64, 64)
with full_precision("cpu"):
    error = float((a @ b - a.double() @ b.double()).abs().max())
assert error < 1e-4, error
assert owner.fp32_precision == "{precision}"
"""


@pytest.mark.parametrize(
    ("owner", "precision"), [("cuda.matmul", "tf32"), ("mkldnn.matmul", "bf16"), ("cudnn.conv", "tf32")]
)
def test_the_newer_switches_of_precision_are_neither_used_nor_changed(owner, precision):
    # In a process of its own: torch refuses to read its older switches once a newer one was used.
    code = NEWER_SWITCHES.format(owner=owner, precision=precision)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip("this torch has only the older switches")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("size", [3, 4, 7, 8, 12])
def test_features_do_not_depend_on_how_many_cores_share_a_batch(size, precision, whole_file, batch):
    network = Inception.load(weights=whole_file, taps=("pool", "logits"), precision=precision)
    images = batch.repeat(6, 1, 1, 1)[:size]
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert len(network._lanes(images)) == (count if size % count == 0 and size >= 4 * count else 1)
            found.append(network(images, ("pool", "logits")))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        for tap, features in found[0].items():
            torch.testing.assert_close(
                other[tap], features, rtol=0, atol=2e-2 if precision == "bf16" else 2e-5
            )


@pytest.mark.parametrize(
    ("cores", "precision", "size"),
    [
        (1, "fp32", 8),
        (1, "bf16", 16),
        (2, "fp32", 16),
        (8, "bf16", 64),
        (12, "fp32", 48),
        (11, "fp32", 8),
        (48, "bf16", 16),
    ],
)
def test_where_each_core_has_images_of_its_own_there_are_as_many_for_each(
    cores, precision, size, whole_file, monkeypatch
):
    network = Inception.load(weights=whole_file, precision=precision)
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    assert default_batch_size([Request(network, ("pool",))]) == size


def test_a_library_with_threads_of_its_own_takes_few_images(whole_file, monkeypatch):
    network = Inception.load(weights=whole_file)
    network.by_core = False
    assert default_batch_size([Request(network, ("pool",))]) == 8


def test_weights_that_are_no_numbers_are_refused(trunk_state):
    name = next(iter(trunk_state))
    state = {**trunk_state, name: trunk_state[name].clone()}
    state[name].view(-1)[3] = float("nan")
    with pytest.raises(WeightsError, match=f"NaN or infinity in {name}"):
        Inception(state)
