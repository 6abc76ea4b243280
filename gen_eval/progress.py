"""How long-running work tells its caller where it stands. The library itself never prints."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called as work proceeds; the first call for a task opens it, ``done == total`` closes it."""

    def __call__(self, task: str, done: int, total: int | None, unit: str) -> None:
        """Report progress.

        Args:
            task: what is being done, such as ``"real/"`` or ``"inception-2015-12-05"``.
            done: units finished so far.
            total: units in all; ``None`` where it is unknown.
            unit: ``"image"``, ``"byte"``, ``"step"`` or ``"second"``.
        """


def silent(task: str, done: int, total: int | None, unit: str) -> None:
    """The :class:`Progress` that shows nothing."""
