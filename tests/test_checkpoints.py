"""Run folders that are damaged, incomplete or not there."""

from __future__ import annotations

import warnings

import pytest
import torch
import yaml

from pyro_vae import build, data, fit, load
from pyro_vae.checkpoints import (
    CheckpointError,
    StandardizedDataWarning,
    read_description,
    read_last,
    write_last,
)
from pyro_vae.tensors import write_tensors
from pyro_vae.training import History


@pytest.fixture
def run(tmp_path):
    torch.manual_seed(0)
    vae = build((4,), latent_dim=2, hidden=(3,))
    fit(vae, torch.rand(20, 4).round(), epochs=1, out=tmp_path / "run", progress=False)
    return tmp_path / "run"


def test_what_was_written_for_going_on_comes_back(tmp_path):
    weights = {"a.b": torch.rand(2, 3).double(), "c": torch.tensor(4)}
    state = {0: {"exp_avg": torch.rand(3), "step": torch.tensor(7.0), "n": 3}, 1: {"exp.avg": torch.rand(1)}}
    objective = {"steps": torch.tensor(12.0).double()}
    write_last(tmp_path, weights, {"state": state}, objective, {"epoch": 3, "best_score": -1 / 3})
    back_weights, back_state, back_objective, progress = read_last(tmp_path)
    assert {n: v.tolist() for n, v in back_weights.items()} == {n: v.tolist() for n, v in weights.items()}
    assert back_state[0]["n"] == 3
    assert torch.equal(back_state[0]["exp_avg"], state[0]["exp_avg"])
    assert torch.equal(back_state[1]["exp.avg"], state[1]["exp.avg"])
    assert back_objective == objective
    assert progress == {"epoch": 3, "best_score": -1 / 3}


def test_last_weights_are_loaded_where_asked_for(run):
    assert torch.equal(load(run, weights="last").sample(3, seed=1), load(run).sample(3, seed=1))


def test_no_such_folder(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"nowhere is not a run folder: there is no such folder. fit\(..., out=folder\)"
    ):
        load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"is not a run folder: it has no config.yaml"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [1", r"config.yaml cannot be read"),
        (b"\xff\xfe\x00bad", r"config.yaml cannot be read"),
        ("- a\n- b", r"config.yaml must hold options as YAML; got list"),
        ("{}", r"config.yaml is not complete: .*shapes.*edited by hand"),
        ("shapes: {x: [4]}", r"config.yaml is not complete: .*context"),
    ],
)
def test_a_damaged_configuration(run, content, message):
    (run / "config.yaml").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(CheckpointError, match=message):
        load(run)


def test_a_configuration_that_names_an_unknown_class(run):
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "prior": "gone.Prior"}))
    with pytest.raises(ValueError, match=r"prior 'gone.Prior' is not one of this library's.*load\(run, allow="):
        load(run)
    with pytest.raises(ValueError, match="prior 'gone.Prior' cannot be imported"):
        load(run, allow=["gone"])


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_truncated_weights(run, keep):
    for name, which in (("weights.safetensors", "best"), ("last.safetensors", "last")):
        path = run / name
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(ValueError, match=rf"{name} cannot be read .*damaged or was cut short"):
            load(run, weights=which)


def test_unknown_weights_are_refused(run):
    with pytest.raises(ValueError, match='weights must be "best" or "last"; got \'beste\''):
        load(run, weights="beste")


def test_a_checkpoint_is_replaced_whole_or_not_at_all(run, monkeypatch):
    good = (run / "weights.safetensors").read_bytes()

    def half(path, content):
        with path.open("wb") as file:
            file.write(content[:20])
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.write_bytes", half)
    with pytest.raises(OSError, match="disk full"):
        write_tensors(run / "weights.safetensors", {"a": torch.zeros(3)})
    assert (run / "weights.safetensors").read_bytes() == good


def test_missing_history_is_named(run):
    (run / "history.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match="there is no history at"):
        History.read(run / "history.jsonl")


def test_missing_weights(run):
    (run / "weights.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no weights at"):
        load(run)


def test_weights_are_never_unpickled(run, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    torch.save({"a": Bomb()}, run / "weights.safetensors")
    with pytest.raises(ValueError, match="cannot be read"):
        load(run)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"likelihood": {"class": "Normal", "scale": 0.5}}, "likelihood.scale 0.5; the run has 0.1"),
        ({"activation": "Tanh"}, "likelihood.net.activation Tanh; the run has SiLU"),
        (
            {"prior": {"class": "RelaxedCategorical", "temperature": 0.2}},
            r"prior.temperature 0.2\d*; the run has 0.67",
        ),
    ],
)
def test_a_vae_with_other_arguments_than_the_runs_is_warned_of(tmp_path, change, said):
    """Its weights fit, but what it computes is another VAE's."""
    relaxed = {"class": "RelaxedCategorical", "temperature": 0.67}
    options = {"hidden": (3,), "prior": relaxed, "posterior": relaxed, "likelihood": {"class": "Normal", "scale": 0.1}}
    fit(build((4,), 2, **options), torch.rand(20, 4), epochs=1, out=tmp_path / "run", progress=False)
    with pytest.warns(UserWarning, match=f"the VAE given has {said}"):
        load(tmp_path / "run", vae=build((4,), 2, **{**options, **change}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(tmp_path / "run", vae=build((4,), 2, **options))


def test_the_vae_of_standardised_data_says_so(tmp_path):
    """Values as they are would give other codes in silence."""
    rows = data.Rows(100 + 20 * torch.randn(60, 3, dtype=torch.float64))
    loc, scale = rows.moments()
    for name, train in (("scaled", rows.standardised(loc, scale)), ("plain", rows[:50])):
        vae = build(3, 2, hidden=(4,), likelihood="normal")
        fit(vae, train, epochs=1, out=tmp_path / name, progress=False)
    with pytest.warns(StandardizedDataWarning, match=r"takes and gives \(x - loc\) / scale"):
        load(tmp_path / "scaled")
    kept = read_description(tmp_path / "scaled").moments
    assert torch.equal(kept[0], loc)
    assert torch.equal(kept[1], scale)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(tmp_path / "plain")
        load(tmp_path / "scaled", vae=vae)  # the VAE that was trained, with the weights of the run
