"""One small set of features, and each format's file of it as its tool writes it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

N, DIM = 40, 5
ROWS = np.random.default_rng(0).normal(3, 2, (N, DIM)).astype(np.float32)
WIDE = ROWS.astype(np.float64)
MU, SIGMA = WIDE.mean(0), np.cov(WIDE, rowvar=False)
MOMENTS = {"mu": MU, "sigma": SIGMA}
# A FeatureStats of StyleGAN2-ADA and StyleGAN3 pickles its attributes.
FEATURE_STATS = {
    "capture_all": False,
    "capture_mean_cov": True,
    "max_items": None,
    "num_items": N,
    "num_features": DIM,
    "all_features": None,
    "raw_mean": WIDE.sum(0),
    "raw_cov": WIDE.T @ WIDE,
}
CAPTURED = {**FEATURE_STATS, "capture_all": True, "all_features": [ROWS[:16], ROWS[16:32], ROWS[32:]]}
ROWS_ALONE = {
    **CAPTURED,
    "capture_mean_cov": False,
    "raw_mean": np.zeros(DIM),
    "raw_cov": np.zeros((DIM, DIM)),
}
EDM2 = {"num_images": N, "fid": MOMENTS, "fd_dinov2": {"mu": MU + 1, "sigma": SIGMA}}


def save_pickle(path: Path, value: Any, protocol: int = 4) -> None:
    path.write_bytes(pickle.dumps(value, protocol))


# By file: what writes it, the format it is of, and how many images it says it is of.
FILES: dict[str, tuple[Callable[[Path], Any], str, int | None]] = {
    "moments.npz": (lambda path: np.savez(path, **MOMENTS), "pytorch-fid", None),
    "packed.npz": (lambda path: np.savez_compressed(path, **MOMENTS), "pytorch-fid", None),
    "float32.npz": (
        lambda path: np.savez(path, mu=MU.astype("f4"), sigma=SIGMA.astype("f4")),
        "pytorch-fid",
        None,
    ),
    "swapped.npz": (lambda path: np.savez(path, mu=MU.astype(">f8"), sigma=SIGMA), "pytorch-fid", None),
    "columns.npz": (lambda path: np.savez(path, mu=MU, sigma=np.asfortranarray(SIGMA)), "pytorch-fid", None),
    "x_kid.npz": (lambda path: np.savez_compressed(path, feats=ROWS), "clean-fid-kid", N),
    "columns_kid.npz": (lambda path: np.savez(path, feats=np.asfortranarray(ROWS)), "clean-fid-kid", N),
    "x_feats.npz": (
        lambda path: np.savez(path, real_feats=ROWS, real_probs=ROWS, real_labels=np.arange(N)),
        "studiogan-feats",
        N,
    ),
    "score_sde.npz": (lambda path: np.savez(path, pool_3=ROWS), "score-sde", N),
    "adm.npz": (
        lambda path: np.savez(
            path, **MOMENTS, mu_s=MU[:2], sigma_s=SIGMA[:2, :2], arr_0=np.zeros((7, 4, 4, 3), np.uint8)
        ),
        "adm",
        None,
    ),
    "stat-fid.pt": (
        lambda path: torch.save({"mu": MU.astype("f4"), "sigma": SIGMA}, path),
        "torch-fidelity",
        None,
    ),
    "features.pt": (lambda path: torch.save(torch.from_numpy(ROWS), path), "torch-fidelity-features", N),
    "sums.pkl": (lambda path: save_pickle(path, FEATURE_STATS), "stylegan3", N),
    "captured.pkl": (lambda path: save_pickle(path, CAPTURED, 3), "stylegan3", N),
    "rows-alone.pkl": (lambda path: save_pickle(path, ROWS_ALONE), "stylegan3", N),
    "edm2.pkl": (lambda path: save_pickle(path, EDM2), "edm2", N),
    "pair.pkl": (lambda path: save_pickle(path, (MU, SIGMA), 2), "stylegan2", None),
    "old.npy": (lambda path: np.save(path, MOMENTS, allow_pickle=True), "ttur-npy", None),
}


@pytest.fixture(params=FILES)
def foreign_file(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str, int | None]:
    """Each file in turn, its format, and the number of images that it tells."""
    write, form, n = FILES[request.param]
    write(tmp_path / request.param)
    return tmp_path / request.param, form, n
