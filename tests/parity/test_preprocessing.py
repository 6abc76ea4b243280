"""What reaches DINOv2, CLIP and VGG16 under the protocols, beside what each tool's own transform gives.

Their weights are not to be had everywhere. A network that passes its pixels on takes their place, so that all
before the network is compared; the networks themselves are those of the extractors' own tests.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision import transforms

from gen_eval import resize
from gen_eval.extractors import timm_models, torchvision_models
from gen_eval.extractors.network import Network
from gen_eval.metrics import find_measure
from gen_eval.planning import load_extractors
from gen_eval.protocols import PROTOCOLS

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
# Smaller and larger than what the networks take, wide and high, and two that need no resize.
SHAPES = [(32, 32), (200, 256), (301, 224), (512, 400), (224, 224), (336, 336)]


def passing(name: str, *, resize: Any, normalize: Any, **options: Any) -> Network:
    """A network with this resize and normalisation whose features are what reaches it."""
    return Network(
        name,
        lambda x, taps: {"pool": x.flatten(1)},
        taps={"pool": 3 * resize.size**2},
        weights={"pool": "none"},
        resize=resize,
        normalize=normalize,
    )


@pytest.fixture(autouse=True)
def _without_weights(monkeypatch):
    """The loaders settle resize and normalisation as ever; the network that they build is replaced."""
    pytest.importorskip("timm")
    monkeypatch.setattr(timm_models, "_fetch", lambda name, offline: "nowhere")
    monkeypatch.setattr(timm_models, "read_tensors", lambda path: {})
    monkeypatch.setattr(timm_models, "build", lambda name, state: None)
    monkeypatch.setattr(timm_models, "_to_dinov2_size", lambda model: None)
    monkeypatch.setattr(timm_models, "wrap", lambda name, model, taps, **terms: passing(name, **terms))
    monkeypatch.setattr(torchvision_models, "fetch_published", lambda url, offline: "nowhere")
    monkeypatch.setattr(torchvision_models, "read_tensors", lambda path: {})
    monkeypatch.setattr(torchvision_models, "_build", lambda *args: torch.nn.Linear(1, 1000))
    monkeypatch.setattr(
        torchvision_models, "Network", lambda name, forward, **terms: passing(name, **{**terms, "taps": None})
    )


def image_of(shape):
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


def reaching(protocol, network, image):
    """``[3, size, size]``: what the network is given of an image under a protocol."""
    extractor = load_extractors(
        [find_measure(f"fd:{network}")], PROTOCOLS[protocol], device=torch.device("cpu")
    )[network]
    to = extractor.resize
    prepared = [resize.prepare(image, to)]
    batch = resize.finish(prepared, to, extractor.device)
    return extractor(batch, ["pool"])["pool"].view(3, to.size, to.size)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_dinov2_of_dgm_eval(shape):
    transform = transforms.Compose(
        [
            transforms.Resize((224, 224), transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize(*map(np.array, IMAGENET)),
        ]
    )
    image = image_of(shape)
    assert torch.equal(reaching("dgm-eval", "dinov2", image), transform(Image.fromarray(image)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_dinov2_of_edm2(shape):
    image = image_of(shape)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()
    x = F.interpolate(pixels.to(torch.float32), size=(224, 224), mode="bicubic", antialias=True) / 255
    mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in IMAGENET)
    assert torch.equal(reaching("edm2", "dinov2", image), ((x - mean) / std)[0])


def test_dinov2_of_edm2_and_of_dgm_eval_is_not_the_same():
    image = image_of((256, 256))
    gap = (reaching("edm2", "dinov2", image) - reaching("dgm-eval", "dinov2", image)).abs()
    assert gap.max() > 0.1  # overshoot that Pillow clips
    assert 1e-4 < gap.mean() < 0.02  # "almost the same", and not the same


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_clip_of_cmmd(shape):
    """Its centre square, Pillow's bicubic, and CLIP's normalisation of pixels in [0, 1]."""
    image = image_of(shape)
    height, width = shape
    side = min(shape)
    left, top = (width - side) // 2, (height - side) // 2
    square = Image.fromarray(image).crop((left, top, left + side, top + side))
    pixels = np.asarray(square.resize((336, 336), Image.Resampling.BICUBIC)).astype(np.float32) / 255
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    x = F.interpolate(x, size=(336, 336), mode="bicubic")  # as it does once more, which changes nothing
    expected = transforms.Normalize(*CLIP)(x[0])
    np.testing.assert_allclose(reaching("cmmd", "clip", image), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("protocol", ["kynkaanniemi", "torch-fidelity", "stylegan3"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_vgg16_of_torch_fidelity(shape, protocol):
    """Its own functions, live; they normalise in another order, so that the last bits differ."""
    tensorflow = pytest.importorskip("torch_fidelity.interpolate_compat_tensorflow")
    image = image_of(shape)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    x = tensorflow.interpolate_bilinear_2d_like_tensorflow1x(pixels, size=(224, 224), align_corners=False)
    mean, std = (tuple(255 * value for value in values) for values in IMAGENET)
    expected = transforms.functional.normalize(x, mean, std)[0]
    np.testing.assert_allclose(reaching(protocol, "vgg16", image), expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("protocol", ["torch-fidelity", "stylegan3"])
def test_what_a_protocol_says_of_vgg16_is_what_it_had_before_it_said_so(protocol):
    measures = [find_measure("pr:vgg16")]
    without = PROTOCOLS["pytorch-fid"]  # says nothing of it
    specs = [
        load_extractors(measures, terms, device=torch.device("cpu"))["vgg16"].spec("pool")
        for terms in (PROTOCOLS[protocol], without)
    ]
    assert specs[0] == specs[1]
