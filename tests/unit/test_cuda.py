"""What must hold on a GPU as on the CPU. Skipped, saying so, where there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gen_eval import resize
from gen_eval.evaluation import evaluate
from gen_eval.extractors import Custom, Inception
from gen_eval.metrics import METRICS
from gen_eval.metrics.frechet.frechet import METHODS, frechet
from gen_eval.metrics.frechet.gaussian import Gaussian
from gen_eval.monitor import Monitor
from gen_eval.passing import Gather, Reading, Request
from gen_eval.spec import Resize
from gen_eval.stats import Features, Moments, SampleBuilder
from gen_eval.zoo import MODELS, TrainingData, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch finds no CUDA device")


def gaussian(rows: torch.Tensor) -> Gaussian:
    moments = Moments.of(rows)
    return Gaussian(moments.n, moments.mean, moments.cov(), rows)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [400, 40])
def test_distance_error_and_bias_equal_those_of_the_cpu(n, method):
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.randn(n, 64, generator=rng) * scale for scale in (1.0, 1.3))
    on_cpu = frechet(gaussian(a), gaussian(b), method=method)
    on_gpu = frechet(gaussian(a.cuda()), gaussian(b.cuda()), method=method)
    assert on_gpu.values["frechet"] == pytest.approx(on_cpu.values["frechet"], rel=1e-9)
    assert dict(on_gpu.errors) == pytest.approx(dict(on_cpu.errors), rel=1e-6)
    assert on_gpu.bias == pytest.approx(on_cpu.bias, rel=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_equals_that_of_the_cpu(name):
    metric, rng = METRICS[name], torch.Generator().manual_seed(1)
    features = {}
    for role in metric.roles:
        rows = torch.randn(400, 16, generator=rng) + 0.3 * (role == "generated")
        features[role] = replace(Features.of(rows), classes=("a", "b") * 200)
    params = {**metric.params, **({"steps": 40} if "steps" in metric.params else {})}
    on_cpu = metric.compute(features, **params)
    on_gpu = metric.compute(
        {role: found.to(torch.device("cuda")) for role, found in features.items()}, **params
    )
    assert dict(on_gpu.values) == pytest.approx(dict(on_cpu.values), rel=1e-4, abs=1e-6)
    assert dict(on_gpu.errors) == pytest.approx(dict(on_cpu.errors), rel=1e-3)


def test_evaluation_runs_where_it_is_told_to():
    images = np.random.default_rng(0).integers(0, 256, (80, 32, 32, 3), dtype=np.uint8)
    on_cpu, on_gpu = (
        evaluate(["frechet:pixels"], generated=images[:40], reference=images[40:], device=device)[0]
        for device in ("cpu", "cuda")
    )
    assert on_gpu.made_with["device"].startswith("cuda")
    assert on_gpu.value == pytest.approx(on_cpu.value, rel=1e-5)


class OnlyNumbersLeave(TorchDispatchMode):
    """Refuses to move more than a few numbers of a GPU to the host."""

    most = 64

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and not found.is_cuda and found.numel() > self.most:
            assert not any(isinstance(each, torch.Tensor) and each.is_cuda for each in args), func
        return found


def test_a_monitor_leaves_images_where_they_are():
    rng = torch.Generator().manual_seed(0)
    fake, real = (
        torch.randint(top, (300, 3, 32, 32), dtype=torch.uint8, generator=rng) for top in (256, 200)
    )
    on_gpu = Monitor(["frechet:pixels", "kid:pixels"], reference=real, device="cuda")
    on_cpu = Monitor(["frechet:pixels", "kid:pixels"], reference=real, device="cpu")
    with torch.autocast("cuda", torch.float16):
        for part in fake.split(16):
            on_cpu.update(part)
            part = part.cuda()
            with OnlyNumbersLeave():
                on_gpu.update(part)
        found = on_gpu.compute()
    for one, other in zip(found, on_cpu.compute(), strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-5)
        assert one.sets["generated"].digest == other.sets["generated"].digest
    on_gpu.offload()
    assert all(not found.moments.mean.is_cuda for found in on_gpu._tallies["generated"].features.values())
    on_gpu.update(fake[:1].cuda())
    assert on_gpu.compute()[0].sets["generated"].n == 301


@pytest.mark.parametrize("given", [True, False])
def test_an_offloaded_monitor_measures_what_lies_somewhere(given):
    real, fake = torch.randint(0, 256, (2, 60, 3, 8, 8), dtype=torch.uint8)
    monitor = Monitor("frechet:pixels", device="cuda", **({"reference": real} if given else {}))
    if not given:
        monitor.update(real, real=True)
    monitor.update(fake)
    value = monitor.compute()[0].value
    monitor.offload()
    assert torch.cuda.memory_allocated() < 1e6
    assert monitor.measure(fake)[0].value == pytest.approx(value, rel=1e-6)


@pytest.mark.network
def test_an_offloaded_monitor_leaves_no_network_on_the_gpu():
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8)
    before = torch.cuda.memory_allocated()
    monitor = Monitor("fid", reference=images, device="cuda")
    monitor.update(images.flip(0))
    value = monitor.compute()[0].value
    assert torch.cuda.memory_allocated() > before + 80e6
    monitor.offload()
    assert torch.cuda.memory_allocated() <= before + 1e6
    monitor.update(images[:0].new_zeros(1, 3, 32, 32))
    monitor.reset()
    monitor.update(images.flip(0))
    assert monitor.compute()[0].value == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("kernel", resize.KERNELS)
def test_a_pass_does_not_wait_for_the_gpu_batch_by_batch(kernel):
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 256, shape, np.uint8) for shape in ((40, 60, 3), (32, 32, 3), (40, 60, 3))]
    to = Resize(16, kernel)
    batch = [{to: resize.prepare(image, to)} for image in images]
    own = Custom(lambda x: x.mean((2, 3)), size=16, name="mine", version="1", resize=kernel, device="cuda")
    sample = SampleBuilder(300, 3, 100, own.device)
    reading = Reading(Request(own, ("pool",)), {"pool": Gather("images", str, sample)})
    reading.add(batch, torch.arange(3))  # whatever is set up once
    torch.cuda.set_sync_debug_mode("error")
    try:
        for start in range(3, 300, 3):
            reading.add(batch, torch.arange(start, start + 3))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    found = reading.finish()[own.spec("pool"), "pool"]
    assert (found.n, found.sample.n) == (300, 100)


@pytest.mark.parametrize("kernel", resize.KERNELS)
def test_images_are_resized_as_on_the_cpu(kernel):
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 256, shape, np.uint8) for shape in ((40, 60, 3), (32, 32, 3), (40, 60, 3))]
    to = Resize(299, kernel)
    prepared = [resize.prepare(image, to) for image in images]
    on_cpu, on_gpu = (resize.finish(prepared, to, torch.device(device)) for device in ("cpu", "cuda"))
    assert on_gpu.is_cuda
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=0, atol=1e-3)


@pytest.mark.network
def test_inception_features_equal_those_of_the_cpu():
    images = torch.randint(0, 256, (4, 3, 299, 299), generator=torch.Generator().manual_seed(0)).float()
    on_cpu = Inception.load(device="cpu")(images)["pool"]
    on_gpu = Inception.load(device="cuda")(images.cuda())["pool"].cpu()
    torch.testing.assert_close(on_gpu, on_cpu, rtol=0, atol=1e-4 * float(on_cpu.abs().max()))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_trains_and_samples(name):
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(256, (64, 1, 8, 8), generator=rng, dtype=torch.uint8)
    data = TrainingData("noise", images, torch.arange(64) % 3, ("a", "b", "c"))
    checkpoint = train(MODELS[name], data, steps=3, device="cuda")
    assert all(value.isfinite().all() for value in checkpoint.weights.values())
    on_cpu, on_gpu = (checkpoint.sampler(device).sample(70, seed=3) for device in ("cpu", "cuda"))
    assert on_gpu.device.type == "cpu"
    assert int((on_cpu.int() - on_gpu.int()).abs().max()) <= 1
