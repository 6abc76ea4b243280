"""Anything as an extractor, and vectors that need none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gen_eval import resize
from gen_eval.errors import UnknownName, UsageError
from gen_eval.extractors import Custom, Identity, Normalize, find_extractor
from gen_eval.extractors.custom import UNKNOWN
from gen_eval.extractors.network import NORMALIZATIONS
from gen_eval.images import open_images
from gen_eval.passing import Request, summarize
from gen_eval.spec import NO_RESIZE, Resize


def make_net(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )


def batch_of(count=3, size=16):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1)) * 255


def mean_colour(images):
    return images.mean((2, 3))


def test_a_module_is_run_as_it_is_in_evaluation():
    net = make_net().train()
    extractor = Custom(net, size=16)
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())
    found = extractor(batch_of())["pool"]
    assert net.training
    with torch.no_grad():
        expected = net.eval()(batch_of() / 255)
    assert torch.allclose(found, expected, rtol=1e-6)
    assert not found.requires_grad


def test_running_statistics_and_later_training_change_nothing():
    net = make_net().train()
    extractor = Custom(net, size=16)
    before, spec = extractor(batch_of())["pool"], extractor.spec("pool")
    net(torch.randn(4, 3, 16, 16))
    with torch.no_grad():
        net[0].weight += 1
    assert torch.equal(extractor(batch_of())["pool"], before)
    assert extractor.spec("pool") == spec
    assert Custom(net, size=16).spec("pool").weights != spec.weights


def test_the_spec_tells_nets_and_preprocessing_apart():
    def custom(net, **options):
        return Custom(net, **{"size": 16, "name": "net", "version": "1", **options})

    base = custom(make_net())
    assert base.spec("pool") == custom(make_net()).spec("pool")
    assert base.spec("pool").normalize == "x/255"
    assert base.spec("pool").resize == Resize(16, "pil-bicubic")
    others = [
        custom(make_net(1)),
        custom(make_net(), size=17),
        custom(make_net(), name="other"),
        custom(make_net(), version="2"),
        custom(make_net(), normalize="imagenet"),
        custom(make_net(), resize="tf1-bilinear"),
        custom(make_net(), resize=Resize(16, "pil-bicubic", "square")),
        custom(make_net(), precision="bf16"),
    ]
    assert len({one.spec("pool").digest for one in (base, *others)}) == 1 + len(others)


def test_normalisation_is_what_its_text_says():
    images = batch_of()
    for normalize, text, expected in (
        ("x", "x", images),
        ("x/255", "x/255", images / 255),
        ("(x-127)/128", "(x-127)/128", (images - 127) / 128),
        ("(x/255-0.5)/0.5", "(x/255-0.5)/0.5", images / 127.5 - 1),
        (Normalize((1.0, 2.0, 3.0), (1.0, 1.0, 2.0), 1.0), "(x-[1,2,3])/[1,1,2]", None),
    ):
        extractor = Custom(mean_colour, size=16, normalize=normalize)
        assert extractor.spec("pool").normalize == text
        if expected is None:
            expected = (images - torch.tensor([1.0, 2, 3])[:, None, None]) / torch.tensor([1.0, 1, 2])[
                :, None, None
            ]
        assert torch.allclose(extractor(images)["pool"], mean_colour(expected), atol=1e-5)
    with pytest.raises(UnknownName, match="unknown normalisation 'x/25': did you mean 'x/255'"):
        Custom(mean_colour, size=16, normalize="x/25")


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_normalisation_rounds_as_written_and_leaves_its_images(memory_format):
    images = batch_of().to(memory_format=memory_format)
    before = images.clone()
    for one in (*NORMALIZATIONS.values(), Normalize((0.0, 0.0, 0.0), (1.0, 2.0, 1.0), divisor=1.0)):
        mean, std = (torch.tensor(values)[:, None, None] for values in (one.mean, one.std))
        assert torch.equal(one(images), (images / one.divisor - mean) / std)
        assert one(images).is_contiguous(memory_format=memory_format)
        assert torch.equal(images, before)


def test_without_a_version_only_the_same_object_is_the_same_network():
    """Its code cannot be seen: that of two nets with the same tensors may differ."""
    average = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    most = nn.Sequential(nn.AdaptiveMaxPool2d(2), nn.Flatten())
    for one, other in ((average, most), (average, average), (mean_colour, mean_colour)):
        specs = [Custom(net, size=16).spec("pool") for net in (one, other)]
        assert specs[0] != specs[1]
        assert all(spec.weights.startswith(UNKNOWN) for spec in specs)
    extractor = Custom(mean_colour, size=16)
    assert extractor.spec("pool") == extractor.spec("pool")


def test_a_function_is_taken():
    extractor = Custom(mean_colour, size=16, version="7")
    assert extractor.spec("pool").name == "mean_colour"
    assert extractor.spec("pool").weights == "7"
    assert extractor.taps == {"pool": 3}


def test_a_mapping_gives_several_taps():
    extractor = Custom(lambda x: {"mean": mean_colour(x), "top": x.amax((2, 3))}, size=16, name="two")
    assert extractor.taps == {"mean": 3, "top": 3}
    found = extractor(batch_of(), ("top",))
    assert set(found) == {"top"}
    with pytest.raises(UnknownName, match="unknown tap of two 'pool'"):
        extractor(batch_of())


def test_inference_mode_and_float32_are_seen_to():
    modes = []

    def half(images):
        modes.append(torch.is_inference_mode_enabled())
        return mean_colour(images).half()

    assert Custom(half, size=16)(batch_of())["pool"].dtype == torch.float32
    assert all(modes)


@pytest.mark.parametrize(
    ("returned", "what"),
    [
        (lambda x: x.flatten(), r"float32 of shape \[1536\]"),
        (lambda x: x, r"float32 of shape \[2, 3, 16, 16\]"),
        (lambda x: mean_colour(x)[:1], r"float32 of shape \[1, 3\]"),
        (lambda x: mean_colour(x).long(), r"int64 of shape \[2, 3\]"),
        (lambda x: mean_colour(x).numpy(), "ndarray"),
        (lambda x: {"pool": None}, "NoneType"),
        (lambda x: {}, "no features"),
    ],
)
def test_what_is_no_feature_is_refused_at_once(returned, what):
    with pytest.raises(UsageError, match=f"net returns {what}"):
        Custom(returned, size=16, name="net")


def test_what_ceases_to_be_one_is_refused_too():
    extractor = Custom(lambda x: mean_colour(x) if len(x) == 2 else x, size=16, name="net")
    with pytest.raises(
        UsageError, match=r"net returns float32 of shape \[3, 3, 16, 16\] at tap 'pool' for 3"
    ):
        extractor(batch_of())


def test_a_resize_that_ends_elsewhere_is_refused():
    with pytest.raises(UsageError, match="net takes images of 16 pixels, the resize ends at 32"):
        Custom(mean_colour, size=16, name="net", resize=Resize(32, "pil-bicubic"))


def test_nothing_global_is_touched():
    before = torch.get_rng_state()
    Custom(make_net(), size=16)(batch_of())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()


def test_it_serves_a_pass_over_images():
    images = np.random.default_rng(0).integers(0, 256, (20, 9, 12, 3), dtype=np.uint8)
    extractor = Custom(mean_colour, size=16)
    summary = summarize(open_images(images), [Request(extractor, ("pool",))])
    features = summary.require(extractor.spec("pool"), "pool")
    to = Resize(16, "pil-bicubic")
    prepared = [resize.prepare(image, to) for image in images]
    rows = mean_colour(resize.finish(prepared, to, torch.device("cpu")) / 255)
    assert torch.allclose(features.moments.mean.float(), rows.mean(0), atol=1e-6)


# --- Vectors


def test_vectors_pass_as_they_are():
    extractor = find_extractor("identity")(dim=5, device="cpu", precision="fp32", weights=None)
    assert isinstance(extractor, Identity)
    assert extractor.taps == {"pool": 5, "logits": 5}
    rows = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = extractor(rows, ("pool", "logits"))
    assert all(torch.equal(values, rows.float()) for values in found.values())
    assert extractor.resize == NO_RESIZE
    assert str(extractor.spec("pool").resize) == "no resize"


def test_images_through_identity_are_refused():
    with pytest.raises(UsageError, match="takes features, rows of a .n, d. array, and no images"):
        find_extractor("identity")(taps=["pool"], device="cpu")
    with pytest.raises(UsageError, match="and no images"):
        Identity(5)(torch.zeros(2, 3, 8, 8))
    with pytest.raises(UsageError, match="expected vectors of 5 dimensions, found 4"):
        Identity(5)(torch.zeros(2, 4))
    with pytest.raises(UsageError, match="at least one dimension"):
        Identity(0)
    with pytest.raises(UnknownName, match="unknown tap of identity 'pol'"):
        Identity(5).spec("pol")
