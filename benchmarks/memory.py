"""Peak resident memory of each verb that takes a set, at 5,000, 20,000 and 50,000 images.

::

    python benchmarks/memory.py --date 2026-11-28                     # everything: hours of two cores
    python benchmarks/memory.py --date 2026-11-28 --jobs kid pr --n 5000 50000 --limit 300

Each run is ``geneval`` as a process of its own, as users start it; its peak is what the kernel accounts to it, with the
interpreter, torch and the engines, about 0.9 GiB. Sets are made up, of one distribution a little apart.

Measured is all that is beside the network. Verbs that keep feature rows are given features ``[n, 2048]`` float32, the
dimension of Inception's, in ``.npy`` files: one set is 391 MiB at 50,000. Verbs that take images alone are given ``n``
PNG files of 32 pixels, seen through their pixels (192 features), so that what is bound to n images shows and what is
bound to the dimension does not. ``inception`` is the network itself, on 128 and on 256 images of 256 pixels: what it
takes is one batch of activations, however many images follow.

Not measured: the network over 50,000 images, which takes hours of this CPU; GPUs, on which features lie; other numbers
of threads than ``OMP_NUM_THREADS`` says, each of which works on a block of its own. What does not end within the limit
is recorded as such.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from metrics import write_features
from PIL import Image

from gen_eval.bench.launcher import launch
from gen_eval.bench.recording import write_csv
from gen_eval.errors import RunFailed
from gen_eval.threads import cores

RESULTS = Path(__file__).parent / "results"
GENEVAL = str(Path(sys.executable).with_name("geneval"))
SIZES = (5_000, 20_000, 50_000)
CLASSES = 10
TIMED_OUT = (128 + signal.SIGXCPU, 128 + signal.SIGKILL)


@dataclass(frozen=True)
class Run:
    """One process.

    Args:
        job: what was run, a key of :data:`JOBS`.
        n: images, or feature rows, of each set.
        wall_s: its time.
        cpu_s: of all its threads.
        peak_mib: its peak resident memory; ``None`` where it was not run to its end.
        note: why not.
    """

    job: str
    n: int
    wall_s: float | None
    cpu_s: float | None
    peak_mib: float | None
    note: str = ""


# --- Jobs: from the folder of inputs and n to the arguments of geneval

Arguments = Callable[[Path, int], list[str]]


def _features(folder: Path, role: str, n: int) -> str:
    return str(folder / f"{role}-{n}.npy")


def of_features(*measures: str, labels: bool = False, heldout: bool = False, sets: str = "") -> Arguments:
    """Measures of two sets of features."""

    def arguments(folder: Path, n: int) -> list[str]:
        asked = [argument for measure in measures for argument in ("-m", measure)]
        more = ["--labels", str(folder / f"labels-{n}.txt")] if labels else []
        more += ["--set", sets] if sets else []
        more += ["--heldout", _features(folder, "heldout", n)] if heldout else []
        return [
            "evaluate",
            *(_features(folder, role, n) for role in ("reference", "generated")),
            *asked,
            *more,
        ]

    return arguments


def of_logits(*measures: str) -> Arguments:
    """Measures of two sets of logits ``[n, 1008]``."""

    def arguments(folder: Path, n: int) -> list[str]:
        asked = [argument for measure in measures for argument in ("-m", f"{measure}:identity")]
        return ["evaluate", *(_features(folder, f"logits-{role}", n) for role in "ab"), *asked]

    return arguments


def of_images(verb: str, *more: str, sets: int = 2) -> Arguments:
    """A verb on folders of images, seen through their pixels."""

    def arguments(folder: Path, n: int) -> list[str]:
        return [verb, *(str(folder / f"images-{role}-{n}") for role in "ab"[:sets]), *more]

    return arguments


def tests(*names: str) -> Arguments:
    """``geneval test``."""

    def arguments(folder: Path, n: int) -> list[str]:
        asked = [argument for name in names for argument in ("-t", name)]
        return ["test", *(_features(folder, role, n) for role in ("reference", "generated")), *asked]

    return arguments


def on_statistics(*verb: str, parts: bool = False) -> Arguments:
    """A verb on files of statistics that hold every row."""

    def arguments(folder: Path, n: int) -> list[str]:
        files = [f"part{k}-{n}" for k in (1, 2, 3, 4)] if parts else [f"whole-{n}"]
        return ["stats", verb[0], *(str(folder / f"{file}.safetensors") for file in files), *verb[1:]]

    return arguments


_THROUGH = ("-m", "pr:pixels")
JOBS: dict[str, Arguments] = {
    "list": lambda folder, n: ["list"],
    "fid": of_features("fd:identity"),
    "fid-inf": of_features("fid-inf:identity"),
    "intra-fid": of_features("intra-fid:identity", labels=True),
    "kid": of_features("kid:identity"),
    "is": of_logits("is"),
    "class-entropy, class-balance": of_logits("class-entropy", "class-balance"),
    "vendi": of_features("vendi:identity"),
    "sliced-wasserstein": of_features("sliced-wasserstein:identity"),
    "mode-coverage": of_features("mode-coverage:identity", labels=True),
    "mean-test": tests("mean-test"),
    "variance-test": tests("variance-test"),
    "pr": of_features("pr:identity"),
    "dc": of_features("dc:identity"),
    "fid kid pr dc": of_features("fd:identity", "kid:identity", "pr:identity", "dc:identity"),
    "mifid": of_features("mifid:identity"),
    "realism": of_features("realism:identity"),
    "rarity": of_features("rarity:identity"),
    "authenticity": of_features("authenticity:identity"),
    "duplicates": of_features("duplicates:identity"),
    "ct": of_features("ct:identity", heldout=True, sets="cells=1"),
    "fld": of_features("fld:identity", heldout=True),
    "mmd": of_features("mmd:identity"),
    "kid-full": of_features("kid-full:identity"),
    "pairwise-distance": of_features("pairwise-distance:identity"),
    "wasserstein": of_features("wasserstein:identity"),
    "wasserstein-critic": of_features("wasserstein-critic:identity"),
    "f-divergence": of_features("f-divergence:identity"),
    "jensen-shannon": of_features("jsd:identity"),
    "density-ratio": of_features("density-ratio:identity"),
    "nearest-neighbor-test": tests("nearest-neighbor-test"),
    "c2st": tests("c2st"),
    "c2st-knn": tests("c2st-knn"),
    "truncation": lambda folder, n: [
        "truncation",
        _features(folder, "reference", n),
        f"1={_features(folder, 'generated', n)}",
        f"0.7={_features(folder, 'heldout', n)}",
        *("-m", "fd:identity", "-m", "kid:identity"),
    ],
    "fid of images": of_images("fid", "--extractor", "pixels"),
    "evaluate --neighbors": of_images(
        "evaluate", *_THROUGH, "--neighbors", "4", "--neighbors-out", "{out}/n.png"
    ),
    "evaluate --per-image": of_images("evaluate", "-m", "fd:pixels", "--per-image", "{out}/p.csv"),
    "sensitivity": of_images("sensitivity", "-m", "fd:pixels", sets=1),
    "stats": of_images("stats", "-m", "kid:pixels", "--rows", "50000", "-o", "{out}/s.safetensors", sets=1),
    "stats show": on_statistics("show"),
    "stats merge": on_statistics("merge", "-o", "{out}/m.safetensors", parts=True),
    "stats compact": on_statistics("compact", "-o", "{out}/c.safetensors"),
    "stats convert": on_statistics("convert", "-o", "{out}/c.npz", "--to", "clean-fid-kid", "--other-terms"),
    "compare": lambda folder, n: ["compare", *(str(folder / f"result-{role}-{n}.jsonl") for role in "ab")],
    "explain": lambda folder, n: ["explain", str(folder / f"result-a-{n}.jsonl")],
    "likelihood": lambda folder, n: [
        *("likelihood", str(folder / f"logp-a-{n}.npy"), str(folder / f"logp-b-{n}.npy")),
        *("--dims", "3072", "--kind", "exact"),
    ],
    "zoo sample": lambda folder, n: ["zoo", "sample", "sngan-mnist", "-n", str(n), "-o", "{out}/samples.npz"],
    "zoo likelihood": lambda folder, n: ["zoo", "likelihood", "mnist:train", "glow-mnist", "-n", str(n)],
    "zoo grid": lambda folder, n: [
        *("zoo", "grid", "sngan-mnist", "--rows", "64", "--columns", str(n // 64)),
        *("-o", "{out}/grid.png"),
    ],
    "zoo train": lambda folder, n: [
        *("zoo", "train", "vae", "--data", "mnist", "--steps", "200", "-o", "{out}/vae.safetensors")
    ],
}
# Sizes that are not the usual: the network has no n, the exact transport and a picture refuse more, and the training
# images of MNIST are so many.
SIZES_OF = {
    "list": (0,),
    "inception": (128, 256),
    "wasserstein": (5_000,),
    "zoo grid": (4_096,),
    "zoo train": (60_000,),
}
ALONE = ("list", "zoo sample", "zoo likelihood", "zoo grid", "zoo train")  # need no inputs
JOBS["inception"] = lambda folder, n: ["fid", *(str(folder / f"photos-{role}-{n}") for role in "ab")]


# --- Inputs


def write_inputs(n: int, folder: Path) -> None:
    """What the jobs of one size read, where it is not there yet."""
    if (folder / f"made-{n}").exists():
        return
    if n in SIZES_OF["inception"]:
        for seed, role in enumerate("ab"):
            write_images(folder / f"photos-{role}-{n}", n, 256, seed)
    else:
        _write_arrays(n, folder)
        for seed, role in enumerate("ab"):
            write_images(folder / f"images-{role}-{n}", n, 32, seed)
        _write_statistics(n, folder)
    (folder / f"made-{n}").touch()


def _write_arrays(n: int, folder: Path) -> None:
    write_features(n, folder)
    generated = np.load(folder / f"generated-{n}.npy", mmap_mode="r")
    # Shuffled, and scaled a little: copies would be found.
    np.save(
        folder / f"heldout-{n}.npy", generated[np.random.default_rng(n).permutation(n)] * np.float32(1.01)
    )
    for seed, role in enumerate("ab"):
        rng = np.random.default_rng([n, seed])
        np.save(folder / f"logits-{role}-{n}.npy", rng.standard_normal((n, 1008), np.float32) * 3)
        np.save(folder / f"logp-{role}-{n}.npy", rng.standard_normal(n) * 50 - 7000 - seed)
    (folder / f"labels-{n}.txt").write_text("".join(f"c{at % CLASSES}\n" for at in range(n)))


def write_images(folder: Path, n: int, size: int, seed: int) -> None:
    """A folder of PNG files."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for at in range(n):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(folder / f"{at:06}.png", compress_level=1)


