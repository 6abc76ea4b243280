"""The table of metrics: a metric is a row that names a pure function."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

from gen_eval.metrics.divergence.ratio import density_ratio, jensen_shannon
from gen_eval.metrics.divergence.variational import f_divergence
from gen_eval.metrics.diversity.classes import class_balance, class_entropy
from gen_eval.metrics.diversity.modes import mode_coverage
from gen_eval.metrics.diversity.pairwise import pairwise_distance
from gen_eval.metrics.diversity.vendi import vendi
from gen_eval.metrics.frechet.classes import frechet_classes
from gen_eval.metrics.frechet.frechet import frechet, frechet_infinity
from gen_eval.metrics.frechet.mifid import mifid
from gen_eval.metrics.inception_score import inception_score
from gen_eval.metrics.kernel.kid import kid
from gen_eval.metrics.kernel.mmd import mmd
from gen_eval.metrics.memorization.authenticity import authenticity
from gen_eval.metrics.memorization.data_copying import data_copying
from gen_eval.metrics.memorization.duplicates import duplicates
from gen_eval.metrics.memorization.fld import fld
from gen_eval.metrics.metric import (
    BOTH,
    Adapter,
    Metric,
    at_least,
    on_classes,
    on_gaussians,
    on_modes,
    on_rows,
    parameters,
)
from gen_eval.metrics.neighbors.manifold import density_coverage, prdc, precision_recall, rarity, realism
from gen_eval.metrics.networks import least_rows
from gen_eval.metrics.score import Score
from gen_eval.metrics.transport.critic import kantorovich_rubinstein
from gen_eval.metrics.transport.exact import wasserstein
from gen_eval.metrics.transport.sliced import sliced_wasserstein
from gen_eval.metrics.two_sample.c2st import c2st
from gen_eval.metrics.two_sample.moments import mean_test, variance_test
from gen_eval.metrics.two_sample.nearest_neighbor import nearest_neighbor_test


def _row(
    name: str,
    engine: Callable[..., Score],
    better: Mapping[str, str],
    cite: str,
    *,
    on: Adapter = on_rows,
    roles: tuple[str, ...] = BOTH,
    params: Mapping[str, Any] = MappingProxyType({}),
    without: Collection[str] = (),
    **others: Any,
) -> Metric:
    """A row of the table.

    Args:
        name: what it is called.
        engine: whose parameters are those of the row, with their defaults.
        better: as :class:`Metric` has it.
        cite: the paper.
        on: how the engine takes the features of each role.
        roles: the sets it compares.
        params: those whose defaults are others than the engine's.
        without: parameters of the engine that are none of the row's.
        others: further fields of :class:`Metric`.
    """
    compute = on(engine, roles)
    defaults = {key: value for key, value in parameters(compute, engine).items() if key not in without}
    return Metric(
        name,
        compute,
        better,
        cite,
        roles=roles,
        params={**defaults, **params},
        by_rows=on in (on_rows, on_modes),
        **others,
    )


def _mmd_row(name: str, cite: str, *, kernel: str = "rbf", **params: Any) -> Metric:
    """A kernel two-sample row: they differ in their parameters alone."""
    return _row(
        name,
        mmd,
        {"mmd2": "lower"},
        cite,
        params={"kernel": kernel, **params},
        without=() if kernel == "rbf" else ("frequencies",),  # whose waves make no other kernel
        least_n=at_least(4),
    )


def _more_than_k(role: str, dim: int, params: Mapping[str, Any]) -> int:
    return int(params["k"]) + 1


def _some_a_fold(role: str, dim: int, params: Mapping[str, Any]) -> int:
    return least_rows(params["folds"])


_ALL = (*BOTH, "heldout")
_GRETTON = "Gretton et al. 2012, JMLR 13:723"
_LOPEZ_PAZ = "Lopez-Paz and Oquab 2017, arXiv:1610.06545"
_GOODFELLOW = "Goodfellow et al. 2014, arXiv:1406.2661"
_KYNKAANNIEMI = "Kynkäänniemi et al. 2019, arXiv:1904.06991"
_NAEEM = "Naeem et al. 2020, arXiv:2002.09797"
_PRECISION_RECALL = {"precision": "higher", "recall": "higher"}
_DENSITY_COVERAGE = {"density": "higher", "coverage": "higher"}

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _row(
            "frechet",
            frechet,
            {"frechet": "lower"},
            "Heusel et al. 2017, arXiv:1706.08500",
            on=on_gaussians,
        ),
        _row(
            "frechet-inf",
            frechet_infinity,
            {"frechet_inf": "lower"},
            "Chong and Forsyth 2020, arXiv:1911.07023",
            on=on_gaussians,
            whole=("generated",),
            least_n=lambda role, dim, params: 2 * dim + 2 if role == "generated" else 2,
        ),
        _row(
            "frechet-classes",
            frechet_classes,
            {"frechet_classes": "lower"},
            "Miyato and Koyama 2018, arXiv:1802.05637",
            on=on_classes,
            whole=BOTH,
            by_class=BOTH,
        ),
        _row(
            "mifid",
            mifid,
            {"mifid": "lower"},
            "Bai et al. 2021, arXiv:2106.03062",
            on=on_gaussians,
            whole=BOTH,
        ),
        _row(
            "inception-score",
            inception_score,
            {"inception_score": "higher"},
            "Salimans et al. 2016, arXiv:1606.03498",
            roles=("generated",),
            tap="logits",
            least_n=lambda role, dim, params: 2 * params["splits"],
        ),
        _row(
            "kid",
            kid,
            {"kid": "lower"},
            "Bińkowski et al. 2018, arXiv:1801.01401",
            by_subset=True,
            least_n=at_least(4),
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
        _row("precision-recall", precision_recall, _PRECISION_RECALL, _KYNKAANNIEMI, least_n=_more_than_k),
        _row("density-coverage", density_coverage, _DENSITY_COVERAGE, _NAEEM, least_n=_more_than_k),
        _row("prdc", prdc, {**_PRECISION_RECALL, **_DENSITY_COVERAGE}, _NAEEM, least_n=_more_than_k),
        _row("realism", realism, {"realism": "higher"}, _KYNKAANNIEMI, least_n=_more_than_k),
        _row(
            "rarity", rarity, {"rarity": "higher"}, "Han et al. 2022, arXiv:2206.08549", least_n=_more_than_k
        ),
        _row(
            "authenticity",
            authenticity,
            {"authenticity": "higher"},
            "Alaa et al. 2022, arXiv:2102.08921",
        ),
        _row(
            "data-copying",
            data_copying,
            {"c_t": "near 0"},
            "Meehan, Chaudhuri and Dasgupta 2020, arXiv:2004.05675",
            roles=_ALL,
            least_n=lambda role, dim, params: (
                int(params["least"]) + 1 if role == "generated" else max(2, int(params["cells"]))
            ),
        ),
        _row(
            "fld",
            fld,
            {"fld": "lower"},
            "Jiralerspong et al. 2023, arXiv:2302.04440",
            roles=_ALL,
            least_n=at_least(4),
        ),
        _row(
            "duplicates",
            duplicates,
            dict.fromkeys(("near_copies", "exact_copies", "near_repeats", "exact_repeats"), "lower"),
            "Alaa et al. 2022, arXiv:2102.08921; copies by the same distances",
        ),
        _row(
            "c2st",
            c2st,
            {"auc": "near 0.5", "accuracy": "near 0.5"},
            _LOPEZ_PAZ,
            without=("k",),
            least_n=at_least(4),
        ),
        _row(
            "c2st-knn",
            c2st,
            {"auc": "near 0.5", "accuracy": "near 0.5"},
            _LOPEZ_PAZ,
            params={"classifier": "knn"},
            without=("penalty",),
            least_n=at_least(4),
        ),
        _row(
            "nearest-neighbor-test",
            nearest_neighbor_test,
            {"accuracy": "near 0.5"},
            "Xu et al. 2018, arXiv:1806.07755",
            least_n=at_least(4),
        ),
        _row(
            "mean-test",
            mean_test,
            {"mean_difference": "lower"},
            "Westfall and Young 1993, Resampling-Based Multiple Testing",
            least_n=at_least(4),
        ),
        _row(
            "variance-test",
            variance_test,
            {"variance_difference": "lower"},
            "Westfall and Young 1993, Resampling-Based Multiple Testing",
            least_n=at_least(4),
        ),
        _row(
            "wasserstein",
            wasserstein,
            {"wasserstein": "lower", "debiased": "lower"},
            "del Barrio and Loubes 2019, arXiv:1705.01299",
            least_n=at_least(8),
        ),
        _row(
            "sliced-wasserstein",
            sliced_wasserstein,
            {"sliced_wasserstein": "lower"},
            "Bonneel et al. 2015, JMIV 51:22",
            least_n=at_least(4),
        ),
        _row(
            "wasserstein-critic",
            kantorovich_rubinstein,
            {"bound": "lower"},
            "Arjovsky et al. 2017, arXiv:1701.07875; Miyato et al. 2018, arXiv:1802.05957",
            least_n=_some_a_fold,
        ),
        _row(
            "f-divergence",
            f_divergence,
            {"f_divergence": "lower"},
            "Nowozin et al. 2016, arXiv:1606.00709",
            least_n=_some_a_fold,
        ),
        _row(
            "jensen-shannon",
            jensen_shannon,
            {"jensen_shannon": "lower", "recalibrated": "lower"},
            _GOODFELLOW,
            least_n=_some_a_fold,
        ),
        _row(
            "density-ratio",
            density_ratio,
            dict.fromkeys(
                ("js", "kl", "reverse_kl", "pearson", "squared_hellinger", "total_variation"), "lower"
            ),
            _GOODFELLOW,
            least_n=_some_a_fold,
        ),
        _row(
            "vendi",
            vendi,
            {"vendi": "higher"},
            "Friedman and Dieng 2023, arXiv:2210.02410",
            roles=("generated",),
        ),
        _row(
            "pairwise-distance",
            pairwise_distance,
            {"pairwise_distance": "higher"},
            "Hoeffding 1948, Ann. Math. Stat. 19:293",
            roles=("generated",),
            least_n=at_least(4),
        ),
        _row(
            "class-entropy",
            class_entropy,
            {"class_entropy": "higher", "effective_classes": "higher"},
            "Miller 1955, Note on the bias of information estimates",
            roles=("generated",),
            tap="logits",
        ),
        _row(
            "class-balance",
            class_balance,
            {"class_kl": "lower"},
            "Pearson 1900, Phil. Mag. 50:157",
            tap="logits",
        ),
        _row(
            "mode-coverage",
            mode_coverage,
            {"modes_covered": "higher", "high_quality": "higher", "mode_kl": "lower"},
            "Srivastava et al. 2017, arXiv:1705.07761",
            on=on_modes,
            whole=("reference",),
            by_class=("reference",),
        ),
    )
}

# What the field calls a metric through an extractor: (metric, extractor, tap).
ALIASES: dict[str, tuple[str, str, str]] = {
    "fid": ("frechet", "inception", "pool"),
    "fid-inf": ("frechet-inf", "inception", "pool"),
    "sfid": ("frechet", "inception", "spatial"),
    "fd": ("frechet", "inception", "pool"),
    "intra-fid": ("frechet-classes", "inception", "pool"),
    "is": ("inception-score", "inception", "logits_unbiased"),
    "class-entropy": ("class-entropy", "inception", "logits_unbiased"),
    "class-balance": ("class-balance", "inception", "logits_unbiased"),
    "kid-full": ("mmd-polynomial", "inception", "pool"),
    "pr": ("precision-recall", "inception", "pool"),
    "dc": ("density-coverage", "inception", "pool"),
    "ct": ("data-copying", "inception", "pool"),
    "jsd": ("jensen-shannon", "inception", "pool"),
    # The others go by the names of their rows.
    **{
        name: (name, "inception", "pool")
        for name, metric in METRICS.items()
        if metric.tap == "pool" and not name.startswith("frechet")
    },
    "cmmd": ("cmmd", "clip", "pool"),
}
