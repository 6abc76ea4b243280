"""What must hold on a GPU as on the CPU. Skipped, saying so, where there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gen_eval.evaluation import evaluate
from gen_eval.extractors import Inception
from gen_eval.metrics import METRICS
from gen_eval.metrics.frechet.frechet import METHODS, frechet
from gen_eval.metrics.frechet.gaussian import Gaussian
from gen_eval.stats import Features, Moments
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
