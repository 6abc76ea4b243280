"""Statistics in place of images: the same number, or a refusal before any pass."""

from __future__ import annotations

import numpy as np
import pytest

from gen_eval import store
from gen_eval.errors import IncomparableError, StoreError, TooFewImages, UsageError
from gen_eval.results import require_comparable

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_statistics_file_gives_the_same_number_in_either_role(
    tmp_path, fake, real, measure, expected, pixel_summary, assert_same_number
):
    for role, images in (("generated", fake), ("reference", real)):
        path = tmp_path / f"{role}.safetensors"
        store.save(pixel_summary(images), path)
        for source in (path, str(path), store.load(path)):
            found = measure(**{role: source})
            assert_same_number(found, expected)
            assert found.sets[role].digest == expected.sets[role].digest
            require_comparable([found, expected])


def test_statistics_of_few_images_give_the_same_number(tmp_path, fake, measure, pixel_summary):
    store.save(pixel_summary(fake[:60]), tmp_path / "few.safetensors")
    few, again = measure(fake[:60]), measure(tmp_path / "few.safetensors")
    assert again.value == pytest.approx(few.value, rel=1e-9)
    assert again.error == pytest.approx(few.error, rel=1e-6)


@pytest.fixture
def moments(tmp_path, real, pixel_summary):
    """``{mu, sigma}`` of the real images, as other tools write them."""
    (features,) = pixel_summary(real).features.values()
    path = tmp_path / "real.npz"
    np.savez(path, mu=features.moments.mean.numpy(), sigma=features.moments.cov().numpy())
    return path


def test_moments_of_another_tool_give_the_same_value_marked_as_claimed(moments, measure, expected):
    found = measure(reference=moments)
    assert found.value == pytest.approx(expected.value, rel=1e-9)
    assert 0 < found.error < expected.error  # that of the generated images alone
    assert found.bias is None
    assert found.sets["reference"].claimed
    assert found.sets["reference"].n is None
    assert any("of another tool" in warning and "your claim" in warning for warning in found.warnings)
    assert not any("too few" in warning for warning in found.warnings)


def test_a_claimed_number_of_images_gives_the_bias(moments, measure, expected, real):
    found = measure(reference=moments, reference_n=len(real))
    assert found.sets["reference"].n == len(real)
    assert found.bias == pytest.approx(expected.bias, rel=0.15)  # fourth moments are those of a Gaussian


def test_a_claimed_number_of_what_knows_its_own_is_refused(tmp_path, real, measure, pixel_summary):
    store.save(pixel_summary(real), tmp_path / "real.safetensors")
    for reference in (real, tmp_path / "real.safetensors", store.load(tmp_path / "real.safetensors")):
        with pytest.raises(UsageError, match="reference_n is for {mu, sigma} statistics"):
            measure(reference=reference, reference_n=100)


@pytest.mark.parametrize("dim", [191, 2048])
def test_moments_of_another_dimension_are_refused(dim, tmp_path, measure):
    np.savez(tmp_path / "real.npz", mu=np.zeros(dim), sigma=np.eye(dim))
    with pytest.raises(StoreError, match=r"expected mu \[192\]"):
        measure(reference=tmp_path / "real.npz")


@pytest.mark.parametrize("measured", ["generated", "reference"])
def test_statistics_of_another_protocol_are_refused_before_any_pass(
    measured, tmp_path, fake, real, measure, pixel_summary, counted
):
    store.save(pixel_summary(real, "pil-bicubic"), tmp_path / "real.safetensors")
    other = {"generated": "reference", "reference": "generated"}[measured]
    images = counted(fake)
    sets = {measured: images, other: tmp_path / "real.safetensors"}
    with pytest.raises(
        IncomparableError, match=r"resize: pil-bicubic to 8 against tf1-bilinear to 8"
    ) as caught:
        measure(**sets)
    assert "--protocol" in str(caught.value)
    assert images.reads == 0
    measure(**sets, protocol="clean-fid")
    assert images.reads == len(fake)


@pytest.mark.parametrize("damaged", ["safetensors", "npz"])
def test_statistics_that_cannot_be_read_are_refused_before_any_pass(
    damaged, tmp_path, real, measure, counted
):
    path = tmp_path / f"fake.{damaged}"
    if damaged == "npz":
        np.savez(path, mu=np.zeros(3), sigma=np.eye(3))
    else:
        path.write_bytes(b"cut short")
    images = counted(real)
    with pytest.raises(StoreError):
        measure(path, images)
    assert images.reads == 0


def test_statistics_of_too_few_images_are_refused_before_any_pass(
    tmp_path, fake, real, measure, pixel_summary, counted
):
    store.save(pixel_summary(fake[:1]), tmp_path / "one.safetensors")
    images = counted(real)
    with pytest.raises(TooFewImages):
        measure(tmp_path / "one.safetensors", images)
    assert images.reads == 0


def test_results_of_two_protocols_refuse_to_be_compared(measure, expected):
    with pytest.raises(IncomparableError) as caught:
        require_comparable([expected, measure(protocol="clean-fid")])
    assert "resize: tf1-bilinear to 8 against pil-bicubic to 8" in str(caught.value)


def test_protocols_move_the_number(measure):
    values = {
        protocol: measure(protocol=protocol).value
        for protocol in ("torch-fidelity", "clean-fid", "pytorch-fid")
    }
    assert len({round(value, 3) for value in values.values()}) == 3
