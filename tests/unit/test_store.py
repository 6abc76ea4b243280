"""Statistics on disk: our own files, and those of other tools."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gen_eval import sealed, store
from gen_eval.errors import StoreError
from gen_eval.spec import Resize, Spec
from gen_eval.stats import Features, Moments, Sample
from gen_eval.summary import Summary

SPEC = Spec("inception", "0123456789abcdef", Resize(299, "tf1-bilinear"), "(x-128)/128")


def features_of(n=40, d=6, limit=10, seed=0):
    rows = torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d))).float()
    sample = None if limit == "none" else Sample.of(rows, torch.arange(n), limit)
    moments = Moments.of(rows)
    # Matrix products are symmetric to rounding only; what is stored is the upper triangle.
    symmetric = moments.scatter.triu() + moments.scatter.triu(1).T
    return Features(n, Moments(n, moments.mean, symmetric), sample)


def summary_of(features=None, **changes):
    default = Summary(
        name="fakes/ünï",
        digest="ab" * 32,
        features=features or {(SPEC, "pool"): features_of()},
        made_with={"torch": "2.0", "device": "cpu"},
        skipped=(("broken.png", "cut short"),),
        notes={"gray to RGB": 3},
    )
    return dataclasses.replace(default, **changes)


# --- Files of our own


@pytest.mark.parametrize("limit", [None, 0, 10, 1000, "none"])
def test_a_summary_comes_back_to_the_last_bit(limit, tmp_path, assert_same_summary):
    summary = summary_of(
        {(SPEC, "pool"): features_of(limit=limit), (SPEC, "logits"): features_of(d=3, limit=limit, seed=1)}
    )
    store.save(summary, tmp_path / "fake.safetensors")
    assert_same_summary(store.load(tmp_path / "fake.safetensors"), summary)
    assert [path.name for path in tmp_path.iterdir()] == ["fake.safetensors"]


def test_many_features_keep_their_places(tmp_path, assert_same_summary):
    features = {(SPEC, f"tap{k}"): features_of(d=k + 1, seed=k) for k in range(12)}
    store.save(summary_of(features), tmp_path / "many.safetensors")
    assert_same_summary(store.load(tmp_path / "many.safetensors"), summary_of(features))


def test_loaded_statistics_add_to_new_ones(tmp_path):
    store.save(summary_of(), tmp_path / "fake.safetensors")
    loaded = store.load(tmp_path / "fake.safetensors").features[SPEC, "pool"]
    more = features_of(seed=3)
    assert (loaded.moments + more.moments).n == 80
    assert torch.equal((loaded.moments + more.moments).mean, (features_of().moments + more.moments).mean)


def test_symmetric_matrices_are_stored_once(tmp_path):
    d = 300
    features = features_of(n=2, d=d, limit=0)
    store.save(summary_of({(SPEC, "pool"): features}), tmp_path / "fake.safetensors")
    assert (tmp_path / "fake.safetensors").stat().st_size < 0.6 * d * d * 8


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "fake.safetensors"
    store.save(summary_of(), path)
    return path


@pytest.mark.parametrize("keep", [0, 7, 100, 0.5, 0.99])
def test_a_file_cut_short_is_refused(keep, file):
    os.truncate(file, int(keep if keep > 1 else keep * file.stat().st_size))
    with pytest.raises(StoreError, match="fake"):
        store.load(file)


@pytest.mark.parametrize("place", range(12))
def test_a_byte_changed_anywhere_is_never_taken_for_the_original(place, file, assert_same_summary):
    data = bytearray(file.read_bytes())
    at = int(np.random.default_rng(place).integers(8, len(data)))
    data[at] ^= 1
    file.write_bytes(data)
    try:
        loaded = store.load(file)
    except StoreError as error:
        assert "fake" in str(error)
    else:
        with pytest.raises(AssertionError):  # terms are not hashed; what changed must at least be seen
            assert_same_summary(loaded, summary_of())


def test_a_changed_tensor_is_named(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(StoreError, match=r"is damaged: its tensor 0\.\w+ is not what was written"):
        store.load(file)


def rewrite(path, change, *, seal):
    """Write the file again with another header; sealed, its terms have the hash that belongs to them."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["gen_eval"])
        tensors = {name: file.get_tensor(name) for name in list(file.keys())}
    change(header, tensors)
    if seal:
        header.pop("terms_sha256")
        terms = json.dumps(header, sort_keys=True).encode()
        header["terms_sha256"] = hashlib.sha256(terms).hexdigest()
    save_file(tensors, path, {"gen_eval": json.dumps(header)})


