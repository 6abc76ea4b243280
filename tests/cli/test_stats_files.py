"""``geneval stats`` of parts, ``merge``, ``compact``, ``show`` and ``convert``: what can be done with files."""

from __future__ import annotations

import json
import os
import pickle
import re

import numpy as np
import pytest
from PIL import Image

from gen_eval.extractors import EXTRACTORS


@pytest.fixture
def parts(run, sets, tmp_path):
    files = [tmp_path / f"part{k}.safetensors" for k in (1, 2, 3)]
    for k, file in enumerate(files, 1):
        done = run("stats", sets.real, "--part", f"{k}/3", "--rows", "7", "-o", file)
        assert done.code == 0, done.err
        assert f"4 images (images {4 * k - 3} to {4 * k} of 12)" in done.out
    return files


def test_parts_merge_to_the_statistics_of_the_whole(run, sets, tmp_path, parts):
    whole, merged = tmp_path / "whole.safetensors", tmp_path / "merged.safetensors"
    assert run("stats", sets.real, "--rows", "7", "-o", whole).code == 0
    done = run("stats", "merge", *reversed(parts), "-o", merged)
    assert done.code == 0, done.err
    assert done.out.startswith(f"{merged}  12 images  sha256 ")
    described = [json.loads(run("stats", "show", file, "--json").out) for file in (whole, merged)]
    for each in described:
        del each["file"]
        (features,) = each["features"]
        features["mean_norm"], features["trace"] = (
            pytest.approx(features[k]) for k in ("mean_norm", "trace")
        )
    assert described[1]["digest"] == described[0]["digest"]
    assert described[1]["part"] is None
    results = [json.loads(run("fid", file, sets.fake, "--json").out) for file in (whole, merged)]
    assert results[1]["value"] == pytest.approx(results[0]["value"], rel=1e-9)
    assert results[1]["sets"]["reference"] == results[0]["sets"]["reference"]


def test_a_part_in_the_place_of_a_set_is_warned_of(run, sets, parts):
    done = run("fid", parts[0], sets.fake)
    assert done.code == 0
    assert "is a part of a set, images 1 to 4 of 12" in done.err


def test_parts_that_do_not_fit_are_refused(run, sets, tmp_path, parts):
    out = tmp_path / "merged.safetensors"
    for files, reason in (
        ((parts[0], parts[2]), "leave out those between them"),
        ((parts[0], parts[0]), f"{parts[0]} and {parts[0]} hold the same images"),
        (parts[:1], "two statistics or more"),
        ((parts[0], "theirs.npz"), "geneval stats convert"),
    ):
        done = run("stats", "merge", *files, "-o", out)
        assert (done.code, done.out) == (1, "")
        assert reason in done.err
        assert not out.exists()


@pytest.mark.parametrize("part", ["0/3", "4/3", "1", "1/x", "-1/3", "1/13"])
def test_parts_that_there_are_not_are_a_wrong_command_line(run, sets, tmp_path, part):
    done = run("stats", sets.real, "--part", part, "-o", tmp_path / "part.safetensors")
    assert (done.code, done.out) == (2, "")
    assert "K/N" in done.err or "do not make 13 parts" in done.err


def test_show_tells_what_is_in_a_file(run, sets, measured, tmp_path):
    done = run("stats", "show", measured)
    assert done.code == 0, done.err
    for text in (
        "content ",
        "pixels pool, weights none",
        "12 images, 12 rows of 192",
        "norm of the mean",
        "as measured",
    ):
        assert text in done.out
    theirs = tmp_path / "theirs.npz"
    assert run("stats", "convert", measured, "-o", theirs, "--to", "edm").code == 0
    done = run("stats", "show", theirs)
    for text in ("pytorch-fid", "a network that the file does not name (mu, sigma)", "unknown n", "claimed"):
        assert text in done.out
    found, expected = (json.loads(run("stats", "show", file, "--json").out) for file in (theirs, measured))
    assert (found["claimed"], expected["claimed"]) == (True, False)
    assert found["features"][0]["trace"] == pytest.approx(expected["features"][0]["trace"])
    done = run("stats", "show", tmp_path / "missing.npz")
    assert (done.code, done.out) == (1, "")


