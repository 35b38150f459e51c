"""Float arguments: the programs take them for floats, and the graph computes with them as Python does."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import numbers
import operator
import warnings
from math import exp

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO

from pyro_vae.svi import CannotCaptureError, CompiledSVI
from pyro_vae.svi.capture import capture
from pyro_vae.svi.symbolic_floats import FloatOperations, SymbolicFloat

FLOATS = st.floats(allow_nan=False, width=64)


def number_of(numbers: FloatOperations, *values: float) -> list[SymbolicFloat]:
    return numbers.arguments(values, [torch.tensor(v, dtype=torch.float64) for v in values])


def same_float(a: float, b: float) -> bool:
    return (a != a and b != b) or (a == b and math.copysign(1, a) == math.copysign(1, b))


# Against Python.


BINARY = (operator.add, operator.sub, operator.mul, operator.truediv)
UNARY = (operator.neg, operator.abs, operator.pos)


@given(FLOATS, st.one_of(FLOATS, st.integers(-(2**70), 2**70), st.booleans()), st.sampled_from(BINARY), st.booleans())
def test_arithmetic_gives_the_bits_of_python(a, b, operation, both):
    numbers = FloatOperations()
    t, u = number_of(numbers, a, float(b))
    for first, second, one, two in ((t, u if both else b, a, b), (u if both else b, t, b, a)):
        try:
            expected = operation(one, two)
        except ZeroDivisionError:
            with pytest.raises(ZeroDivisionError):
                operation(first, second)
            continue
        found = operation(first, second)
        assert type(found) is SymbolicFloat
        assert same_float(found.value, expected)
        assert same_float(found.tensor.item(), expected)
        assert found.tensor.dtype == torch.float64
        assert found.tensor.shape == ()


@given(FLOATS, st.sampled_from(UNARY))
def test_signs_give_the_bits_of_python(a, operation):
    (t,) = number_of(FloatOperations(), a)
    found = operation(t)
    assert same_float(found.value, operation(a))
    assert same_float(found.tensor.item(), operation(a))


PROGRAMS = {
    "annealed": lambda t, u: min(1.0, t / 10),
    "clipped": lambda t, u: max(-1, min(t * u, 3)),
    "branches": lambda t, u: (t - u if t > u else u - t) or 5.0,
    "quotients": lambda t, u: t / u + 1 / t if t and u != 0 else t,
    "sum": lambda t, u: sum([t, u, 1, t * 0.1]),
    "sorted": lambda t, u: sorted([t, u, 0.5])[1],
    "signs": lambda t, u: abs(-t) + +u if t == u or 0 <= t < 1 else 2 * t,
    "among": lambda t, u: 2.0 if t in (0.0, 1.0, u) else t,
    "loop": lambda t, u: functools.reduce(lambda v, _: v + v * 0.5 - u, range(40), t),
    "copies": lambda t, u: copy.deepcopy(t) * u,
}
SMALL = st.one_of(st.sampled_from([0.0, -0.0, 0.5, 1.0, -1.0]), st.floats(-20, 20))


@settings(deadline=None, max_examples=30)
@pytest.mark.parametrize("name", PROGRAMS)
@given(st.tuples(SMALL, SMALL), st.lists(st.tuples(SMALL, SMALL), min_size=1, max_size=8))
def test_a_graph_is_right_for_other_floats_or_says_that_it_is_not(name, first, others):
    """Here the graph is what was computed with the tensors, done again by the notes."""
    program = PROGRAMS[name]
    numbers = FloatOperations()
    result = program(*number_of(numbers, *first))
    assert numbers.hold(first, {})
    for other in others:
        if not numbers.hold(other, {}):
            continue
        again = FloatOperations()
        expected = program(*other)
        found = program(*number_of(again, *other))
        assert again.notes == numbers.notes
        assert type(found) is type(result)
        assert same_float(found.tensor.item() if isinstance(found, SymbolicFloat) else found, expected)


def test_decisions_hold_where_they_come_out_the_same():
    numbers = FloatOperations()
    (t,) = number_of(numbers, 0.5)
    assert t > 0
    assert t != 1
    assert min(1.0, t / 10 * 4) is not 1.0  # noqa: F632  the very number
    assert numbers.hold([0.7], {})
    assert not numbers.hold([1.0], {})
    assert not numbers.hold([2.6], {})
    assert not numbers.hold([-0.1], {})
    assert not numbers.hold([float("nan")], {})


def test_what_it_is():
    (t,) = number_of(FloatOperations(), 0.5)
    assert isinstance(t, float)
    assert isinstance(t, numbers.Number)
    assert not isinstance(t, torch.Tensor)
    assert t != "0.5"
    assert t is not None
    assert (t == None) is False  # noqa: E711  what a program may ask


def test_notes_that_repeat_are_kept_once():
    numbers = FloatOperations()
    (t,) = number_of(numbers, 0.5)
    for _ in range(100):
        assert 1.0 * t != 1
        assert t * 0.0 == t * -0.0
    assert len(numbers.notes) == 5


READS = {
    "int": int,
    "float": float,
    "complex": complex,
    "round": round,
    "hash": lambda t: {t: 1},
    "repr": repr,
    "str": str,
    "f-string": lambda t: f"{t}",
    "format": lambda t: f"{t:.3f}",
    "floordiv": lambda t: t // 2,
    "rfloordiv": lambda t: 2 // t,
    "mod": lambda t: t % 2,
    "rmod": lambda t: 2.0 % t,
    "divmod": lambda t: divmod(t, 2),
    "pow": lambda t: t**2,
    "rpow": lambda t: 2**t,
    "rpow-float": lambda t: 2.0**t,
    "pow-tensor": lambda t: t ** torch.ones(2),
    "exp": lambda t: math.exp(t),
    "floor": math.floor,
    "isclose": lambda t: math.isclose(t, 1.0),
    "fsum": lambda t: math.log(1 + t),
    "is_integer": lambda t: t.is_integer(),
    "ratio": lambda t: t.as_integer_ratio(),
    "hex": lambda t: t.hex(),
    "real": lambda t: t.real,
    "imag": lambda t: t.imag,
    "conjugate": lambda t: t.conjugate(),
    "numpy-scalar": lambda t: t * np.float32(2),
    "numpy-scalar-first": lambda t: np.int64(2) - t,
    "numpy-array": lambda t: t * np.ones(2),
    "numpy-compares": lambda t: np.float32(1) < t,
}


@pytest.mark.parametrize("name", READS)
def test_what_else_reads_the_value_is_refused_by_its_line(name):
    def program(t):
        READS[name](t)
        return torch.zeros(())

    with pytest.raises(CannotCaptureError, match=r"float argument .*pass a tensor.*test_symbolic_floats\.py:\d+ in"):
        capture(program, [0.5])


LEAKS = {
    "tensor-of-lists": lambda x, t: x * torch.tensor([[t]]),
    "legacy-tensor": lambda x, t: x * torch.Tensor([t]),
    "asarray": lambda x, t: x * float(np.asarray(t)),
    "numpy-round": lambda x, t: x * float(np.round(t)),
    "numpy-exp": lambda x, t: x * float(np.exp(t)),
    "complex": lambda x, t: x * abs(1j * t),
    "percent": lambda x, t: x * len("%.3f" % t),  # noqa: UP031  it reads the double unnoticed
    "double": lambda x, t: x * float.__add__(t, 1.0),
    "compared": lambda x, t: x if t < float.__add__(t, 1.0) else -x,
    "imported": lambda x, t: x * exp(t),
    "raises": lambda x, t: x[int(float.__mul__(t, 4.0))],
}


@pytest.mark.parametrize("name", LEAKS)
def test_what_reads_the_double_without_asking_is_refused(name):
    with pytest.raises(CannotCaptureError, match=r"a float argument|__array_ufunc__"):
        capture(lambda x, t: LEAKS[name](x, t), [torch.ones(3), 0.5])


def test_math_is_as_before():
    before = dict(vars(math))
    capture(lambda t: torch.as_tensor(t), [0.5])
    with pytest.raises(CannotCaptureError):
        capture(lambda t: torch.as_tensor(math.exp(t)), [0.5])
    assert dict(vars(math)) == before


def test_a_float_of_another_run_is_refused():
    kept = []

    def program(t):
        kept.append(t)
        return torch.as_tensor(t - kept[0])

    with pytest.raises(CannotCaptureError, match=r"of another run is kept.*test_symbolic_floats\.py"):
        capture(program, [0.5])


def test_a_program_that_changes_is_not_taken_for_one_that_reads_floats():
    runs = []

    def program(t):
        runs.append(0)
        return torch.as_tensor(t) * len(runs)

    with pytest.raises(CannotCaptureError, match="does something else when it runs again"):
        capture(program, [0.5])


# Steps.


X = torch.linspace(-1, 2, 6)


def steps(make, model, guide, calls, loss=Trace_ELBO):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    svi = make(model, guide, pyro.optim.Adam({"lr": 0.02}), loss())
    losses = [float(svi.step(*call)) for call in calls]
    after = {name: value.detach().clone() for name, value in pyro.get_param_store().items()}
    evaluated = [float(svi.evaluate_loss(*call)) for call in calls]
    pyro.clear_param_store()
    return losses, after, evaluated, svi


def assert_stock(model, guide, calls, captures, mode, loss=Trace_ELBO):
    """Bit for bit in mode exact, and in mode fast but for rounding; ``captures`` of steps and of losses alone."""
    losses, after, evaluated, _ = steps(SVI, model, guide, calls, loss)
    make = functools.partial(CompiledSVI, mode=mode, fallback="error")
    ours, ours_after, ours_evaluated, svi = steps(make, model, guide, calls, loss)
    if mode == "exact":
        assert ours == losses
        assert ours_evaluated == evaluated
        assert all(torch.equal(value, ours_after[name]) for name, value in after.items())
    else:
        assert ours == pytest.approx(losses, rel=1e-6)
        assert ours_evaluated == pytest.approx(evaluated, rel=1e-6)
        torch.testing.assert_close(ours_after, after, rtol=1e-5, atol=1e-6)
    assert svi.captures == captures


def also_slow(*values):
    """What the tests of every day cover in parts: another mode, or another kind of float."""
    return pytest.param(*values, marks=pytest.mark.slow)


def guide(x, t):
    pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(3.0)), 0.1))


def observed(x, z, scale=1.0):
    with pyro.plate("data", x.shape[0]):
        pyro.sample("x", dist.Normal(z, scale), obs=x)


def scale_by_type(x, t):
    observed(x, pyro.sample("z", dist.Normal(0.0, 1.0 - t if isinstance(t, float) else 5.0)))


def scale_of_prior(x, t):
    observed(x, pyro.sample("z", dist.Normal(0.0, 1.0 - t)))


def computed_with_a_scalar(x, t):
    observed(x, (1.0 - t) * pyro.sample("z", dist.Normal(0.0, 1.0)) / (1 + t))


def computed_with_a_vector(x, t):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    observed(x, (1.0 - t) * x.sin() + t * z, torch.full((6,), 0.5 + t))


def in_a_tensor(x, t):
    weights = torch.tensor([1 - t, t])
    observed(x, (weights * pyro.sample("z", dist.Normal(0.0, 1.0))).sum())


def warmed_up(x, t):
    with poutine.scale(scale=min(1.0, (1 + 10 * t) / 4)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
    observed(x, z)


def weighed_likelihood(x, t):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with poutine.scale(scale=1.0 - t):
        observed(x, z)


def weighed_in_a_plate(x, t):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 60, subsample=x), poutine.scale(scale=1.0 - t):
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def weighed_by_size(x, t):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with poutine.scale(scale=(1.0 - t) * 60 / x.shape[0]):
        observed(x, z)


def with_a_factor(x, t):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.factor("penalty", -t * z.abs())
    pyro.deterministic("temperature", torch.as_tensor(t))
    observed(x, z)


MODELS = {
    scale_by_type: 2,
    scale_of_prior: 2,
    computed_with_a_scalar: 2,
    computed_with_a_vector: 2,
    in_a_tensor: 2,
    warmed_up: 4,
    weighed_likelihood: 2,
    weighed_in_a_plate: 2,
    weighed_by_size: 2,
    with_a_factor: 2,
}


@contextlib.contextmanager
def default_dtype(dtype):
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


@pytest.mark.one_in(2)
@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize(
    ("mode", "dtype"),
    [("exact", torch.float32), ("exact", torch.float64), ("fast", torch.float32), also_slow("fast", torch.float64)],
    ids=str,
)
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_steps_are_those_of_pyro(model, mode, dtype):
    calls = [(X.to(dtype), 0.01 + 0.1 * i) for i in range(6)]
    with default_dtype(dtype):
        assert_stock(model, guide, calls, MODELS[model], mode)


ELBOS = (Trace_ELBO, TraceMeanField_ELBO, TraceEnum_ELBO)


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize(
    ("mode", "number", "loss"),
    [
        *(("exact", float, loss) for loss in ELBOS),
        ("exact", np.float64, Trace_ELBO),
        ("fast", float, Trace_ELBO),
        *(also_slow("exact", np.float64, loss) for loss in ELBOS[1:]),
        *(also_slow("fast", float, loss) for loss in ELBOS[1:]),
        *(also_slow("fast", np.float64, loss) for loss in ELBOS),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_annealing_up_to_one_and_on(mode, number, loss):
    def annealed(x, beta):
        with poutine.scale(scale=beta):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            k = 0.0
            for name in ("j", "k") if loss is TraceEnum_ELBO else ():
                k = k + pyro.sample(name, dist.Bernoulli(0.3), infer={"enumerate": "parallel"})
            pyro.sample("x", dist.Normal(z + k, 1.0), obs=x[0])

    def annealed_guide(x, beta):
        with poutine.scale(scale=beta):
            guide(x, beta)

    betas = [0.1, 0.4, 0.7, 0.9, 1.0, 1.0, 1.0, 0.5]
    assert_stock(annealed, annealed_guide, [(X[:1], number(beta)) for beta in betas], 4, mode, loss)


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize(
    ("mode", "model"),
    [
        ("exact", weighed_by_size),
        ("exact", weighed_in_a_plate),
        ("fast", weighed_by_size),
        also_slow("exact", weighed_likelihood),
        also_slow("fast", weighed_likelihood),
        also_slow("fast", weighed_in_a_plate),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_batches_of_any_size_share_a_graph(mode, model):
    sizes = (8, 8, 8, 3, 5, 8)
    assert_stock(model, guide, [(torch.linspace(0, 1, n), 0.1 * i) for i, n in enumerate(sizes)], 2, mode)


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_a_loss_that_computes_with_the_float(mode):
    class Weighed(Trace_ELBO):
        def loss_and_grads(self, model, guide, x, t):
            loss = self.differentiable_loss(model, guide, x, t) * (1 - t) + t / 3
            loss.backward()
            return loss.detach() * 2 - t

    calls = [(X.double(), 0.1 * i) for i in range(6)]
    with default_dtype(torch.float64):
        assert_stock(scale_of_prior, guide, calls, 2, mode, Weighed)


def reads(read):
    def model(x, t):
        z = pyro.sample("z", dist.Normal(0.0, read(t)))  # <- here
        observed(x, z)

    return model


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("mode", ["exact", "fast"])
@pytest.mark.parametrize(
    "read", [lambda t: math.exp(t), lambda t: len(f"{t}"), lambda t: 1 + int(10 * t), lambda t: 1 + t**2, exp]
)
def test_what_no_graph_can_follow_runs_by_pyro_after_one_warning(read, mode):
    calls = [(X, 0.1 * i) for i in range(5)]
    losses, after, evaluated, _ = steps(SVI, reads(read), guide, calls)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ours, ours_after, ours_evaluated, svi = steps(
            functools.partial(CompiledSVI, mode=mode), reads(read), guide, calls
        )
    assert ours == losses
    assert ours_evaluated == evaluated
    assert all(torch.equal(value, ours_after[name]) for name, value in after.items())
    (warning,) = [str(w.message) for w in caught if "captured" in str(w.message)]
    assert "float argument" in warning
    assert "pass a tensor" in warning
    assert read is exp or "test_symbolic_floats.py" in warning
    assert svi.captures == 0


@pytest.mark.usefixtures("uncompiled")
def test_a_quotient_by_zero_is_pythons():
    def model(x, t):
        observed(x, pyro.sample("z", dist.Normal(0.0, abs(1 / t))))

    svi = CompiledSVI(model, guide, pyro.optim.SGD({"lr": 0.01}), Trace_ELBO(), mode="exact")
    for t in (0.5, 0.3, 0.2):
        svi.step(X, t)
    assert svi.captures == 1
    with pytest.raises(ZeroDivisionError), pytest.warns(UserWarning, match="ZeroDivisionError"):
        svi.step(X, 0.0)
    pyro.clear_param_store()


@pytest.mark.usefixtures("uncompiled")
def test_several_steps_at_once():
    found = []
    for make in (SVI, functools.partial(CompiledSVI, mode="exact", fallback="error")):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        svi = make(scale_of_prior, guide, pyro.optim.SGD({"lr": 0.01}), Trace_ELBO())
        calls = [(X, 0.1 * i) for i in range(6)]
        found.append([svi.step(*call) for call in calls] if make is SVI else svi.steps(calls).tolist())
    pyro.clear_param_store()
    assert found[0] == found[1]


@pytest.mark.slow
def test_the_compiled_graph():
    calls = [(X, 0.01 + 0.1 * i) for i in range(6)]
    assert_stock(computed_with_a_vector, guide, calls, 2, "fast")
