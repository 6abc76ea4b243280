"""Sweeps the solver of a continuous flow of the ring: what densities and a way back gain by more evaluations.

geneval zoo train ffjord --data ring8 --seed 0 -o ffjord_ring8.safetensors
python benchmarks/tolerances.py ffjord_ring8.safetensors --date 2026-11-28
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from zoo_records import RESULTS, Tolerance

from gen_eval.bench.recording import write_csv
from gen_eval.zoo import load_checkpoint, open_sampler
from gen_eval.zoo.continuous import DATA, LATENT
from gen_eval.zoo.flows import FlowSampler
from gen_eval.zoo.ode import Solver, solve

SOLVERS = (
    *("euler:10", "euler:100", "rk4:5", "rk4:20"),
    *("dopri5:1e-1", "dopri5:1e-2", "dopri5:1e-3", "dopri5:1e-4", "dopri5:1e-5", "dopri5:1e-6"),
)
EXACT = Solver("dopri5", rtol=1e-8, atol=1e-8)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="a continuous flow of the ring")
    parser.add_argument("--n", type=int, default=200, help="points")
    parser.add_argument("--date", required=True, help="to end the name of the recorded file")
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(arguments.checkpoint)
    x = open_sampler("ring8").sample(arguments.n, seed=10**6)
    sampler = checkpoint.sampler()
    assert isinstance(sampler, FlowSampler)
    sampler.network.double()  # else what is left of the errors is rounding
    sampler = FlowSampler(sampler.name, sampler.kind, sampler.network, checkpoint.scaling)
    rows, sampler.solver = [], EXACT
    exact = sampler.log_prob(x)
    for name in SOLVERS:
        sampler.solver = solver = Solver.of(name)
        error = float((sampler.log_prob(x) - exact).abs().mean())
        rows.append(
            Tolerance(
                checkpoint.model,
                name,
                arguments.n,
                sampler.density_evaluations,
                -float(exact.mean()),
                error,
                round_trip(sampler, x, solver),
            )
        )
        print(rows[-1], flush=True)
    write_csv(RESULTS / f"zoo-tolerance-{arguments.date}.csv", rows, ("torch", "torchdiffeq"))


def round_trip(sampler: FlowSampler, x: torch.Tensor, solver: Solver) -> float:
    """How far points come back from where they were, on average, with one solver both ways."""
    net = sampler.network.net
    with torch.no_grad():
        there = solve(net.field, sampler.encode(x), LATENT, DATA, solver).state
        back = sampler._unscaled(net.first.inverse(there))
    return float((back - x).norm(dim=1).mean())


if __name__ == "__main__":
    main()
