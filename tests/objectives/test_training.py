"""Objectives in fit() and on the command line."""

from __future__ import annotations

import math

import pytest
import torch
import yaml

from pyro_vae import build, checkpoints, data, elbo_terms, fit
from pyro_vae import objectives as o
from pyro_vae.cli import main
from pyro_vae.config import describe_objective, make_objective

OBJECTIVES = [
    o.BetaELBO(o.Linear(start=0.1, end=2.0, steps=20)),
    o.CapacityELBO(o.Linear(end=3.0, steps=20), gamma=5.0),
    o.GECO(recon=-25.0, rate=0.01),
]


def new_vae():
    torch.manual_seed(0)
    return build((1, 8, 8), latent_dim=2, hidden=(16,))


def digits():
    return data.load("digits", binarize="dynamic").train


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: type(objective).__name__)
def test_a_resumed_training_goes_on_with_the_schedule(objective, tmp_path):
    options = {"batch_size": 256, "objective": objective, "progress": False, "schedule": "constant"}
    whole = new_vae()
    fit(whole, digits(), epochs=4, **options)
    end = objective.state_dict()
    assert end["steps"].item() == 4 * math.ceil(len(digits()) / 256)
    part = new_vae()
    fit(part, digits(), epochs=2, out=tmp_path / "run", **options)
    assert objective.state_dict()["steps"].item() == end["steps"].item() / 2  # begun anew
    objective.reset()
    again = new_vae()
    fit(again, digits(), epochs=4, out=tmp_path / "run", resume=True, **options)
    assert objective.state_dict() == end
    for a, b in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(a, b)


def test_compiling_beforehand_takes_no_step_of_the_schedule(uncompiled):
    objective = o.BetaELBO(o.Linear(steps=100))
    fit(new_vae(), digits(), epochs=1, batch_size=256, objective=objective, engine="compiled", progress=False)
    assert objective.state["steps"].item() == 6
    assert objective.terms["beta"].item() == pytest.approx(0.05)


def test_the_history_and_the_lines_have_the_terms_of_the_objective(tmp_path, capsys):
    history = fit(new_vae(), digits(), epochs=2, batch_size=256, objective=o.BetaELBO(o.Linear(steps=100)))
    assert [epoch.terms["beta"] for epoch in history] == pytest.approx([0.05, 0.11])  # at steps 5 and 11
    assert "  beta 0.11  " in capsys.readouterr().out.splitlines()[-1]
    history = fit(new_vae(), digits(), epochs=1, objective=o.IWAE(3), progress=False)
    assert set(history[0].terms) == {"bound"}
    assert fit(new_vae(), digits(), epochs=1, progress=False)[0].terms == {}


@pytest.mark.parametrize("make", [lambda: o.IWAE(5), lambda: o.DReG(5), lambda: o.StickingTheLanding(3)])
def test_recon_and_kl_of_the_history_are_those_of_the_data(make):
    """DReG runs the guide twice a step. At lr 0, so nearly, the terms are those of the VAE as it was; 2 % is noise."""
    vae, train = new_vae(), digits()
    record = fit(vae, train, epochs=1, lr=1e-12, objective=make(), progress=False)[0]
    x = data.load("digits", binarize="dynamic").train
    terms = elbo_terms(
        vae, torch.stack([image for image, *_ in data.batches(x, 1)]).flatten(0, 1), seed=1, num_particles=5
    )
    assert record.recon == pytest.approx(terms.recon.mean().item(), rel=0.02)
    assert record.kl == pytest.approx(terms.kl.mean().item(), rel=0.02)


def test_what_is_written_makes_the_same_objective():
    for objective in (
        o.MIWAE(3, 4),
        o.BetaELBO(o.Cyclical(period=7), 2, kl="analytic"),
        o.FreeBits(0.5, per="site", num_particles=2, vectorize_particles=False),
        o.GECO(-3.0),
        o.BetaTCVAE(examples=100),
    ):
        described = describe_objective(objective)
        again = make_objective(yaml.safe_load(yaml.safe_dump(described)), new_vae())
        assert type(again) is type(objective)
        assert describe_objective(again) == described
        assert (again.num_particles, again.vectorize_particles) == (
            objective.num_particles,
            objective.vectorize_particles,
        )
    assert describe_objective(o.IWAE()) == {"class": "IWAE"}
    assert describe_objective(o.MIWAE(3, 4)) == {"class": "MIWAE", "groups": 3, "group_size": 4}