def _write_statistics(n: int, folder: Path) -> None:
    """Files of statistics that hold every row, of the whole and of four parts, and results of two models."""
    import torch

    from gen_eval import store
    from gen_eval.extractors.vectors import Identity
    from gen_eval.stats import Features
    from gen_eval.summary import Summary

    rows = torch.from_numpy(np.load(folder / f"reference-{n}.npy"))
    key = (Identity(rows.shape[1]).spec("pool"), "pool")
    parts = {f"part{at + 1}": part for at, part in enumerate(torch.chunk(rows, 4))}
    for name, part in {**parts, "whole": rows}.items():
        summary = Summary(name, name, {key: Features.of(part)}, {"gen_eval": "made up"})
        store.save(summary, folder / f"{name}-{n}.safetensors")
    for role, other in (("a", "generated"), ("b", "heldout")):
        sets = [str(folder / f"{name}-{n}.npy") for name in ("reference", other)]
        measures = ["-m", "fd:identity", "-m", "kid:identity", "--rows", "1000"]
        account = launch([GENEVAL, "evaluate", *sets, *measures, "--json"])
        (folder / f"result-{role}-{n}.jsonl").write_text(account.output)


# --- Runs


def measure(job: str, n: int, folder: Path, limit: int) -> Run:
    """One run, ended by the kernel after ``limit`` seconds of CPU time: what else runs does not matter."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        arguments = [each.replace("{out}", out) for each in JOBS[job](folder, n)]
        try:
            account = launch(["prlimit", f"--cpu={limit}", GENEVAL, *arguments])
        except RunFailed as error:
            over = any(f"ended with {code}:" in str(error) for code in TIMED_OUT)
            why = f"more than {limit} s of CPU time" if over else str(error).splitlines()[-1]
            return Run(job, n, None, None, None, why)
    return Run(job, n, account.wall_s, account.user_s + account.system_s, account.peak_mib)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--jobs", nargs="+", choices=JOBS, default=tuple(JOBS), metavar="JOB", help=", ".join(JOBS)
    )
    parser.add_argument("--n", nargs="+", type=int, default=SIZES, help="images of each set")
    parser.add_argument("--limit", type=int, default=300, help="seconds of CPU time for each run")
    parser.add_argument("--folder", type=Path, help="where inputs lie, and are kept; by default none are")
    parser.add_argument("--date", required=True, help="to end the name of the recorded file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        folder.mkdir(exist_ok=True)
        out, runs = RESULTS / f"memory-cpu-{args.date}.csv", []
        for run in run_all(args.jobs, args.n, folder, args.limit):
            print(run, file=sys.stderr, flush=True)
            runs.append(run)  # written each time, so that what is cut short leaves what it has
            write_csv(out, runs, ("torch", "numpy", "scipy", "gen_eval"))
    print_table(runs)
    print(f"\nevery run: {out}; {os.environ.get('OMP_NUM_THREADS', cores())} threads")


def run_all(jobs: Sequence[str], sizes: Sequence[int], folder: Path, limit: int) -> Iterator[Run]:
    """Each job at each size; none that did not end at a smaller one."""
    for job in jobs:
        late = ""
        for n in SIZES_OF.get(job, sizes):
            if job not in ALONE:
                write_inputs(n, folder)
            run = measure(job, n, folder, limit) if not late else Run(job, n, None, None, None, late)
            late = late or run.note
            yield run


def print_table(runs: Sequence[Run]) -> None:
    """Peaks in MiB, a line a job."""
    sizes = sorted({run.n for run in runs})
    print(f"{'MiB':32}" + "".join(f"{n:>10,}" for n in sizes))
    for job in dict.fromkeys(run.job for run in runs):
        found = {run.n: run.peak_mib for run in runs if run.job == job}
        cells = [f"{found[n]:.0f}" if found.get(n) else "-" for n in sizes]
        print(f"{job:32}" + "".join(f"{cell:>10}" for cell in cells))


if __name__ == "__main__":
    main()
