"""What each rank of ``test_distributed.py`` runs: ``OUT CASE...``.

Its place is in the environment, as torchrun puts it there; without torchrun the file in ``STORE`` is where ranks meet.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch
import torch.distributed as dist

from gen_eval.errors import DistributedError, GenEvalError
from gen_eval.monitor import Monitor

MEASURES = ["frechet:pixels", "kid:pixels", "pr:pixels"]
TIMEOUT = 4.0  # where the others do not come
LATE = 10.0  # where one comes after that time
PATIENT = 120.0  # where they do, on a machine that has other things to do


def images_of(n, seed, brightness):
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(brightness, (n, 3, 8, 8), dtype=torch.uint8, generator=rng)


FAKE, REAL = images_of(101, 1, 256), images_of(120, 2, 200)


def fed(case, rank, world):
    """A monitor that has this rank's share of the images, as the case shares them out."""
    timeout = TIMEOUT if case.startswith("only") or case == "killed" else {"late": LATE}.get(case, PATIENT)
    monitor = Monitor(MEASURES, timeout=timeout, rows=30 if case == "bounded" else None)
    index = torch.arange(len(FAKE))
    share = {
        "uneven": (index < 80) == (rank == 0),
        "empty": index >= (0 if rank == 0 else len(index)),
        "repeated": ((index < 80) == (rank == 0)) | (index == 7),
    }.get(case, index % world == rank)
    told = case in ("uneven", "empty", "repeated") or (case == "told" and rank == 0)
    for part in index[share].split(17):
        monitor.update(FAKE[part], index=part if told else None)
    for part in torch.arange(rank, len(REAL), world).split(29):
        monitor.update(REAL[part], real=True)
    return monitor


def numbers(results):
    return {each.measure: [dict(each.values), dict(each.errors), dict(each.biases)] for each in results}


def outcome(case, rank, world):
    """What a case ends in on this rank."""
    monitor = fed(case, rank, world)
    if case.startswith("killed") and rank == 1:
        os._exit(9)
    if case == "terms" and rank == 1:
        monitor = Monitor(MEASURES, timeout=PATIENT, protocol="clean-fid")
    if case == "parameters":
        monitor = Monitor(MEASURES, timeout=PATIENT, params={"subset_size": 20 + rank})
    if case == "references":
        monitor = Monitor(MEASURES, timeout=PATIENT, reference=REAL if rank else REAL.flip(0))
    if case == "late":
        monitor.compute()
        time.sleep(1.3 * LATE * rank)
        with suppress(DistributedError):
            monitor.compute()
            raise AssertionError("a rank that is late was not missed")
    if case in ("only-0", "only-1") and case != f"only-{rank}":
        time.sleep(3 * TIMEOUT)
        return {}
    started = time.perf_counter()
    try:
        measured = monitor.measure(FAKE) if case == "lying" else monitor.compute()
        return {"numbers": numbers(measured)}
    except GenEvalError as error:
        seconds = time.perf_counter() - started
        return {"error": type(error).__name__, "message": str(error), "seconds": seconds}


def main(out, *cases):
    torch.set_num_threads(1)
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = os.environ.get("STORE")
    dist.init_process_group(
        "gloo", init_method=f"file://{store}" if store else "env://", rank=rank, world_size=world
    )
    found = {case: outcome(case, rank, world) for case in cases}
    Path(out, f"{rank}.json").write_text(json.dumps(found))
    os._exit(0)  # gloo's threads may wait for a rank that never comes


if __name__ == "__main__":
    main(*sys.argv[1:])
