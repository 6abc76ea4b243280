"""One peer as one process, as its users run it: its default batch size, FID alone, value on the last line.

::

    python -m gen_eval.bench.peer_process prepare WEIGHTS HOME
    python -m gen_eval.bench.peer_process pytorch-fid REAL FAKE HOME cpu

Workers are what each peer's command line takes by default: the cores up to 8 (pytorch-fid), 4 whatever the
machine (torch-fidelity). clean-fid has no command line and defaults to 12; here it gets the cores up to 12,
because more workers than cores would slow it down. torchmetrics has no loader, and so no workers.

The process of a peer imports this package's :mod:`.peers` and nothing else of ours, so that its start-up and
memory are its own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from gen_eval.threads import cores

MOST_WORKERS = {"pytorch-fid": 8, "torch-fidelity": 4, "clean-fid": 12, "torchmetrics": 0}
PREPARE = "prepare"


def prepare_command(weights: Path, home: Path) -> list[str]:
    """The command that writes the trunk as the peers read it.

    Args:
        weights: any weights file of Inception that we read.
        home: folder to write to; made if need be.
    """
    return [sys.executable, "-m", __name__, PREPARE, str(weights), str(home)]


def peer_command(peer: str, real: Path, fake: Path, home: Path, device: str) -> list[str]:
    """The command that has a peer measure FID.

    Args:
        peer: a key of :data:`MOST_WORKERS`.
        real: folder of images.
        fake: the other one.
        home: what the command of :func:`prepare_command` wrote.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
    """
    return [sys.executable, "-m", __name__, peer, str(real), str(fake), str(home), device]


def _main(arguments: Sequence[str]) -> None:
    from gen_eval.bench import peers

    if arguments[0] == PREPARE:
        from gen_eval.extractors.inception_weights import read_weights

        weights, home = map(Path, arguments[1:])
        peers.peer_weights(read_weights(weights), home)
        return
    peer, real, fake, home_of_weights, device = arguments
    result = peers.PEERS[peer](
        Path(real),
        Path(fake),
        peers.PeerWeights(Path(home_of_weights)),
        workers=min(MOST_WORKERS[peer], cores()),
        device=device,
    )
    sys.stdout.write(f"{result.fid!r}\n")


if __name__ == "__main__":
    _main(sys.argv[1:])