def test_what_is_no_file_of_statistics_is_told_what_it_is(run, sets, tmp_path):
    images = tmp_path / "images.npy"
    np.save(images, np.zeros((4, 8, 8, 3), np.uint8))
    for file, reason in (
        ("nope", "unknown statistics file or dataset 'nope': known: cifar10"),
        ("cifar-10", "did you mean 'cifar10'"),
        (tmp_path / "none.npz", "none.npz cannot be read as statistics: it does not exist"),
        (sets.real, f"it is a folder, whose images `geneval stats {sets.real} -o"),
        (next(sets.real.iterdir()), "expected a file that ends in .npz, .pt, .pkl, .npy, or in .safetensors"),
        (images, f"it is an array, uint8 [4, 8, 8, 3], .* `geneval stats {images} -o"),
    ):
        for verb in (
            ("show",),
            ("convert", "-o", tmp_path / "x.pt"),
            ("convert", "-o", tmp_path / "x.safetensors"),
        ):
            done = run("stats", verb[0], file, *verb[1:])
            assert (done.code, done.out) == (1, "")
            assert re.search(re.escape(reason).replace(r"\.\*", ".*"), done.err), done.err


@pytest.mark.parametrize(("name", "form"), [("theirs.npz", "edm"), ("theirs.pt", "torch-fidelity")])
def test_there_and_back_is_the_same_and_claimed(run, sets, measured, tmp_path, name, form):
    theirs, back = tmp_path / name, tmp_path / "back.safetensors"
    done = run("stats", "convert", measured, "-o", theirs, "--to", form)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{theirs}  {form}  12 images  pixels pool, tf1-bilinear to 8, x, fp32\n"
    done = run("stats", "convert", theirs, "-o", back, "--n", "12")
    assert done.code == 0, done.err
    assert "12 images" in done.out
    assert "(claimed)" in done.out
    found, expected = (json.loads(run("fid", file, sets.fake, "--json").out) for file in (back, measured))
    assert found["value"] == pytest.approx(expected["value"], rel=1e-6)  # means are float32 in a .pt
    assert found["sets"]["reference"]["claimed"]


def test_the_file_of_a_tool_that_measures_otherwise_is_refused(run, sets, measured, tmp_path):
    """Where the file cannot say its terms, a number made from it by that tool would be of two measurements."""
    theirs, anew = tmp_path / "theirs.npz", tmp_path / "anew.safetensors"
    for options, protocol, resize in (
        ((), "pytorch-fid", "torch-bilinear"),
        (("--to", "clean-fid"), "clean-fid", "pil-bicubic"),
    ):
        done = run("stats", "convert", measured, "-o", theirs, *options)
        assert (done.code, done.out) == (1, "")
        assert f"resize: tf1-bilinear against {resize}" in done.err
        assert f"`geneval stats {sets.real} --protocol {protocol} -o FILE.safetensors`" in done.err
        assert not theirs.exists()
        forced = run("stats", "convert", measured, "-o", theirs, "--other-terms", *options)
        assert forced.code == 0
        assert f"resize: tf1-bilinear against {resize}" in forced.err
        assert run("stats", sets.real, "--protocol", protocol, "-o", anew).code == 0
        done = run("stats", "convert", anew, "-o", theirs, *options)
        assert (done.code, done.err) == (0, "")
        values = [
            run("fid", real, sets.fake, "--protocol", protocol, "--json").value
            for real in (theirs, sets.real)
        ]
        assert values[0] == pytest.approx(values[1], rel=1e-6)
        theirs.unlink()


def test_files_of_other_tools_are_warned_of_where_they_become_anothers(run, measured, tmp_path):
    assert run("stats", "convert", measured, "-o", tmp_path / "theirs.pt").code == 0
    done = run("stats", "convert", tmp_path / "theirs.pt", "-o", tmp_path / "theirs.npz")
    assert done.code == 0
    assert "theirs.pt does not say what it was measured with" in done.err
    assert "pytorch-fid  unknown n  features of a network that it does not name" in done.out


def test_rows_go_to_a_format_that_takes_them(run, sets, measured, tmp_path):
    theirs = tmp_path / "theirs.pt"
    done = run("stats", "convert", measured, "-o", theirs, "--to", "torch-fidelity-features")
    assert done.code == 0, done.err
    values = [json.loads(run("kid", file, sets.fake, "--json").out)["values"] for file in (theirs, measured)]
    assert values[0] == values[1]


