"""The loss of a step reads like the float of pyro.infer.SVI."""

from __future__ import annotations

import copy
import json
import math
import operator
import pickle

import numpy as np
import pytest
import torch

from pyro_vae.svi import Loss

VALUE = 123.456789


@pytest.fixture
def loss():
    return torch.tensor(VALUE, dtype=torch.float64).as_subclass(Loss)


def test_it_is_a_tensor_and_a_number(loss):
    assert isinstance(loss, torch.Tensor)
    assert loss.shape == ()
    assert float(loss) == loss.item() == VALUE
    assert int(loss) == 123
    assert bool(loss)
    assert not loss.requires_grad


def test_it_is_printed_as_the_number(loss):
    assert repr(loss) == str(loss) == repr(VALUE)
    assert f"{loss}" == f"{VALUE}"
    assert f"{loss:.3f} {loss:8.1f} {loss:e} {loss!r:>12}" == f"{VALUE:.3f} {VALUE:8.1f} {VALUE:e} {VALUE!r:>12}"
    assert "%.2f and %s and %d" % (loss, loss, loss) == "%.2f and %s and %d" % (VALUE, VALUE, VALUE)  # noqa: UP031
    assert "{:.2f}".format(loss) == f"{VALUE:.2f}"  # noqa: UP032
    assert str([loss, loss]) == str([VALUE, VALUE])
    assert f"{loss / 7:.4f}" == f"{VALUE / 7:.4f}"


def test_a_loss_of_float32_is_printed_as_what_pyro_returns():
    """Pyro's float of a float32 number has its digits in float64."""
    loss = torch.tensor(0.1, dtype=torch.float32).double().as_subclass(Loss)
    assert repr(loss) == repr(torch.tensor(0.1, dtype=torch.float32).item())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e300, 5e-324])
def test_special_numbers(value):
    loss = torch.tensor(value, dtype=torch.float64).as_subclass(Loss)
    assert repr(loss) == repr(value)
    assert f"{loss:.2e}" == f"{value:.2e}"
    assert math.isnan(loss) == math.isnan(value)
    assert math.isinf(loss) == math.isinf(value)
    assert np.isfinite(float(loss)) == math.isfinite(value)


def test_comparisons(loss):
    assert loss == VALUE
    assert loss != 1
    assert 100 < loss < 200
    assert loss >= VALUE
    assert loss < math.inf
    assert loss == pytest.approx(VALUE)
    assert min(loss, 5.0) == 5.0
    assert max([1.0, loss, 3.0]) == VALUE
    assert sorted([loss, 3.0, loss - 200]) == [loss - 200, 3.0, loss]


def test_sums_and_means(loss):
    total = 0.0
    for _ in range(3):
        total += loss
    assert float(total) == VALUE + VALUE + VALUE
    assert float(loss) == VALUE, "the sum must not have changed the loss"
    assert sum([loss, loss]) == 2 * VALUE
    assert math.fsum([loss, loss]) == 2 * VALUE
    assert np.mean([loss, loss]) == VALUE
    assert np.array([loss, loss]).tolist() == [VALUE, VALUE]
    assert np.median([float(loss), 1.0, 2e9]) == VALUE
    assert torch.stack([loss, loss]).mean() == VALUE
    assert torch.tensor([loss, loss], dtype=torch.float64).tolist() == [VALUE, VALUE]


def test_a_running_sum_that_starts_with_the_loss_leaves_the_loss(loss):
    total = loss
    total += 1.0
    assert float(total) == VALUE + 1
    assert float(loss) == VALUE, "a float is not changed by +="


def test_arithmetic_with_numbers_arrays_and_tensors(loss):
    assert float(loss / 10 - 1 + 2 * loss) == pytest.approx(VALUE / 10 - 1 + 2 * VALUE)
    assert float(1 - loss) == 1 - VALUE
    assert float(-loss) == -VALUE
    assert float(loss**2) == VALUE**2
    assert float(abs(-loss)) == VALUE
    assert math.sqrt(loss) == math.sqrt(VALUE)
    assert math.exp(-loss) == math.exp(-VALUE)
    assert float(loss * torch.tensor(2.0)) == 2 * VALUE
    assert float(np.float64(2.0) * float(loss)) == 2 * VALUE
    assert round(float(loss), 2) == 123.46


def test_round_as_of_a_float(loss):
    assert f"{round(loss, 2)}" == "123.46"


def test_it_is_copied(loss):
    assert f"{copy.copy(loss):.2f}" == "123.46"
    assert f"{copy.deepcopy({'history': [loss]})['history'][0]:.2f}" == "123.46"


def test_it_is_written_to_files(loss, tmp_path):
    assert float(pickle.loads(pickle.dumps(loss))) == VALUE
    assert json.dumps([float(loss)]) == json.dumps([VALUE])
    torch.save({"losses": [loss]}, tmp_path / "losses.pt")
    assert float(torch.load(tmp_path / "losses.pt", weights_only=False)["losses"][0]) == VALUE


@pytest.mark.parametrize("change", [operator.iadd, operator.isub, operator.imul, operator.itruediv])
def test_a_loss_that_is_kept_does_not_change_with_what_is_made_of_it(change):
    loss = torch.tensor(3.0).as_subclass(Loss)
    kept, total = [loss], loss
    total = change(total, 2)
    assert float(total) == change(3.0, 2)
    assert float(kept[0]) == 3
