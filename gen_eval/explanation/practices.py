"""What published numbers of each kind were measured on: the tables that a number may stand in."""

from __future__ import annotations

from dataclasses import dataclass

_WHOLE = "the statistics of the whole training set"


@dataclass(frozen=True)
class Practice:
    """One kind of published numbers.

    Args:
        numbers: what they are, for people.
        protocol: the row of :data:`gen_eval.protocols.PROTOCOLS` that gives them.
        measures: those reported, as they are called here.
        generated: how many generated images they are of; ``None`` where tables differ and say so.
        reference: what they stand against.
        reference_n: how many images that is, where it is fixed.
    """

    numbers: str
    protocol: str
    measures: tuple[str, ...]
    generated: int | None
    reference: str
    reference_n: int | None = None


PRACTICES: tuple[Practice, ...] = (
    Practice(
        "FID by the original TensorFlow code, TTUR's, and by torch-fidelity, at 50,000 images",
        "torch-fidelity",
        ("fid",),
        50_000,
        "the set that the table names, mostly the training set",
    ),
    Practice(
        "FID of CIFAR-10 by torch-fidelity: 50,000 images against the training set",
        "torch-fidelity",
        ("fid",),
        50_000,
        "the training images of CIFAR-10",
        50_000,
    ),
    Practice(
        "KID by torch-fidelity: 100 subsets of 1,000",
        "torch-fidelity",
        ("kid",),
        None,
        "the set that the table names",
    ),
    Practice(
        "Inception Scores at 50,000 images in 10 splits, by torch-fidelity",
        "torch-fidelity",
        ("is",),
        50_000,
        "none",
    ),
    Practice(
        "precision and recall by torch-fidelity",
        "torch-fidelity",
        ("pr:vgg16",),
        None,
        "the set that the table names",
    ),
    Practice(
        "FID by pytorch-fid at 50,000 images",
        "pytorch-fid",
        ("fid",),
        50_000,
        "the set that the table names, mostly the training set",
    ),
    Practice(
        "FID and KID by clean-fid at 50,000 images",
        "clean-fid",
        ("fid", "kid"),
        50_000,
        "its named statistics, which tell data set, split and resolution",
    ),
    Practice(
        "FID and KID by torchmetrics 1.8 and later",
        "torchmetrics",
        ("fid", "kid"),
        None,
        "the set that the report names",
    ),
    Practice(
        "FID by pyiqa", "pyiqa", ("fid",), None, "its named statistics, or the folder that the report names"
    ),
    Practice(
        "FID, precision, recall, density and coverage of StudioGAN's tables",
        "studiogan",
        ("fid", "pr", "dc", "prdc"),
        None,
        "the part of the data set that the table names; as many images are generated",
    ),
    Practice(
        "tables of ADM and of what followed it: FID, sFID and Inception Score at 50,000 images",
        "adm",
        ("fid", "sfid", "is"),
        50_000,
        "mu and sigma of the reference batch, such as VIRTUAL_imagenet256_labeled.npz, which are of the whole set",
    ),
    Practice(
        "tables of ADM and of what followed it: precision and recall, 50,000 images against 10,000",
        "adm",
        ("pr",),
        50_000,
        "the 10,000 images of the reference batch, such as VIRTUAL_imagenet256_labeled.npz",
        10_000,
    ),
    Practice("fid50k_full and kid50k_full of stylegan3", "stylegan3", ("fid", "kid"), 50_000, _WHOLE),
    Practice("is50k of stylegan3", "stylegan3", ("is",), 50_000, "none"),
    Practice(
        "pr50k3_full of stylegan3",
        "stylegan3",
        ("pr:vgg16",),
        50_000,
        "the whole training set, at most 200,000 images of it",
    ),
    Practice("FID of edm's tables", "edm", ("fid",), 50_000, f"its fid-refs: {_WHOLE}"),
    Practice(
        "FID and FD-DINOv2 of edm2's tables",
        "edm2",
        ("fid", "fd:dinov2"),
        50_000,
        f"its dataset-refs: {_WHOLE}",
    ),
    Practice(
        "FD-DINOv2 by dgm-eval at 50,000 images",
        "dgm-eval",
        ("fd:dinov2", "kid:dinov2"),
        50_000,
        "at most 50,000 images of the training set",
    ),
    Practice(
        "precision, recall, density and coverage by dgm-eval, of 10,000 rows of each set",
        "dgm-eval",
        ("pr:dinov2", "dc:dinov2", "prdc:dinov2"),
        10_000,
        "10,000 images of the training set",
        10_000,
    ),
    Practice(
        "precision and recall of the paper by Kynkäänniemi et al., 50,000 images against 50,000",
        "kynkaanniemi",
        ("pr:vgg16",),
        50_000,
        "50,000 images of the training set",
        50_000,
    ),
    Practice(
        "CMMD by its own code",
        "cmmd",
        ("cmmd",),
        None,
        "the set that the table names, such as 30,000 of COCO",
    ),
)
