"""What each value of each metric says, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping

_KERNEL = "squared distance of the two distributions as a kernel sees them (MMD²); 0 where they are equal"
_BOUND = (
    "a lower bound that a network learnt and that held-out rows were measured by; the truth may be larger"
)
_PRECISION = "share of generated images that lie within the manifold of the reference: fidelity"
_RECALL = "share of reference images that lie within the manifold of the generated ones: diversity"
_DENSITY = (
    "how many balls of the reference hold a generated image, over k: fidelity, in which outliers count little"
)
_COVERAGE = (
    "share of reference images whose ball holds a generated one: diversity, in which outliers count little"
)
_TOLD_APART = "how well a classifier tells generated from real images it has not seen; 0.5 where it cannot"

# By metric, and by value where a metric has several that models are judged by.
MEANINGS: Mapping[str, Mapping[str, str]] = {
    "frechet": {
        "frechet": "squared Fréchet distance of two Gaussians fitted to the features: fidelity and diversity in one; 0 "
        "where means and covariances are equal"
    },
    "frechet-inf": {"frechet_inf": "the Fréchet distance, extrapolated to infinitely many generated images"},
    "frechet-classes": {
        "frechet_classes": "the Fréchet distance within each class, on the average over classes"
    },
    "mifid": {"mifid": "the Fréchet distance, divided by how far generated images keep from training images"},
    "inception-score": {
        "inception_score": "exp of the mean divergence of a classifier's answer from its average answer: sure of each "
        "image, even over classes; between 1 and the number of classes. It looks at no real image"
    },
    "kid": {"kid": f"mean over subsets of the {_KERNEL}; it may fall below 0"},
    "mmd": {"mmd2": _KERNEL},
    "mmd-polynomial": {"mmd2": f"{_KERNEL}; of all images at once"},
    "mmd-laplace": {"mmd2": _KERNEL},
    "mmd-rational-quadratic": {"mmd2": _KERNEL},
    "mmd-mixture": {"mmd2": _KERNEL},
    "energy-distance": {"mmd2": "energy distance of the two distributions; 0 where they are equal"},
    "cmmd": {"mmd2": f"{_KERNEL}; times 1,000"},
    "precision-recall": {"precision": _PRECISION, "recall": _RECALL},
    "density-coverage": {"density": _DENSITY, "coverage": _COVERAGE},
    "prdc": {"precision": _PRECISION, "recall": _RECALL, "density": _DENSITY, "coverage": _COVERAGE},
    "realism": {
        "realism": "how near generated images are to the reference, on the average; above 1 is inside"
    },
    "rarity": {"rarity": "how sparse the reference is around generated images that lie within its manifold"},
    "authenticity": {
        "authenticity": "share of generated images that are no nearer to a training image than its nearest kin is; "
        "copies have 0"
    },
    "data-copying": {
        "c_t": "z-score of how much nearer generated images are to the training set than held-out ones; far below 0 "
        "is copying, far above 0 underfitting"
    },
    "fld": {
        "fld": "how much worse held-out images are explained by the generated ones than by training images"
    },
    "duplicates": {
        "near_copies": "share of generated images that are all but copies of training images",
        "exact_copies": "share of generated images that are copies of training images",
        "near_repeats": "share of generated images that are all but copies of one another",
        "exact_repeats": "share of generated images that are copies of one another",
    },
    "c2st": {"auc": _TOLD_APART, "accuracy": _TOLD_APART},
    "c2st-knn": {"auc": _TOLD_APART, "accuracy": _TOLD_APART},
    "nearest-neighbor-test": {
        "accuracy": "how often the nearest other image is of the same set; 0.5 where nothing differs"
    },
    "mean-test": {"mean_difference": "largest difference of the means of a feature, in standard deviations"},
    "variance-test": {"variance_difference": "largest difference of the log variances of a feature"},
    "wasserstein": {
        "wasserstein": "cost of moving one set onto the other; above 0 even where the distributions are equal",
        "debiased": "the same less what two sets of one distribution cost",
    },
    "sliced-wasserstein": {
        "sliced_wasserstein": "cost of moving one set onto the other along random directions"
    },
    "wasserstein-critic": {"bound": f"Wasserstein-1 distance by a critic: {_BOUND}"},
    "f-divergence": {"f_divergence": f"f-divergence: {_BOUND}"},
    "jensen-shannon": {
        "jensen_shannon": f"Jensen-Shannon divergence by a discriminator: {_BOUND}",
        "recalibrated": "the same from the discriminator's calibrated answers",
    },
    "density-ratio": {
        "js": "Jensen-Shannon divergence from a learnt density ratio",
        "kl": "Kullback-Leibler divergence from a learnt density ratio",
        "reverse_kl": "Kullback-Leibler divergence the other way round, from a learnt density ratio",
        "pearson": "Pearson's divergence from a learnt density ratio",
        "squared_hellinger": "squared Hellinger distance from a learnt density ratio",
        "total_variation": "total variation from a learnt density ratio",
    },
    "vendi": {
        "vendi": "effective number of different images; at most their number. It looks at no real image"
    },
    "pairwise-distance": {
        "pairwise_distance": "mean distance of two generated images. It looks at no real image"
    },
    "class-entropy": {
        "class_entropy": "how evenly a classifier's classes occur, in nats",
        "effective_classes": "exp of that: the number of equally frequent classes",
    },
    "class-balance": {"class_kl": "divergence of the classes' frequencies from those of the reference"},
    "mode-coverage": {
        "modes_covered": "how many classes of the reference are reached",
        "high_quality": "share of generated images that lie near a class of the reference",
        "mode_kl": "divergence of the classes' frequencies from those of the reference",
    },
}