def test_options_that_would_say_nothing_are_refused(run, measured, tmp_path):
    theirs, other = tmp_path / "theirs.pt", tmp_path / "other.npz"
    assert run("stats", "convert", measured, "-o", theirs).code == 0
    ours = tmp_path / "ours.safetensors"
    for file, out, options, named in (
        (measured, other, ("--n", 5, "--protocol", "clean-fid", "-m", "kid"), "--n, --measure, --protocol"),
        (measured, other, ("--device", "cpu"), "--device would say nothing of statistics of ours"),
        (theirs, ours, ("--other-terms",), "--other-terms would say nothing where statistics become ours"),
        (theirs, ours, ("--features", "pixels pool"), "--features"),
        (theirs, ours, ("--images", "real"), "--images"),
        (theirs, other, ("-m", "fid", "--other-terms"), "--other-terms, --measure"),
    ):
        done = run("stats", "convert", file, "-o", out, *options)
        assert (done.code, done.out) == (2, "")
        assert named in done.err
        assert not out.exists()


def test_a_part_is_not_written_as_the_whole(run, tmp_path, parts):
    done = run("stats", "convert", parts[0], "-o", tmp_path / "part.pt")
    assert (done.code, done.out) == (1, "")
    assert "measured in part (images 1 to 4 of 12)" in done.err
    assert "`geneval stats merge`" in done.err
    assert not (tmp_path / "part.pt").exists()


def test_what_is_claimed_is_of_the_network_that_the_protocol_names(run, measured, tmp_path, monkeypatch):
    """Under edm2 a Fréchet distance is one of DINOv2's features, here of pixels."""
    theirs, out = tmp_path / "theirs.npz", tmp_path / "ours.safetensors"
    assert run("stats", "convert", measured, "-o", theirs, "--to", "edm").code == 0
    monkeypatch.setitem(EXTRACTORS, "dinov2", EXTRACTORS["pixels"])
    monkeypatch.delitem(EXTRACTORS, "inception")
    done = run("stats", "convert", theirs, "-o", out, "--protocol", "edm2", "-m", "fd", "--n", "12")
    assert done.code == 0, done.err
    assert out.exists()


def test_what_is_read_is_not_written_over(run, measured, parts, tmp_path):
    theirs = tmp_path / "theirs.pt"
    assert run("stats", "convert", measured, "-o", theirs).code == 0
    link = tmp_path / "link.safetensors"
    link.symlink_to(parts[2])
    for verb, out, *files in (
        ("merge", parts[0], *parts),
        ("merge", link, *parts),
        ("compact", measured, measured),
        ("convert", theirs, theirs),
    ):
        before = out.read_bytes()
        done = run("stats", verb, *files, "-o", out)
        assert (done.code, done.out) == (1, "")
        assert f"{out} is what is read" in done.err
        assert out.read_bytes() == before


def test_conversions_that_cannot_be_are_refused(run, measured, tmp_path):
    for arguments, reason in (
        ((measured, "-o", tmp_path / "x.txt"), "tells no format"),
        ((measured, "-o", tmp_path / "x.safetensors"), "ours already"),
        ((measured, "-o", tmp_path / "x.npz", "--to", "pytorchfid"), "did you mean 'pytorch-fid'"),
        ((measured, "-o", tmp_path / "x.npz", "--to", "adm"), "features of inception pool"),
        ((measured, "-o", tmp_path / "x.npz", "--features", "pixel pool"), "did you mean 'pixels pool'"),
        ((tmp_path / "none.npz", "-o", tmp_path / "x.safetensors"), "does not exist"),
    ):
        done = run("stats", "convert", *arguments)
        assert (done.code, done.out) == (1, ""), done.out
        assert reason in done.err
    assert [path.name for path in tmp_path.iterdir()] == [measured.name]


