"""Every error that gen_eval raises on purpose.

::

    GenEvalError
    ├── UsageError              an argument that makes no sense (also a ValueError)
    │   └── UnknownName         a name that is in no table; says what was meant
    ├── ImagesError             a set of images that cannot be read
    │   └── CorruptImages       files that are broken; carries their names
    ├── TooFewImages            fewer images than the metric can bear
    ├── FetchError              a file that could be had from none of its sources
    │   └── ChecksumMismatch    a file that is not the one it should be
    ├── WeightsError            network weights that do not fit, or lack the part asked for
    ├── StoreError              a statistics file that cannot be read or adopted
    ├── NumericalError          features or covariances that no number can be made from
    ├── IncomparableError       two numbers measured on different terms
    ├── DistributedError        processes that did not meet
    └── RunFailed               a process of another tool that ended in an error

A message says what was found, what was expected, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class GenEvalError(Exception):
    """Base of all errors that gen_eval raises on purpose."""


class UsageError(GenEvalError, ValueError):
    """An argument that makes no sense."""


class UnknownName(UsageError):
    """A name that is in no table.

    Args:
        what: the kind of thing that was named, such as ``"metric"``.
        name: the name that was given.
        known: the names that exist.
    """

    def __init__(self, what: str, name: object, known: Iterable[str]) -> None:
        names = sorted(set(known))
        given = str(name)
        close = get_close_matches(given, names, n=1) or get_close_matches(given.lower(), names, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        super().__init__(f"unknown {what} '{name}': {hint}known: {', '.join(names)}")


class ImagesError(GenEvalError):
    """A set of images that cannot be read."""


class CorruptImages(ImagesError):
    """Image files that are broken or cut short.

    Args:
        where: the set that they belong to.
        broken: ``(name, reason)`` of each broken file.
    """

    SHOWN = 10

    def __init__(self, where: str, broken: Sequence[tuple[str, str]]) -> None:
        self.broken = tuple(broken)
        lines = [f"  {name}: {reason}" for name, reason in self.broken[: self.SHOWN]]
        if len(self.broken) > self.SHOWN:
            lines.append(f"  and {len(self.broken) - self.SHOWN} more")
        files = "1 image" if len(self.broken) == 1 else f"{len(self.broken)} images"
        super().__init__(
            f"{files} in {where} cannot be decoded:\n" + "\n".join(lines) + "\n"
            "Repair or remove them, or leave them out with --skip-corrupt (skip_corrupt=True)."
        )


class TooFewImages(GenEvalError):
    """Fewer images than the metric can bear."""


class FetchError(GenEvalError):
    """A file that could be had from none of its sources."""


class ChecksumMismatch(FetchError):
    """A file whose content is not what its sha256 says."""


class WeightsError(GenEvalError):
    """Network weights that do not fit the network, or lack the part asked for."""


class StoreError(GenEvalError):
    """A statistics file that cannot be read or adopted."""


class NumericalError(GenEvalError):
    """Features or covariances that no number can be made from."""


class IncomparableError(GenEvalError):
    """Two numbers or statistics that were measured on different terms."""


class DistributedError(GenEvalError):
    """Processes that were to measure together and did not meet."""


class RunFailed(GenEvalError):
    """A process of another tool that ended in an error; the message has its last words."""
