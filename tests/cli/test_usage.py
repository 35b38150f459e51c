"""What is wrong with a command line, in plain words, and what may have been meant."""

from __future__ import annotations

import re

import pytest

from pyro_vae import data
from pyro_vae.cli import main
from pyro_vae.cli.commands import KINDS
from pyro_vae.config import KINDS as PARTS
from pyro_vae.data.sources import FILES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--latent_dims", "3"], "there is no option --latent_dims. Did you mean --latent_dim?"),
        (["train", "--latent-dims=3"], "there is no option --latent_dims. Did you mean --latent_dim?"),
        (["train", "--zzz", "3"], "there is no option --zzz\n"),
        (["evaluate", "x", "--num_particles", "2", "--splt", "3"], "there is no option --splt. Did you mean --split?"),
        (["sweep", "s", "latent_dims=1,2"], "there is no option --latent_dims. Did you mean --latent_dim?"),
        (["--hepl"], "there is no option --hepl. Did you mean --help?"),
        (["trian"], "there is no command 'trian'; there are train, evaluate, .*Did you mean train?"),
        (["zzz"], r"there is no command 'zzz'; there are train, .*list\n"),
        (["train", "mnist"], "mnist is no option and belongs to none. Options begin with two dashes, such as --seed 1"),
        (["train", "--binarize", "dynamc"], "must be auto, .* or none; got dynamc. Did you mean dynamic?"),
        (["train", "--nets", "cnn"], "--nets must be mlp, .*; got cnn\n"),
        (["train", "--nets.width", "3"], "--nets takes no arguments of its own; got --nets.width"),
        (["train", "--prior", "vampp"], r"VampPrior \(vamp\), and your own .*Did you mean 'VampPrior'?"),
        (["train", "--prior", "vam"], "Did you mean 'VampPrior'?"),
        (["train", "--prior", "vamp", "--prior.component", "3"], "it has components. Did you mean components?"),
        (["train", "--data", "wine"], "unknown data set 'wine'.*Did you mean 'sklearn:wine'?"),
        (["train", "--activation", "relu"], "'Softplus'; got 'relu'. Did you mean ReLU?"),
        (["list", "prior_"], "nothing to list as 'prior_'; there are priors, .*, data. Did you mean priors?"),
        (["list", "zzz"], r"nothing to list as 'zzz'; there are priors, .*, data\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_wrong_and_what_may_have_been_meant(capsys, arguments, message):
    assert main(arguments) == 2
    assert re.search(message.replace("?", r"\?"), capsys.readouterr().err)


def test_an_option_of_a_file_that_does_not_exist(capsys, tmp_path):
    (tmp_path / "c.yaml").write_text("latent_dims: 3\n")
    assert main(["train", "--config", str(tmp_path / "c.yaml")]) == 2
    assert "there is no option --latent_dims. Did you mean --latent_dim?" in capsys.readouterr().err


@pytest.mark.parametrize(("word", "option"), KINDS.items())
def test_one_kind_is_listed_alone(capsys, word, option):
    assert main(["list", word]) == 0
    listed = capsys.readouterr().out
    main(["list", word.removesuffix("s").upper()])
    assert capsys.readouterr().out == listed
    names = {
        kind: list(PARTS[kind].classes) if kind in PARTS else [*data.NAMES, *data.TAKEN] for kind in KINDS.values()
    }
    main(["list"])
    everything = capsys.readouterr().out
    for kind, of_kind in names.items():
        assert all(f"\n  {name}" in everything for name in of_kind)
        if kind == option:
            assert all(f"\n  {name}" in listed for name in of_kind)
    others = set().union(*(of_kind for kind, of_kind in names.items() if kind != option)) - set(names[option])
    assert not [name for name in others if f"\n  {name}(" in listed or f"\n  {name}\n" in listed]


def test_everything_that_data_can_be_is_listed(capsys):
    main(["list", "data"])
    listed = capsys.readouterr().out
    for ending in FILES:
        assert f"x{ending}" in listed
    for prefix in data.PREFIXES:
        assert f"\n  {prefix}:" in listed
    assert "--label COLUMN" in " ".join(listed.split())
    assert max(map(len, listed.splitlines())) <= 80
