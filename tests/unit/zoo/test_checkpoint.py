"""Checkpoints: the same samples before and after, what the header says, and files that are something else."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from gen_eval.errors import StoreError, WeightsError
from gen_eval.zoo.checkpoint import Checkpoint, load, save
from gen_eval.zoo.training import train

pytestmark = pytest.mark.usefixtures("one_thread", "untouched")


@pytest.fixture
def trained(toy, toy_data):
    return train(toy(), toy_data, seed=4, steps=5, device="cpu", command="geneval zoo train toy")


def header_of(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def test_samples_are_the_same_after_loading(trained, toy_recipes, tmp_path):
    path = tmp_path / "a.safetensors"
    save(trained, path)
    found = load(path, toy_recipes)
    expected = trained.sampler().sample(100, seed=7)
    assert torch.equal(found.sampler().sample(100, seed=7), expected)
    assert expected.shape == (100, *trained.kind.shape)
    assert expected.dtype == (torch.uint8 if trained.kind.images else torch.float32)
    assert found.sampler().name == "toy"


def test_all_terms_come_back(trained, toy_recipes, tmp_path):
    path = tmp_path / "a.safetensors"
    scored = dataclasses.replace(trained, scores={"fid": 12.5})
    save(scored, path)
    found = load(str(path), toy_recipes)
    for each in dataclasses.fields(Checkpoint):
        if each.name not in ("weights", "scaling"):
            assert getattr(found, each.name) == getattr(scored, each.name), each.name
    for name in ("weights", "scaling"):
        tensors = getattr(found, name)
        assert tensors.keys() == getattr(scored, name).keys()
        assert all(torch.equal(value, getattr(scored, name)[key]) for key, value in tensors.items())
    assert isinstance(found.recipe.rate_of[0], tuple)
    assert (found.steps, found.seed, found.command) == (5, 4, "geneval zoo train toy")
    assert found.versions.keys() == {"gen_eval", "torch", "device", "threads"}
    assert found.seconds > 0


def test_only_what_sampling_needs_is_kept(trained):
    assert {name.split(".")[0] for name in trained.weights} == {"generator"}


def test_vectors_come_back_in_their_own_scale(toy, points):
    """The generator learns standardised vectors, and the sampler undoes that."""
    done = train(toy(), points, steps=1, device="cpu")
    sampler = done.sampler()
    raw = sampler.network(sampler.latent(torch.arange(64)))
    expected = raw * points.x.std(0, correction=0) + points.x.mean(0)
    torch.testing.assert_close(sampler.sample(64, seed=0), expected.detach())


def test_equal_generators_are_equal_files(trained, tmp_path):
    for name in ("a", "b"):
        save(trained, tmp_path / f"{name}.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_samplers_learn_no_more(trained):
    network = trained.sampler().network
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trained.sampler().sample(10, seed=0)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.pt", "a.pt is no name for a trained generator"), ("x/a.safetensors", "no folder")],
)
def test_names_that_cannot_be_written(trained, tmp_path, name, message):
    with pytest.raises(StoreError, match=message):
        save(trained, tmp_path / name)


# --- Files that are something else


def test_missing_and_foreign_files(trained, toy_recipes, tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(StoreError, match=r"a\.safetensors cannot be read as a trained generator"):
        load(path, toy_recipes)
    path.write_bytes(b"something else")
    with pytest.raises(StoreError, match="cannot be read as a trained generator"):
        load(path, toy_recipes)
    save_file({"weight": torch.ones(2)}, path)
    with pytest.raises(
        StoreError, match="does not hold a trained generator in the format 'gen_eval generator 1'"
    ):
        load(path, toy_recipes)


def test_pickles_are_not_opened(toy_recipes, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("code in a checkpoint was run",))

    path = tmp_path / "a.safetensors"
    torch.save({"weights": Bomb()}, path)
    with pytest.raises(StoreError, match="cannot be read as a trained generator"):
        load(path, toy_recipes)


@pytest.mark.parametrize("left", [10, 1000, -1])
def test_files_cut_short(trained, toy_recipes, tmp_path, left):
    path = tmp_path / "a.safetensors"
    save(trained, path)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(StoreError, match="cannot be read as a trained generator"):
        load(path, toy_recipes)


def test_altered_tensors_and_terms(trained, toy_recipes, tmp_path):
    path = tmp_path / "a.safetensors"
    save(trained, path)
    header, tensors = header_of(path), load_file(path)
    name = "weights.generator.first.weight"
    save_file(tensors | {name: tensors[name] + 1}, path, header)
    with pytest.raises(StoreError, match=f"its tensor {name} is not what was written"):
        load(path, toy_recipes)
    save_file({each: value for each, value in tensors.items() if each != name}, path, header)
    with pytest.raises(StoreError, match=f"its tensor {name} is not what was written"):
        load(path, toy_recipes)
    terms = json.loads(header["gen_eval"]) | {"seed": 99}
    save_file(tensors, path, {"gen_eval": json.dumps(terms)})
    with pytest.raises(StoreError, match="its terms are not what was written"):
        load(path, toy_recipes)


def test_families_that_are_unknown_here(trained, toy_recipes, tmp_path):
    path = tmp_path / "a.safetensors"
    save(trained, path)
    with pytest.raises(StoreError, match=r"of the family 'toy', which .* known are other"):
        load(path, {"other": toy_recipes["toy"]})
    with pytest.raises(
        StoreError, match=r"of the family 'toy', which this version of gen_eval does not know"
    ):
        load(path)


def test_recipes_of_another_version(trained, tmp_path):
    """One that lacks a field, and one whose networks are other ones."""

    @dataclass(frozen=True)
    class Lacking:
        family: ClassVar[str] = "toy"
        batch: int = 8

    path = tmp_path / "a.safetensors"
    save(trained, path)
    with pytest.raises(StoreError, match=r"not as this version of gen_eval writes them .*unexpected keyword"):
        load(path, {"toy": Lacking})
    smaller = {name: value for name, value in trained.weights.items() if "norm" not in name}
    with pytest.raises(
        WeightsError, match=r"weights of toy do not fit .*Missing key.*generator\.norm\.weight"
    ):
        dataclasses.replace(trained, weights=smaller).sampler()
    other = dict(trained.weights) | {"generator.first.weight": torch.zeros(9, 9)}
    with pytest.raises(WeightsError, match="do not fit"):
        dataclasses.replace(trained, weights=other).sampler()
