"""The autoregressive models."""

from __future__ import annotations

from gen_eval.zoo.autoregressive import Autoregressive
from gen_eval.zoo.task import Model

AUTOREGRESSIVE = (
    Model(
        "pixelcnn",
        "a gated PixelCNN with a mixture of logistics for each number: exact, and samples pixel by pixel",
        Autoregressive(),
        "van den Oord et al. 2016, arXiv:1606.05328; Salimans et al. 2017, arXiv:1701.05517",
    ),
)
