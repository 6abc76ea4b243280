"""torchvision's classifiers: every one can be built, and features are those of torchvision's own pipeline."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import models

from gen_eval import resize
from gen_eval.errors import FetchError, UnknownName, UsageError, WeightsError
from gen_eval.extractors import find_extractor, torchvision_models
from gen_eval.extractors.published import fetch_published
from gen_eval.extractors.tensors import read_tensors
from gen_eval.spec import Resize

CLOSE = 1e-5  # of the largest logit: another memory layout rounds otherwise
# One of each way to end: linear, convolution, two inputs, tokens, trained with helpers.
NAMES = (
    "resnet18",
    "squeezenet1_1",
    "mobilenet_v3_small",
    "swin_t",
    "googlenet",
    "mnasnet0_5",
    "regnet_y_400mf",
)
# A regnet's widths are computed when it is built, which cannot be done without memory for them.
BUILT_FOR_REAL = ("regnet_y_400mf",)


def every_weights():
    for name in models.list_models(module=models):
        if not name.startswith("regnet") or name in BUILT_FOR_REAL:
            for weights in models.get_model_weights(name):
                if weights.meta["categories"]:
                    yield pytest.param(name, weights, id=f"{name}-{weights.name}")


def seeded(name):
    """A network with initial values that are the same on every run, and not all zero anywhere that matters."""
    weights = models.get_model_weights(name).DEFAULT
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = torchvision_models.architecture(name, weights).eval()
        for layer in model.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_var.uniform_(0.1, 0.3)  # so that signals survive many layers
    return model


@pytest.fixture(scope="module")
def model():
    return seeded("resnet18")


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(model.state_dict(), path)
    return path


def image_of(shape=(203, 130), seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC))


def batch_of(extractor, *images):
    prepared = [resize.prepare(image, extractor.resize) for image in images]
    return resize.finish(prepared, extractor.resize, extractor.device)


@pytest.mark.parametrize(("name", "weights"), list(every_weights()))
def test_every_classifier_is_built_as_its_weights_want_it(name, weights):
    """The right number of parameters, so that a file fits; the right input size; and a layer to read before."""
    with torch.device("cpu" if name in BUILT_FOR_REAL else "meta"):
        model = torchvision_models.architecture(name, weights)
    _, head = torchvision_models._head(model, len(weights.meta["categories"]))
    assert head.weight.shape[0] == 1000
    for auxiliary in ("aux1", "aux2"):  # of googlenet, which its weights' count leaves out
        if name == "googlenet":
            setattr(model, auxiliary, None)
    assert sum(parameter.numel() for parameter in model.parameters()) == weights.meta["num_params"]
    (size,) = weights.transforms().crop_size
    assert getattr(model, "image_size", size) == size
    assert find_extractor(f"torchvision:{name}.{weights.name}") is not None


@pytest.mark.parametrize("name", NAMES)
def test_features_are_those_of_torchvisions_own_pipeline(name, tmp_path):
    model = seeded(name)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    extractor = find_extractor(f"torchvision:{name}")(
        weights=tmp_path / "weights.pth", taps=("pool", "logits")
    )
    images = [image_of(seed=seed) for seed in range(2)]
    preset = models.get_model_weights(name).DEFAULT.transforms()
    ready = torch.stack([preset(Image.fromarray(image)) for image in images])
    batch = batch_of(extractor, *images)
    assert torch.equal(extractor._normalize(batch), ready)

    if name == "googlenet":
        model.transform_input = True  # as torchvision sets it with its weights
    with torch.inference_mode():
        expected = model(ready)
    found = extractor(batch, ("pool", "logits"))
    assert {tap: values.shape[1] for tap, values in found.items()} == extractor.taps
    assert float((found["logits"] - expected).abs().max()) <= CLOSE * float(expected.abs().max())
    head = list(model.modules())[-1]
    if isinstance(head, torch.nn.Linear):
        with torch.inference_mode():
            again = head(found["pool"])
        assert torch.allclose(again, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_squeezenet_is_read_before_its_last_convolution(tmp_path):
    model = seeded("squeezenet1_1")
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    extractor = find_extractor("torchvision:squeezenet1_1")(weights=tmp_path / "weights.pth")
    batch = batch_of(extractor, image_of())
    with torch.inference_mode():
        expected = model.features(extractor._normalize(batch)).mean((2, 3))
    assert torch.allclose(extractor(batch)["pool"], expected, rtol=1e-4, atol=1e-6)


def test_vgg16_is_read_after_the_relu_of_fc2_at_tensorflows_resize():
    published = torchvision_models._published("vgg16")
    with torch.device("meta"):
        model = torchvision_models.architecture("vgg16", published)
    name, head = torchvision_models._head(model, 1000)
    assert name == "classifier.6"
    assert head.in_features == 4096
    assert isinstance(model.classifier[4], torch.nn.ReLU)


def test_a_file_is_identified_by_its_tensors(model, file, tmp_path):
    load = find_extractor("torchvision:resnet18")
    save_file(model.state_dict(), tmp_path / "same.safetensors")
    torch.save({"model": model.state_dict(keep_vars=True), "epoch": 3}, tmp_path / "wrapped.pth")
    base, same, wrapped = (
        load(weights=path) for path in (file, tmp_path / "same.safetensors", tmp_path / "wrapped.pth")
    )
    assert base.spec("pool") == same.spec("pool") == wrapped.spec("pool")
    assert base.spec("pool").name == "torchvision:resnet18"

    state = dict(model.state_dict())
    state["fc.bias"] = state["fc.bias"] + 1
    save_file(state, tmp_path / "head.safetensors")
    head = load(weights=tmp_path / "head.safetensors")
    assert head.spec("pool") == base.spec("pool")
    assert head.spec("logits") != base.spec("logits")
    state["conv1.weight"] = state["conv1.weight"] + 1
    save_file(state, tmp_path / "trunk.safetensors")
    assert load(weights=tmp_path / "trunk.safetensors").spec("pool") != base.spec("pool")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_files_of_other_number_types_are_read(dtype, model, tmp_path):
    state = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    torch.save(state, tmp_path / "zip.pth")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "same.safetensors")
    read = [read_tensors(tmp_path / name) for name in ("zip.pth", "old.pth", "same.safetensors")]
    for found in read:
        assert set(found) == set(state)
        assert all(torch.equal(found[name], value) for name, value in state.items())
    extractor = find_extractor("torchvision:resnet18")(weights=tmp_path / "zip.pth")
    assert extractor(batch_of(extractor, image_of()))["pool"].isfinite().all()


def test_old_names_of_densenet_are_read(tmp_path):
    model = seeded("densenet121")
    old = {}
    for name, value in model.state_dict().items():
        for part in ("norm", "conv"):
            for number in "12":
                if "denselayer" in name:
                    name = name.replace(f"{part}{number}.", f"{part}.{number}.")
        if not name.endswith("num_batches_tracked"):
            old[name] = value
    assert any(".norm.1." in name for name in old)
    torch.save(old, tmp_path / "old.pth")
    torch.save(model.state_dict(), tmp_path / "new.pth")
    load = find_extractor("torchvision:densenet121")
    found, expected = (load(weights=tmp_path / name).spec("logits") for name in ("old.pth", "new.pth"))
    assert found == expected


def test_preprocessing_can_be_set_and_is_identity(file):
    load = find_extractor("torchvision:resnet18")
    own = load(weights=file).spec("pool")
    assert own.resize == Resize(224, "pil-bilinear-uint8", "shorter", 256)
    assert own.normalize == "(x/255-[0.485,0.456,0.406])/[0.229,0.224,0.225]"
    squashed = load(weights=file, resize=Resize(224, "tf1-bilinear"), normalize="x/255").spec("pool")
    assert own.differences(squashed) == [
        "resize: pil-bilinear-uint8 of the shorter side to 256, centre 224 against tf1-bilinear to 224",
        f"normalize: {own.normalize} against x/255",
    ]
    kernel = load(weights=file, resize="pil-bicubic").spec("pool").resize
    assert kernel == Resize(224, "pil-bicubic", "shorter", 256)
    with pytest.raises(UsageError, match="takes images of 224 pixels, not a resize to 299"):
        load(weights=file, resize=Resize(299, "tf1-bilinear"))


def test_names_are_settled_before_anything_else(file):
    with pytest.raises(
        UnknownName, match="unknown torchvision classifier 'resnt50': did you mean 'resnet50'"
    ):
        find_extractor("torchvision:resnt50")
    with pytest.raises(UnknownName, match="'IMAGENET1K_V3': did you mean 'IMAGENET1K_V2'"):
        find_extractor("torchvision:resnet50.IMAGENET1K_V3")
    with pytest.raises(UnknownName, match="unknown weights of torchvision's vgg16 'IMAGENET1K_FEATURES'"):
        find_extractor("torchvision:vgg16.IMAGENET1K_FEATURES")  # without a classifier
    with pytest.raises(UnknownName, match="unknown extractor 'torchvison:resnet50'"):
        find_extractor("torchvison:resnet50")
    for wrong in ({"precision": "fp31"}, {"normalize": "x/25"}):
        with pytest.raises(UnknownName, match="did you mean"):
            find_extractor("torchvision:resnet18")(offline=True, **wrong)
    with pytest.raises(UnknownName, match="unknown tap of torchvision:resnet18 'pol': did you mean 'pool'"):
        find_extractor("torchvision:resnet18")(weights=file, taps=("pol",))


def test_another_network_is_refused(file):
    with pytest.raises(WeightsError, match="not the weights of torchvision's resnet34"):
        find_extractor("torchvision:resnet34")(weights=file)


def test_loading_and_running_touch_nothing_global(file):
    before = torch.get_rng_state()
    extractor = find_extractor("torchvision:resnet18")(weights=file)
    extractor(batch_of(extractor, image_of()))
    assert torch.equal(torch.get_rng_state(), before)


def test_offline_says_where_the_weights_are(tmp_path, monkeypatch):
    monkeypatch.setenv("GEN_EVAL_CACHE", str(tmp_path))
    with pytest.raises(FetchError) as caught:
        find_extractor("torchvision:resnet50")(offline=True)
    for part in (
        "https://download.pytorch.org/models/resnet50-11ad3fa6.pth",
        "network is off",
        "--weights FILE",
    ):
        assert part in str(caught.value)
    monkeypatch.setenv("GEN_EVAL_OFFLINE", "1")
    with pytest.raises(FetchError, match="network is off"):
        find_extractor("vgg16")()


def test_a_fetched_file_is_checked_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("GEN_EVAL_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "net-ba7816bf.pth"  # the first digits of the sha256 of "abc"
    source.write_bytes(b"abc")
    path = fetch_published(source.as_uri())
    assert path.read_bytes() == b"abc"
    source.unlink()
    assert fetch_published(source.as_uri(), offline=True) == path

    wrong = tmp_path / "net-00000000.pth"
    wrong.write_bytes(b"abc")
    with pytest.raises(FetchError, match="invalid hash value"):
        fetch_published(wrong.as_uri())
    assert not list((tmp_path / "cache" / "published").glob("net-0000*"))
    with pytest.raises(FetchError, match="no digits of its sha256, and it is not fetched unchecked"):
        fetch_published((tmp_path / "net-v2.pth").as_uri())


@pytest.mark.network
def test_the_published_weights_know_a_photograph():
    from gen_eval import datasets

    try:
        extractor = find_extractor("torchvision:resnet18")(taps=("logits",))
        ships = datasets.load("cifar10", "test")
    except FetchError as error:
        pytest.skip(f"no network: {error}")
    found = extractor(batch_of(extractor, *ships.images[ships.labels == 8][:20]), ("logits",))["logits"]
    afloat = [472, 484, 510, 554, 576, 625, 628, 724, 780, 814, 833, 871, 914]
    assert sum(int(top) in afloat for top in found.argmax(1)) >= 4  # by chance one in eighty