CHANGES = {
    "a tensor is missing": lambda header, tensors: tensors.pop("0.mean"),
    "a tensor was never hashed": lambda header, tensors: header["sha256"].pop("0.mean"),
    "no hashes": lambda header, tensors: header.pop("sha256"),
    "no name": lambda header, tensors: header.pop("name"),
    "a spec without weights": lambda header, tensors: header["features"][0]["spec"].pop("weights"),
    "features are no list": lambda header, tensors: header.update(features=3),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("seal", [True, False], ids=["sealed", "as they are"])
def test_a_file_whose_terms_were_altered_is_refused(change, seal, file):
    rewrite(file, change, seal=seal)
    with pytest.raises(StoreError, match="is damaged|not a spec"):
        store.load(file)


def test_a_sealed_file_is_read_so_the_refusals_are_of_what_was_altered(file):
    rewrite(file, lambda header, tensors: header.update(name="renamed"), seal=True)
    assert store.load(file).name == "renamed"
    rewrite(file, lambda header, tensors: header.update(name="again"), seal=False)
    with pytest.raises(StoreError, match="its terms are not what was written"):
        store.load(file)


def test_a_later_format_is_refused_by_name(file):
    rewrite(file, lambda header, tensors: header.update(format="gen_eval statistics 2"), seal=True)
    with pytest.raises(StoreError, match="does not hold statistics in the format 'gen_eval statistics 1'"):
        store.load(file)


@pytest.mark.parametrize(
    "metadata", [None, {"format": "pt"}, {"gen_eval": "not json"}, {"gen_eval": "[]"}], ids=str
)
def test_a_foreign_safetensors_file_is_refused(metadata, tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "model.safetensors", metadata)
    with pytest.raises(StoreError, match=r"model\.safetensors"):
        store.load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("content", [b"", b"<html>log in first</html>" * 20], ids=["empty", "html"])
def test_a_text_file_is_refused(content, tmp_path):
    (tmp_path / "page.safetensors").write_bytes(content)
    with pytest.raises(StoreError, match=r"page\.safetensors"):
        store.load(tmp_path / "page.safetensors")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"missing\.safetensors"):
        store.load(tmp_path / "missing.safetensors")


def test_a_failed_write_leaves_the_old_file_and_no_part_of_the_new(file, monkeypatch):
    before = file.read_bytes()

    def full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(sealed, "save_file", full)
    with pytest.raises(StoreError, match="cannot write .*no space left"):
        store.save(summary_of(name="new"), file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_new_file_takes_the_place_of_the_old(file):
    store.save(summary_of(name="new"), file)
    assert store.load(file).name == "new"


def test_names_that_cannot_be_written_are_refused(tmp_path):
    with pytest.raises(StoreError, match=r"fake\.npz is no name for statistics"):
        store.save(summary_of(), tmp_path / "fake.npz")
    with pytest.raises(StoreError, match="there is no folder"):
        store.save(summary_of(), tmp_path / "missing" / "fake.safetensors")


def test_paths_may_be_text(tmp_path):
    store.save(summary_of(), str(tmp_path / "fake.safetensors"))
    assert store.load(str(tmp_path / "fake.safetensors")).name == "fakes/ünï"


# --- Files of other tools


MU = np.array([1.0, -2.0, 0.5])
SIGMA = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.1], [0.0, 0.1, 3.0]])


def write_npz(path, **arrays):
    np.savez(path, **{"mu": MU, "sigma": SIGMA, **arrays})
    return path


@pytest.mark.parametrize("n", [None, 2, 50_000])
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_the_moments_of_another_tool_are_adopted_as_claimed(dtype, n, tmp_path):
    path = write_npz(tmp_path / "fid_stats.npz", mu=MU.astype(dtype), sigma=SIGMA.astype(dtype))
    summary = store.adopt(path, SPEC, "pool", dim=3, n=n)
    assert summary.claimed
    features = summary.require(SPEC, "pool")
    assert (features.n, features.sample) == (n, None)
    assert torch.equal(features.moments.mean, torch.from_numpy(MU.astype(dtype)).double())
    np.testing.assert_allclose(features.moments.cov(), SIGMA.astype(dtype), rtol=1e-14)


@pytest.mark.parametrize("n", [None, 50_000])
def test_adopted_moments_can_be_stored_and_stay_claimed(n, tmp_path, assert_same_summary):
    adopted = store.adopt(write_npz(tmp_path / "fid_stats.npz"), SPEC, "pool", dim=3, n=n)
    store.save(adopted, tmp_path / "adopted.safetensors")
    loaded = store.load(tmp_path / "adopted.safetensors")
    assert_same_summary(loaded, adopted)
    assert torch.equal(
        loaded.features[SPEC, "pool"].moments.cov(), adopted.features[SPEC, "pool"].moments.cov()
    )


