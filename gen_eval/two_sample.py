"""Do two sets come from one distribution? Several tests of one pass, corrected for being several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gen_eval.comparison import require_level
from gen_eval.errors import UnknownName, UsageError
from gen_eval.evaluation import evaluate
from gen_eval.extractors.vectors import NAME as IDENTITY
from gen_eval.metrics import METRICS
from gen_eval.metrics.two_sample.significance import benjamini_hochberg, bonferroni, holm
from gen_eval.results import Result
from gen_eval.sources import Vectors, open_source

# What each sees: means, spreads, any difference a linear or local classifier finds, neighbours, a kernel.
DEFAULT_TESTS = ("mean-test", "variance-test", "c2st", "c2st-knn", "nearest-neighbor-test", "mmd")
CORRECTIONS = {"holm": holm, "bonferroni": bonferroni, "benjamini-hochberg": benjamini_hochberg}
# A test is a row that has a level.
TESTS = tuple(name for name, metric in METRICS.items() if "alpha" in metric.params)


@dataclass(frozen=True)
class Outcome:
    """One test among several.

    Args:
        result: the statistic and the terms it was measured on.
        p_value: as if it were the only test.
        adjusted: the p-value that counts the other tests; it is compared with the level.
        power: the probability that as many fresh images would be rejected, were the true effect the one found. This
            and the next are at the level ``alpha / number of tests``, which every correction surely leaves to each.
        detectable: the least effect, in units of the statistic, that these sizes find with probability 0.8;
            ``None`` where the permutations are too few to find any.
    """

    result: Result
    p_value: float
    adjusted: float
    power: float
    detectable: float | None

    @property
    def test(self) -> str:
        """The name of the test."""
        return self.result.measure.partition(":")[0]


@dataclass(frozen=True)
class TwoSampleReport:
    """What several tests say together.

    Args:
        outcomes: in the order of the tests.
        alpha: the level of all tests together.
        correction: how the p-values were adjusted for their number.
    """

    outcomes: Sequence[Outcome]
    alpha: float
    correction: str

    @property
    def rejecting(self) -> list[str]:
        """The tests that find a difference at the level."""
        return [each.test for each in self.outcomes if each.adjusted <= self.alpha]

    @property
    def differ(self) -> bool:
        """Whether any test finds a difference at the level."""
        return bool(self.rejecting)

    @property
    def p_value(self) -> float:
        """The least adjusted p-value: that of the hypothesis that the sets differ in nothing."""
        return min(each.adjusted for each in self.outcomes)

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain data."""
        return {
            "differ": self.differ,
            "p_value": self.p_value,
            "alpha": self.alpha,
            "correction": self.correction,
            "tests": [
                {
                    "test": each.test,
                    "p_value": each.p_value,
                    "adjusted": each.adjusted,
                    "power": each.power,
                    "detectable": each.detectable,
                    "result": each.result.to_json(),
                }
                for each in self.outcomes
            ],
        }


def two_sample_test(
    reference: Any,
    generated: Any,
    *,
    tests: Sequence[str] = DEFAULT_TESTS,
    extractor: str | None = None,
    alpha: float = 0.05,
    correction: str = "holm",
    permutations: int = 500,
    params: Mapping[str, Any] | None = None,
    n: int | None = None,
    seed: int = 0,
    **options: Any,
) -> TwoSampleReport:
    """Test whether two sets come from one distribution, at a level that holds for all tests together.

    Args:
        reference: images, feature vectors ``[n, d]`` such as a 2-D point cloud, or statistics with rows.
        generated: the same.
        tests: names in :data:`TESTS`.
        extractor: what images are seen through, such as ``"dinov2"``; Inception by default. Vectors are taken as
            they are.
        alpha: the probability of finding a difference where there is none. Under ``"benjamini-hochberg"`` the
            share of the tests that find one wrongly.
        correction: for the number of tests: ``"holm"``, ``"bonferroni"`` or ``"benjamini-hochberg"``.
        permutations: relabellings behind each p-value, which is at least ``1 / (1 + permutations)``.
        params: metric parameters, as :class:`gen_eval.Evaluation` takes them.
        n: number of images asked of a ``generated`` that is a callable.
        seed: seed of its first image.
        options: ``device`` and all else that :class:`gen_eval.Evaluation` takes.

    Raises:
        UnknownName: if there is no such test or correction.
        UsageError: if alpha is no probability, or so few permutations cannot reach it.
    """
    tests = [tests] if isinstance(tests, str) else list(dict.fromkeys(tests))
    for test in tests:
        if test not in TESTS:
            raise UnknownName("test", test, TESTS)
    if not tests:
        raise UsageError(f"no tests were asked for; there are {', '.join(TESTS)}")
    if correction not in CORRECTIONS:
        raise UnknownName("correction", correction, CORRECTIONS)
    for name in params or {}:
        if name.split(".")[-1] in ("alpha", "permutations"):
            raise UsageError(f"'{name}' is for all tests together: set it with the option of that name")
    require_level(alpha)
    if 1 / (1 + permutations) > alpha / len(tests):
        raise UsageError(
            f"{permutations} permutations give no p-value below {1 / (1 + permutations):.2g}, so {len(tests)} tests "
            f"could find nothing at a level of {alpha:g}: ask for at least {int(len(tests) / alpha)}"
        )
    opening = {name: options[name] for name in ("offline", "progress") if name in options}
    first = open_source(reference, **opening)
    sources = (first, open_source(generated, n=n, seed=seed, beside=first, **opening))
    if extractor is None:
        extractor = IDENTITY if any(isinstance(each, Vectors) for each in sources) else "inception"
    settings = {"alpha": alpha / len(tests), "permutations": permutations, **(params or {})}
    results = evaluate(
        [f"{test}:{extractor}" for test in tests],
        reference=sources[0],
        generated=sources[1],
        params=settings,
        **options,
    )
    p_values = [result.values["p_value"] for result in results]
    adjusted = CORRECTIONS[correction](p_values)
    outcomes = [
        Outcome(result, p_value, float(corrected), result.values["power"], result.values.get("detectable"))
        for result, p_value, corrected in zip(results, p_values, adjusted, strict=True)
    ]
    return TwoSampleReport(outcomes, alpha, correction)
