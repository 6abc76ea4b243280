"""One peer as one process, as its users run it: its default batch size, FID alone, value on the last line.

::

    python benchmarks/peers.py prepare --weights inception.pt --home DIR
    python benchmarks/peers.py pytorch-fid REAL FAKE --home DIR

Workers are what each peer's command line takes by default: the cores up to 8 (pytorch-fid), 4 whatever the
machine (torch-fidelity). clean-fid has no command line and defaults to 12; here it gets the cores up to 12,
because more workers than cores would slow it down.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from gen_eval.bench.recording import cores

HELPER = Path(__file__).parents[1] / "tests" / "parity" / "peers.py"
MOST_WORKERS = {"pytorch-fid": 8, "torch-fidelity": 4, "clean-fid": 12}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    prepare = verbs.add_parser("prepare", help="write the trunk as the peers read it")
    prepare.add_argument("--weights", type=Path, required=True, help="any weights file that geneval reads")
    prepare.add_argument("--home", type=Path, required=True)
    for name in MOST_WORKERS:
        peer = verbs.add_parser(name)
        peer.add_argument("real", type=Path)
        peer.add_argument("fake", type=Path)
        peer.add_argument("--home", type=Path, required=True, help="folder that `prepare` wrote")
    args = parser.parse_args()
    helper = load_helper()
    if args.verb == "prepare":
        from gen_eval.extractors.inception_weights import read_weights

        helper.peer_weights(read_weights(args.weights), args.home)
        return
    workers = min(MOST_WORKERS[args.verb], cores())
    weights = helper.PeerWeights(args.home)
    print(repr(helper.PEERS[args.verb](args.real, args.fake, weights, workers=workers).fid))


def load_helper() -> ModuleType:
    """Import tests/parity/peers.py, by path: a peer's wheel owns the name ``tests``."""
    spec = importlib.util.spec_from_file_location("parity_peers", HELPER)
    assert spec is not None
    assert spec.loader is not None
    helper = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = helper  # dataclasses look their module up
    spec.loader.exec_module(helper)
    return helper


if __name__ == "__main__":
    main()
