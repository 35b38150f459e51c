"""Run folders with sizes that are too large for what is there, and with what is no option: none hangs or takes memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pyro_vae import build, load
from pyro_vae.allocation import limiting_allocation
from pyro_vae.cli import main
from pyro_vae.seeds import seeded
from tests.hostile.conftest import change

COMMANDS = {
    "evaluate": ["evaluate", "digits"],
    "resume": ["train", "--resume", "digits", "--epochs", "2"],
    "config": ["train", "--config", "digits/config.yaml", "--out", "again"],
}

TOO_LARGE = [
    ({"prior": {"class": "mixture", "components": 1_000_000_000}}, "larger than its"),
    ({"prior": {"class": "vamp", "components": 1_000_000_000}}, "larger than its"),
    ({"prior": {"class": "flow", "hidden": [1_000_000], "transforms": 1}}, "larger than its"),
    ({"prior": {"class": "flow", "transforms": 1_000_000_000}}, "larger than its"),
    ({"posterior": {"class": "householder", "reflections": 1_000_000_000}}, "larger than its"),
    ({"likelihood": {"class": "categorical", "levels": 1_000_000_000}}, "larger than its"),
    ({"posterior": {"class": "DiagonalNormal", "net": {"class": "MLP", "hidden": [100_000, 100_000]}}}, "larger"),
    ({"latent_dim": 1_000_000_000, "prior": "StandardNormal"}, "larger than its"),
    (
        {
            "posterior": {
                "class": "DiagonalNormal",
                "net": {"class": "torch.nn.Embedding", "num_embeddings": 10**9, "embedding_dim": 8},
            }
        },
        "larger than its",
    ),
]
NO_OPTION = [
    ({"seed": "2026-13-45"}, "seed must be an integer of at least 0"),
    ({"hidden": [[[[[[[[[[1]]]]]]]]]]}, "hidden must be an integer of at least 1, or a list of them"),
    ({"hidden": [3, -1]}, "hidden must be an integer of at least 1, or a list of them"),
    ({"latent_dim": "two"}, "latent_dim must be an integer of at least 1"),
    ({"latent_dim": True}, "latent_dim must be an integer of at least 1"),
    ({"shapes": [1]}, "shapes must be the shape of x and the number of context features"),
    ({"shapes": {"x": [1, "a"], "context": 0}}, "shapes must be the shape of x"),
    ({"shapes": {"x": [4], "context": -1}}, "shapes must be the shape of x"),
    ({"missing": "yes"}, "missing must be true or false"),
    ({"fill": float("nan")}, "fill must be a number"),
    ({"activation": ["ReLU"]}, "activation must be a name"),
    ({"batch_size": 0}, "batch_size must be an integer of at least 1"),
]


@pytest.mark.parametrize(("options", "message"), [*TOO_LARGE, *NO_OPTION])
def test_sizes_and_types_are_refused_before_memory_is_taken(here, options, message):
    change(here / "run", **options)
    with pytest.raises(ValueError, match=message):
        load("run")


def test_no_gigabytes_are_taken(here):
    """Nor the seconds of an import: what watches the allocation leaves torch's compiler alone."""
    change(here / "run", prior={"class": "mixture", "components": 1_000_000_000})
    code = (
        "import resource, sys, pyro_vae\n"
        "pyro_vae.build(4, 2, hidden=(3,))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: pyro_vae.load('run')\n"
        "except ValueError: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
        "print('torch._dynamo' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True)
    kilobytes, compiler = done.stdout.split()
    assert int(kilobytes) < 200_000, done.stderr
    assert compiler == "False"


@pytest.mark.parametrize("command", ["evaluate", "resume", "config"])
@pytest.mark.parametrize(("options", "message"), [TOO_LARGE[0], *NO_OPTION[:3]])
def test_commands_refuse_them_in_one_line(here, capsys, command, options, message):
    change(here / "digits", **options)
    assert main(COMMANDS[command]) in (1, 2)
    error = capsys.readouterr().err
    assert "error: " in error
    assert next(iter(options)) in error or "too large" in error or "larger" in error
    assert "unexpected" not in error


def test_what_is_built_under_the_limit_is_what_is_built_without(here):
    spec = {"prior": {"class": "flow", "hidden": (8,)}, "posterior": {"class": "iaf", "hidden": (8,)}}
    with seeded(0):
        plain = build((4,), 2, hidden=(8,), **spec).state_dict()
    with seeded(0), limiting_allocation(2**22, 1000, "too large"):
        limited = build((4,), 2, hidden=(8,), **spec).state_dict()
    assert plain.keys() == limited.keys()
    assert all((plain[name] == limited[name]).all() for name in plain)
