"""Weights of Inception: files that are not what they should be are refused, and no code in them runs."""

from __future__ import annotations

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gen_eval.errors import WeightsError
from gen_eval.extractors.inception import Inception
from gen_eval.extractors.inception_weights import (
    CONVOLUTIONS,
    read_weights,
)

pytestmark = pytest.mark.network


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
