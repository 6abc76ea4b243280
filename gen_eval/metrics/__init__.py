"""The table of metrics: a metric is a row that names a pure function.

A measure is a metric seen through an extractor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from gen_eval.errors import UnknownName
from gen_eval.metrics.frechet import frechet, frechet_infinity
from gen_eval.metrics.frechet_classes import frechet_classes
from gen_eval.metrics.gaussian import Gaussian
from gen_eval.metrics.inception_score import inception_score
from gen_eval.metrics.kid import kid
from gen_eval.metrics.manifold import density_coverage, prdc, precision_recall, rarity, realism
from gen_eval.metrics.memorization import mifid
from gen_eval.metrics.mmd import mmd
from gen_eval.metrics.score import Score
from gen_eval.stats import Features

__all__ = ["ALIASES", "METRICS", "Measure", "Metric", "Score", "find_measure"]


def _at_least_two(role: str, dim: int, params: Mapping[str, Any]) -> int:
    return 2


@dataclass(frozen=True)
class Metric:
    """One row of :data:`METRICS`.

    Args:
        name: what it is called.
        compute: features by role, and the parameters by name, to a score.
        better: its values that models are judged by, each ``"lower"`` or ``"higher"``; the metric's own first.
        cite: the paper.
        roles: the sets it compares.
        params: its parameters and their defaults; protocols may set others.
        tap: the features it looks at, where none are named.
        by_rows: whether it is measured on feature rows, so that a set counts as many images as it has rows.
        whole: the roles of which every feature row is needed, not a bounded sample.
        by_class: whether the images need labels.
        least_n: from role, feature dimension and parameters to the fewest images that it can bear.
        version: raised whenever its numbers would move.
    """

    name: str
    compute: Callable[..., Score]
    better: Mapping[str, str]
    cite: str
    roles: tuple[str, ...] = ("generated", "reference")
    params: Mapping[str, Any] = field(default_factory=dict)
    tap: str = "pool"
    by_rows: bool = False
    whole: tuple[str, ...] = ()
    by_class: bool = False
    least_n: Callable[[str, int, Mapping[str, Any]], int] = _at_least_two
    version: int = 1


@dataclass(frozen=True)
class Measure:
    """A metric seen through a tap of an extractor: ``frechet`` through Inception's ``pool`` is FID.

    Args:
        name: what was asked for.
        metric: the row.
        extractor: a name in :data:`gen_eval.extractors.EXTRACTORS`.
        tap: which of its features.
    """

    name: str
    metric: Metric
    extractor: str
    tap: str


# A subset of fewer rows than this tells no variance worth printing.
_FEWEST_ROWS = 30


def _gaussian(features: Features, ddof: int) -> Gaussian:
    rows = None
    if features.sample and features.sample.n >= min(_FEWEST_ROWS, features.n or _FEWEST_ROWS):
        rows = features.sample.rows
    return Gaussian(features.n, features.moments.mean, features.moments.cov(ddof), rows, ddof)


def _on_gaussians(engine: Callable[..., Score]) -> Callable[..., Score]:
    """An engine that takes the two fitted Gaussians."""

    def compute(features: Mapping[str, Features], *, ddof: int, **params: Any) -> Score:
        return engine(*(_gaussian(features[role], ddof) for role in ("generated", "reference")), **params)

    return compute


def _on_rows(engine: Callable[..., Score], *roles: str) -> Callable[..., Score]:
    """An engine that takes the feature rows of each role, in the order of the images."""

    def compute(features: Mapping[str, Features], **params: Any) -> Score:
        return engine(*(_rows(features[role]) for role in roles), **params)

    return compute


def _rows(features: Features) -> Tensor:
    assert features.sample is not None  # evaluation refuses statistics without rows for a metric of rows
    return features.sample.in_order()


def _on_classes(engine: Callable[..., Score]) -> Callable[..., Score]:
    """An engine that takes the Gaussians of each class, by name."""

    def compute(features: Mapping[str, Features], *, ddof: int, **params: Any) -> Score:
        sides = [
            {name: _gaussian(part, ddof) for name, part in features[role].by_class().items()}
            for role in ("generated", "reference")
        ]
        return engine(*sides, **params)

    return compute


_BOTH = ("generated", "reference")
_FRECHET = {"ddof": 1, "mean_dtype": "float64"}
_MMD = {
    "kernel": "rbf",
    "bandwidth": "median",
    "estimator": "unbiased",
    "scale": 1.0,
    "normalize": False,
    "permutations": 0,
    "seed": 2020,
}
_GRETTON = "Gretton et al. 2012, JMLR 13:723"


def _mmd_row(name: str, cite: str, **params: Any) -> Metric:
    """A kernel two-sample row: they differ in their parameters alone."""
    return Metric(
        name,
        _on_rows(mmd, *_BOTH),
        {"mmd2": "lower"},
        cite,
        params={**_MMD, **params},
        by_rows=True,
        least_n=lambda role, dim, params: 4,
    )


def _balls_row(engine: Callable[..., Score], better: Mapping[str, str], cite: str, **params: Any) -> Metric:
    """A row of the k-NN manifolds, of sets with more images than k."""
    return Metric(
        engine.__name__.replace("_", "-"),
        _on_rows(engine, *_BOTH),
        better,
        cite,
        params={**params, "engine": "auto"},
        by_rows=True,
        least_n=lambda role, dim, params: int(params["k"]) + 1,
    )


_KYNKAANNIEMI = "Kynkäänniemi et al. 2019, arXiv:1904.06991"
_NAEEM = "Naeem et al. 2020, arXiv:2002.09797"
_PRECISION_RECALL = {"precision": "higher", "recall": "higher"}
_DENSITY_COVERAGE = {"density": "higher", "coverage": "higher"}

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "frechet",
            _on_gaussians(frechet),
            {"frechet": "lower"},
            "Heusel et al. 2017, arXiv:1706.08500",
            params={**_FRECHET, "method": "auto"},
        ),
        Metric(
            "frechet-inf",
            _on_gaussians(frechet_infinity),
            {"frechet_inf": "lower"},
            "Chong and Forsyth 2020, arXiv:1911.07023",
            params={**_FRECHET, "points": 15, "smallest": 5000},
            whole=("generated",),
            least_n=lambda role, dim, params: 2 * dim + 2 if role == "generated" else 2,
        ),
        Metric(
            "frechet-classes",
            _on_classes(frechet_classes),
            {"frechet_classes": "lower"},
            "Miyato and Koyama 2018, arXiv:1802.05637",
            params=_FRECHET,
            whole=_BOTH,
            by_class=True,
        ),
        Metric(
            "mifid",
            _on_gaussians(mifid),
            {"mifid": "lower"},
            "Bai et al. 2021, arXiv:2106.03062",
            params={**_FRECHET, "threshold": 0.1},
            whole=_BOTH,
        ),
        Metric(
            "inception-score",
            _on_rows(inception_score, "generated"),
            {"inception_score": "higher"},
            "Salimans et al. 2016, arXiv:1606.03498",
            roles=("generated",),
            params={"splits": 10, "split_size": None, "shuffle": True, "seed": 2020},
            tap="logits",
            by_rows=True,
            least_n=lambda role, dim, params: 2 * params["splits"],
        ),
        Metric(
            "kid",
            _on_rows(kid, *_BOTH),
            {"kid": "lower"},
            "Bińkowski et al. 2018, arXiv:1801.01401",
            params={
                "subsets": 100,
                "subset_size": 1000,
                "degree": 3,
                "gamma": None,
                "coef0": 1.0,
                "seed": 2020,
            },
            by_rows=True,
            least_n=lambda role, dim, params: 4,
        ),
        _mmd_row("mmd", _GRETTON),
        _mmd_row("mmd-polynomial", "Bińkowski et al. 2018, arXiv:1801.01401", kernel="polynomial"),
        _mmd_row("mmd-laplace", _GRETTON, kernel="laplace"),
        _mmd_row(
            "mmd-rational-quadratic", "Bińkowski et al. 2018, arXiv:1801.01401", kernel="rational-quadratic"
        ),
        _mmd_row("mmd-mixture", "Li et al. 2015, arXiv:1502.02761", kernel="mixture"),
        _mmd_row("energy-distance", "Székely and Rizzo 2013, JSPI 143:1249", kernel="energy"),
        _mmd_row(
            "cmmd",
            "Jayasumana et al. 2024, arXiv:2401.09603",
            bandwidth=10.0,
            estimator="biased",
            scale=1000.0,
            normalize=True,
        ),
        _balls_row(
            precision_recall, _PRECISION_RECALL, _KYNKAANNIEMI, k=3, inclusive=True, feature_dtype="float32"
        ),
        _balls_row(
            density_coverage, _DENSITY_COVERAGE, _NAEEM, k=5, inclusive=False, feature_dtype="float32"
        ),
        _balls_row(
            prdc,
            {**_PRECISION_RECALL, **_DENSITY_COVERAGE},
            _NAEEM,
            k=5,
            inclusive=False,
            feature_dtype="float32",
        ),
        _balls_row(realism, {"realism": "higher"}, _KYNKAANNIEMI, k=3),
        _balls_row(rarity, {"rarity": "higher"}, "Han et al. 2022, arXiv:2206.08549", k=3, inclusive=True),
    )
}

# What the field calls a metric through an extractor: (metric, extractor, tap).
ALIASES: dict[str, tuple[str, str, str]] = {
    "fid": ("frechet", "inception", "pool"),
    "fid-inf": ("frechet-inf", "inception", "pool"),
    "sfid": ("frechet", "inception", "spatial"),
    "fd": ("frechet", "inception", "pool"),
    "intra-fid": ("frechet-classes", "inception", "pool"),
    "mifid": ("mifid", "inception", "pool"),
    "is": ("inception-score", "inception", "logits_unbiased"),
    "kid": ("kid", "inception", "pool"),
    "kid-full": ("mmd-polynomial", "inception", "pool"),
    **{name: (name, "inception", "pool") for name in METRICS if name.startswith("mmd")},
    "energy-distance": ("energy-distance", "inception", "pool"),
    "cmmd": ("cmmd", "clip", "pool"),
    "pr": ("precision-recall", "inception", "pool"),
    "dc": ("density-coverage", "inception", "pool"),
    "prdc": ("prdc", "inception", "pool"),
    "realism": ("realism", "inception", "pool"),
    "rarity": ("rarity", "inception", "pool"),
}


def find_measure(name: str | Measure) -> Measure:
    """The measure of a name; a :class:`Measure` is returned as it is.

    Args:
        name: an alias such as ``"fid"``, or ``"METRIC:EXTRACTOR"`` or ``"METRIC:EXTRACTOR/TAP"``, where the
            metric is a name in :data:`METRICS` or an alias.

    Raises:
        UnknownName: if there is none, with the nearest name there is.

    >>> find_measure("fd:pixels").tap
    'pool'
    """
    if isinstance(name, Measure):
        return name
    if not isinstance(name, str):
        raise UnknownName("measure", name, ALIASES)
    called, colon, seen_through = name.partition(":")
    if not colon and called not in ALIASES:
        raise UnknownName("measure", name, ALIASES)
    row, extractor, tap = ALIASES.get(called, (called, "", ""))
    if row not in METRICS:
        raise UnknownName("metric", row, (*METRICS, *ALIASES))
    usual = {extractor: tap}
    if colon:
        extractor, _, tap = seen_through.partition("/")
    return Measure(name, METRICS[row], extractor, tap or usual.get(extractor) or METRICS[row].tap)
