"""Evaluate generative image models: every number with its error bar and the terms it was measured on.

>>> import gen_eval
>>> "fid" in dir(gen_eval)
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gen_eval.comparison import Comparison, compare
    from gen_eval.errors import GenEvalError
    from gen_eval.evaluation import Evaluation, evaluate, fid
    from gen_eval.images import open_images
    from gen_eval.likelihood import compare_likelihoods, evaluate_likelihood
    from gen_eval.metrics import METRICS
    from gen_eval.monitor import Monitor
    from gen_eval.passing import summarize
    from gen_eval.perceptual import lpips_diversity, perceptual_path_length
    from gen_eval.protocols import PROTOCOLS
    from gen_eval.results import Result, require_comparable
    from gen_eval.selection import Best
    from gen_eval.store import load, save
    from gen_eval.summary import Summary
    from gen_eval.truncation import truncation_curve
    from gen_eval.two_sample import two_sample_test

# Names are loaded on first use: `import gen_eval` and `geneval --help` must not wait for torch.
_HOMES = {
    "Best": "gen_eval.selection",
    "Comparison": "gen_eval.comparison",
    "Evaluation": "gen_eval.evaluation",
    "GenEvalError": "gen_eval.errors",
    "METRICS": "gen_eval.metrics",
    "Monitor": "gen_eval.monitor",
    "PROTOCOLS": "gen_eval.protocols",
    "Result": "gen_eval.results",
    "Summary": "gen_eval.summary",
    "compare": "gen_eval.comparison",
    "compare_likelihoods": "gen_eval.likelihood",
    "evaluate": "gen_eval.evaluation",
    "evaluate_likelihood": "gen_eval.likelihood",
    "fid": "gen_eval.evaluation",
    "load": "gen_eval.store",
    "lpips_diversity": "gen_eval.perceptual",
    "open_images": "gen_eval.images",
    "perceptual_path_length": "gen_eval.perceptual",
    "require_comparable": "gen_eval.results",
    "save": "gen_eval.store",
    "summarize": "gen_eval.passing",
    "truncation_curve": "gen_eval.truncation",
    "two_sample_test": "gen_eval.two_sample",
}

__all__ = [
    "METRICS",
    "PROTOCOLS",
    "Best",
    "Comparison",
    "Evaluation",
    "GenEvalError",
    "Monitor",
    "Result",
    "Summary",
    "compare",
    "compare_likelihoods",
    "evaluate",
    "evaluate_likelihood",
    "fid",
    "load",
    "lpips_diversity",
    "open_images",
    "perceptual_path_length",
    "require_comparable",
    "save",
    "summarize",
    "truncation_curve",
    "two_sample_test",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gen_eval' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
