"""Run folders whose tensors are not those of the VAE, its optimiser and its objective: compared before they are used."""

from __future__ import annotations

import json
import shutil

import pytest
import safetensors
import safetensors.torch
import torch
from torch import nn

from pyro_vae import VAE, build, fit, load, objectives
from pyro_vae.cli import main
from pyro_vae.training.optimizer import states_after_a_step
from tests.hostile.conftest import four_numbers

WEIGHT, BIAS = "posterior.net.layers.0.weight", "posterior.net.layers.0.bias"
STATE = "optimizer.0.exp_avg"  # of the weight of the likelihood's first layer


def rewrite(path, change, metadata=None):
    """Changes the tensors of a file, and what it says beside them."""
    with safetensors.safe_open(path, framework="pt") as file:
        tensors, beside = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    change(tensors)
    safetensors.torch.save_file(tensors, path, {**(beside or {}), **(metadata or {})})


def put(name, make):
    def change(tensors):
        tensors[name] = make(tensors[name]) if name in tensors else make(None)

    return change


def drop(*names):
    def change(tensors):
        for name in names:
            del tensors[name]

    return change


def spoilt(bad):
    def change(tensor):
        tensor = tensor.clone()
        tensor.view(-1)[-1] = bad
        return tensor

    return change


OTHER_TENSORS = {
    "int": (lambda t: t.to(torch.int32), "is int32 there and float32 here, and nothing is cast"),
    "long": (lambda t: t.to(torch.int64), "is int64 there and float32 here, and nothing is cast"),
    "bool": (lambda t: t > 0, "is bool there and float32 here, and nothing is cast"),
    "complex": (lambda t: t.to(torch.complex64), "is complex64 there and float32 here, and nothing is cast"),
    "half": (lambda t: t.half(), "is float16 there and float32 here, and nothing is cast"),
    "bfloat16": (lambda t: t.bfloat16(), "is bfloat16 there and float32 here, and nothing is cast"),
    "float8": (lambda t: t.to(torch.float8_e4m3fn), "is F8_E4M3 there and float32 here, and nothing is cast"),
    "double": (lambda t: t.double(), "is float64 there and float32 here, and nothing is cast"),
    "longer": (lambda t: torch.zeros(10_240), r"has shape \(10240,\) there and \("),
    "shorter": (lambda t: torch.zeros(1), r"has shape \(1,\) there and \("),
    "flat": (lambda t: t.reshape(-1, 1, 1).clone(), r"has shape \(\d+, 1, 1\) there and \("),
    "transposed": (lambda t: torch.zeros(*t.shape[::-1], 1), "there and"),
    "scalar": (lambda t: torch.zeros(()), r"has shape \(\) there and \("),
    "empty": (lambda t: torch.zeros(0), r"has shape \(0,\) there and \("),
    "NaN": (spoilt(torch.nan), "holds NaN or infinity in {name}"),
    "infinity": (spoilt(-torch.inf), "holds NaN or infinity in {name}"),
}


@pytest.mark.parametrize("kind", OTHER_TENSORS)
def test_weights_of_another_kind_are_refused_by_name(here, kind):
    make, message = OTHER_TENSORS[kind]
    rewrite(here / "run/weights.safetensors", put(WEIGHT, make))
    rewrite(here / "run/last.safetensors", put(f"weights.{WEIGHT}", make))
    for which, name in (("best", WEIGHT), ("last", f"weights.{WEIGHT}")):
        with pytest.raises(ValueError, match=message.format(name=name)) as refused:
            load("run", weights=which)
        assert name in str(refused.value)


def train(objective=None, **options):
    """Goes on with the run of four numbers."""
    torch.manual_seed(1)
    vae = build((4,), latent_dim=2, hidden=(3,))
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    options = {"epochs": 2, "out": "run", "resume": True, "progress": False, "objective": objective, **options}
    try:
        return vae, fit(vae, four_numbers(), **options)
    except ValueError:
        assert all(torch.equal(before[name], value) for name, value in vae.state_dict().items())
        raise


@pytest.mark.parametrize("name", [f"weights.{WEIGHT}", STATE])
@pytest.mark.parametrize("kind", OTHER_TENSORS)
def test_states_of_another_kind_are_refused_by_name_when_a_training_goes_on(here, name, kind):
    make, message = OTHER_TENSORS[kind]
    rewrite(here / "run/last.safetensors", put(name, make))
    with pytest.raises(ValueError, match=message.format(name=name)) as refused:
        train()
    assert name in str(refused.value)


