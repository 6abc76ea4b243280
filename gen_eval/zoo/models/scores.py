"""The score models: a score of one distribution, and denoisers at many levels of noise."""

from __future__ import annotations

from gen_eval.zoo.denoising import Denoising
from gen_eval.zoo.scores import ScoreMatching
from gen_eval.zoo.task import Model

SCORES = (
    Model(
        "score-matching",
        "a score of vectors by exact score matching, sampled by Langevin dynamics",
        ScoreMatching(),
        "Hyvarinen 2005, JMLR 6:695",
    ),
    Model(
        "sliced-score-matching",
        "the same, its trace estimated in random directions",
        ScoreMatching(objective="sliced-vr"),
        "Song et al. 2019, arXiv:1905.07088",
    ),
    Model(
        "denoising-score-matching",
        "the same, of data with noise of one level, by denoising it",
        ScoreMatching(objective="denoising", sigma=0.1),
        "Vincent 2011, Neural Computation 23:1661",
    ),
    Model(
        "ncsn",
        "a denoiser at many levels of noise, sampled by annealed Langevin dynamics",
        Denoising(
            drawn_by="annealed-langevin",
            levels=10,
            largest=2.0,
            smallest=0.05,
            step_size=1.0,
            rate=3e-3,
            steps=1700,
        ),
        "Song and Ermon 2019, arXiv:1907.05600",
    ),
    Model(
        "edm",
        "a denoiser at many levels of noise, sampled by Heun's method, with the likelihood of the ODE",
        Denoising(octaves=6, rate=3e-3, steps=1700),
        "Karras et al. 2022, arXiv:2206.00364",
    ),
)
