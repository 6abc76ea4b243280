"""Precision as a declared option: what it changes, and what no setting of the caller's changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gen_eval.errors import FetchError, UnknownName, UsageError
from gen_eval.extractors import Custom, Inception, find_extractor
from gen_eval.extractors.torchvision_models import architecture
from gen_eval.precision import PRECISIONS, arithmetic, full_precision

CLOSE = 0.06  # relative L2 of bf16 features; .03 is seen


def small_net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.Flatten()
        )


def custom(precision):
    return Custom(small_net(), size=32, name="small", version="1", precision=precision)


@pytest.fixture(scope="module")
def torchvision_file(tmp_path_factory):
    from torchvision.models import ResNet18_Weights

    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(architecture("resnet18", ResNet18_Weights.DEFAULT).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def timm_file(tmp_path_factory):
    timm = pytest.importorskip("timm")
    path = tmp_path_factory.mktemp("weights") / "vit.pth"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(timm.create_model("test_vit.r160_in1k").state_dict(), path)
    return path


@pytest.fixture
def load(request, torchvision_file):
    """From a precision to an extractor, for each kind of them."""
    if request.param == "inception":

        def inception(precision):
            try:
                return Inception.load(precision=precision)
            except FetchError as error:
                pytest.skip(f"no network and nothing in the cache: {error}")

        return inception
    if request.param == "torchvision":
        return lambda precision: find_extractor("torchvision:resnet18")(
            weights=torchvision_file, precision=precision
        )
    if request.param == "timm":
        timm_file = request.getfixturevalue("timm_file")
        return lambda precision: find_extractor("timm:test_vit.r160_in1k")(
            weights=timm_file, precision=precision
        )
    return custom


KINDS = pytest.mark.parametrize(
    "load",
    ["custom", "torchvision", "timm", pytest.param("inception", marks=pytest.mark.network)],
    indirect=True,
)


def batch_for(extractor):
    generator = torch.Generator().manual_seed(0)
    size = extractor.resize.size
    coarse = torch.rand(4, 3, 8, 8, generator=generator) * 255
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")


@KINDS
def test_bf16_is_close_and_declared(load):
    exact, fast = load("fp32"), load("bf16")
    assert exact.spec("pool").differences(fast.spec("pool")) == ["precision: fp32 against bf16"]
    batch = batch_for(exact)
    expected, found = exact(batch)["pool"], fast(batch)["pool"]
    assert found.dtype == torch.float32
    gap = float((found - expected).norm() / expected.norm())
    assert 1e-5 < gap < CLOSE


@KINDS
def test_fp32_is_the_default_and_no_setting_of_the_caller_touches_it(load):
    extractor = load("fp32")
    batch = batch_for(extractor)
    expected = extractor(batch)["pool"]
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            found = extractor(batch)["pool"]
            assert torch.is_autocast_enabled("cpu")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(found, expected)


def test_bf16_does_not_hang_on_the_caller_either():
    fast = custom("bf16")
    batch = batch_for(fast)
    expected = fast(batch)["pool"]
    with torch.autocast("cpu", torch.float16):
        assert torch.equal(fast(batch)["pool"], expected)


@pytest.mark.parametrize("reduced", [True, False])
def test_sums_of_bf16_products_are_float32_whatever_the_caller_has_set(reduced):
    products = torch.backends.cuda.matmul
    before = products.allow_bf16_reduced_precision_reduction
    products.allow_bf16_reduced_precision_reduction = reduced
    try:
        with arithmetic("bf16", "cpu"):
            assert not products.allow_bf16_reduced_precision_reduction
        assert products.allow_bf16_reduced_precision_reduction is reduced
    finally:
        products.allow_bf16_reduced_precision_reduction = before


def test_settings_are_restored_when_the_network_fails():
    fast = custom("bf16")
    with pytest.raises(RuntimeError):
        fast(torch.zeros(1, 5, 32, 32))
    assert not torch.is_autocast_enabled("cpu")


@KINDS
def test_what_the_device_or_the_table_lacks_is_refused(load):
    with pytest.raises(UsageError, match="precision tf32 is of CUDA devices, this is cpu: use fp32 or bf16"):
        load("tf32")
    with pytest.raises(UnknownName, match="unknown precision 'bf61': did you mean 'bf16'"):
        load("bf61")


def test_each_precision_is_its_own_arithmetic():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 64, 64, generator=generator)
    errors = {}
    for precision in ("fp32", "bf16"):
        with arithmetic(precision, "cpu"):
            errors[precision] = float(((a @ b).double() - a.double() @ b.double()).abs().max())
    assert errors["fp32"] < 1e-4 < 1e-2 < errors["bf16"]
    with full_precision("cpu"):
        assert float(((a @ b).double() - a.double() @ b.double()).abs().max()) == errors["fp32"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_cuda_all_precisions_differ_and_restore():
    net = small_net()
    batch = batch_for(custom("fp32")).cuda()
    features = {
        one: Custom(net, size=32, name="small", device="cuda", precision=one)(batch)["pool"]
        for one in PRECISIONS
    }
    expected = features["fp32"]
    gaps = {one: float((found - expected).norm() / expected.norm()) for one, found in features.items()}
    assert gaps["fp32"] == 0
    assert 1e-5 < gaps["tf32"] < 3e-3
    assert gaps["tf32"] < gaps["bf16"] < CLOSE
    on_cpu = custom("fp32")(batch.cpu())["pool"]
    assert float((expected.cpu() - on_cpu).norm() / on_cpu.norm()) < 1e-5
