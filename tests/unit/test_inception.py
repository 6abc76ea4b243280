"""Inception: against two independent implementations, from any file, whatever the caller has switched on."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gen_eval import datasets, resize
from gen_eval.errors import FetchError, UnknownName, WeightsError
from gen_eval.extractors.inception import TAPS, Inception
from gen_eval.extractors.inception_weights import (
    CONVOLUTIONS,
    HEAD_SHAPE,
    WEIGHTS,
    WEIGHTS_WITH_HEAD,
    fingerprint,
    read_weights,
)
from gen_eval.fetch import fetch
from gen_eval.precision import full_precision

CPU = torch.device("cpu")
CLOSE = 1e-5  # of the largest feature
# torchvision's names of what a convolution's batch norm holds.
NAMES = {"weight": "conv.weight", "beta": "bn.bias", "mean": "bn.running_mean", "var": "bn.running_var"}


def or_skip(get, *args):
    try:
        return get(*args)
    except FetchError as error:
        pytest.skip(f"no network and nothing in the cache: {error}")


@pytest.fixture(scope="module")
def trunk_file():
    return or_skip(fetch, WEIGHTS)


@pytest.fixture(scope="module")
def trunk(trunk_file):
    """The canonical state without a head, whichever file was found."""
    return {name: value for name, value in read_weights(trunk_file).items() if not name.startswith("fc.")}


@pytest.fixture(scope="module")
def head():
    generator = torch.Generator().manual_seed(0)
    return {
        "fc.weight": torch.randn(HEAD_SHAPE, generator=generator) * 0.02,
        "fc.bias": torch.randn(HEAD_SHAPE[0], generator=generator),
    }


@pytest.fixture(scope="module")
def whole(trunk, head):
    """A state dict as pytorch-fid and torch-fidelity publish it, with a head made up here."""
    state = dict(head)
    for key, value in trunk.items():
        layer, _, part = key.rpartition(".")
        state[f"{layer}.{NAMES[part]}"] = value
        if part == "beta":
            state[f"{layer}.bn.weight"] = torch.ones_like(value)
            state[f"{layer}.bn.num_batches_tracked"] = torch.tensor(0)
    return state


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def tmp_path(tmp_path):
    """Each file of weights takes 95 MB, and pytest would keep those of three runs."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.fixture(scope="module")
def whole_file(whole, folder):
    path = folder / "pt_inception-2015-12-05.pth"
    torch.save(whole, path)
    return path


@pytest.fixture(scope="module")
def whole_safetensors(whole, folder):
    path = folder / "inception.safetensors"
    save_file(whole, path)
    return path


@pytest.fixture(scope="module")
def inception(whole_file):
    return Inception.load(weights=whole_file, taps=TAPS)


@pytest.fixture(scope="module")
def photographs():
    """Four photographs, and noise, which reaches what photographs do not. uint8 ``[5, 3, 32, 32]``."""
    images = or_skip(datasets.load, "cifar10", "test").images[:4]
    noise = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    return torch.from_numpy(np.concatenate([images, noise])).permute(0, 3, 1, 2).contiguous()


def enlarged(images, kernel="tf1-bilinear"):
    prepared = [resize.prepare(np.ascontiguousarray(image.permute(1, 2, 0)), 299, kernel) for image in images]
    return resize.finish(prepared, 299, kernel, CPU)


@pytest.fixture(scope="module")
def batch(photographs):
    return enlarged(photographs)


@pytest.fixture(scope="module")
def features(inception, batch):
    return inception(batch, tuple(TAPS))


def assert_close(found, expected, tolerance=CLOSE):
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


pytestmark = pytest.mark.network


# --- Against other implementations


@pytest.fixture(scope="module")
def torch_fidelity(whole_file):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the peer's imports say is not ours
        module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
        return module.FeatureExtractorInceptionV3(
            "peer", ["2048", "logits_unbiased", "logits"], feature_extractor_weights_path=str(whole_file)
        )


@pytest.fixture(scope="module")
def peer_features(torch_fidelity, photographs):
    seen = []
    hook = torch_fidelity.Mixed_6d.branch1x1.conv.register_forward_hook(
        lambda module, inputs, output: seen.append(output)
    )
    try:
        pool, unbiased, logits = torch_fidelity(photographs)
    finally:
        hook.remove()
    # guided-diffusion reads TensorFlow's mixed_6/conv, which is NHWC, and keeps 7 channels.
    spatial = seen[0][:, :7].permute(0, 2, 3, 1).flatten(1)
    return {"pool": pool, "logits": logits, "logits_unbiased": unbiased, "spatial": spatial}


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


@pytest.mark.parametrize("taps", [("pool",), ("spatial",), ("logits", "pool"), ("logits_unbiased",)], ids=str)
def test_only_the_taps_asked_for_come_and_do_not_depend_on_the_others(taps, inception, features, batch):
    found = inception(batch[:2], taps)
    assert set(found) == set(taps)
    for tap in taps:
        assert_close(found[tap], features[tap][:2])


def test_logits_are_the_head_applied_to_pool(features, head):
    unbiased = features["pool"].double() @ head["fc.weight"].double().T
    assert_close(features["logits_unbiased"].double(), unbiased)
    assert_close(features["logits"].double(), unbiased + head["fc.bias"].double())


def test_a_trunk_serves_pool_and_spatial_and_says_where_the_head_is(trunk, tmp_path):
    save_file(trunk_as_state_dict(trunk), tmp_path / "trunk.safetensors")
    extractor = Inception.load(weights=tmp_path / "trunk.safetensors", taps=("pool", "spatial"))
    assert set(extractor.taps) == {"pool", "spatial"}
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


