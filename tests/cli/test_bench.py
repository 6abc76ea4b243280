"""``geneval bench``: tables, JSON, files; wrong options refused before the work. Pixels stand for the network."""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import json
import re
import sys

import pytest
from gen_eval_cli import bench as verb

from gen_eval.bench import limits, races, report, stages
from gen_eval.bench.pictures import write_folder
from gen_eval.bench.races import Run
from gen_eval.bench.report import Report, Settings
from gen_eval.bench.stages import Stage

TINY = ("--images", 4, "--size", 16, "--seconds", 0.001, "--device", "cpu")


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    """Small matrices and buffers, and few rows for the large distance."""
    monkeypatch.setitem(limits.SIDES, "cpu", 128)
    monkeypatch.setitem(limits.BUFFERS, "cpu", 2**20)
    monkeypatch.setattr(stages, "MANY", 300)


@pytest.fixture
def stand_ins(monkeypatch, tmp_path):
    """Small processes in the place of two peers and ours; the third peer fails and the fourth is not installed."""

    def peer_command(peer, real, fake, home, device):
        assert len(list(real.iterdir())) == len(list(fake.iterdir())) == 4
        value = {"pytorch-fid": "3.0", "torch-fidelity": "5.0", "clean-fid": "broken"}[peer]
        return [sys.executable, "-c", f"import time; time.sleep(1.5); print('{value}')"]

    monkeypatch.setattr(races, "peer_command", peer_command)
    monkeypatch.setattr(races, "version", lambda name: "absent" if name == "torchmetrics" else "1")
    monkeypatch.setattr(report, "prepare_peers", lambda weights, home: None)
    monkeypatch.setattr(report, "fetch", lambda asset, **options: tmp_path / "weights.pt")
    ours = "import json, sys; print(json.dumps({'value': 3.0003, 'given': sys.argv[1:]}))"
    monkeypatch.setattr(verb, "OURS", (sys.executable, "-c", ours))


def test_the_table(run):
    done = run("bench", *TINY, "--no-peers")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert "cores of" in lines[0]
    assert f"numpy {importlib.metadata.version('numpy')}" in lines[1]
    for pattern in (
        r"gemm float32, torch +[\d.,]+ .*GFLOP/s",
        r"gemm float32, scipy +[\d.,]+ .*GFLOP/s",
        r"gemm float64, numpy +[\d.,]+ .*GFLOP/s",
        r"copy, torch +[\d.,]+ .*GB/s",
        r"decode 16 px jpg, one thread +[\d.e+-]+ +[\d.,e+]+",
        r"resize, tf1-bilinear to 8 +[\d.e+-]+",
        r"network inception, fp32, \d+ threads? ",
        r"distance, 4 rows a set +[\d.e+-]+ s",
        r"distance, 300 rows a set +[\d.e+-]+ s",
        r"A pass over 4 images: [\d.e+]+ images/s; the network ran [\d.]+% of the time and waited for images [\d.]+%",
    ):
        assert re.search(pattern, done.out), pattern
    assert "whole process" not in done.out


def test_json_and_csv_hold_the_same(run, tmp_path):
    out = tmp_path / "bench.csv"
    done = run("bench", *TINY, "--no-peers", "--json", "--csv", out, "--format", "png")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["settings"]["format"] == "png"
    assert (found["device"], found["runs"], found["failed"]) == ("cpu", [], {})
    assert [stage["name"] for stage in found["stages"]] == [
        *("decode", "resize", "network", "moments"),
        *("distance", "distance"),
    ]
    assert found["pass"]["idle"] == found["pass"]["waiting_s"] / found["pass"]["seconds"]
    text = out.read_text()
    assert text.startswith(f"# {found['machine']}\n# torch {found['libraries']['torch']}, ")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    rates = [float(row["value"]) for row in rows if row["section"] == "limit"]
    assert rates == [rate["value"] for rate in found["limits"]]
    assert {"limit", "stage", "pass"} == {row["section"] for row in rows}


def test_peers_beside_ours(run, stand_ins, tmp_path):
    out = tmp_path / "bench.csv"
    done = run("bench", *TINY, "--rounds", 2, "--csv", out)
    assert done.code == 0, done.err
    table = done.out[done.out.index("whole process") :].splitlines()
    lines = {line.split()[0]: line.split()[1:] for line in table[1:]}
    assert list(lines) == [
        *("pytorch-fid", "geneval:pytorch-fid", "torch-fidelity", "geneval:torch-fidelity"),
        *("geneval:clean-fid", "torchmetrics"),
    ]
    ours = lines["geneval:pytorch-fid"]
    assert float(ours[3]) > 1  # it does not sleep
    assert ours[-2:] == ["3.0003", "1.0e-04"]
    assert lines["torch-fidelity"][-1] == "5"
    assert lines["torchmetrics"] == ["not", "installed"]
    assert "clean-fid did not get to a value" in done.err
    assert "found 'broken'" in done.err
    assert sum("s wall" in line for line in out.read_text().splitlines()) == 2 * 5