ALL_STATES = [f"optimizer.0.{key}" for key in ("exp_avg", "exp_avg_sq", "step")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop(STATE), f"there is no {STATE} in the file"),
        (drop("optimizer.0.step"), "there is no optimizer.0.step in the file"),
        (drop(*ALL_STATES), "there is no optimizer.0.step in the file"),
        (drop(f"weights.{WEIGHT}"), f"there is no weights.{WEIGHT} in the file"),
        (put("weights.more", lambda _: torch.zeros(3)), "weights.more has shape .* and no counterpart here"),
        (put("optimizer.0.more", lambda _: torch.zeros(3)), "optimizer.0.more has shape .* and no counterpart here"),
        (put("optimizer.99.exp_avg", lambda _: torch.zeros(3)), "optimizer.99.exp_avg .* and no counterpart here"),
        (put("optimizer.-1.exp_avg", lambda _: torch.zeros(3)), "optimizer.-1.exp_avg .* and no counterpart here"),
        (put("optimizer", lambda _: torch.zeros(3)), "optimizer has shape .* and no counterpart here"),
        (put("evil.0", lambda _: torch.zeros(3)), "evil.0 has shape .* and no counterpart here"),
        (put("optimizer.0.step", lambda _: torch.tensor(0.0)), "optimizer.0.step must be from 1 to 1, the steps taken"),
        (put("optimizer.0.step", lambda _: torch.tensor(-3.0)), "optimizer.0.step must be from 1 to 1"),
        (put("optimizer.0.step", lambda _: torch.tensor(2.0)), "optimizer.0.step must be from 1 to 1"),
        (put("optimizer.0.step", lambda _: torch.tensor(torch.nan)), "holds NaN or infinity in optimizer.0.step"),
        (put("optimizer.0.step", lambda _: torch.ones(1)), r"optimizer.0.step has shape \(1,\) there and \(\) here"),
        (put("optimizer.0.exp_avg_sq", lambda t: -1 - t), "a negative mean of squares in optimizer.0.exp_avg_sq"),
        (put("objective.steps", lambda _: torch.zeros(())), "was trained with another objective than Trace_ELBO"),
    ],
)
def test_states_that_no_training_leaves_are_refused(here, change, message):
    rewrite(here / "run/last.safetensors", change)
    with pytest.raises(ValueError, match=message):
        train()


PROGRESS = {"epoch": 1, "steps": 1, "best_score": -3.0}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        *[
            ({"progress": json.dumps({**PROGRESS, name: value})}, f"{name} must be")
            for name, values in {
                "epoch": (0, -1, 1.0, True, "1", None, [1], 10**400),
                "steps": (0, 1.5, False, "1", None),
                "best_score": (float("nan"), float("-inf"), "0", None, True, {}),
            }.items()
            for value in values
            if value != 10**400
        ],
        ({"progress": "[1, 2]"}, "its progress must be a mapping"),
        ({"progress": "{"}, "its progress is missing or not JSON"),
        ({"progress": "[" * 100_000}, "its progress is missing or not JSON"),
        ({"optimizer": "[]"}, "its optimizer must be a mapping"),
        ({"optimizer": '{"0.step": 3}'}, "optimizer.0.step is int in the file and not there here"),
        ({"optimizer": '{"a": null}'}, "optimizer.a is NoneType in the file and not there here"),
        ({"progress": json.dumps({**PROGRESS, "epoch": 2})}, r"history.jsonl must hold epochs 1 to 2"),
    ],
)
def test_what_is_said_beside_the_tensors_is_checked(here, metadata, message):
    rewrite(here / "run/last.safetensors", lambda tensors: None, metadata)
    with pytest.raises(ValueError, match=message):
        train()


def test_best_weights_are_compared_before_a_training_goes_on(here):
    rewrite(here / "run/weights.safetensors", put(WEIGHT, lambda t: t.half()))
    with pytest.raises(ValueError, match="is float16 there and float32 here"):
        train()


def test_the_command_line_refuses_them_too(here, capsys):
    rewrite(here / "digits/weights.safetensors", put(WEIGHT, lambda t: t.half()))
    rewrite(here / "digits/last.safetensors", put(STATE, lambda t: torch.zeros(10_240)))
    for command in ("evaluate", "check", "sample", "reconstruct", "interpolate", "plot"):
        assert main([command, "digits"]) == 2
        assert f"{WEIGHT} is float16 there and float32 here" in capsys.readouterr().err
    assert main(["train", "--resume", "digits", "--epochs", "2"]) == 2
    assert f"{STATE} has shape (10240,) there and" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["weights.safetensors", "last.safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 8, b"\xff" * 100, (2**40).to_bytes(8, "little") + b"{}", b"\x02" + b"\0" * 7 + b"[]"]
)
def test_files_that_are_none(here, name, content):
    (here / "run" / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} cannot be read"):
        load("run", weights="best" if name.startswith("weights") else "last")


