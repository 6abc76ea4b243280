"""The statistics files of other tools: a format is a row of data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gen_eval.errors import StoreError, UsageError
from gen_eval.foreign import held
from gen_eval.foreign.containers import ROWS
from gen_eval.foreign.held import Held

Contents = Mapping[str, Any]

INCEPTION, DINOV2 = "inception", "dinov2"
# What edm2 calls what it measures through which network.
_EDM2 = {"fid": INCEPTION, "fd_dinov2": DINOV2}


@dataclass(frozen=True)
class Format:
    """One row of :data:`FORMATS`.

    Args:
        about: whose files these are, and what they hold.
        extension: what their names end in.
        keys: what a file of this format holds, by which it is known.
        read: from the contents to the features in them.
        write: the inverse; ``None`` where the format is only read.
        protocol: the row of :data:`gen_eval.protocols.PROTOCOLS` that measures as the tool does; of written formats.
        images: what the images beside the statistics are called, if there are any.
    """

    about: str
    extension: str
    keys: tuple[str, ...]
    read: Callable[[Contents], Sequence[Held]]
    write: Callable[[Sequence[Held]], dict[str, Any]] | None = None
    protocol: str = ""
    images: str = ""


def _read_moments(contents: Contents) -> list[Held]:
    return [held.gaussian(contents)]


def _read_rows(name: str) -> Callable[[Contents], list[Held]]:
    return lambda contents: [held.rows(contents, name)]


def _read_adm(contents: Contents) -> list[Held]:
    return [
        held.gaussian(contents, f"mu{part}", f"sigma{part}", network=INCEPTION, tap=tap)
        for part, tap in (("", "pool"), ("_s", "spatial"))
    ]


def _read_edm2(contents: Contents) -> list[Held]:
    n = held.count(contents, "num_images")
    found = [
        held.gaussian(_dictionary(contents, metric), n=n, network=network, tap="pool")
        for metric, network in _EDM2.items()
        if metric in contents
    ]
    if not found:
        raise StoreError(f"it holds neither {' nor '.join(_EDM2)}: found {', '.join(sorted(contents))}")
    return found


def _dictionary(contents: Contents, name: str) -> Contents:
    if not isinstance(contents[name], dict):
        raise StoreError(f"{name} is a {type(contents[name]).__name__}: expected mu and sigma by name")
    return dict(contents[name])


def _read_stylegan3(contents: Contents) -> list[Held]:
    """The attributes of a ``FeatureStats``: sums, whose covariance the tool divides by n, and rows, or either."""
    n = held.count(contents, "num_items")
    rows = held.stacked(contents, "all_features", n) if contents["capture_all"] is True else None
    if contents["capture_mean_cov"] is True:
        return [held.sums(contents, "raw_mean", "raw_cov", n, rows)]
    if rows is None:
        raise StoreError("it captured neither the features nor their mean and covariance")
    return [held.rows({"all_features": rows.numpy()}, "all_features")]


def _write_moments(mean_dtype: str) -> Callable[[Sequence[Held]], dict[str, Any]]:
    """A mean and a covariance divided by n - 1; torch-fidelity compares only means of the type of its own."""
    return lambda each: _moments(_only(each), mean_dtype)


def _moments(one: Held, mean_dtype: str = "float64") -> dict[str, Any]:
    features = one.features
    return {"mu": features.moments.mean.numpy().astype(mean_dtype), "sigma": features.cov(1).numpy()}


def _write_rows(name: str) -> Callable[[Sequence[Held]], dict[str, Any]]:
    return lambda each: {name: _rows(_only(each))}


def _rows(one: Held) -> np.ndarray[Any, Any]:
    sample = one.features.sample
    if sample is None or sample.n != one.features.n:
        kept = 0 if sample is None else sample.n
        raise UsageError(
            f"this format takes every feature row, and {kept} of {one.features.n or 'unknown'} were kept: make the "
            "statistics anew with more --rows"
        )
    return sample.in_order().float().numpy()


def _write_adm(each: Sequence[Held]) -> dict[str, Any]:
    pool, spatial = (_named(each, INCEPTION, tap) for tap in ("pool", "spatial"))
    contents = _moments(pool, "float32")
    return contents | {f"{name}_s": array for name, array in _moments(spatial, "float32").items()}


def _write_edm2(each: Sequence[Held]) -> dict[str, Any]:
    fitting = {
        metric: one
        for metric, network in _EDM2.items()
        for one in each
        if one.network and one.fits(network, "pool")
    }
    counts = {one.features.n for one in fitting.values()}
    if not fitting or None in counts or len(counts) > 1:
        raise UsageError(
            "this format takes statistics of Inception, DINOv2 or both, of one known number of images; found "
            + _list(each)
        )
    return {"num_images": counts.pop(), **{metric: _moments(one) for metric, one in fitting.items()}}


def _only(each: Sequence[Held]) -> Held:
    if len(each) != 1:
        raise UsageError(
            f"this format takes the features of one network and tap; choose one of {_list(each)}"
        )
    return each[0]


def _named(each: Sequence[Held], network: str, tap: str) -> Held:
    fitting = [one for one in each if one.network and one.fits(network, tap)]
    if len(fitting) != 1:
        raise UsageError(f"this format takes features of {network} {tap}; found {_list(each)}")
    return fitting[0]


def _list(each: Sequence[Held]) -> str:
    return "; ".join(map(str, each))


# A file is of the first format whose keys it holds.
FORMATS: dict[str, Format] = {
    "adm": Format(
        "guided-diffusion's reference batches: pooled and spatial Inception features, and images",
        ".npz",
        ("mu", "sigma", "mu_s", "sigma_s"),
        _read_adm,
        _write_adm,
        "adm",
        images="arr_0",
    ),
    "pytorch-fid": Format(
        "pytorch-fid, StudioGAN's moments: mean and covariance",
        ".npz",
        ("mu", "sigma"),
        _read_moments,
        _write_moments("float64"),
        "pytorch-fid",
        images="arr_0",
    ),
    "edm": Format(
        "EDM, TTUR: the same, behind TensorFlow's resize",
        ".npz",
        ("mu", "sigma"),
        _read_moments,
        _write_moments("float64"),
        "edm",
    ),
    "clean-fid": Format(
        "clean-fid: the same; it looks for NAME_clean_custom_na.npz in its folder stats",
        ".npz",
        ("mu", "sigma"),
        _read_moments,
        _write_moments("float32"),
        "clean-fid",
    ),
    "clean-fid-kid": Format(
        "clean-fid: feature rows; it looks for NAME_clean_custom_na_kid.npz in its folder stats",
        ".npz",
        ("feats",),
        _read_rows("feats"),
        _write_rows("feats"),
        "clean-fid",
    ),
    "studiogan-feats": Format("StudioGAN: feature rows", ".npz", ("real_feats",), _read_rows("real_feats")),
    "score-sde": Format("score_sde: feature rows", ".npz", ("pool_3",), _read_rows("pool_3")),
    "torch-fidelity": Format(
        "torch-fidelity: mean and covariance, NAME-inception-v3-compat-stat-fid-2048.pt in its cache",
        ".pt",
        ("mu", "sigma"),
        _read_moments,
        _write_moments("float32"),
        "torch-fidelity",
    ),
    "torch-fidelity-features": Format(
        "torch-fidelity: feature rows, NAME-inception-v3-compat-features-2048.pt in its cache",
        ".pt",
        (ROWS,),
        _read_rows(ROWS),
        _write_rows(ROWS),
        "torch-fidelity",
    ),
    "stylegan3": Format(
        "StyleGAN2-ADA and StyleGAN3: sums of features and of their products, feature rows, or both",
        ".pkl",
        ("capture_all", "capture_mean_cov", "num_items", "all_features", "raw_mean", "raw_cov"),
        _read_stylegan3,
    ),
    "edm2": Format(
        "edm2: mean and covariance of Inception, of DINOv2, or both",
        ".pkl",
        ("num_images",),
        _read_edm2,
        _write_edm2,
        "edm2",
    ),
    "stylegan2": Format("StyleGAN2: mean and covariance", ".pkl", ("mu", "sigma"), _read_moments),
    "ttur-npy": Format(
        "early TTUR and its kin: a pickled dictionary of mean and covariance",
        ".npy",
        ("mu", "sigma"),
        _read_moments,
    ),
}
