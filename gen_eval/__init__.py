"""Evaluate generative image models: every number with its error bar and the terms it was measured on.

>>> import gen_eval
>>> "fid" in dir(gen_eval)
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gen_eval.errors import GenEvalError
    from gen_eval.evaluation import Evaluation, evaluate, fid
    from gen_eval.images import open_images
    from gen_eval.metrics import METRICS
    from gen_eval.protocols import PROTOCOLS
    from gen_eval.results import Result, require_comparable
    from gen_eval.store import load, save
    from gen_eval.summary import Summary, summarize

# Names are loaded on first use: `import gen_eval` and `geneval --help` must not wait for torch.
_HOMES = {
    "Evaluation": "gen_eval.evaluation",
    "GenEvalError": "gen_eval.errors",
    "METRICS": "gen_eval.metrics",
    "PROTOCOLS": "gen_eval.protocols",
    "Result": "gen_eval.results",
    "Summary": "gen_eval.summary",
    "evaluate": "gen_eval.evaluation",
    "fid": "gen_eval.evaluation",
    "load": "gen_eval.store",
    "open_images": "gen_eval.images",
    "require_comparable": "gen_eval.results",
    "save": "gen_eval.store",
    "summarize": "gen_eval.summary",
}

__all__ = [
    "METRICS",
    "PROTOCOLS",
    "Evaluation",
    "GenEvalError",
    "Result",
    "Summary",
    "evaluate",
    "fid",
    "load",
    "open_images",
    "require_comparable",
    "save",
    "summarize",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gen_eval' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