def test_sizes_are_compared_before_anything_is_read(here):
    """A file of gigabytes of nothing, as sparse files are."""
    kind = {WEIGHT: {"dtype": "F32", "shape": [2**30], "data_offsets": [0, 2**32]}}
    header = json.dumps(kind).encode()
    with (here / "run/weights.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 2**32)
    with pytest.raises(ValueError, match=f"{WEIGHT} has shape .*1073741824,.* there and .*3, 4.* here"):
        load("run")


def test_a_tensor_of_two_modules_has_one_content(tmp_path):
    vae = build(4, 2, hidden=(3,), prior={"class": "vamp", "components": 2})
    weights = {name: value.clone() for name, value in vae.state_dict().items()}
    safetensors.torch.save_file(weights, tmp_path / "w.safetensors")
    vae.load_weights(tmp_path / "w.safetensors")
    weights[f"prior.{WEIGHT}"] += 1
    safetensors.torch.save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"layers.0.weight differ there and are one tensor here"):
        vae.load_weights(tmp_path / "w.safetensors")


def test_a_constant_that_is_infinite_may_be(tmp_path):
    vae = build(4, 2, hidden=(3,))
    vae.register_buffer("limit", torch.tensor([torch.inf, 1.0]))
    vae.save_weights(tmp_path / "w.safetensors")
    assert vae.load_weights(tmp_path / "w.safetensors").limit.tolist() == [torch.inf, 1.0]
    vae.limit = torch.tensor([1.0, 1.0])
    with pytest.raises(ValueError, match="holds NaN or infinity in limit"):
        vae.load_weights(tmp_path / "w.safetensors")


# What is right goes on.


class Idle(nn.Module):
    """A likelihood with a parameter that no gradient reaches."""

    def __init__(self, likelihood):
        super().__init__()
        self.likelihood, self.idle = likelihood, nn.Parameter(torch.zeros(3))

    def forward(self, z):
        return self.likelihood(z)


def test_a_parameter_without_gradient_has_no_state_and_needs_none(tmp_path):
    x = torch.rand(20, 4).round()

    def make():
        torch.manual_seed(0)
        vae = build((4,), latent_dim=2, hidden=(3,))
        return VAE(vae.prior, Idle(vae.likelihood), vae.posterior)

    options = {"progress": False, "engine": "pyro", "schedule": "constant", "seed": 3}
    whole = make()
    fit(whole, x, epochs=2, **options)
    fit(make(), x, epochs=1, out=tmp_path / "run", **options)
    with safetensors.safe_open(tmp_path / "run/last.safetensors", framework="pt") as file:
        indices = {name.split(".")[1] for name in file.keys() if name.startswith("optimizer.")}  # noqa: SIM118
    assert "0" not in indices
    resumed = make()
    fit(resumed, x, epochs=2, out=tmp_path / "run", resume=True, **options)
    assert all(torch.equal(whole.state_dict()[name], value) for name, value in resumed.state_dict().items())


@pytest.mark.parametrize(
    "optimizer",
    [
        torch.optim.Adam,
        torch.optim.AdamW,
        torch.optim.SGD,
        lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9),
        torch.optim.RMSprop,
        torch.optim.Adagrad,
        torch.optim.NAdam,
        lambda p, lr: torch.optim.Adam(p, lr, amsgrad=True, fused=True),
    ],
)
def test_what_an_optimiser_keeps_is_known_of_any(optimizer):
    parameters = [nn.Parameter(torch.randn(2, 3)), nn.Parameter(torch.randn(3))]
    made = optimizer(parameters, lr=0.1)
    before = [p.detach().clone() for p in parameters]
    expected = states_after_a_step(made)
    assert all(torch.equal(p, b) and p.grad is None for p, b in zip(parameters, before, strict=True))
    for p in parameters:
        p.grad = torch.randn_like(p)
    made.step()
    found = made.state_dict()["state"]
    assert {i: set(s) for i, s in expected.items()} == {i: set(s) for i, s in found.items()}
    for index, state in found.items():
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                assert (value.shape, value.dtype) == (expected[index][key].shape, expected[index][key].dtype)


@pytest.mark.parametrize("objective", [None, objectives.GECO(-2.0), objectives.BetaELBO(objectives.Linear(steps=5))])
def test_a_training_goes_on_as_before(tmp_path, objective):
    x = torch.rand(20, 4).round()

    def trained(epochs, **options):
        torch.manual_seed(0)
        vae = build((4,), latent_dim=2, hidden=(3,))
        fit(vae, x, epochs=epochs, objective=objective, progress=False, schedule="constant", **options)
        return vae.state_dict()

    whole = trained(2)
    trained(1, out=tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    resumed = trained(2, out=tmp_path / "copy", resume=True)
    assert all(torch.equal(whole[name], value) for name, value in resumed.items())
