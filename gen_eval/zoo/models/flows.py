"""The normalising flows: of layers, and along differential equations."""

from __future__ import annotations

from gen_eval.zoo.autoregressive_flows import AutoregressiveFlow
from gen_eval.zoo.continuous import ContinuousFlow
from gen_eval.zoo.coupling import CouplingFlow
from gen_eval.zoo.task import Model

FLOWS = (
    Model(
        "nice",
        "a flow of additive couplings between all pixels",
        CouplingFlow(coupling="additive", flat=True, levels=1, width=128, margin=1e-3, steps=5800),
        "Dinh et al. 2015, arXiv:1410.8516",
    ),
    Model(
        "realnvp",
        "a flow of affine couplings at two scales, by masks; actnorm for batch normalisation",
        CouplingFlow(actnorm=True, width=48, margin=1e-3, rate=3e-3, batch=32, steps=2900),
        "Dinh et al. 2017, arXiv:1605.08803",
    ),
    Model(
        "glow",
        "a flow of affine couplings at two scales, and invertible 1 x 1 convolutions",
        CouplingFlow(
            mixing="invertible", actnorm=True, width=48, margin=1e-3, rate=4e-3, batch=32, steps=2200
        ),
        "Kingma and Dhariwal 2018, arXiv:1807.03039",
    ),
    Model(
        "maf",
        "a masked autoregressive flow: tells a density at once, samples slowly",
        AutoregressiveFlow(width=128, margin=1e-3, rate=2e-3, steps=4000),
        "Papamakarios et al. 2017, arXiv:1705.07057",
    ),
    Model(
        "iaf",
        "an inverse autoregressive flow in four blocks: samples at once, trains slowly",
        AutoregressiveFlow(fast="sampling", passes=4, margin=1e-3, steps=1700),
        "Kingma et al. 2016, arXiv:1606.04934",
    ),
    Model(
        "nsf",
        "an autoregressive flow of rational-quadratic splines: samples slowly",
        AutoregressiveFlow(
            transform="spline", bins=4, layers=2, width=32, margin=1e-3, rate=3e-3, steps=2200
        ),
        "Durkan et al. 2019, arXiv:1906.04032",
    ),
    Model(
        "ffjord",
        "a continuous flow along a free-form field, its trace estimated in training",
        ContinuousFlow(width=256, training="rk4:3", actnorm=True, margin=1e-5, rate=3e-3, steps=1400),
        "Grathwohl et al. 2019, arXiv:1810.01367",
    ),
    Model(
        "ffjord-conv",
        "the same with a field of convolutions: likelier images, worse samples",
        ContinuousFlow(field="convolutional", width=32, actnorm=True, margin=1e-5, rate=5e-3, steps=260),
        "Grathwohl et al. 2019, arXiv:1810.01367",
    ),
    Model(
        "planar-cnf",
        "a continuous flow along a sum of planar fields, whose trace is exact",
        ContinuousFlow(
            field="planar",
            layers=1,
            width=256,
            training="rk4:3",
            actnorm=True,
            margin=1e-5,
            rate=2e-3,
            steps=3000,
        ),
        "Chen et al. 2018, arXiv:1806.07366",
    ),
)
