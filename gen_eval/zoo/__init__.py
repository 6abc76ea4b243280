"""Reference generators with known answers: worlds, disturbances of generators, and models to train.

>>> import torch
>>> from gen_eval.zoo import open_sampler
>>> ring = open_sampler("ring8")
>>> samples = ring.sample(4, seed=0)
>>> samples.shape, torch.equal(ring.sample(1, seed=3)[0], samples[3])
(torch.Size([4, 2]), True)
"""

from __future__ import annotations

from gen_eval.zoo.checkpoint import Checkpoint
from gen_eval.zoo.checkpoint import load as load_checkpoint
from gen_eval.zoo.checkpoint import save as save_checkpoint
from gen_eval.zoo.data import TrainingData, open_data
from gen_eval.zoo.models import MODELS, find_model
from gen_eval.zoo.names import CHECKPOINTS, open_sampler
from gen_eval.zoo.sampler import Sampler
from gen_eval.zoo.task import Model
from gen_eval.zoo.training import train
from gen_eval.zoo.worlds import WORLDS

__all__ = [
    "CHECKPOINTS",
    "MODELS",
    "WORLDS",
    "Checkpoint",
    "Model",
    "Sampler",
    "TrainingData",
    "find_model",
    "load_checkpoint",
    "open_data",
    "open_sampler",
    "save_checkpoint",
    "train",
]