def test_the_digest_of_adopted_moments_is_that_of_their_file(tmp_path):
    one = store.adopt(write_npz(tmp_path / "a.npz"), SPEC, "pool", dim=3)
    same = store.adopt(write_npz(tmp_path / "b.npz"), SPEC, "pool", dim=3)
    other = store.adopt(write_npz(tmp_path / "c.npz", mu=MU + 1), SPEC, "pool", dim=3)
    assert one.digest == same.digest != other.digest


@pytest.mark.parametrize(
    "arrays",
    [
        {"mu": np.zeros(4)},
        {"mu": np.zeros((3, 1))},
        {"sigma": np.zeros((3, 2))},
        {"sigma": np.zeros(9)},
        {"mu": np.zeros(4), "sigma": np.zeros((4, 4))},
    ],
    ids=lambda arrays: str({name: array.shape for name, array in arrays.items()}),
)
def test_adopted_arrays_of_other_shapes_are_refused(arrays, tmp_path):
    path = write_npz(tmp_path / "fid_stats.npz", **arrays)
    with pytest.raises(
        StoreError, match=r"fid_stats\.npz.* expected mu \[[3d]\] and sigma \[[3d], [3d]\], found"
    ):
        store.adopt(path, SPEC, "pool", dim=3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["mu", "sigma"])
def test_adopted_numbers_that_are_not_finite_are_refused(name, value, tmp_path):
    array = {"mu": MU, "sigma": SIGMA}[name].copy()
    array.flat[0] = value
    with pytest.raises(StoreError, match=f"holds NaN or infinity in {name}"):
        store.adopt(write_npz(tmp_path / "fid_stats.npz", **{name: array}), SPEC, "pool", dim=3)


@pytest.mark.parametrize("place", [(0, 0), (0, 1)], ids=["negative variance", "not symmetric"])
def test_an_adopted_sigma_that_is_no_covariance_is_refused(place, tmp_path):
    sigma = SIGMA.copy()
    sigma[place] = -1
    with pytest.raises(StoreError, match="sigma is no covariance"):
        store.adopt(write_npz(tmp_path / "fid_stats.npz", sigma=sigma), SPEC, "pool", dim=3)


@pytest.mark.parametrize("name", ["mu", "sigma"])
def test_adopted_arrays_that_are_no_numbers_are_refused(name, tmp_path):
    array = np.full({"mu": MU, "sigma": SIGMA}[name].shape, "many")
    with pytest.raises(StoreError, match=r"fid_stats\.npz"):
        store.adopt(write_npz(tmp_path / "fid_stats.npz", **{name: array}), SPEC, "pool", dim=3)


class Malicious:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


def test_pickled_arrays_are_refused_and_do_not_run(tmp_path):
    array = np.empty(3, object)
    array[:] = Malicious(tmp_path / "trace")
    path = tmp_path / "fid_stats.npz"
    np.savez(path, mu=array, sigma=SIGMA, allow_pickle=True)
    with pytest.raises(StoreError, match="cannot be read as statistics: Object arrays"):
        store.adopt(path, SPEC, "pool", dim=3)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    "write",
    [
        lambda path: np.savez(path, mu=MU),
        lambda path: np.savez(path, arr_0=np.zeros((2, 3, 3, 3), np.uint8)),
        lambda path: path.write_bytes(b"not a zip"),
        lambda path: path.write_bytes(b""),
        lambda path: (write_npz(path), os.truncate(path, path.stat().st_size // 2)),
        lambda path: None,
    ],
    ids=["no sigma", "images", "text", "empty", "cut", "missing"],
)
def test_what_is_no_statistics_file_is_refused(write, tmp_path):
    write(tmp_path / "fid_stats.npz")
    with pytest.raises(StoreError, match=r"fid_stats\.npz cannot be read"):
        store.adopt(tmp_path / "fid_stats.npz", SPEC, "pool", dim=3)


def test_statistics_are_told_from_images(tmp_path, file):
    assert store.is_statistics(file)
    assert store.is_statistics(write_npz(tmp_path / "stats.npz"))
    np.savez(tmp_path / "images.npz", np.zeros((2, 3, 3, 3), np.uint8))
    (tmp_path / "text.npz").write_text("text")
    (tmp_path / "folder.safetensors").mkdir()
    for name in ("images.npz", "text.npz", "folder.safetensors", "missing.safetensors", "missing.npz"):
        assert not store.is_statistics(tmp_path / name)
