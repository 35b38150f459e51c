"""The options of train come from build and fit: their names, types, defaults and help."""

from __future__ import annotations

import inspect
from typing import Any, Literal

import pytest

from pyro_vae import build, fit
from pyro_vae.cli import main, parser
from pyro_vae.cli.commands.data import reading
from pyro_vae.cli.options import LEFT_OUT, of_build, of_fit
from pyro_vae.cli.signatures import read_arguments
from pyro_vae.config.building import Nets

FUNCTIONS = {"build": (build, of_build), "fit": (fit, of_fit)}


@pytest.fixture
def called(monkeypatch):
    """What train was called with, without options."""
    calls = {}
    monkeypatch.setattr(parser, "_run_command", lambda name, values: calls.update(values))
    assert main(["train"]) == 0
    return calls


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_argument_is_an_option_with_its_default_or_left_out_with_the_reason(name, called):
    function, options = FUNCTIONS[name]
    found = {option.name: option for option in options()}
    for argument in inspect.signature(function).parameters.values():
        assert (argument.name in found) != (argument.name in LEFT_OUT[name]), argument.name
        if argument.name in LEFT_OUT[name]:
            assert LEFT_OUT[name][argument.name]
            continue
        given = called[argument.name]
        if isinstance(given, dict):
            (given,) = given.values()
        assert given == (list(argument.default) if isinstance(argument.default, tuple) else argument.default)
        assert found[argument.name].type is not None
        assert found[argument.name].help
    assert {*found, *LEFT_OUT[name]} == {*inspect.signature(function).parameters}


def test_what_is_left_out_and_an_option_still_is_one_of_the_command_lines_own(called):
    own = {**inspect.signature(parser._COMMANDS["train"][0]).parameters, **inspect.signature(reading).parameters}
    for name, reasons in LEFT_OUT.items():
        for argument, why in reasons.items():
            assert ("option of its own" in why) == (argument in called), f"{name}: {argument}"
            assert argument not in called or argument in own


def test_types_and_defaults_of_the_source_are_those_of_the_function():
    found = read_arguments("pyro_vae.training", "fit")
    assert [*found] == [*inspect.signature(fit).parameters]
    assert found["schedule"].type == Literal["cosine", "constant", "staircase"]
    assert (found["lr"].type, found["lr"].default) == (float, 3e-3)
    assert found["patience"].type == int | None
    assert (found["optimizer"].type, found["on_epoch"].type) == (type(None), type(None))  # functions are not YAML
    found = read_arguments("pyro_vae.config", "build")
    assert found["hidden"].type == int | list[int]
    assert found["hidden"].default == [512, 512]
    assert found["nets"].type == Nets
    assert found["prior"].type == str | dict[str, Any]
    assert found["event_shape"].help == "shape of one example of x; by default that of data."
    assert "`" not in "".join(argument.help for argument in found.values())


@pytest.mark.parametrize("name", ["build", "nobody", "Engine"])
def test_what_is_no_function_of_the_module(name):
    with pytest.raises(LookupError, match=f"pyro_vae.training(.fitting)? has no .*{name}"):
        read_arguments("pyro_vae.training", name)


def test_help_shows_defaults_as_they_are_typed(capsys):
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    text = " ".join(text.split())
    for shown in ("(default: StandardNormal)", "(default: [512, 512])", "(default: false)", "(default: auto)"):
        assert shown in text
    for hidden in ("type:", "Literal", "null", "True", "{'", "``"):
        assert hidden not in text
    assert "the VAE (arguments of pyro_vae.build):" in text
    assert "--nets {mlp,gated_mlp,conv,resnet}" in text
    for option in (*of_build(), *of_fit()):
        assert option.help in text, option.name
