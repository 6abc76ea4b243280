"""Files of other tools: read to their numbers, written to the same, refused where they can be no statistics."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gen_eval import exporting, foreign, store
from gen_eval.errors import StoreError, UnknownName, UsageError
from gen_eval.foreign import FORMATS
from gen_eval.spec import Resize, Spec
from gen_eval.stats import Features
from gen_eval.summary import Summary

from .conftest import CAPTURED, DIM, EDM2, FEATURE_STATS, FILES, MOMENTS, MU, ROWS, SIGMA, N, save_pickle

INCEPTION = Spec("inception-2015-12-05", "26c97f1670bd222c", Resize(299, "tf1-bilinear"), "(x-128)/128")
DINOV2 = Spec("dinov2", "fedcba9876543210", Resize(224, "pil-bicubic"), "x")


# --- Reading


def test_every_format_is_known_by_what_it_holds(foreign_file):
    path, form, n = foreign_file
    assert foreign.is_foreign(path)
    file = foreign.read(path)
    assert file.format == form
    held = file.held[0]
    assert held.features.n == n
    rounding = 1e-6 if path.name == "float32.npz" else 1e-12
    narrow = path.name in ("float32.npz", "stat-fid.pt")
    np.testing.assert_allclose(held.features.moments.mean, MU, rtol=1e-6 if narrow else 1e-12)
    np.testing.assert_allclose(held.features.cov(), SIGMA, rtol=rounding, atol=rounding)


def test_every_format_that_is_read_has_a_file_here():
    twice = {"clean-fid", "edm"}  # the layout of pytorch-fid
    assert {form for _, form, _ in FILES.values()} == set(FORMATS) - twice


@pytest.mark.parametrize(
    "name", ["captured.pkl", "rows-alone.pkl", "features.pt", "x_kid.npz", "columns_kid.npz"]
)
def test_rows_come_along_in_their_order(name, tmp_path):
    FILES[name][0](tmp_path / name)
    (held,) = foreign.read(tmp_path / name).held
    np.testing.assert_array_equal(held.features.sample.in_order(), ROWS)


def test_a_covariance_that_a_tool_divides_by_n_is_told_apart(tmp_path):
    """StyleGAN divides by n, and keeps sums: its covariance and that of the others follow from one file."""
    save_pickle(tmp_path / "stats.pkl", FEATURE_STATS)
    (held,) = foreign.read(tmp_path / "stats.pkl").held
    mean = FEATURE_STATS["raw_mean"] / N
    theirs = FEATURE_STATS["raw_cov"] / N - np.outer(mean, mean)  # FeatureStats.get_mean_cov
    np.testing.assert_allclose(held.features.cov(0), theirs, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(held.features.cov(1), SIGMA, rtol=1e-12, atol=1e-13)


def test_a_covariance_of_unknown_n_stays_as_it_came(tmp_path):
    np.savez(tmp_path / "moments.npz", **MOMENTS)
    (held,) = foreign.read(tmp_path / "moments.npz").held
    for ddof in (0, 1):
        np.testing.assert_allclose(held.features.cov(ddof), SIGMA, rtol=1e-14)
    np.testing.assert_allclose(held.counted(N).features.cov(0), SIGMA * (N - 1) / N, rtol=1e-14)
    assert held.counted(None) is held
    with pytest.raises(UsageError, match="is of 40 images, and 41 were claimed"):
        held.counted(N).counted(N + 1)


def test_networks_that_a_file_names_are_told_apart(tmp_path):
    save_pickle(tmp_path / "edm2.pkl", EDM2)
    file = foreign.read(tmp_path / "edm2.pkl")
    np.testing.assert_allclose(file.find("dinov2", "pool").features.moments.mean, MU + 1)
    np.testing.assert_allclose(file.find("inception-2015-12-05", "pool").features.moments.mean, MU)
    with pytest.raises(StoreError, match="no statistics of clip pool: found inception pool .*; dinov2 pool"):
        file.find("clip", "pool")


def test_spatial_features_and_images_of_a_reference_batch(tmp_path):
    FILES["adm.npz"][0](tmp_path / "adm.npz")
    file = foreign.read(tmp_path / "adm.npz")
    assert file.images == foreign.count_images(tmp_path / "adm.npz") == 7
    assert file.find("inception-2015-12-05", "spatial").dim == 2
    adopted = store.adopt(file, INCEPTION, "spatial", dim=2, n=N)
    assert list(adopted.notes.values()) == [7]
    np.testing.assert_allclose(adopted.features[INCEPTION, "spatial"].cov(), SIGMA[:2, :2], rtol=1e-14)


def test_a_number_of_images_that_the_file_contradicts_is_refused(tmp_path):
    save_pickle(tmp_path / "edm2.pkl", EDM2)
    assert store.adopt(tmp_path / "edm2.pkl", INCEPTION, "pool", dim=DIM, n=N).claimed
    with pytest.raises(UsageError, match="is of 40 images, and 50,000 were claimed"):
        store.adopt(tmp_path / "edm2.pkl", INCEPTION, "pool", dim=DIM, n=50_000)


# --- Refusals


def bad_arrays():
    lower = SIGMA.copy()
    lower[0, 1] *= 1.001
    negative, beyond = SIGMA.copy(), SIGMA.copy()
    negative[0, 0] = -1
    beyond[0, 1] = beyond[1, 0] = 2 * np.sqrt(SIGMA[0, 0] * SIGMA[1, 1])
    indefinite = np.where(np.eye(DIM), 1.0, -0.9)  # each pair of features could be so, all of them could not
    return {
        "no array": ({"mu": 3}, "mu is a int: expected an array|expected mu"),
        "float16": ({"mu": MU.astype("f2")}, "mu is float16: expected float32 or float64"),
        "complex": ({"sigma": SIGMA.astype("c16")}, "sigma is complex128"),
        "integers": ({"mu": np.arange(DIM)}, "mu is int64"),
        "text": ({"mu": np.full(DIM, "many")}, "mu is <U4"),
        "another shape": ({"mu": MU[:3]}, r"expected mu \[d\] and sigma \[d, d\], found \[3\] and \[5, 5\]"),
        "no vector": ({"mu": MU[:, None]}, r"found \[5, 1\]"),
        "no square": ({"sigma": SIGMA[:, :4]}, r"found \[5\] and \[5, 4\]"),
        "nothing": ({"mu": MU[:0], "sigma": SIGMA[:0, :0]}, r"found \[0\]"),
        "NaN": ({"mu": MU * np.nan}, "NaN or infinity in mu"),
        "infinity": ({"sigma": SIGMA * np.inf}, "NaN or infinity in sigma"),
        "not symmetric": ({"sigma": lower}, "sigma is no covariance: it is not symmetric"),
        "negative": ({"sigma": negative}, "it has a negative variance"),
        "beyond 1": ({"sigma": beyond}, "it has a correlation beyond 1"),
        "indefinite": ({"sigma": indefinite}, "some weighted sum of the features has a negative variance"),
    }


@pytest.mark.parametrize("kind", ["npz", "pkl", "pt", "npy"])
@pytest.mark.parametrize("wrong", bad_arrays())
def test_arrays_that_are_no_moments_are_refused_with_the_reason(wrong, kind, tmp_path):
    arrays, message = bad_arrays()[wrong]
    contents, path = {**MOMENTS, **arrays}, tmp_path / f"stats.{kind}"
    match kind:
        case "npz":
            np.savez(path, **contents)
            message = message.replace("mu is a int: expected an array|", "mu is int64|")
        case "pkl":
            save_pickle(path, contents)
        case "pt":
            torch.save(contents, path)
        case "npy":
            np.save(path, contents, allow_pickle=True)
    with pytest.raises(StoreError, match=rf"stats\.{kind} cannot be read as statistics: .*({message})"):
        foreign.read(path)


@pytest.mark.parametrize("arithmetic", [torch.float32, torch.float64])
@pytest.mark.parametrize("kept", ["f4", "f8"])
def test_rounding_below_zero_is_no_reason_to_refuse(arithmetic, kept, tmp_path):
    """Fewer images than features leave eigenvalues of 0, which arithmetic moves to either side."""
    torch.manual_seed(0)
    rows = (torch.randn(50, 200) * torch.linspace(-4, 2, 200).exp() + 3).to(arithmetic)
    mean = rows.mean(0)
    cov = (rows.T @ rows / 50 - torch.outer(mean, mean)).numpy().astype(kept)
    assert np.linalg.eigvalsh(cov.astype("f8")).min() < 0
    np.savez(tmp_path / "stats.npz", mu=mean.numpy().astype(kept), sigma=cov)
    assert foreign.read(tmp_path / "stats.npz").held[0].dim == 200


@pytest.mark.parametrize("kept", ["f4", "f8"])
def test_features_that_never_move_have_a_covariance(kept, tmp_path):
    np.savez(tmp_path / "stats.npz", mu=np.ones(3, kept), sigma=np.zeros((3, 3), kept))
    assert foreign.read(tmp_path / "stats.npz").held[0].dim == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_items": 1}, "num_items is 1: expected a number of images"),
        ({"num_items": True}, "num_items is a bool"),
        ({"num_items": 39}, "no covariance|39 feature rows"),
        ({"all_features": None}, "all_features is no list of arrays"),
        ({"all_features": [ROWS[:20], ROWS[:19]]}, "does not hold 40 feature rows"),
        ({"all_features": [ROWS[:20], ROWS[20:, :4]]}, "does not hold 40 feature rows"),
        ({"all_features": [CAPTURED["all_features"][0]] * 3}, "holds one array twice"),
        ({"capture_all": False, "capture_mean_cov": False}, "captured neither"),
    ],
)
def test_feature_stats_that_do_not_add_up_are_refused(change, message, tmp_path):
    save_pickle(tmp_path / "stats.pkl", {**CAPTURED, **change})
    with pytest.raises(StoreError, match=message):
        foreign.read(tmp_path / "stats.pkl")


class Malicious:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("kind", ["npz", "pkl", "pt", "npy"])
@pytest.mark.parametrize("where", ["beside", "inside"])
def test_nothing_in_a_file_runs(where, kind, tmp_path):
    path, trace = tmp_path / f"stats.{kind}", tmp_path / "trace"
    attack = Malicious(trace)
    contents = {**MOMENTS, "extra": attack} if where == "beside" else {**MOMENTS, "sigma": attack}
    if kind == "npz":
        array = np.empty(DIM, object)
        array[:] = attack
        np.savez(path, **{name: array if value is attack else value for name, value in contents.items()})
    elif kind == "pt":
        torch.save(contents, path)
    elif kind == "npy":
        np.save(path, contents, allow_pickle=True)
    else:
        save_pickle(path, contents)
    if (where, kind) == ("beside", "npz"):
        assert foreign.read(path).format == "pytorch-fid"  # an array that nobody asks for is not read
    else:
        with pytest.raises(StoreError, match="stats"):
            foreign.read(path)
    assert not trace.exists()


def test_a_torch_file_that_runs_something_gives_no_advice_to_let_it(tmp_path):
    torch.save({"mu": torch.zeros(3), "run": Malicious(tmp_path / "trace")}, tmp_path / "stats.pt")
    with pytest.raises(
        StoreError, match="more than tensors and arrays of numbers; nothing of it was run"
    ) as caught:
        foreign.read(tmp_path / "stats.pt")
    assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("name", ["stats.npz", "stats.pt", "stats.pkl", "stats.npy", "stats.txt"])
@pytest.mark.parametrize(
    "content", [b"", b"<html>log in</html>" * 20, pickle.dumps([1, 2])], ids=["empty", "html", "list"]
)
def test_what_is_no_statistics_file_is_refused_by_name(content, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StoreError, match=rf"{name} cannot be read as statistics: ."):
        foreign.read(tmp_path / name)
    with pytest.raises(StoreError, match=r"missing\.npz"):
        foreign.read(tmp_path / "missing.npz")


def test_other_contents_are_refused_with_what_was_expected(tmp_path):
    np.savez(tmp_path / "weights.npz", kernel=MU)
    with pytest.raises(StoreError, match="expected .*mu \\+ sigma.*; found 'kernel'"):
        foreign.read(tmp_path / "weights.npz")
    save_pickle(tmp_path / "edm2.pkl", {"num_images": 5, "accuracy": 1})
    with pytest.raises(StoreError, match="neither fid nor fd_dinov2"):
        foreign.read(tmp_path / "edm2.pkl")


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_give_our_errors_alone(data, foreign_file):
    path, _, _ = foreign_file
    whole = path.read_bytes()
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    damaged = path.with_name(f"damaged{path.suffix}")
    damaged.write_bytes(content)
    try:
        foreign.is_foreign(damaged)
        foreign.read(damaged)
    except StoreError as error:
        assert "damaged" in str(error)


# --- Writing


def summary_of(**features):
    keys = {"pool": (INCEPTION, "pool"), "spatial": (INCEPTION, "spatial"), "dino": (DINOV2, "pool")}
    return Summary("mine", "ab" * 32, {keys[name]: value for name, value in features.items()}, {})


FEATURES = Features.of(torch.from_numpy(ROWS))


@pytest.mark.parametrize("form", [name for name, each in FORMATS.items() if each.write])
def test_what_is_written_is_read_as_the_same(form, tmp_path):
    path = tmp_path / f"stats{FORMATS[form].extension}"
    everything = {
        "adm": {"pool": FEATURES, "spatial": FEATURES},
        "edm2": {"pool": FEATURES, "dino": FEATURES},
    }
    exporting.export(summary_of(**everything.get(form, {"pool": FEATURES})), path, form, other_terms=True)
    file = foreign.read(path)
    assert FORMATS[file.format].keys == FORMATS[form].keys
    mean_rounding = 1e-7 if form in ("adm", "clean-fid", "torch-fidelity") else 1e-14
    for held in file.held:
        np.testing.assert_allclose(held.features.moments.mean, FEATURES.moments.mean, rtol=mean_rounding)
        np.testing.assert_allclose(held.features.cov(), FEATURES.cov(), rtol=1e-12)
    if "rows" in FORMATS[form].about:
        np.testing.assert_array_equal(file.held[0].features.sample.in_order(), ROWS)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_pickle_that_is_written_holds_plain_arrays(tmp_path):
    exporting.export(summary_of(pool=FEATURES), tmp_path / "ref.pkl", "edm2")
    with (tmp_path / "ref.pkl").open("rb") as file:
        theirs = pickle.load(file)
    assert theirs["num_images"] == N
    np.testing.assert_allclose(theirs["fid"]["sigma"], SIGMA, rtol=1e-6)


def test_images_stand_beside_statistics_where_a_format_has_them(tmp_path):
    images = np.full((3, 4, 4, 3), 9, np.uint8)
    both = summary_of(pool=FEATURES, spatial=FEATURES)
    exporting.export(both, tmp_path / "ref.npz", "adm", images=images)
    assert foreign.read(tmp_path / "ref.npz").images == 3
    np.testing.assert_array_equal(np.load(tmp_path / "ref.npz")["arr_0"], images)
    with pytest.raises(UsageError, match="edm hold no images"):
        exporting.export(summary_of(pool=FEATURES), tmp_path / "x.npz", "edm", images=images)


def test_features_that_a_format_does_not_take_are_refused(tmp_path):
    both = summary_of(pool=FEATURES, spatial=FEATURES)
    with pytest.raises(
        UsageError, match="one network and tap; choose one of inception-2015-12-05 pool .* spatial"
    ):
        exporting.export(both, tmp_path / "x.npz", "edm")
    exporting.export(both, tmp_path / "x.npz", "edm", only="inception-2015-12-05 spatial")
    with pytest.raises(UnknownName, match="inception-2015-12-05 pool"):
        exporting.export(both, tmp_path / "x.npz", "edm", only="inception pool")
    with pytest.raises(UsageError, match="features of inception spatial"):
        exporting.export(summary_of(pool=FEATURES, dino=FEATURES), tmp_path / "x.npz", "adm")
    unknown = Features.of_gaussian(FEATURES.moments.mean, FEATURES.cov())
    with pytest.raises(UsageError, match="of one known number of images"):
        exporting.export(summary_of(pool=unknown), tmp_path / "x.pkl", "edm2")
    for features, held in ((FEATURES.cut(7), "7 of 40"), (unknown, "0 of unknown")):
        with pytest.raises(UsageError, match=f"every feature row, and {held} were kept"):
            exporting.export(summary_of(pool=features), tmp_path / "x.pt", "torch-fidelity-features")


def test_formats_and_names_that_cannot_be_written_are_refused(tmp_path):
    with pytest.raises(UnknownName, match="did you mean 'clean-fid'"):
        exporting.export(summary_of(pool=FEATURES), tmp_path / "x.npz", "cleanfid")
    with pytest.raises(UsageError, match="stylegan3 are read, not written"):
        exporting.export(summary_of(pool=FEATURES), tmp_path / "x.pkl", "stylegan3")
    with pytest.raises(StoreError, match=r"one that ends in \.pt"):
        exporting.export(summary_of(pool=FEATURES), tmp_path / "x.npz", "torch-fidelity")
    with pytest.raises(StoreError, match="there is no folder"):
        exporting.export(summary_of(pool=FEATURES), tmp_path / "missing" / "x.pt", "torch-fidelity")
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_no_part(tmp_path, monkeypatch):
    def full(file, **arrays):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(StoreError, match="no space left"):
        exporting.export(summary_of(pool=FEATURES), tmp_path / "x.npz", "edm")
    assert not list(tmp_path.iterdir())
