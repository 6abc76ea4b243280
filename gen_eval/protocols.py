"""Named protocols: the settings under which a number equals that of another tool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gen_eval.errors import UnknownName


@dataclass(frozen=True)
class Protocol:
    """One row of :data:`PROTOCOLS`.

    Args:
        name: what users call it.
        meaning: one line for people.
        preprocessing: by extractor, how images reach it: its ``resize`` kernel, and ``normalize``, the map of
            pixels in [0, 255]. Extractors that are not named keep their own.
        params: metric parameters that differ from the metrics' own defaults. A name means the same in every
            metric that has it; ``"METRIC.NAME"`` sets that of one metric alone.
        networks: by measure, the extractor that it looks through where the caller names none.
        measures: those that the tool has, as they are called here. Of others the protocol says nothing, and they are
            measured with its preprocessing and the metrics' defaults.
        tool: whose numbers they are.
        shown: how that was shown, a key of :data:`SHOWN`.
        notes: what the tool does besides, or otherwise.
    """

    name: str
    meaning: str
    preprocessing: Mapping[str, Mapping[str, str]]
    params: Mapping[str, Any] = field(default_factory=dict)
    networks: Mapping[str, str] = field(default_factory=dict)
    measures: tuple[str, ...] = ()
    tool: str = ""
    shown: str = "sources"
    notes: tuple[str, ...] = ()

    def through(self, measure: str) -> str:
        """The name of a measure with the extractor that the tool gives it, where the caller names none.

        >>> PROTOCOLS["kynkaanniemi"].through("pr"), PROTOCOLS["kynkaanniemi"].through("pr:clip")
        ('pr:vgg16', 'pr:clip')
        """
        return f"{measure}:{self.networks[measure]}" if measure in self.networks else measure

    def with_params(self, params: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> Protocol:
        """The same with metric parameters of the caller's.

        Args:
            params: names and values.
            known: by metric, the parameters and defaults of those that are to take them.

        Raises:
            UnknownName: if no metric has a parameter of that name.
        """
        names = {name for defaults in known.values() for name in defaults}
        names |= {f"{metric}.{name}" for metric, defaults in known.items() for name in defaults}
        for name in params:
            if name not in names:
                raise UnknownName("parameter", name, names)
        # What the caller sets for all metrics goes before what the protocol sets for one.
        kept = {key: value for key, value in self.params.items() if key.split(".")[-1] not in params}
        return replace(self, params={**kept, **params})

    def params_for(self, metric: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """A metric's parameters under this protocol."""
        return {
            name: self.params.get(f"{metric}.{name}", self.params.get(name, default))
            for name, default in defaults.items()
        }


DEFAULT_PROTOCOL = "torch-fidelity"
# How it was shown that a protocol gives the numbers of its tool.
SHOWN: Mapping[str, str] = {
    "live": "the tool is run beside ours by the tests",
    "sources": "its settings are as its source reads; the tool is not run beside ours",
}


def _inception(resize: str, normalize: str) -> dict[str, dict[str, str]]:
    # Pixels go along, so that a dry run without the network has the protocol's resize.
    return {"inception": {"resize": resize, "normalize": normalize}, "pixels": {"resize": resize}}