def test_old_names_of_the_number_of_draws():
    assert make_objective({"class": "IWAE", "particles": 5}, new_vae()).num_particles == 5
    grouped = make_objective({"class": "PIWAE", "groups": 3, "particles": 4}, new_vae())
    assert (grouped.num_particles, grouped.groups, grouped.group_size) == (12, 3, 4)


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("iwae", o.IWAE),
        ("beta", o.BetaELBO),
        ("stl", o.StickingTheLanding),
        ("free-bits", o.FreeBits),
        ("tc", o.BetaTCVAE),
    ],
)
def test_short_names(name, cls):
    assert type(make_objective(name, new_vae())) is cls


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("iwea", r"unknown objective 'iwea'; there are BetaELBO.*Pyro's are.*Trace_ELBO"),
        ({"class": "iwae", "k": 3}, r"objective IWAE\(num_particles\) cannot be made from {'k': 3}: .*'k'"),
        (
            {"class": "beta", "beta": {"class": "linaer"}},
            "beta: unknown schedule 'linaer'; there are .*Did you mean 'Linear'",
        ),
        ({"class": "beta", "beta": {"class": "linear", "epochs": 3}}, "beta: schedule Linear has no argument 'epochs'"),
        ("torch.nn.Linear", "must be a subclass of pyro.infer.ELBO"),
    ],
)
def test_what_cannot_be_made(spec, message):
    with pytest.raises(ValueError, match=message):
        make_objective(spec, new_vae())


def test_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["--epochs", "1", "--hidden", "8", "--latent_dim", "2", "--out", "run"]
    schedule = '{"class": "linear", "steps": 100}'
    assert main(["train", "--objective", "beta", "--objective.beta", schedule, *small]) == 0
    config = checkpoints.read_config(tmp_path / "run")
    assert config["objective"] == {"class": "beta", "beta": {"class": "linear", "steps": 100}}
    capsys.readouterr()
    assert main(["train", "--objective", "iwae", "--objective.num_particles", "0", "--out", "other"]) == 2
    assert "num_particles must be an integer of at least 1; got 0" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    assert main(["train", "--objective", "dreg", "--posterior", "categorical", "--prior", "categorical"]) == 2
    assert "no gradient flows through its draws" in capsys.readouterr().err


def test_what_does_not_bound_log_p_keeps_the_last_weights():
    """A capacity of 8 nats is worse by the elbo than the start, where the kl is small."""
    train, valid = digits(), data.load("digits", binarize="dynamic").valid
    objective = o.CapacityELBO(8.0, gamma=100.0)
    vae = new_vae()
    fit(vae, train, valid=valid, epochs=5, objective=objective, progress=False)
    last = new_vae()
    fit(last, train, epochs=5, objective=objective, progress=False)
    for a, b in zip(vae.parameters(), last.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="patience looks at the validation elbo, and CapacityELBO as given"):
        fit(new_vae(), train, valid=valid, objective=objective, patience=2, progress=False)


def test_a_run_does_not_go_on_with_another_objective(tmp_path):
    fit(new_vae(), digits(), epochs=1, objective=o.GECO(-20.0), out=tmp_path / "run", progress=False)
    for other in (o.BetaELBO(), None):
        vae = new_vae()
        with pytest.raises(ValueError, match="trained with another objective"):
            fit(vae, digits(), epochs=2, objective=other, out=tmp_path / "run", resume=True, progress=False)
        for a, b in zip(vae.parameters(), new_vae().parameters(), strict=True):
            assert torch.equal(a, b)


def test_any_function_of_the_step_is_a_schedule(tmp_path):
    class Slow:
        def __call__(self, step):
            return (step / 100).clamp(max=0.5)

    for i, schedule in enumerate((Slow(), Slow().__call__, torch.sigmoid, lambda step: 0.3)):
        objective = o.BetaELBO(schedule)
        fit(new_vae(), digits(), epochs=1, objective=objective, out=tmp_path / str(i), progress=False)
        assert checkpoints.read_config(tmp_path / str(i))["objective"]["class"] == "BetaELBO"
    with pytest.raises(ValueError, match="a schedule must give a number or a tensor"):
        fit(new_vae(), digits(), epochs=1, objective=o.BetaELBO(lambda step: "1"), progress=False)
