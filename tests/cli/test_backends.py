"""The option --backend offers what there is."""

from __future__ import annotations

import click
from gen_eval_cli.options import extraction_options

from gen_eval.extractors.backends import BACKENDS, TORCH


def test_the_option_offers_every_backend_and_torch_by_default():
    command = click.command()(extraction_options(lambda **_: None))
    (option,) = [parameter for parameter in command.params if parameter.name == "backend"]
    assert list(option.type.choices) == list(BACKENDS)
    assert option.default == TORCH