_TENSORFLOW = _inception("tf1-bilinear", "(x-128)/128")
_PYTORCH_FID = _inception("torch-bilinear", "x/127.5-1")
_CLEAN = _inception("pil-bicubic", "(x-128)/128")
_VGG16 = {"vgg16": {"resize": "tf1-bilinear", "normalize": "imagenet"}}
# What tools report under several names of ours.
_PRECISION_RECALL = ("pr", "precision-recall")
_PRDC = (*_PRECISION_RECALL, "dc", "density-coverage", "prdc")
_UNSEEDED = "its KID draws its subsets without a seed: another run of it differs by the error of the draw"

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "torch-fidelity",
            "the original TensorFlow graph, its resize included",
            {**_TENSORFLOW, **_VGG16},
            {"ddof": 1, "mean_dtype": "float32"},
            measures=("fid", "kid", "is", "pr:vgg16"),
            tool="torch-fidelity 0.4",
            shown="live",
            notes=(
                "its precision and recall look through VGG16, which is pr:vgg16 here; pr looks through Inception",
                "its DINOv2 and CLIP resize as TensorFlow 1 does; dinov2 and clip keep their own resize here",
            ),
        ),
        Protocol(
            "pytorch-fid",
            "half-pixel bilinear resize without antialiasing",
            _PYTORCH_FID,
            {"ddof": 1, "mean_dtype": "float64"},
            measures=("fid",),
            tool="pytorch-fid 0.3",
            shown="live",
        ),
        Protocol(
            "clean-fid",
            "mode='clean': antialiased bicubic resize of float channels",
            _CLEAN,
            {"ddof": 1, "mean_dtype": "float32"},
            measures=("fid", "kid"),
            tool="clean-fid 0.1",
            shown="live",
            notes=(_UNSEEDED,),
        ),
        Protocol(
            "clean-fid-legacy-pytorch",
            "mode='legacy_pytorch': pytorch-fid's resize",
            _PYTORCH_FID,
            {"ddof": 1, "mean_dtype": "float32"},
            measures=("fid", "kid"),
            tool="clean-fid 0.1",
            shown="live",
            notes=(_UNSEEDED,),
        ),
        Protocol(
            "clean-fid-legacy-tensorflow",
            "mode='legacy_tensorflow': the original TensorFlow resize",
            _TENSORFLOW,
            {"ddof": 1, "mean_dtype": "float32"},
            measures=("fid", "kid"),
            tool="clean-fid 0.1",
            notes=(_UNSEEDED,),
        ),
        Protocol(
            "torchmetrics",
            "antialiased half-pixel bilinear resize",
            _inception("torch-bilinear-antialias", "(x-128)/128"),
            {"ddof": 1, "mean_dtype": "float64"},
            measures=("fid", "kid", "is", "mifid"),
            tool="torchmetrics 1.9",
            shown="live",
            notes=(
                "its default since 1.8.0; before, and with antialias=False in FID, it resized as torch-fidelity does",
                _UNSEEDED,
                "it shuffles for the Inception Score without a seed, and its standard deviation over the splits has "
                "n - 1 in the denominator, where ours has n",
                "of floats in [0, 1] it cuts fractions of a level off, where saved files are rounded",
            ),
        ),
        Protocol(
            "pyiqa",
            "its metric fid, mode='clean': clean-fid's resize",
            _CLEAN,
            {"ddof": 1, "mean_dtype": "float32"},
            measures=("fid",),
            tool="pyiqa (IQA-PyTorch)",
        ),
        Protocol(
            "studiogan",
            "InceptionV3_tf with --post_resizer legacy, its defaults",
            _PYTORCH_FID,
            {"ddof": 1, "mean_dtype": "float64", "k": 5, "inclusive": False},
            measures=("fid", "pr", "dc", "prdc"),
            tool="PyTorch-StudioGAN",
            notes=("the reference is the part of the data set that --ref_dataset names, train by default",),
        ),
        Protocol(
            "prdc",
            "k = 5 and open balls, of torch-fidelity's Inception features",
            _TENSORFLOW,
            {"mean_dtype": "float32", "k": 5, "inclusive": False},
            measures=("pr", "dc", "prdc"),
            tool="prdc 0.2",
            shown="live",
            notes=("it takes features of any network, and brings none",),
        ),
        Protocol(
            "adm",
            "guided-diffusion's evaluator: splits of 5,000, squared distances rounded to float16",
            _TENSORFLOW,
            {
                "ddof": 1,
                "mean_dtype": "float32",
                "shuffle": False,
                "split_size": 5000,
                "precision-recall.feature_dtype": "float16-squared",
            },
            measures=("fid", "sfid", "is", "pr"),
            tool="guided-diffusion's evaluator",
            notes=(
                "float16-squared: its precision and recall round features and their squared distances to float16",
            ),
        ),
        Protocol(
            "stylegan3",
            "covariances divided by n, no shuffle, features rounded to float16",
            {**_TENSORFLOW, **_VGG16},
            {
                "ddof": 0,
                "mean_dtype": "float64",
                "shuffle": False,
                "precision-recall.feature_dtype": "float16",
            },
            measures=("fid", "kid", "is", "pr:vgg16"),
            tool="stylegan3",
            notes=(
                "its precision and recall look through VGG16, which is pr:vgg16 here; pr looks through Inception",
                _UNSEEDED,
            ),
        ),
        Protocol(
            "edm",
            "stylegan3's Inception with covariances divided by n - 1",
            _TENSORFLOW,
            {"ddof": 1, "mean_dtype": "float64"},
            measures=("fid",),
            tool="edm (fid.py)",
        ),
        Protocol(
            "edm2",
            "edm's FID, and FD-DINOv2 behind torch's antialiased bicubic resize",
            {**_TENSORFLOW, "dinov2": {"resize": "torch-bicubic-antialias", "normalize": "imagenet"}},
            {"ddof": 1, "mean_dtype": "float64"},
            networks={"fd": "dinov2"},
            measures=("fid", "fd:dinov2"),
            tool="edm2 (calculate_metrics.py)",
            notes=("its resize_mode='pil' is dgm-eval's, and not the default",),
        ),
        Protocol(
            "dgm-eval",
            "DINOv2 behind Pillow's bicubic resize of whole levels; k = 5 and open balls",
            {**_PYTORCH_FID, "dinov2": {"resize": "pil-bicubic-uint8", "normalize": "imagenet"}},
            {"ddof": 1, "mean_dtype": "float64", "k": 5, "inclusive": False},
            networks=dict.fromkeys(("fd", "authenticity", *_PRDC), "dinov2"),
            measures=(
                *("fd:dinov2", "frechet-inf:dinov2", "kid:dinov2", "prdc:dinov2", "pr:dinov2", "dc:dinov2"),
                *("authenticity:dinov2", "fid"),
            ),
            tool="dgm-eval",
            notes=(
                "its precision and its kin are of at most 10,000 rows of each set: --rows 10000",
                "it takes at most 50,000 images of a set",
                "its FD-infinity starts at a tenth of the images where there are fewer than 50,000, and draws its "
                "subsets without a seed",
                "fid is its --model inception, whose resize is pytorch-fid's; its KD is kid:dinov2",
            ),
        ),
        Protocol(
            "fld",
            "k = 3 and open balls; Inception behind pytorch-fid's resize",
            _PYTORCH_FID,
            {"precision-recall.k": 3, "precision-recall.inclusive": False},
            measures=("pr", "fld"),
            tool="fld",
            notes=(
                "its DINOv2 is ViT-B/14, which dinov2, ViT-L/14, is not: its published numbers are of features that "
                "are not to be had here",
            ),
        ),
        Protocol(
            "kynkaanniemi",
            "improved precision and recall: VGG16 fc2, k = 3, closed balls",
            {**_TENSORFLOW, **_VGG16},
            {
                "precision-recall.k": 3,
                "precision-recall.inclusive": True,
                "precision-recall.feature_dtype": "float32",
                "realism.k": 3,
            },
            networks=dict.fromkeys((*_PRECISION_RECALL, "realism"), "vgg16"),
            measures=("pr:vgg16",),
            tool="improved-precision-and-recall-metric",
            notes=(
                "its network is a pickle that was not opened: the weights and the resize are those that torch-fidelity "
                "takes for it",
                "its code's realism is of squared distances; realism here is the paper's",
            ),
        ),
        Protocol(
            "cmmd",
            "CLIP ViT-L/14 at 336 pixels, Gaussian kernel of bandwidth 10, times 1,000, biased",
            {**_TENSORFLOW, "clip": {"resize": "pil-bicubic-uint8"}},
            {
                "cmmd.bandwidth": 10.0,
                "cmmd.estimator": "biased",
                "cmmd.scale": 1000.0,
                "cmmd.normalize": True,
            },
            measures=("cmmd",),
            tool="cmmd-pytorch",
        ),
    )
}


def find_protocol(name: str | Protocol) -> Protocol:
    """The protocol of a name; a :class:`Protocol` is returned as it is.

    Raises:
        UnknownName: if there is none, with the nearest name there is.
    """
    if isinstance(name, Protocol):
        return name
    if name not in PROTOCOLS:
        raise UnknownName("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
