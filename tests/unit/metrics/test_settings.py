"""The settings that a name stands for, where no other tool runs beside ours. Their numbers are those of the papers.

A change here moves numbers: raise the metric's version, and say so in the CHANGELOG.
"""

from __future__ import annotations

import pytest

from gen_eval.metrics import ALIASES, METRICS, find_measure
from gen_eval.protocols import PROTOCOLS

PARAMS = {
    # Chong and Forsyth 2020, section 4: 15 points, from 5,000 images
    "frechet-inf": {"points": 15, "smallest": 5000},
    # Bai et al. 2021: the threshold of the Kaggle competition
    "mifid": {"threshold": 0.1},
    # Bińkowski et al. 2018, appendix: 100 blocks of 1,000, cubic kernel
    "kid": {"subsets": 100, "subset_size": 1000, "degree": 3, "gamma": None, "coef0": 1.0, "seed": 2020},
    "mmd-polynomial": {"kernel": "polynomial", "estimator": "unbiased", "scale": 1.0, "normalize": False},
    "mmd": {"kernel": "rbf", "bandwidth": "median", "estimator": "unbiased", "permutations": 0},
    "mmd-laplace": {"kernel": "laplace", "bandwidth": "median"},
    "mmd-rational-quadratic": {"kernel": "rational-quadratic"},
    "mmd-mixture": {"kernel": "mixture"},
    "energy-distance": {"kernel": "energy"},
    # cmmd's source: exp(-|x-y|² / (2 * 10²)) of unit vectors, with the diagonal, times 1,000
    "cmmd": {
        "kernel": "rbf",
        "bandwidth": 10.0,
        "estimator": "biased",
        "scale": 1000.0,
        "normalize": True,
    },
    # Kynkäänniemi et al. 2019, section 3: k = 3, the surface inside
    "precision-recall": {"k": 3, "inclusive": True, "feature_dtype": "float32"},
    "realism": {"k": 3},
    "rarity": {"k": 3, "inclusive": True},
    # Naeem et al. 2020, section 5: k = 5
    "density-coverage": {"k": 5, "inclusive": False, "feature_dtype": "float32"},
    "prdc": {"k": 5, "inclusive": False, "feature_dtype": "float32"},
    "inception-score": {"splits": 10, "split_size": None, "shuffle": True, "seed": 2020},
}


@pytest.mark.parametrize("name", PARAMS)
def test_parameters_of_a_row(name):
    params = METRICS[name].params
    assert {key: params[key] for key in PARAMS[name]} == PARAMS[name]


MEASURES = {
    "fid": ("frechet", "inception", "pool"),
    "fid-inf": ("frechet-inf", "inception", "pool"),
    "sfid": ("frechet", "inception", "spatial"),
    "intra-fid": ("frechet-classes", "inception", "pool"),
    "mifid": ("mifid", "inception", "pool"),
    # The classifier's logits without its biases, as in the TensorFlow original and torch-fidelity.
    "is": ("inception-score", "inception", "logits_unbiased"),
    "kid": ("kid", "inception", "pool"),
    "kid-full": ("mmd-polynomial", "inception", "pool"),
    "cmmd": ("cmmd", "clip", "pool"),
    "pr": ("precision-recall", "inception", "pool"),
    "dc": ("density-coverage", "inception", "pool"),
    "is:efficientnet-lite0": ("inception-score", "efficientnet-lite0", "logits"),
    "fd:dinov2": ("frechet", "dinov2", "pool"),
}


@pytest.mark.parametrize("name", MEASURES)
def test_what_a_measure_is(name):
    measure = find_measure(name)
    assert (measure.metric.name, measure.extractor, measure.tap) == MEASURES[name]


@pytest.mark.parametrize("name", ALIASES)
def test_an_alias_is_a_row_of_a_version(name):
    assert find_measure(name).metric.version == 1


# As their sources read: guided-diffusion's evaluator.py, stylegan3's metrics/.
SETTINGS = {
    "adm": {
        "frechet": {"ddof": 1, "mean_dtype": "float32"},
        "inception-score": {"shuffle": False, "split_size": 5000},
        "precision-recall": {"k": 3, "inclusive": True, "feature_dtype": "float16-squared"},
    },
    "stylegan3": {
        "frechet": {"ddof": 0, "mean_dtype": "float64"},
        "inception-score": {"shuffle": False, "splits": 10},
        "precision-recall": {"k": 3, "inclusive": True, "feature_dtype": "float16"},
        "kid": {"subsets": 100, "subset_size": 1000},
    },
    "prdc": {
        "precision-recall": {"k": 5, "inclusive": False},
        "density-coverage": {"k": 5, "inclusive": False},
    },
    "torch-fidelity": {"frechet": {"ddof": 1, "mean_dtype": "float32"}, "precision-recall": {"k": 3}},
    "pytorch-fid": {"frechet": {"ddof": 1, "mean_dtype": "float64"}},
    "clean-fid": {"frechet": {"ddof": 1, "mean_dtype": "float32"}, "kid": {"subset_size": 1000}},
}


@pytest.mark.parametrize(("protocol", "metric"), [(p, m) for p, metrics in SETTINGS.items() for m in metrics])
def test_parameters_under_a_protocol(protocol, metric):
    params = PROTOCOLS[protocol].params_for(metric, METRICS[metric].params)
    expected = SETTINGS[protocol][metric]
    assert {key: params[key] for key in expected} == expected
