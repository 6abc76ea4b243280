"""Pairs of generator and discriminator by name."""

from __future__ import annotations

from torch import nn

from gen_eval.errors import UnknownName, UsageError
from gen_eval.zoo.nets import coupled, dcgan, mlp, progressive, resnet, style
from gen_eval.zoo.nets.architecture import Architecture, Net, require
from gen_eval.zoo.task import Kind

NETS: dict[str, Net] = {
    "mlp": Net(mlp.generator, mlp.discriminator, images=True, vectors=True),
    "dcgan": Net(dcgan.generator, dcgan.discriminator, images=True, vectors=False),
    "resnet": Net(resnet.generator, resnet.discriminator, images=True, vectors=False),
    "coupled": Net(coupled.generator, coupled.discriminator, images=True, vectors=True),
    "progressive": Net(progressive.Generator, progressive.Discriminator, images=True, vectors=False),
    "style": Net(style.Generator, style.discriminator, images=True, vectors=True),
}
# What stands in for a net on vectors, where the idea of a model does not need places.
ON_VECTORS = {"dcgan": "mlp", "resnet": "mlp"}


def find_net(name: str) -> Net:
    """The net of a name.

    Raises:
        UnknownName: if there is none.
    """
    if name not in NETS:
        raise UnknownName("net", name, NETS)
    return NETS[name]


def networks(kind: Kind, architecture: Architecture) -> tuple[nn.Module, nn.Module]:
    """A fresh generator and discriminator; on vectors, of fully connected layers in place of convolutions.

    Weights are drawn from torch's global state.

    Raises:
        UnknownName: of a word in the architecture that is none of those known.
        UsageError: if the net cannot be made for this kind of data; says why.
    """
    require(kind, architecture)
    net = find_net(architecture.net)
    if not kind.images and not net.vectors and architecture.net in ON_VECTORS:
        net = find_net(ON_VECTORS[architecture.net])
    if not (net.images if kind.images else net.vectors):
        what = "images" if kind.images else f"vectors of {kind.shape[0]} components"
        served = [name for name, row in NETS.items() if (row.images if kind.images else row.vectors)]
        raise UsageError(
            f"net '{architecture.net}' works on the places of an image, and the data is {what}: "
            f"choose a model on one of {', '.join(served)}"
        )
    return net.generator(kind, architecture), net.discriminator(kind, architecture)
