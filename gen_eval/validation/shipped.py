"""The generators of digits that ship, against real digits that they have not seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from scipy.stats import spearmanr

from gen_eval.evaluation import Evaluation
from gen_eval.metrics.neighbors.manifold import precision_recall
from gen_eval.validation.check import Check, at_least
from gen_eval.validation.digits import digits, judge
from gen_eval.zoo.models import MODELS
from gen_eval.zoo.names import CHECKPOINTS, open_sampler
from gen_eval.zoo.sampler import Sampler
from gen_eval.zoo.task import Recipe

_SUFFIX = "-mnist"
_FEW, _N = 500, 1000
# Of normal latents whose components are drawn again, and of styles moved to their mean: none, mild, and so on.
_THRESHOLDS = (4.0, 2.0, 1.5, 1.0, 0.75)
_PSIS = (1.0, 0.9, 0.8, 0.65, 0.5)


# Recipes of the models that ship trained on digits.
SHIPPED: dict[str, Recipe] = {
    name: model.recipe for name, model in MODELS.items() if f"{name}{_SUFFIX}" in CHECKPOINTS
}
_SWEPT = {"dcgan": _THRESHOLDS, "sngan": _THRESHOLDS, "biggan": _THRESHOLDS, "stylegan": _PSIS}


def _beaten(names: Sequence[str]) -> Sequence[float]:
    """By how much the FID of each model exceeds that of held-out digits."""
    train, test = (digits(split).images[:_FEW].permute(0, 2, 3, 1).numpy() for split in ("train", "test"))
    evaluation = Evaluation("fid", reference=train)
    real = evaluation.measure(test)[0].value
    models = (evaluation.measure(open_sampler(name + _SUFFIX), n=_FEW)[0].value for name in names)
    return [model - real for model in models]


def label_accuracy(sampler: Sampler) -> float:
    """The share of samples that the judge finds to be of the class asked for."""
    labels = sampler.labels_of(torch.arange(_N))
    assert labels is not None  # it knows classes
    return judge().accuracy(sampler.sample(_N, seed=0), labels)


def domain_agreement(sampler: Sampler) -> float:
    """The share of latents of a coupled net that give one class in both domains, the second turned to be positive."""
    original, negative = (sampler.sample(_N, seed=0, labels=domain) for domain in (0, 1))
    return judge().accuracy(original, judge().logits(255 - negative).argmax(1))


def truncation_trade(sampler: Sampler, truncations: Sequence[float]) -> Sequence[float]:
    """The rank correlation of recall with the truncation, its fall, and the rise of precision.

    Args:
        sampler: of digits.
        truncations: the widest first; precision is to rise to the third at least, and recall to fall to the fourth.
    """
    reference = judge().features(digits("test").images[:_N])
    pairs = [
        precision_recall(judge().features(sampler.sample(_N, seed=0, truncation=t)), reference).values
        for t in truncations
    ]
    precisions, recalls = ([pair[name] for pair in pairs] for name in ("precision", "recall"))
    order = float(spearmanr(truncations, recalls).statistic)
    return [order, recalls[0] - recalls[3], precisions[2] - precisions[0]]


def _best() -> Check:
    names = tuple(SHIPPED)
    return Check(
        "real-digits-are-best",
        "By FID, 500 held-out digits are nearer to training digits than 500 samples of any model.",
        names,
        "images",
        tuple(at_least(0.0, f"{name} less real") for name in names),
        lambda: _beaten(names),
        "Heusel et al. 2017, arXiv:1706.08500",
    )


def _labels(name: str) -> Check:
    return Check(
        f"labels-of-digits-{name}",
        "A classifier sees the class that a conditional model was asked for.",
        (name,),
        "images",
        (at_least(0.6, "label accuracy"),),
        lambda: label_accuracy(open_sampler(name + _SUFFIX)),
        "Odena et al. 2017, arXiv:1610.09585, section 4.2",
    )


def _domains(name: str) -> Check:
    return Check(
        f"domains-of-digits-{name}",
        "One latent makes the same digit in both domains, as a classifier sees it.",
        (name,),
        "images",
        (at_least(0.6, "agreement"),),
        lambda: domain_agreement(open_sampler(name + _SUFFIX)),
        "Liu and Tuzel 2016, arXiv:1606.07536",
    )


def _truncation(name: str, truncations: Sequence[float]) -> Check:
    fourth, third, first = (f"{truncations[at]:g}" for at in (3, 2, 0))
    return Check(
        f"truncation-of-digits-{name}",
        "Truncation trades recall for precision, which rises until a turn that is the network's own.",
        (name, "precision-recall"),
        "images",
        (
            at_least(0.9, "rank correlation of recall"),
            at_least(0.1, f"recall, {first} less {fourth}"),
            at_least(0.01, f"precision, {third} less {first}"),
        ),
        lambda: truncation_trade(open_sampler(name + _SUFFIX), truncations),
        "Brock et al. 2019, arXiv:1809.11096, figure 2; Karras et al. 2019, arXiv:1812.04948",
    )


def of_shipped() -> Iterator[Check]:
    """The checks of :data:`SHIPPED`: of labels or domains where a model has them, and of some truncations."""
    if SHIPPED:
        yield _best()
    for name, recipe in SHIPPED.items():
        if getattr(recipe, "net", "") == "coupled":
            yield _domains(name)
        elif getattr(recipe, "conditional", False):
            yield _labels(name)
        if name in _SWEPT:
            yield _truncation(name, _SWEPT[name])


SHIPPED_DIGITS = tuple(of_shipped())