def test_one_peer_by_name(run, stand_ins):
    done = run("bench", *TINY, "--rounds", 1, "--peer", "pytorch-fid", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert [each["tool"] for each in found["processes"]] == ["pytorch-fid", "geneval:pytorch-fid"]
    assert found["processes"][1]["speed"] > 1
    assert found["absent"] == ["torchmetrics"]


def test_the_share_of_the_limit():
    """By hand: 10 GFLOP an image at 5 images/s is half of 100 GFLOP/s, the best of all threads and libraries."""
    rates = [limits.Rate("gemm", "torch", "float32", "cpu", 1, 60.0)]
    rates += [limits.Rate("gemm", "numpy", "float32", "cpu", 2, 100.0)]
    rates += [limits.Rate("gemm", "torch", "bfloat16", "cpu", 2, 400.0)]
    network = Stage("network", 10, 2.0, gflop=10.0)
    overlap = stages.Overlap(10, 4.0, 2.0, 1.0)
    for precision, share in (("fp32", 0.5), ("bf16", 0.125), ("tf32", None)):
        found = Report(Settings(precision=precision), "cpu", 1, "resize", rates, [network], overlap)
        assert found.share(network) == share
        assert found.share(Stage("decode", 10, 1.0)) is None


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--peer", "clean-fid", "--no-peers"), 2, "exclude each other"),
        (("--peer", "clean-fod"), 2, "clean-fid"),
        (("--images", 1), 2, "--images"),
        (("--no-peers", "--csv", "bench.txt"), 1, "expected a name that ends in .csv"),
        (("--no-peers", "--csv", "no/such/bench.csv"), 1, "there is no folder"),
        (("--no-peers", "--extractor", "pixel"), 1, "did you mean 'pixels'"),
        (("--no-peers", "--device", "gpu"), 1, "gpu"),
    ],
)
def test_wrong_options(run, options, code, message):
    done = run("bench", *options)
    assert (done.code, done.out) == (code, "")
    assert message in done.err


def test_peers_look_through_inception_alone(run, stand_ins):
    done = run("bench", "--extractor", "pixels", "--peer", "clean-fid")
    assert done.code == 1
    assert "clean-fid can look through inception alone, not pixels" in done.err


def test_a_peer_that_is_not_installed(run, stand_ins):
    done = run("bench", "--peer", "torchmetrics")
    assert done.code == 1
    assert "torchmetrics is not installed: `python -m pip install torchmetrics`" in done.err


@pytest.mark.parametrize("name", ["bench.png", "bench.svg"])
def test_the_chart(run, stand_ins, tmp_path, name):
    pytest.importorskip("matplotlib")
    out = tmp_path / name
    done = run("bench", *TINY, "--rounds", 1, "--peer", "pytorch-fid", "--plot", out)
    assert done.code == 0, done.err
    assert out.stat().st_size > 5000
    if name.endswith("svg"):
        text = out.read_text()
        titles = ("Matrix products, GFLOP/s", "Stages, ms an image", "Whole process, peak MiB")
        assert all(words in text for words in (*titles, "geneval:pytorch-fid"))


def test_a_chart_without_matplotlib(run, monkeypatch, tmp_path):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "matplotlib" else real(name)
    )
    done = run("bench", "--no-peers", "--plot", tmp_path / "bench.png")
    assert done.code == 1
    assert "pip install 'gen_eval[plot]'" in done.err


def test_a_real_peer(weights, tmp_path):
    """The commands as they are: a peer and ours on the same files and weights reach the same value."""
    if "torch-fidelity" not in races.installed():
        pytest.skip("torch-fidelity is not installed")
    real, fake = (
        write_folder(tmp_path / kind, 3, 32, "jpg", fake=kind == "fake") for kind in ("real", "fake")
    )
    races.prepare_peers(weights, tmp_path / "home")
    ours = [*verb.OURS, "--weights", str(weights), "--device", "cpu", "--offline"]
    tools = races.tools_of(["torch-fidelity"])
    commands = races.commands_of(tools, ours, real, fake, tmp_path / "home", "cpu")
    runs, failed = races.race(commands, rounds=1, images=3, name="jpg32")
    assert failed == {}
    assert [run.tool for run in runs] == tools
    assert runs[1].gap_to_peer < 1e-4
    assert min(run.peak_mib for run in runs) > 200  # torch and the network at least


def test_ours_is_named_by_what_it_is_given(run, stand_ins):
    done = run("bench", *TINY, "--rounds", 1, "--peer", "pytorch-fid", "--precision", "bf16", "--json")
    assert done.code == 0, done.err
    tools = [each["tool"] for each in json.loads(done.out)["processes"]]
    assert tools == ["pytorch-fid", "geneval+bf16:pytorch-fid"]


def test_rows_tell_what_ran_the_network():
    """Files of two backends or precisions are told apart."""
    settings = Settings(backend="onnxruntime")
    network = Stage("network", 10, 2.0, gflop=10.0)
    distance = Stage("distance", 10, 2.0, per_image=False)
    found = Report(settings, "cpu", 2, "resize", [], [network, distance], stages.Overlap(10, 4.0, 2.0, 1.0))
    terms = "10 images of jpg256, inception, fp32 by onnxruntime, 2 threads"
    assert {row.setting for row in found.rows()} == {terms, "10 rows a set"}
    assert "onnxruntime" in found.libraries
    assert "onnxruntime" not in Report(Settings(), "cpu", 2, "", [], [], found.overlap).libraries
    assert [stage["images_per_s"] for stage in found.to_json()["stages"]] == [5.0, None]


def test_every_run_is_a_row():
    runs = [Run("jpg8", 4, tool, turn, 1.0, 0.5, 0.5, 100.0, 2.0) for turn in (0, 1) for tool in ("a", "b")]
    found = Report(Settings(), "cpu", 1, "resize", [], [], stages.Overlap(4, 4.0, 2.0, 1.0), runs)
    rows = [row for row in found.rows() if row.section == "process"]
    assert len(rows) == 16
    assert {row.setting for row in rows} == {f"4 images a set of jpg8, round {turn}" for turn in (0, 1)}
