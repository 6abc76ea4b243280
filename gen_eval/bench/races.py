"""Whole processes side by side: FID by ours and by each peer on the same folders and weights, in turns.

A contestant is named by its tool, and after a ``+`` by what it is given besides:

- ``clean-fid``, and ``clean-fid+tuned`` with :data:`TUNED` in its environment;
- ``geneval:clean-fid``, ours under the protocol of that peer; ``geneval+openvino:clean-fid`` by that backend,
  ``geneval+bf16:clean-fid`` in that precision. It is compared with the contestant behind the colon.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gen_eval.bench.launcher import launch
from gen_eval.bench.peer_process import MOST_WORKERS, peer_command, prepare_command
from gen_eval.bench.recording import ABSENT, version
from gen_eval.errors import RunFailed, UnknownName, UsageError
from gen_eval.progress import Progress, silent

# No torch in here: the folders may be measured by others alone.

PEERS = tuple(MOST_WORKERS)
OURS = "geneval"
# What our command does for itself, for those that leave glibc as it is: freed memory is kept, none is mapped anew.
TUNED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
# Packages whose versions matter to every contestant.
LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "pillow", "gen_eval", *PEERS)
_TUNED = "tuned"
_PRECISIONS = ("fp32", "tf32", "bf16")


@dataclass(frozen=True)
class Run:
    """One process of one contestant.

    Args:
        set: the name of the folders.
        images: of one folder.
        tool: the contestant.
        round: from 0.
        wall_s: seconds from its start to its end.
        user_s: CPU seconds of its own code.
        system_s: CPU seconds of the kernel for it.
        peak_mib: peak resident memory of its largest process, in MiB.
        fid: the value that it reported.
        gap_to_peer: of ours, how far the value is, relatively, from that of the peer.
    """

    set: str
    images: int
    tool: str
    round: int
    wall_s: float
    user_s: float
    system_s: float
    peak_mib: float
    fid: float
    gap_to_peer: float | None = None


@dataclass(frozen=True)
class Standing:
    """The medians of a contestant over the rounds.

    Args:
        tool: who.
        runs: how many rounds.
        wall_s: seconds.
        cpu_s: CPU seconds, of user and kernel.
        peak_mib: MiB.
        fid: the value of the last round.
        speed: of ours, how many times as fast as the peer that it is compared with: the median over the rounds
            of the ratio of the two in one round; ``None`` of a peer.
        memory: of ours, its peak memory as a share of that peer's; ``None`` of a peer.
        gap: of ours, the largest relative difference of the two values; ``None`` of a peer.
    """

    tool: str
    runs: int
    wall_s: float
    cpu_s: float
    peak_mib: float
    fid: float
    speed: float | None = None
    memory: float | None = None
    gap: float | None = None


def installed() -> list[str]:
    """The peers that are installed."""
    return [peer for peer in PEERS if version(peer) != ABSENT]


def tools_of(peers: Sequence[str], *given: str) -> list[str]:
    """Each peer, and ours under its protocol right after it: what the machine does besides hits both alike.

    Args:
        peers: their names.
        given: what ours is given, as in the name of a contestant.
    """
    ours = "+".join([OURS, *given])
    return [tool for peer in peers for tool in (peer, f"{ours}:{peer}")]


def libraries_of(tools: Sequence[str]) -> list[str]:
    """The packages whose versions matter to contestants: :data:`LIBRARIES`, and the backends that some are given."""
    given = [word for tool in tools if peer_of(tool) for word in tool.partition(":")[0].split("+")[1:]]
    backends = [word for word in given if _option(word) == "--backend"]
    return list(dict.fromkeys([*LIBRARIES, *backends]))


def peer_of(tool: str) -> str | None:
    """The contestant that one of ours is compared with; ``None`` of a peer.

    >>> peer_of("geneval+openvino:clean-fid+tuned"), peer_of("clean-fid+tuned")
    ('clean-fid+tuned', None)
    """
    name, _, peer = tool.partition(":")
    return peer if name.split("+")[0] == OURS else None


def prepare_peers(weights: Path, home: Path) -> None:
    """Write the trunk as the peers read it, in a process of its own.

    Raises:
        RunFailed: if it fails.
    """
    launch(prepare_command(weights, home))


def commands_of(
    tools: Sequence[str], ours: Sequence[str], real: Path, fake: Path, home: Path, device: str
) -> dict[str, list[str]]:
    """The command of each contestant.

    Args:
        tools: contestants, as above.
        ours: the beginning of our command, which takes ``REAL FAKE --protocol NAME --json`` besides.
        real: folder of images.
        fake: the other one.
        home: what :func:`prepare_peers` wrote.
        device: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UnknownName: if there is no such peer.
        UsageError: if a peer is given what it cannot be given.
    """
    found = {}
    for tool in tools:
        name, _, of_peer = tool.partition(":")
        peer, *given = (of_peer or name).split("+")
        if peer not in PEERS:
            raise UnknownName("tool", peer, PEERS)
        if given not in ([], [_TUNED]):
            raise UsageError(f"{tool}: a peer can be given +{_TUNED} and nothing else")
        if of_peer:
            options = [word for each in name.split("+")[1:] for word in (_option(each), each)]
            found[tool] = [*ours, str(real), str(fake), "--protocol", peer, *options, "--json"]
        else:
            tuned = ["env", *(f"{key}={value}" for key, value in TUNED.items())] if given else []
            found[tool] = [*tuned, *peer_command(peer, real, fake, home, device)]
    return found


def _option(given: str) -> str:
    return "--precision" if given in _PRECISIONS else "--backend"


def race(
    commands: Mapping[str, Sequence[str]],
    *,
    rounds: int,
    images: int,
    name: str,
    progress: Progress = silent,
) -> tuple[list[Run], dict[str, str]]:
    """Run each contestant once a round, in turns. One that fails is not run again.

    Args:
        commands: by tool.
        rounds: how often.
        images: of one folder, for the record.
        name: of the folders, for the record.
        progress: told of the processes that are done.

    Returns:
        The runs, and the reason for each contestant that failed or printed no value.
    """
    runs: list[Run] = []
    failed: dict[str, str] = {}
    turns = [(turn, tool) for turn in range(rounds) for tool in commands]
    progress(name, 0, len(turns), "step")
    for done, (turn, tool) in enumerate(turns, 1):
        if tool not in failed:
            try:
                account = launch(commands[tool])
                value = value_in(account.output, tool)
            except RunFailed as error:
                failed[tool] = str(error)
            else:
                took = (account.wall_s, account.user_s, account.system_s, account.peak_mib)
                runs.append(Run(name, images, tool, turn, *took, value))
        progress(name, done, len(turns), "step")
    return with_gaps(runs), failed


def value_in(output: str, tool: str) -> float:
    """The FID in what a contestant printed last: a bare number, or our JSON object.

    Raises:
        RunFailed: if it is neither.
    """
    lines = output.strip().splitlines()
    try:
        last = json.loads(lines[-1])
        return float(last["value"] if isinstance(last, dict) else last)
    except (IndexError, KeyError, TypeError, ValueError):
        found = repr(lines[-1][:200]) if lines else "nothing"
        raise RunFailed(
            f"{tool} should print its FID last, as a number or a JSON object: found {found}"
        ) from None


def with_gaps(runs: Sequence[Run]) -> list[Run]:
    """Add to our runs how far each value is, relatively, from that of the peer in the same round."""
    values = {(run.set, run.round, run.tool): run.fid for run in runs}
    found = []
    for run in runs:
        peer = values.get((run.set, run.round, peer_of(run.tool) or ""))
        found.append(replace(run, gap_to_peer=abs(run.fid / peer - 1)) if peer else run)
    return found


def standings(runs: Sequence[Run]) -> list[Standing]:
    """The medians over the rounds, in the order of the tools.

    Args:
        runs: all of one set.
    """
    by_tool: dict[str, dict[int, Run]] = {}
    for run in runs:
        by_tool.setdefault(run.tool, {})[run.round] = run
    return [_standing(tool, mine, by_tool.get(peer_of(tool) or "", {})) for tool, mine in by_tool.items()]


def _standing(tool: str, mine: Mapping[int, Run], theirs: Mapping[int, Run]) -> Standing:
    pairs = [(mine[turn], theirs[turn]) for turn in mine if turn in theirs]
    gaps = [run.gap_to_peer for run in mine.values() if run.gap_to_peer is not None]
    runs = list(mine.values())
    return Standing(
        tool,
        len(runs),
        statistics.median(run.wall_s for run in runs),
        statistics.median(run.user_s + run.system_s for run in runs),
        statistics.median(run.peak_mib for run in runs),
        runs[-1].fid,
        statistics.median(peer.wall_s / run.wall_s for run, peer in pairs) if pairs else None,
        statistics.median(run.peak_mib / peer.peak_mib for run, peer in pairs) if pairs else None,
        max(gaps, default=None),
    )
