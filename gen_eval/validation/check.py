"""What a check is: numbers that are known, a function that finds them, and how far they may be apart.

>>> doubled = Check("doubled", "Twice two.", (), "quick", (near(4.0, 0.1),), lambda: 2 * 2.3, "arithmetic")
>>> outcome = run(doubled)
>>> outcome.passed, outcome.got, doubled.known[0].tolerance
(False, (4.6,), '±0.1')
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gen_eval.errors import UnknownName, UsageError

# Each holds those before it: a tier says how long one is willing to wait, on one thread of a small machine.
TIERS = {
    "quick": "about three minutes of a core",
    "standard": "several more",
    "images": "about 10 minutes more",
}


@dataclass(frozen=True)
class Known:
    """What one number of a check has to be: from ``value - below`` to ``value + above``, ends included.

    Args:
        value: the known answer.
        below: how much less is allowed; infinite if anything is.
        above: how much more.
        what: which number it is, where a check has several.
    """

    value: float
    below: float
    above: float
    what: str = ""

    def met(self, got: float) -> bool:
        """Whether a number is as it has to be; NaN never is."""
        return self.value - self.below <= got <= self.value + self.above

    @property
    def tolerance(self) -> str:
        """How far it may be off, in words: ``"±0.28"``, ``"or more"``, ``"-0.03 +0.001"``, ``"exactly"``."""
        if self.below == self.above:
            return f"±{self.below:.3g}" if self.below else "exactly"
        if math.inf in (self.below, self.above):
            return "or more" if self.above == math.inf else "or less"
        return f"-{self.below:.3g} +{self.above:.3g}"


def near(value: float, tolerance: float, what: str = "") -> Known:
    """A number to be met within so much on either side; 0 for exactly."""
    return Known(value, tolerance, tolerance, what)


def at_least(value: float, what: str = "") -> Known:
    """A number to be reached."""
    return Known(value, 0.0, math.inf, what)


def at_most(value: float, what: str = "") -> Known:
    """A number not to be exceeded."""
    return Known(value, math.inf, 0.0, what)


@dataclass(frozen=True)
class Check:
    """One row of :data:`gen_eval.validation.CHECKS`.

    Args:
        name: what it is called.
        about: a line on what must come out, and why.
        models: the models, worlds and metrics that it concerns, by name.
        tier: a key of :data:`TIERS`.
        known: what each number has to be.
        run: finds as many numbers. It draws from its own seeds, so it finds the same ones each time.
        cite: where the answer is from.

    Raises:
        UnknownName: if there is no such tier.
        UsageError: if nothing is known.
    """

    name: str
    about: str
    models: tuple[str, ...]
    tier: str
    known: tuple[Known, ...]
    run: Callable[[], float | Sequence[float]]
    cite: str

    def __post_init__(self) -> None:
        if self.tier not in TIERS:
            raise UnknownName("tier", self.tier, TIERS)
        if not self.known:
            raise UsageError(f"the check {self.name} knows no answer, so it could not fail")


@dataclass(frozen=True)
class Outcome:
    """What came of a check.

    Args:
        check: which.
        got: its numbers; none if it broke off.
        seconds: that it took.
        error: what happened, if it broke off.
    """

    check: Check
    got: tuple[float, ...]
    seconds: float
    error: str | None = None

    @property
    def passed(self) -> bool:
        """Whether every number is as it has to be."""
        pairs = zip(self.check.known, self.got, strict=True) if self.error is None else ()
        return self.error is None and all(known.met(got) for known, got in pairs)


def run(check: Check) -> Outcome:
    """Run a check. Whatever it raises is a miss, and its text is kept; an interrupt is let through."""
    start = time.perf_counter()
    try:
        found = check.run()
        got = tuple(float(number) for number in (found if isinstance(found, Sequence) else (found,)))
        if len(got) != len(check.known):
            raise UsageError(f"{check.name} knows {len(check.known)} numbers and found {len(got)}")
    except Exception as error:
        return Outcome(check, (), time.perf_counter() - start, f"{type(error).__name__}: {error}")
    return Outcome(check, got, time.perf_counter() - start)


def select(checks: Mapping[str, Check], names: Sequence[str], tier: str) -> list[Check]:
    """The checks asked for, in the order of the table.

    Args:
        checks: the table to choose from.
        names: of checks, which are taken whatever their tier; or of models, worlds and metrics, whose checks are taken
            up to the tier. Without any, all checks up to the tier are.
        tier: a key of :data:`TIERS`; the tiers before it are included.

    Raises:
        UnknownName: if a tier or a name does not exist.
        UsageError: if all checks that concern a name are of later tiers.
    """
    if tier not in TIERS:
        raise UnknownName("tier", tier, TIERS)
    tiers = list(TIERS)
    within = {name: check for name, check in checks.items() if tiers.index(check.tier) <= tiers.index(tier)}
    chosen = set() if names else set(within)
    for name in names:
        if name in checks:
            chosen.add(name)
            continue
        concerned = [check for check in checks.values() if name in check.models]
        if not concerned:
            known = (model for check in checks.values() for model in check.models)
            raise UnknownName("check or model", name, [*checks, *known])
        taken = {check.name for check in concerned} & set(within)
        if not taken:
            first = min((check.tier for check in concerned), key=tiers.index)
            raise UsageError(
                f"no check of '{name}' is as quick as {tier}: ask for the tier {first}, by --tier {first}"
            )
        chosen |= taken
    return [check for check in checks.values() if check.name in chosen]
