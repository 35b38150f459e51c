"""CompiledSVI against pyro.infer.SVI, on Pyro programs of every kind: the same losses and parameters, bit for bit."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pyro
import pytest
import torch
from pyro.infer import SVI
from torch import Tensor, nn

from pyro_vae.svi import CannotCaptureError, CompiledSVI
from tests.svi.programs import CASES, REFUSED, Case, Program
from tests.svi.programs.refused import two_losses


@pytest.fixture(autouse=True)
def _store():
    pyro.clear_param_store()
    yield
    pyro.clear_param_store()


def state(program: Program) -> dict[str, Tensor]:
    """Every parameter and buffer: the store's, those of the modules, and those of model and guide."""
    found = {f"store {name}": value for name, value in pyro.get_param_store()._params.items()}
    modules = [*program.modules, *(m for m in (program.model, program.guide) if isinstance(m, nn.Module))]
    for i, module in enumerate(modules):
        found |= {f"module {i} {name}": value for name, value in (*module.named_parameters(), *module.named_buffers())}
    return {name: value.detach().clone() for name, value in found.items()} | {"generator": torch.get_rng_state()}


def run(case: Case, make_svi: Any = SVI) -> tuple[list[Any], dict[str, Tensor], Any]:
    """The losses of the steps, what is there after them, and the SVI."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    program = case.make()
    svi = make_svi(program.model, program.guide, program.optim, program.loss)
    losses = []
    for args, kwargs in program.calls():
        loss = svi.step(*copy.deepcopy(args), **kwargs)
        losses.append(tuple(float(part) for part in loss) if isinstance(loss, tuple) else float(loss))
        if program.after is not None:
            program.after(loss)
    return losses, state(program), svi


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float = 0.0) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if rtol:
            torch.testing.assert_close(
                found[name], value, rtol=rtol, atol=rtol, msg=lambda m, name=name: f"{name}: {m}"
            )
        else:
            assert torch.equal(found[name], value), f"{name} is not the same: {found[name]}, not {value}"


def cases(table: dict[str, Case]):
    return [pytest.param(c, id=c.name, marks=[pytest.mark.slow] if c.slow else []) for c in table.values()]


@pytest.mark.slow  # it tests the programs, not what runs them
@pytest.mark.parametrize("case", cases(CASES | REFUSED))
def test_stock_pyro_runs_the_program_and_is_deterministic(case):
    with warnings.catch_warnings():
        warnings.simplefilter("default" if case.loud else "error")
        losses, after, _ = run(case)
    again, after_again, _ = run(case)
    assert losses == again
    assert_equal(after, after_again)


def exact(**options: Any) -> Any:
    return lambda *programs: CompiledSVI(*programs, mode="exact", **options)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("case", cases(CASES))
def test_the_graph_does_what_stock_pyro_does(case):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected, expected_after, _ = run(case)
        losses, after, svi = run(case, exact(fallback="error"))
    if case.rtol:
        assert losses == pytest.approx(expected, rel=case.rtol)
    else:
        assert losses == expected
    assert_equal(after, expected_after, case.rtol)
    assert svi.refused is None
    if case.captures is not None:
        assert svi.captures == case.captures


# Adam enlarges the rounding errors of a gradient of zero, here that of the bias of an attention's keys.
ROUNDED = {"transformer_encoder_guide": "in_proj_bias"}


def assert_close(case: Case) -> None:
    """Mode "fast" and Pyro to single precision, as far as five steps of a program keep it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected, expected_after, _ = run(case)
        losses, after, svi = run(case, lambda *programs: CompiledSVI(*programs, fallback="error"))
    assert losses == pytest.approx(expected, rel=1e-4, abs=1e-4)
    for name, value in expected_after.items():
        if name.endswith(ROUNDED.get(case.name, "\n")):
            continue
        torch.testing.assert_close(after[name], value, rtol=2e-3, atol=2e-3, msg=lambda m, name=name: f"{name}: {m}")
    assert svi.refused is None


@pytest.mark.slow
@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("case", cases(CASES))
def test_the_graph_with_the_update_in_it(case):
    assert_close(case)


COMPILED = (
    "linear_auto_normal",
    "convolutional_vae",
    "eight_schools",
    "gaussian_mixture_map",
    "gaussian_process_variational_sparse",
    "hmm_of_sequences_with_lengths",
    "latent_dirichlet_allocation",
    "lkj_covariance",
    "nested_subsampled_plates",
    "semi_supervised_vae",
    "vae_with_batch_norm",
    "vae_with_dropout",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_the_compiled_graph(name):
    assert_close(CASES[name])


@pytest.mark.parametrize("case", cases(REFUSED))
def test_what_no_graph_can_hold_is_refused_with_its_line(case):
    with pytest.raises(CannotCaptureError) as error:
        run(case, exact(fallback="error"))
    message = str(error.value)
    assert case.place in message
    assert case.line in message


@pytest.mark.parametrize("case", cases(REFUSED))
def test_what_no_graph_can_hold_runs_as_before_after_one_warning(case):
    expected, expected_after, _ = run(case)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        losses, after, svi = run(case, exact(fallback="eager"))
    assert losses == expected
    assert_equal(after, expected_after)
    assert [w.category for w in caught if "captured" in str(w.message)] == [UserWarning]
    assert case.line in svi.refused
    assert svi.captures == 0


def test_two_losses():
    """Of the model and of the guide, as wake-sleep has them."""
    case = Case("two_losses", two_losses)
    expected, expected_after, _ = run(case)
    losses, after, svi = run(case, exact(fallback="error"))
    assert losses == expected
    assert_equal(after, expected_after)
    assert svi.captures == 1