def test_a_file_of_statistics_and_images_is_either(run, sets, tmp_path):
    """A reference batch of ADM's: its statistics stand for the full set, its images for themselves."""
    rows = np.random.default_rng(0).normal(128, 40, (500, 192))
    pictures = np.random.default_rng(1).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    both = tmp_path / "both.npz"
    np.savez(both, mu=rows.mean(0), sigma=np.cov(rows, rowvar=False), arr_0=pictures)
    done = run("fid", both, sets.fake)
    assert done.code == 0, done.err
    assert "9 of" in done.err
    assert "images:PATH takes the images" in done.err
    found = run("fid", f"images:{both}", sets.fake, "--json")
    np.save(tmp_path / "images.npy", pictures)
    assert found.value == run("fid", tmp_path / "images.npy", sets.fake, "--json").value
    assert json.loads(found.out)["sets"]["reference"]["name"] == f"images:{both}"
    done = run("kid", both, sets.fake)
    assert f"pass the images (images:{both})" in done.err
    done = run("stats", both, "-o", tmp_path / "measured.safetensors")
    assert "holds statistics too; its images are measured" in done.err
    assert "9 images" in done.out


def test_images_are_written_beside_statistics(run, sets, tmp_path):
    measured, both = tmp_path / "measured.safetensors", tmp_path / "both.npz"
    assert run("stats", sets.real, "--protocol", "pytorch-fid", "-o", measured).code == 0
    done = run("stats", "convert", measured, "-o", both, "--images", sets.real)
    assert done.code == 0, done.err
    assert "12 images, which images:" in run("stats", "show", both).out
    values = [run("fid", real, sets.fake, "--json").value for real in (f"images:{both}", sets.real)]
    assert values[0] == values[1]
    (tmp_path / "mixed").mkdir()
    for size in (8, 9):
        Image.new("RGB", (size, size)).save(tmp_path / "mixed" / f"{size}.png")
    for images, reason in ((tmp_path / "mixed", "differ in size"), (measured, "holds no images")):
        done = run("stats", "convert", measured, "-o", tmp_path / "x.npz", "--images", images)
        assert (done.code, done.out) == (1, "")
        assert reason in done.err
    assert not (tmp_path / "x.npz").exists()


def test_a_pickle_that_runs_something_is_refused_by_name(run, sets, tmp_path):
    class Runs:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'trace'}",)

    (tmp_path / "stats.pkl").write_bytes(pickle.dumps({"mu": Runs(), "sigma": 1}))
    for verb in (("stats", "show"), ("fid",)):
        done = run(*verb, tmp_path / "stats.pkl", *([sets.fake] if verb == ("fid",) else []))
        assert (done.code, done.out) == (1, "")
        assert "system" in done.err
        assert "nothing of it was run" in done.err
    assert not (tmp_path / "trace").exists()


def test_a_divisor_that_cannot_be_converted_is_warned_of(run, sets, tmp_path):
    rows = np.random.default_rng(0).normal(128, 40, (500, 192))
    theirs = tmp_path / "theirs.npz"
    np.savez(theirs, mu=rows.mean(0), sigma=np.cov(rows, rowvar=False))
    vague = run("fid", theirs, sets.fake, "--protocol", "stylegan3", "--json")
    assert "divided by n - 1, and n is unknown" in " ".join(json.loads(vague.out)["warnings"])
    told = run("fid", theirs, sets.fake, "--protocol", "stylegan3", "--reference-n", "500", "--json")
    assert "divided by" not in " ".join(json.loads(told.out)["warnings"])
    assert vague.value == pytest.approx(told.value, rel=5e-3)
    assert vague.value != told.value


def test_compact_statistics_take_less_space_and_say_what_is_lost(run, sets, measured, tmp_path):
    small = tmp_path / "small.safetensors"
    done = run("stats", "compact", measured, "--rows", "5", "-o", small)
    assert done.code == 0, done.err
    assert done.out.startswith(f"{small}  12 images")
    assert done.out.strip().endswith("of Fréchet distance lost")
    exact, found = (run("fid", real, sets.fake, "--json") for real in (measured, small))
    assert found.value == pytest.approx(exact.value, rel=1e-5)
    shown = run("stats", "show", small)
    assert "12 images, 5 rows" in shown.out
    assert "half precision" in shown.out
    assert small.stat().st_size < measured.stat().st_size
    refused = run("stats", "compact", "x.npz", "-o", small)
    assert refused.code == 1
    assert "stats convert" in refused.err