def trunk_as_state_dict(trunk):
    return {
        f"{key.rpartition('.')[0]}.{NAMES[key.rpartition('.')[2]]}": value.clone()
        for key, value in trunk.items()
    }


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


# --- Files that are not what they should be


class Malicious:
    """Pickles as a call of os.system that leaves a file behind."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


def as_state_dict(payload, path):
    torch.save({"Conv2d_1a_3x3.conv.weight": payload}, path)


def as_bare_pickle(payload, path):
    path.write_bytes(pickle.dumps(payload, protocol=2))


def as_script(payload, path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", pickle.dumps(payload, protocol=2))
        archive.writestr("net/code/__torch__.py", "")


@pytest.mark.parametrize("write", [as_state_dict, as_bare_pickle, as_script])
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".safetensors"])
def test_code_in_a_pickle_is_refused_and_does_not_run(write, suffix, tmp_path):
    trace = tmp_path / "trace"
    os.system(Malicious(trace).__reduce__()[1][0])
    assert trace.exists()  # the payload works, where it is let
    trace.unlink()
    path = tmp_path / f"weights{suffix}"
    write(Malicious(trace), path)
    with pytest.raises(WeightsError, match="not a weights file that can be read safely"):
        read_weights(path)
    assert not trace.exists()


@pytest.mark.parametrize("keep", [0, 10, 100_000, 0.5, 0.999])
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_a_file_cut_short_is_refused(suffix, keep, trunk_file, whole_file, whole_safetensors, tmp_path):
    source = {".pt": trunk_file, ".pth": whole_file, ".safetensors": whole_safetensors}[suffix]
    path = tmp_path / f"cut{suffix}"
    with source.open("rb") as file:
        path.write_bytes(file.read(keep if keep > 1 else int(keep * source.stat().st_size)))
    with pytest.raises(WeightsError, match=r"cut\S+ is not a weights file"):
        read_weights(path)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors", ".txt"])
@pytest.mark.parametrize(
    "content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"<html>no</html>" * 99]
)
def test_a_text_file_is_refused(content, suffix, tmp_path):
    path = tmp_path / f"text{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="not a weights file"):
        read_weights(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="no weights file at"):
        read_weights(tmp_path / "missing.pth")
    with pytest.raises(WeightsError, match="not a weights file"):
        read_weights(tmp_path)


@pytest.mark.parametrize("content", [[1, 2], "text", 3, {"a": 1}], ids=["list", "text", "number", "dict"])
@pytest.mark.parametrize("write", [lambda payload, path: torch.save(payload, path), as_script])
def test_a_pickle_of_something_else_is_refused(content, write, tmp_path):
    write(content, tmp_path / "else.pt")
    with pytest.raises(WeightsError):
        read_weights(tmp_path / "else.pt")


def test_another_network_is_refused(tmp_path):
    torch.save(torch.nn.Linear(3, 4).state_dict(), tmp_path / "linear.pth")
    with pytest.raises(WeightsError, match="holds 0 convolutions with batch norm, the FID Inception has 94"):
        read_weights(tmp_path / "linear.pth")


def test_a_missing_tensor_is_named(whole, tmp_path):
    name = "Mixed_6b.branch7x7_2.bn.running_var"
    save_file({key: value for key, value in whole.items() if key != name}, tmp_path / "less.safetensors")
    with pytest.raises(WeightsError, match=f"lacks the tensor {name}"):
        read_weights(tmp_path / "less.safetensors")


def test_the_inception_of_imagenet_is_refused(whole, tmp_path):
    # torchvision's has the same names; its batch norm scales, the 2015 graph's does not.
    scaled = {**whole, "Mixed_5b.branch1x1.bn.weight": whole["Mixed_5b.branch1x1.bn.weight"] * 1.5}
    save_file(scaled, tmp_path / "scaled.safetensors")
    with pytest.raises(WeightsError, match=r"Mixed_5b.branch1x1 has a scale"):
        read_weights(tmp_path / "scaled.safetensors")


@pytest.mark.parametrize("part", ["conv.weight", "bn.bias"])
def test_a_tensor_of_another_shape_is_refused_at_load(part, whole, tmp_path):
    name = f"Mixed_6b.branch7x7_2.{part}"
    save_file({**whole, name: whole[name][:-1].clone()}, tmp_path / "shape.safetensors")
    with pytest.raises(WeightsError, match="Mixed_6b.branch7x7_2"):
        Inception.load(weights=tmp_path / "shape.safetensors")


def test_a_script_in_a_stream_of_damaged_bytes_is_refused(tmp_path):
    # Whatever an unpickler raises on nonsense, it is a WeightsError.
    generator = np.random.default_rng(0)
    sound = pickle.dumps({"a": [1, 2.0, "text"], "b": (None, True)}, protocol=2)
    for trial in range(200):
        damaged = bytearray(sound)
        damaged[generator.integers(len(sound))] = generator.integers(256)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("net/data.pkl", bytes(damaged))
            archive.writestr("net/code/x.py", "")
        path = tmp_path / f"{trial}.pt"
        path.write_bytes(buffer.getvalue())
        with pytest.raises(WeightsError):
            read_weights(path)


def test_no_zip_reaches_torchs_own_reader(whole_file, trunk_file, monkeypatch):
    """It may run the code in an archive: torch before 2.6 did, weights_only or not (CVE-2025-32434)."""
    monkeypatch.setattr(torch, "load", None)
    for file in (whole_file, trunk_file):
        assert set(read_weights(file)) >= {f"{name}.weight" for name in CONVOLUTIONS}
