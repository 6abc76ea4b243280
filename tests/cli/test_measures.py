"""The short verbs name their metrics' parameters once more: the two must not drift apart."""

from __future__ import annotations

import importlib
import json

import click
import pytest
from gen_eval_cli.main import VERBS
from gen_eval_cli.measures import PARAMETERS
from gen_eval_cli.options import parse_value, spell_value
from hypothesis import given
from hypothesis import strategies as st

from gen_eval.metrics import ALIASES, METRICS

SHORT = [verb for verb, (module, _, _) in VERBS.items() if module == "measures"]


def command_of(verb: str) -> click.Command:
    module, attribute, _ = VERBS[verb]
    command = getattr(importlib.import_module(f"gen_eval_cli.{module}"), attribute)
    assert isinstance(command, click.Command)
    return command


def parameters_of(verb: str) -> dict[str, str]:
    """The metric's parameters that have an option, and the text of its help."""
    return {
        option.name: option.help
        for option in command_of(verb).params
        if isinstance(option, click.Option) and option.name in PARAMETERS
    }


@pytest.mark.parametrize("verb", SHORT)
def test_a_short_verb_is_a_measure_with_its_metrics_parameters(verb):
    command, metric = command_of(verb), METRICS[ALIASES[verb][0]]
    assert command.name == verb
    assert set(parameters_of(verb)) <= set(metric.params)
    arguments = [each.name for each in command.params if isinstance(each, click.Argument)]
    assert arguments == (["real", "fake"] if "reference" in metric.roles else ["fake"])


def test_every_parameter_that_is_explained_has_a_verb():
    assert {name for verb in SHORT for name in parameters_of(verb)} == set(PARAMETERS)


@pytest.mark.parametrize("verb", SHORT)
def test_no_parameter_hides_an_option_that_all_verbs_share(verb):
    names = [name for option in command_of(verb).params for name in option.opts]
    assert len(names) == len(set(names))


def test_a_parameter_reaches_the_metric(run, sets):
    done = run("fid", sets.real, sets.fake, "--method", "nuclear", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["params"]["method"] == "nuclear"


@pytest.mark.parametrize("method", ["fast", "3", "none", "true"])
def test_a_value_that_a_metric_cannot_use_is_refused_and_not_ignored(run, sets, method):
    done = run("fid", sets.real, sets.fake, "--method", method)
    assert (done.code, done.out) == (1, "")
    assert "method" in done.err


def test_another_extractor_is_looked_through(run, sets):
    plain = json.loads(run("fid", sets.real, sets.fake, "--json").out)
    other = json.loads(run("fid", sets.real, sets.fake, "--extractor", "pixels/pool", "--json").out)
    assert (plain["measure"], other["measure"]) == ("fid", "fid:pixels/pool")
    assert other["value"] == plain["value"]
    done = run("fid", sets.real, sets.fake, "--extractor", "pixel")
    assert (done.code, done.out) == (1, "")
    assert "did you mean 'pixels'" in done.err


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-1", -1),
        ("1e-3", 1e-3),
        (".5", 0.5),
        ("True", True),
        ("false", False),
        ("NONE", None),
        ("rbf", "rbf"),
        ("1,2.5,none", (1, 2.5, None)),
        ("", ""),
    ],
)
def test_a_text_is_read_as_what_it_says(text, value):
    found = parse_value(text)
    assert (found, type(found)) == (value, type(value))


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(["rbf", "auto"])
)


@given(SCALARS | st.lists(SCALARS, min_size=2).map(tuple))
def test_a_value_is_spelt_as_it_is_read(value):
    found = parse_value(spell_value(value))
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("metric", METRICS)
def test_every_default_can_be_set_from_the_command_line(metric):
    for value in METRICS[metric].params.values():
        assert parse_value(spell_value(value)) == value
