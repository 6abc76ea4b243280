"""``geneval fid``: every kind of set, every kind of mistake, and the same digits each time."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image


def value(done) -> float:
    assert done.code == 0, done.err
    return json.loads(done.out)["value"]


@pytest.fixture
def copy(sets, tmp_path):
    """The fakes, to be spoilt."""
    return shutil.copytree(sets.fake, tmp_path / "fake")


def test_table_and_terms(run, sets):
    done = run("fid", sets.real, sets.fake)
    assert done.code == 0, done.err
    heading, row = (line.split() for line in done.out.splitlines()[:2])
    assert heading[:2] == ["measure", "value"]
    assert row[0] == "fid"
    assert float(row[1]) > 0
    assert float(row[2]) > 0
    for term in (f"{sets.fake}, 10 images", f"{sets.real}, 12 images", "tf1-bilinear", "torch-fidelity"):
        assert term in done.out
    assert "warning: too few images" in done.err
    assert "10/10 images" in done.err


def test_a_narrow_terminal_cuts_no_digit_off(run, sets, monkeypatch):
    wide = run("fid", sets.real, sets.fake).out
    monkeypatch.setenv("COLUMNS", "40")
    narrow = run("fid", sets.real, sets.fake).out
    assert "…" not in narrow
    assert narrow.split() == wide.split()


def test_a_set_is_no_distance_from_itself(run, sets):
    assert value(run("fid", sets.real, sets.real, "--json")) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", ["zip", "npz", "npy"])
def test_containers_give_the_digits_of_the_folder(run, sets, tmp_path, kind):
    packed = tmp_path / f"fake.{kind}"
    files = sorted(sets.fake.iterdir())
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])
    if kind == "zip":
        with zipfile.ZipFile(packed, "w") as archive:
            for file in files:
                archive.write(file, f"images/{file.name}")
    else:
        np.savez(packed, pixels) if kind == "npz" else np.save(packed, pixels)
    assert value(run("fid", sets.real, packed, "--json")) == value(run("fid", sets.real, sets.fake, "--json"))


def test_paths_with_spaces_and_unicode(run, sets, tmp_path):
    odd = shutil.copytree(sets.fake, tmp_path / "ma chère [bold]génération[/bold] 数字")
    (odd / "000.png").rename(odd / "ключ 0.png")
    done = run("fid", sets.real, odd, "--worst", "10", "--worst-out", tmp_path / "très laid.png")
    assert done.code == 0, done.err
    assert str(odd) in done.out
    assert "ключ 0.png" in done.err
    assert (tmp_path / "très laid.png").is_file()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("missing", "did you mean"),
        ("empty", "is empty"),
        ("text", "holds no images: found 1 file (.txt)"),
        ("one", "needs at least 2 generated images"),
        ("file", "did you mean|expected a folder"),
    ],
)
def test_wrong_sets_exit_with_1_and_say_why(run, sets, tmp_path, spoil, said):
    wrong = tmp_path / "fake"
    if spoil == "missing":
        (tmp_path / "fakes").mkdir()
    elif spoil == "file":
        wrong.write_text("hello")
    else:
        wrong.mkdir()
    if spoil == "text":
        (wrong / "readme.txt").write_text("hello")
    if spoil == "one":
        shutil.copy(sets.fake / "000.png", wrong)
    done = run("fid", sets.real, wrong)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: ")
    assert any(each in done.err for each in said.split("|"))
    assert str(wrong) in done.err


def test_a_corrupt_file_stops_the_run_and_is_named(run, sets, copy):
    whole = (copy / "003.png").read_bytes()
    (copy / "003.png").write_bytes(whole[: len(whole) // 2])
    (copy / "005.png").write_bytes(b"")
    done = run("fid", sets.real, copy)
    assert (done.code, done.out) == (1, "")
    assert "2 images" in done.err
    assert "003.png" in done.err
    assert "005.png" in done.err
    assert "--skip-corrupt" in done.err


def test_skip_corrupt_goes_on_and_says_so(run, sets, copy):
    (copy / "003.png").write_bytes(b"")
    done = run("fid", sets.real, copy, "--skip-corrupt")
    assert done.code == 0, done.err
    assert "9 images" in done.out
    assert "003.png" in done.err
    result = json.loads(run("fid", sets.real, copy, "--skip-corrupt", "--json").out)
    assert result["sets"]["generated"]["n"] == 9
    assert result["sets"]["generated"]["skipped"] == 1
    (copy / "003.png").unlink()
    assert value(run("fid", sets.real, copy, "--json")) == pytest.approx(result["value"], rel=1e-12)


def test_protocol_typo_is_a_usage_error(run, sets):
    done = run("fid", sets.real, sets.fake, "--protocol", "torch-fidelty")
    assert (done.code, done.out) == (2, "")
    assert "torch-fidelity" in done.err


@pytest.mark.parametrize("option", [("--batch-size", "0"), ("--workers", "-1"), ("--worst", "0")])
def test_senseless_numbers_are_usage_errors(run, sets, option):
    assert run("fid", sets.real, sets.fake, *option).code == 2


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_device_that_is_not_there(run, sets, device):
    done = run("fid", sets.real, sets.fake, "--device", device)
    assert (done.code, done.out) == (1, "")
    assert device in done.err


@pytest.mark.parametrize("name", ["nonsense.pth", "nonsense.pt", "nonsense.safetensors"])
def test_weights_that_are_none(run_inception, sets, tmp_path, name):
    missing = run_inception("fid", sets.real, sets.fake, "--weights", tmp_path / name)
    assert (missing.code, missing.out) == (1, "")
    assert name in missing.err
    (tmp_path / name).write_bytes(b"not weights")
    done = run_inception("fid", sets.real, sets.fake, "--weights", tmp_path / name)
    assert (done.code, done.out) == (1, "")
    assert f"{name} is not a weights file" in done.err
    assert "weights_only" not in done.err  # torch's advice to switch its safety off


def test_extrapolation_needs_more_images(run, sets):
    done = run("fid-inf", sets.real, sets.fake)
    assert (done.code, done.out) == (1, "")
    assert "fid-inf needs at least" in done.err


def test_worst_draws_a_picture_and_lists_files(run, sets, tmp_path):
    out = tmp_path / "worst.png"
    done = run("fid", sets.real, sets.fake, "--worst", "4", "--worst-out", out, "--json")
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 1
    assert sum(f"{index:03}.png" in done.err for index in range(10)) == 4
    with Image.open(out) as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture)
    assert pixels.shape[2] == 3
    assert (pixels[0] == 255).all()  # a margin
    assert (pixels != 255).any()


def test_more_worst_than_images_are_all_of_them(run, sets, tmp_path):
    done = run("fid", sets.real, sets.fake, "--worst", "1000", "--worst-out", tmp_path / "worst.png")
    assert done.code == 0, done.err
    assert all(f"{index:03}.png" in done.err for index in range(10))


@pytest.mark.parametrize("out", ["worst.xyz", "worst", "missing/worst.png"])
def test_a_picture_that_cannot_be_written_fails_before_the_work(run, sets, tmp_path, monkeypatch, out):
    monkeypatch.setattr("gen_eval.evaluation.Evaluation", None)
    done = run("fid", sets.real, sets.fake, "--worst", "4", "--worst-out", tmp_path / out)
    assert (done.code, done.out) == (1, "")
    assert out in done.err


def test_worst_of_statistics_is_refused_before_the_work(run, sets, tmp_path, monkeypatch):
    statistics = tmp_path / "fake.safetensors"
    assert run("stats", sets.fake, "-o", statistics).code == 0
    monkeypatch.setattr("gen_eval.evaluation.Evaluation", None)
    done = run("fid", sets.real, statistics, "--worst", "4")
    assert (done.code, done.out) == (2, "")
    assert "--worst" in done.err


def test_what_decoding_changed_is_said(run, sets, copy):
    for index in range(3):
        Image.open(sets.fake / f"{index:03}.png").convert("L").save(copy / f"{index:03}.png")
    done = run("fid", sets.real, copy)
    assert done.code == 0, done.err
    assert "gray" in done.err
    assert "3" in done.err


@pytest.mark.network
def test_a_process_prints_one_line_of_json_and_nothing_else(process, sets, weights):
    done = process("fid", sets.real, sets.fake, "--json")
    assert done.code == 0, done.err
    assert done.out.endswith("\n")
    assert len(done.out.splitlines()) == 1
    result = json.loads(done.out)
    assert result["measure"] == "fid"
    assert result["spec"]["name"] == "inception-2015-12-05"
    assert result["value"] > 0
    assert result["standard_error"] > 0
    assert result["sets"]["generated"]["n"] == 10
    assert "10/10 images" in done.err
    assert "/s" in done.err
    assert "\x1b" not in done.err  # no terminal, no escapes


@pytest.mark.network
def test_digits_do_not_depend_on_batches_or_workers(run_inception, sets, weights, copy, tmp_path):
    for spare in sorted(copy.iterdir())[6:]:
        spare.unlink()
    reference = tmp_path / "real.safetensors"
    assert run_inception("stats", sets.real, "-o", reference).code == 0
    values = [
        value(run_inception("fid", reference, copy, "--json", "--batch-size", batch, "--workers", workers))
        for batch, workers in ((16, 3), (16, 3), (5, 0), (1, 3))
    ]
    assert values[0] == values[1]
    assert values == pytest.approx([values[0]] * len(values), rel=1e-6)


@pytest.mark.network
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_an_interrupt_ends_the_run_without_a_traceback(geneval_path, weights, tmp_path):
    import pty

    np.save(tmp_path / "many.npy", np.random.default_rng(0).integers(0, 256, (2000, 8, 8, 3), dtype=np.uint8))
    terminal, theirs = pty.openpty()
    command = [geneval_path, "fid", "many.npy", "many.npy"]
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    # What runs in the background of a shell is born deaf to SIGINT, and so is what it starts.
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=theirs,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    os.close(theirs)
    try:
        shown = _read(terminal, until=b"/2,000 images")  # the bar is up: the pass has begun
        process.send_signal(signal.SIGINT)
        shown += _read(terminal)
        assert process.wait(60) != 0
        assert process.stdout is not None
        assert process.stdout.read() == b""
    finally:
        process.kill()
        process.communicate()
        os.close(terminal)
    assert b"Aborted" in shown
    assert b"Traceback" not in shown


def _read(terminal: int, until: bytes | None = None) -> bytes:
    """What is written to a terminal, up to some words or until its other end is closed."""
    shown = b""
    while until is None or until not in shown:
        assert select.select([terminal], [], [], 120)[0], f"silent after {shown!r}"
        try:
            part = os.read(terminal, 4096)
        except OSError:  # how Linux says that the other end is closed
            part = b""
        if not part:
            assert until is None, f"ended with {shown!r}"
            break
        shown += part
    return shown
