"""Is one model better than another? The difference of two results, how sure it is, and a verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from gen_eval.contributions import covariance
from gen_eval.direction import is_improvement, judged
from gen_eval.errors import UnknownName, UsageError
from gen_eval.results import Result, require_comparable


@dataclass(frozen=True)
class Comparison:
    """What one value says of two models.

    Args:
        value: the name of the value that was compared.
        a: the value of the first.
        b: the value of the second.
        better: ``"lower"``, ``"higher"``, or such as ``"near 0.5"``.
        difference: ``a - b``; of a value that is to be near a target, of its distances to it.
        error: the standard error of the difference.
        p_value: how often two models that are equally good would differ as much, to either side.
        paired: the roles whose images stand in both results, and whose sampling error was paired out.
        shared: the roles whose images stand in both results, and whose sampling error could not be paired out: the
            error counts it twice, as if each result had drawn its own. That is too wide where the draw moves both
            values alike, as it does with models of one kind.
    """

    value: str
    a: float
    b: float
    better: str
    difference: float
    error: float
    p_value: float
    paired: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()

    @property
    def a_looks_better(self) -> bool:
        """Whether the first has the better value, be it by chance."""
        return is_improvement(self.difference, self.better)

    @property
    def p_improved(self) -> float:
        """The p-value against one side: how often an ``a`` no better than ``b`` would look as much better."""
        return self.p_value / 2 if self.a_looks_better else 1 - self.p_value / 2

    def verdict(self, alpha: float = 0.05) -> str | None:
        """``"a"`` or ``"b"``, whichever is better; ``None`` where they are not told apart at the level.

        Raises:
            UsageError: if alpha is no probability.
        """
        require_level(alpha)
        if self.p_value > alpha:
            return None
        return "a" if self.a_looks_better else "b"

    def __str__(self) -> str:
        by = f"{self.value} {self.a:.6g} against {self.b:.6g}, difference {self.difference:.4g} ± {self.error:.2g}"
        verdict = self.verdict()
        says = "not told apart" if verdict is None else f"{verdict} is better"
        paired = f"; {' and '.join(self.paired)} paired" if self.paired else ""
        return f"{says}: {by} (p = {self.p_value:.2g}{paired})"

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain data."""
        return {**vars(self), "paired": list(self.paired), "shared": list(self.shared)}


def compare(a: Result, b: Result, value: str | None = None, *, paired: bool = False) -> Comparison:
    """Compare two models by one value.

    The difference of two values that were measured against the same reference is surer than either: what the draw
    of the reference did to one it did to the other. Where both results hold the contribution of each reference
    image, as those of the Fréchet distance do, the covariance of the two values is the sum of its products,
    ``n / (k - 1) * sum(c_a c_b)``, and goes out of the error twice. What is common to both does so of the bias too: it
    cancels as far as it is equal.

    Args:
        a: of one model.
        b: of the other, on the same terms.
        value: which of the values; by default the metric's own. Others have no contributions to pair.
        paired: whether image i of both generated sets was made from the same seed, or latent, so that the generated
            sets can be paired as well.

    Returns:
        The comparison; the p-value is that of a normal difference.

    Raises:
        IncomparableError: if they were measured on different terms.
        UnknownName: if there is no such value.
        UsageError: if the value has no standard error, or one of them is NaN or infinite.
    """
    name = find_value(a, b, value)
    for result in (a, b):
        if not is_finite(result, name):
            raise UsageError(
                f"{name} of {result.measure} is {result.values[name]:g} ± {result.errors[name]:g}, which compares with "
                "nothing: look at the generator, and at the warnings of the result"
            )
    better = a.better[name]
    side_a, side_b = (judged(result.values[name], better) for result in (a, b))
    roles = _common_roles(a, b, paired)
    first = next(iter(a.values)) == name
    covariances = {role: _covariance(a, b, role) if first else None for role in roles}
    known = {role: found for role, found in covariances.items() if found is not None}
    variance = a.errors[name] ** 2 + b.errors[name] ** 2 - 2 * side_a[1] * side_b[1] * sum(known.values())
    difference, error = side_a[0] - side_b[0], math.sqrt(max(variance, 0.0))
    return Comparison(
        value=name,
        a=a.values[name],
        b=b.values[name],
        better=better,
        difference=difference,
        error=error,
        p_value=_p_value(difference, error),
        paired=tuple(known),
        shared=tuple(role for role in roles if role not in known and a.sets[role].claimed is False),
    )


def find_value(a: Result, b: Result, value: str | None = None) -> str:
    """The name of the value to compare two results by, as :func:`compare` takes and refuses them."""
    for result in (a, b):
        if not isinstance(result, Result):
            raise UsageError(
                f"found a {type(result).__name__}: expected one Result, such as the first of a list, results[0]; "
                "likelihoods are for compare_likelihoods"
            )
    require_comparable([a, b])
    name = next(iter(a.values)) if value is None else value
    for result in (a, b):
        if name not in result.values:
            raise UnknownName("value", name, result.values)
        if name not in result.better:
            raise UsageError(
                f"{name} of {result.measure} tells no model from a better one: compare by "
                f"{' or '.join(map(repr, result.better))}"
            )
        if result.errors.get(name) is None:
            raise UsageError(
                f"{name} of {result.measure} has no standard error here, so two of them cannot be told apart: "
                "measure with feature rows, or by a metric that has one"
            )
    return name


def is_finite(result: Result, name: str) -> bool:
    """Whether a value that has a standard error is a number, and the error too."""
    return math.isfinite(result.values[name]) and math.isfinite(result.errors[name])


def require_level(alpha: float) -> None:
    """Refuse a level that is no probability.

    Raises:
        UsageError: if it is not between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise UsageError(f"alpha must lie between 0 and 1, found {alpha}")


def _common_roles(a: Result, b: Result, paired: bool) -> list[str]:
    same = {role for role in a.sets if a.sets[role].digest and a.sets[role].digest == b.sets[role].digest}
    return [role for role in a.sets if role in same or (role == "generated" and paired)]


def _covariance(a: Result, b: Result, role: str) -> float | None:
    """Of the two values, by the draw of the set in a role; ``None`` where its images' contributions are unknown."""
    n = a.sets[role].n
    if n is None or not all(each.pairable and role in each.contributions for each in (a, b)):
        return None
    return covariance(a.contributions[role], b.contributions[role], n)


def _p_value(difference: float, error: float) -> float:
    if difference == 0:
        return 1.0
    return math.erfc(abs(difference) / error / math.sqrt(2)) if error else 0.0
