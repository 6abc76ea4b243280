"""Contestants in turns, each a process with an account of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from gen_eval.bench import launcher, peer_process, peers, races
from gen_eval.bench.launcher import launch
from gen_eval.bench.races import Run, race, standings, value_in
from gen_eval.errors import RunFailed, UnknownName, UsageError


def says(text, seconds=0.0):
    return [sys.executable, "-c", f"import time; time.sleep({seconds}); print({text!r})"]


def test_an_account_is_the_child_s_own(monkeypatch):
    """What this process holds does not count; what the command holds does."""
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    held = np.ones(64 * 2**20)  # 512 MiB
    script = "import os, time; x = b'1' * (100 * 2**20); time.sleep(.2); print(os.environ.get('OPENBLAS_CORETYPE'))"
    account = launch([sys.executable, "-c", script])
    assert held.sum() == len(held)
    assert account.output == "None\n"
    assert 100 < account.peak_mib < 200
    assert account.wall_s > 0.2
    assert 0 < account.user_s + account.system_s < account.wall_s + 1


def test_a_command_that_fails_has_the_last_word():
    with pytest.raises(RunFailed, match=r"ended with 3:\n(.*\n)*no weights here"):
        launch([sys.executable, "-c", "import sys; print('no weights here', file=sys.stderr); sys.exit(3)"])
    with pytest.raises(RunFailed, match="cannot be started"):
        launch(["/nowhere/at/all"])


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_behind(tmp_path, how):
    """However this process ends, the command ends with it."""
    note = tmp_path / "pid"
    command = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid()) + ' '); time.sleep(60)"
    script = (
        f"import sys; from gen_eval.bench.launcher import launch; launch([sys.executable, '-c', {command!r}])"
    )
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL) as parent:
        wait_for(lambda: note.exists() and note.read_text().endswith(" "))
        parent.send_signal(how)
    wait_for(lambda: not runs(int(note.read_text())))


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_folder_s_files_are_not_imported(tmp_path, monkeypatch):
    if sys.version_info < (3, 11):
        pytest.skip("PYTHONSAFEPATH is of Python 3.11")
    (tmp_path / "json.py").write_text("raise SystemExit('not the json that was meant')")
    monkeypatch.chdir(tmp_path)
    assert launch([sys.executable, "-c", "import json; print(json.dumps(1))"]).output == "1\n"


def test_a_system_without_accounts_is_refused(monkeypatch):
    monkeypatch.delattr(launcher.os, "wait4")
    with pytest.raises(UsageError, match="keeps no account"):
        launch(says("1"))


def test_contestants_take_turns():
    told = []
    commands = {"clean-fid": says("4.0", 2.0), "geneval:clean-fid": says('{"value": 4.002}')}
    runs, failed = race(
        commands, rounds=2, images=5, name="png8", progress=lambda *args: told.append(args[1:3])
    )
    assert not failed
    assert [(run.round, run.tool) for run in runs] == [
        (0, "clean-fid"),
        (0, "geneval:clean-fid"),
        (1, "clean-fid"),
        (1, "geneval:clean-fid"),
    ]
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert [run.gap_to_peer for run in runs] == [None, pytest.approx(5e-4)] * 2
    assert min(run.wall_s for run in runs[::2]) >= 2.0


def test_one_that_fails_is_told_and_the_others_go_on():
    told = []
    commands = {"clean-fid": says("no number"), "pytorch-fid": says("2.5")}
    runs, failed = race(
        commands, rounds=2, images=5, name="png8", progress=lambda *args: told.append(args[1])
    )
    assert [run.tool for run in runs] == ["pytorch-fid", "pytorch-fid"]
    assert list(failed) == ["clean-fid"]
    assert (
        "clean-fid should print its FID last, as a number or a JSON object: found 'no number'"
        in failed["clean-fid"]
    )
    assert told[-1] == 4


@pytest.mark.parametrize(("output", "value"), [("1.5\n", 1.5), ('loading\n{"value": 2.5}\n', 2.5)])
def test_values(output, value):
    assert value_in(output, "x") == value


@pytest.mark.parametrize("output", ["", "\n", "{}", "null", "FID: 3"])
def test_what_is_no_value(output):
    with pytest.raises(RunFailed, match="x should print its FID last"):
        value_in(output, "x")


def run_of(tool, turn, wall, peak, fid=2.0, gap=None):
    return Run("jpg8", 4, tool, turn, wall, wall / 2, wall / 4, peak, fid, gap)


def test_medians_and_ratios():
    """Ratios are of the two of one round, so that a slow round slows both."""
    runs = [
        *(run_of("clean-fid", 0, 6.0, 100.0), run_of("geneval:clean-fid", 0, 2.0, 50.0, gap=1e-6)),
        *(run_of("clean-fid", 1, 60.0, 100.0), run_of("geneval:clean-fid", 1, 15.0, 80.0, gap=3e-6)),
        *(run_of("clean-fid", 2, 10.0, 100.0), run_of("geneval:clean-fid", 2, 2.0, 60.0, gap=2e-6)),
    ]
    peer, ours = standings(runs)
    assert (peer.tool, peer.runs, peer.wall_s, peer.cpu_s, peer.peak_mib) == (
        "clean-fid",
        3,
        10.0,
        7.5,
        100.0,
    )
    assert (peer.speed, peer.memory, peer.gap) == (None, None, None)
    assert (ours.wall_s, ours.speed, ours.memory, ours.gap) == (2.0, 4.0, 0.6, 3e-6)


def test_ours_alone_has_no_ratio():
    (ours,) = standings([run_of("geneval:clean-fid", 0, 2.0, 50.0)])
    assert (ours.speed, ours.memory, ours.gap) == (None, None, None)


def test_a_peer_s_process_can_run_each_peer():
    assert set(peers.PEERS) == set(peer_process.MOST_WORKERS) == set(races.PEERS)


def test_absent_peers_are_left_out(monkeypatch):
    monkeypatch.setattr(races, "version", lambda name: "absent" if name == "clean-fid" else "1.0")
    assert races.installed() == [peer for peer in races.PEERS if peer != "clean-fid"]


def test_ours_follows_each_peer_s_protocol(tmp_path):
    assert races.tools_of(["clean-fid"], "bf16") == ["clean-fid", "geneval+bf16:clean-fid"]
    tools = races.tools_of(["clean-fid"])
    commands = races.commands_of(tools, ["geneval", "fid"], tmp_path / "r", tmp_path / "f", tmp_path, "cpu")
    assert list(commands) == ["clean-fid", "geneval:clean-fid"]
    assert commands["geneval:clean-fid"][:2] == ["geneval", "fid"]
    assert commands["geneval:clean-fid"][-3:] == ["--protocol", "clean-fid", "--json"]
    assert commands["clean-fid"][3:] == [
        "clean-fid",
        *map(str, (tmp_path / "r", tmp_path / "f", tmp_path)),
        "cpu",
    ]


def test_contestants_are_given_what_their_names_add(tmp_path):
    tools = ["clean-fid+tuned", "geneval+openvino+bf16:clean-fid+tuned"]
    commands = races.commands_of(tools, ["geneval", "fid"], tmp_path / "r", tmp_path / "f", tmp_path, "cpu")
    peer, ours = commands.values()
    assert peer[:3] == ["env", "MALLOC_MMAP_MAX_=0", "MALLOC_TRIM_THRESHOLD_=2147483647"]
    assert peer[3:] == peer_process.peer_command(
        "clean-fid", *(tmp_path / name for name in ("r", "f", "")), "cpu"
    )
    assert ours[-7:] == ["--protocol", "clean-fid", "--backend", "openvino", "--precision", "bf16", "--json"]
    assert races.libraries_of(tools) == [*races.LIBRARIES, "openvino"]
    runs = [
        Run("s", 2, tool, 0, wall, 1.0, 0.0, 10.0, 4.0) for tool, wall in zip(tools, (6.0, 2.0), strict=True)
    ]
    assert [each.speed for each in standings(runs)] == [None, 3.0]


def test_contestants_that_do_not_exist_are_told(tmp_path):
    place = (("geneval", "fid"), tmp_path, tmp_path, tmp_path, "cpu")
    with pytest.raises(UnknownName, match="unknown tool 'clean-fd': did you mean 'clean-fid'"):
        races.commands_of(["geneval:clean-fd"], *place)
    with pytest.raises(UsageError, match=r"clean-fid\+bf16: a peer can be given \+tuned and nothing else"):
        races.commands_of(["clean-fid+bf16"], *place)


def test_a_peer_pays_for_nothing_of_ours():
    script = (
        "import sys, gen_eval.bench.peer_process, gen_eval.bench.peers\n"
        "print(*sorted(name for name in sys.modules if name.startswith('gen_eval')))"
    )
    assert launch([sys.executable, "-c", script]).output.split() == [
        *("gen_eval", "gen_eval.bench", "gen_eval.bench.peer_process", "gen_eval.bench.peers"),
        "gen_eval.threads",
    ]
