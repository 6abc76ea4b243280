"""timm's models: features are those of timm's own pipeline, and names, weights and the package itself are settled."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

from gen_eval import resize
from gen_eval.errors import FetchError, UnknownName, UsageError, WeightsError
from gen_eval.extractors import find_extractor, timm_models
from gen_eval.spec import Resize

timm = pytest.importorskip("timm")
huggingface_hub = pytest.importorskip("huggingface_hub")

CLOSE = 1e-5  # of the largest feature: another memory layout rounds otherwise
# Small ones of several designs; squashed and cut; with and without a classifier.
NAMES = (
    "resnet18.a1_in1k",
    "convnext_atto.d2_in1k",
    "deit_tiny_distilled_patch16_224.fb_in1k",
    "mobilenetv3_small_050.lamb_in1k",
    "eva02_tiny_patch14_224.mim_in22k",
    "tf_efficientnetv2_b0.in1k",
    "test_vit.r160_in1k",
    "vit_xsmall_patch16_clip_224.tinyclip_yfcc15m",
    "tf_efficientnetv2_b3.in21k_ft_in1k",
)
TINY = "test_vit.r160_in1k"


def seeded(name, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(name, **options).eval()
        for layer in model.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_var.uniform_(0.1, 0.3)  # so that signals survive many layers
        for parameter_name, parameter in model.named_parameters():
            if "gamma" in parameter_name or parameter_name.endswith(("head.weight", "pos_embed")):
                torch.nn.init.normal_(parameter, std=0.5)  # these begin so small that they hide the rest
    return model


@pytest.fixture(scope="module")
def model():
    return seeded(TINY)


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "vit.pth"
    torch.save(model.state_dict(), path)
    return path


def image_of(shape=(203, 130), seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC))


def batch_of(extractor, *images):
    prepared = [resize.prepare(image, extractor.resize) for image in images]
    return resize.finish(prepared, extractor.resize, extractor.device)


@pytest.mark.parametrize("name", NAMES)
def test_features_are_those_of_timms_own_pipeline(name, tmp_path):
    model = seeded(name)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    extractor = find_extractor(f"timm:{name}")(weights=tmp_path / "weights.pth")
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))
    images = [image_of(seed=seed) for seed in range(2)]
    ready = torch.stack([transform(Image.fromarray(image)) for image in images])
    batch = batch_of(extractor, *images)
    assert torch.equal(extractor._normalize(batch), ready)

    with torch.inference_mode():
        features = model.forward_features(ready)
        expected = {"pool": model.forward_head(features, pre_logits=True)}
        if model.num_classes:
            expected["logits"] = model(ready)
    found = extractor(batch, tuple(expected))
    assert extractor.taps == {tap: values.shape[1] for tap, values in expected.items()}
    for tap, values in expected.items():
        assert float((found[tap] - values).abs().max()) <= CLOSE * float(values.abs().max())
        assert float((values[0] - values[1]).abs().max()) > 1e-4 * float(values.abs().max())
    assert extractor.spec("pool").name == f"timm:{name}"


def test_a_model_has_one_name_with_its_tag_or_without(file):
    named, default = (find_extractor(f"timm:{name}")(weights=file) for name in (TINY, "test_vit"))
    assert named.spec("pool") == default.spec("pool")


def test_a_file_is_identified_by_its_tensors(model, file, tmp_path):
    load = find_extractor(f"timm:{TINY}")
    base = load(weights=file)
    state = dict(model.state_dict())
    save_file(state, tmp_path / "same.safetensors")
    assert load(weights=tmp_path / "same.safetensors").spec("logits") == base.spec("logits")
    save_file({**state, "head.bias": state["head.bias"] + 1}, tmp_path / "head.safetensors")
    head = load(weights=tmp_path / "head.safetensors")
    assert head.spec("pool") == base.spec("pool")
    assert head.spec("logits") != base.spec("logits")
    assert base.spec("pool").resize == Resize(160, "pil-bicubic-uint8", "shorter", 168)
    assert base.spec("pool").normalize == "(x/255-0.5)/0.5"


def test_the_state_is_not_held_twice(file):
    extractor = find_extractor(f"timm:{TINY}")(weights=file)
    assert extractor._forward.args[0].pretrained_cfg["state_dict"] is None


# --- Short names


def test_dinov2_resizes_its_positions_as_its_own_code_does(tmp_path, monkeypatch):
    """Written out plainly, on the smallest of the family."""
    monkeypatch.setattr(timm_models, "_DINOV2", "vit_small_patch14_dinov2.lvd142m")
    model = seeded(timm_models._DINOV2)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    extractor = find_extractor("dinov2")(weights=tmp_path / "weights.pth")
    assert extractor.spec("pool").name == "dinov2"
    assert extractor.resize == Resize(224, "pil-bicubic-uint8")
    assert extractor.taps == {"pool": 384}

    batch = batch_of(extractor, image_of())
    with torch.inference_mode():
        token, patches = model.pos_embed[:, :1], model.pos_embed[:, 1:]
        grid = patches.reshape(1, 37, 37, 384).permute(0, 3, 1, 2)
        scale = (224 // 14 + 0.1) / 37
        grid = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
        x = model.patch_embed.proj(extractor._normalize(batch)).flatten(2).transpose(1, 2)
        x = torch.cat([model.cls_token, x], 1)
        x = x + torch.cat([token, grid.permute(0, 2, 3, 1).reshape(1, 256, 384)], 1)
        for block in model.blocks:
            x = block(x)
        expected = model.norm(x)[:, 0]
        timms = timm.create_model(
            timm_models._DINOV2,
            img_size=224,
            pretrained=True,
            pretrained_cfg_overlay={"state_dict": model.state_dict()},
        ).eval()(extractor._normalize(batch))
    found = extractor(batch)["pool"]
    assert float((found - expected).norm() / expected.norm()) < 1e-5
    assert float((timms - expected).norm() / expected.norm()) > 1e-3  # so there is something to get right


def test_clip_is_the_projected_embedding_of_the_central_square(tmp_path, monkeypatch):
    small = "vit_xsmall_patch16_clip_224.tinyclip_yfcc15m"
    model = seeded(small)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    extractor = timm_models.load(
        small,
        weights=tmp_path / "weights.pth",
        variant=timm_models.Variant("clip", Resize(224, "pil-bicubic-uint8", "square"), projected=True),
    )
    assert extractor.taps == {"pool": 512}
    batch = batch_of(extractor, image_of())
    with torch.inference_mode():
        expected = model(extractor._normalize(batch))
    assert torch.allclose(extractor(batch)["pool"], expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(UnknownName, match="unknown tap of clip 'logits'"):
        extractor(batch, ("logits",))


def test_short_names_stand_for_the_networks_of_the_papers():
    dinov2, clip = (timm.get_pretrained_cfg(name) for name in (timm_models._DINOV2, timm_models._CLIP))
    assert (dinov2.hf_hub_id, dinov2.num_classes) == ("timm/vit_large_patch14_dinov2.lvd142m", 0)
    assert (clip.hf_hub_id, clip.num_classes) == ("timm/vit_large_patch14_clip_336.openai", 768)
    assert "quickgelu" in clip.architecture  # the activation that OpenAI trained with
    assert clip.input_size == (3, 336, 336)


# --- What cannot be had


def test_names_are_settled_before_anything_else(file):
    with pytest.raises(
        UnknownName, match=r"unknown timm model .* 'resnt18': did you mean 'resnet18'"
    ) as caught:
        find_extractor("timm:resnt18")
    assert len(str(caught.value)) < 400  # not all of them
    for wrong in ({"precision": "fp31"}, {"normalize": "x/25"}):
        with pytest.raises(UnknownName, match="did you mean"):
            find_extractor(f"timm:{TINY}")(offline=True, **wrong)
    with pytest.raises(UnknownName, match="unknown tap of timm:test_vit.r160_in1k 'pol'"):
        find_extractor(f"timm:{TINY}")(weights=file, taps=("pol",))


def test_without_timm_the_cure_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    for name in ("timm:resnet18", "dinov2", "clip", "efficientnet-lite0"):
        with pytest.raises(UsageError, match=r'pip install "gen_eval\[timm\]"'):
            find_extractor(name)(offline=True)


def test_another_network_is_refused(file):
    with pytest.raises(WeightsError, match="not the weights of timm's resnet18"):
        find_extractor("timm:resnet18.a1_in1k")(weights=file)


@pytest.mark.parametrize(
    "change", [{"crop_mode": "border"}, {"input_size": (3, 160, 96)}, {"input_size": (1, 160, 160)}], ids=str
)
def test_a_preprocessing_that_is_not_to_be_had_is_refused_before_a_fetch(change, monkeypatch):
    config = {**timm_models._config(TINY), **change}
    monkeypatch.setattr(timm_models, "_config", lambda name: config)
    with pytest.raises(UsageError, match="only square colour images"):
        find_extractor(f"timm:{TINY}")(offline=True)


def test_offline_says_where_the_weights_are(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for name, address in (
        ("timm:test_vit.r160_in1k", "https://huggingface.co/timm/test_vit.r160_in1k/model.safetensors"),
        ("dinov2", "https://huggingface.co/timm/vit_large_patch14_dinov2.lvd142m/model.safetensors"),
        ("clip", "https://huggingface.co/timm/vit_large_patch14_clip_336.openai/model.safetensors"),
    ):
        load = find_extractor(name)
        with pytest.raises(FetchError) as caught:
            load(offline=True)
        for part in (address, "network is off", "--weights FILE"):
            assert part in str(caught.value)


def test_the_hub_is_asked_once_and_its_silence_is_an_error_of_ours(file, monkeypatch):
    asked = []

    def download(repository, name, *, local_files_only):
        asked.append((repository, name, local_files_only))
        raise OSError("no route to\nhost")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(FetchError, match="model.safetensors: no route to host"):
        find_extractor(f"timm:{TINY}")(offline=False)
    assert asked == [("timm/test_vit.r160_in1k", "model.safetensors", local) for local in (True, False)]


def test_a_model_without_published_weights_says_so():
    pretrained = {name.partition(".")[0] for name in timm.list_pretrained()}
    name = next(name for name in timm.list_models() if name not in pretrained)
    with pytest.raises(FetchError, match=f"timm publishes no weights of {name}"):
        find_extractor(f"timm:{name}")(offline=True)


def test_loading_and_running_touch_nothing_global(file):
    before = torch.get_rng_state()
    extractor = find_extractor(f"timm:{TINY}")(weights=file)
    extractor(batch_of(extractor, image_of()))
    assert torch.equal(torch.get_rng_state(), before)
