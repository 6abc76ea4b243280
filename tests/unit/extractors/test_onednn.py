"""Convolutions by operators that are not torch's public ones: the same numbers, or not used at all."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from gen_eval.extractors import inception, onednn
from gen_eval.extractors.inception import TAPS, Inception

FLOAT, HALF = torch.float32, torch.bfloat16


def draw(*shape, dtype=FLOAT):
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))).to(dtype)


def images(*shape, dtype=FLOAT):
    return draw(*shape, dtype=dtype).contiguous(memory_format=torch.channels_last)


def convolution(kernel=(3, 3), stride=1, padding=(1, 1), dtype=FLOAT):
    weight, bias = draw(24, 16, *kernel, dtype=dtype), draw(24, dtype=dtype)
    return onednn.Convolution(weight, bias, stride, padding), (weight, bias, stride, padding)


def assert_same(found, wanted):
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    assert found.is_contiguous(memory_format=torch.channels_last)
    # Sums in another order, rounded to the type once.
    tolerance = (16 * torch.finfo(FLOAT).eps + torch.finfo(wanted.dtype).eps) * float(wanted.abs().max())
    assert torch.allclose(found.float(), wanted.float(), rtol=0, atol=tolerance)


@pytest.fixture(params=[FLOAT, HALF], ids=["fp32", "bf16"])
def dtype(request):
    if not onednn.is_usable(request.param):
        pytest.skip(f"no convolutions of {request.param} by oneDNN here")
    return request.param


@torch.inference_mode()
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [((1, 1), 1, (0, 0)), ((3, 3), 2, (0, 0)), ((1, 7), 1, (0, 3)), ((5, 5), 1, (2, 2))],
)
def test_it_is_that_of_torch_with_and_without_its_relu(dtype, kernel, stride, padding):
    fused, terms = convolution(kernel, stride, padding, dtype)
    x = images(4, 16, 11, 13, dtype=dtype)
    assert_same(fused(x, relu=False), F.conv2d(x, *terms))
    assert_same(fused(x, relu=True), F.relu(F.conv2d(x, *terms)))


@torch.inference_mode()
def test_images_of_any_number_and_size_come_one_after_the_other(dtype):
    fused, terms = convolution(dtype=dtype)
    for shape in ((8, 16, 9, 9), (3, 16, 9, 9), (8, 16, 9, 9), (1, 16, 20, 5)):
        x = images(*shape, dtype=dtype)
        assert_same(fused(x, relu=True), F.relu(F.conv2d(x, *terms)))


@torch.inference_mode()
@pytest.mark.parametrize("other", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_has_the_same_weights(dtype, other):
    fused, terms = convolution(dtype=dtype)
    x = images(2, 16, 9, 9, dtype=dtype)
    for _ in range(2):
        fused = other(fused)
        assert_same(fused(x, relu=False), F.conv2d(x, *terms))


# --- Where it is not to be had


class Tried(onednn.Convolution):
    """One whose call is replaced."""


@pytest.fixture
def tried(monkeypatch):
    """Whether the trial passes where a convolution does what is asked for here."""

    def outcome(call):
        monkeypatch.setattr(Tried, "__call__", call)
        monkeypatch.setattr(onednn, "Convolution", Tried)
        return onednn.is_usable.__wrapped__(FLOAT)

    return outcome


def test_operators_that_are_missing_or_wrong_are_not_used(tried, dtype):
    right = onednn.Convolution.__call__

    def missing(self, x, *, relu):
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_convolution_pointwise'")

    def refusing(self, x, *, relu):
        raise RuntimeError("this processor lacks something")

    def without_relu(self, x, *, relu):
        return right(self, x, relu=False)

    def coarse(self, x, *, relu):
        return right(self, x, relu=relu) * 1.001

    assert tried(right)
    assert not any(map(tried, (missing, refusing, without_relu, coarse)))


def test_the_trial_does_not_depend_on_what_the_caller_has_in_force(dtype):
    trial = onednn.is_usable.__wrapped__
    with torch.autocast("cpu", HALF):
        assert trial(dtype)
    with torch.device("meta"), torch.inference_mode():
        assert trial(dtype)


@pytest.mark.network
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_inception_is_the_same_without_it(whole_file, monkeypatch, one_thread, precision):
    x = 255 * torch.rand(3, 3, 299, 299, generator=torch.Generator().manual_seed(0))
    by_onednn = Inception.load(weights=whole_file, taps=TAPS, precision=precision)
    monkeypatch.setattr(inception, "is_usable", lambda dtype: False)
    plain = Inception.load(weights=whole_file, taps=TAPS, precision=precision)
    found, wanted = by_onednn(x, tuple(TAPS)), plain(x, tuple(TAPS))
    copied = pickle.loads(pickle.dumps(by_onednn))(x, tuple(TAPS))
    for tap in TAPS:
        # The same products, summed in another order; where sums are rounded to bf16 between layers, a digit of it.
        room = (1e-5 if precision == "fp32" else 0.02) * float(wanted[tap].abs().max())
        assert torch.allclose(found[tap], wanted[tap], rtol=0, atol=room)
        assert torch.equal(copied[tap], found[tap])
        assert by_onednn.spec(tap) == plain.spec(tap)
