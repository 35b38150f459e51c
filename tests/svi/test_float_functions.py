"""Float arguments and tensors: the bits are those of torch with floats, or they are refused."""

from __future__ import annotations

import itertools
import operator

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from torch.nn import functional

from pyro_vae.svi import CannotCaptureError
from pyro_vae.svi.capture import capture
from pyro_vae.svi.execution import run
from pyro_vae.svi.float_functions import _RULES, _with_one

VALUES = (0.1, -0.37, 1 / 3, 7.7e8, 1e-5, -2.0)
PROGRAMS = {
    "x+t": lambda x, t: x + t,
    "t+x": lambda x, t: t + x,
    "x-t": lambda x, t: x - t,
    "t-x": lambda x, t: t - x,
    "x*t": lambda x, t: x * t,
    "t*x": lambda x, t: t * x,
    "x/t": lambda x, t: x / t,
    "t/x": lambda x, t: t / x,
    "(1-t)*x": lambda x, t: (1.0 - t) * x,
    "x*(3/t)": lambda x, t: x * (3 / t),
    "torch.add-other": lambda x, t: torch.add(x, other=t),
    "torch.mul-first": lambda x, t: torch.mul(t, x),
    "<": lambda x, t: x < t,
    "t<": lambda x, t: t < x,
    "<=": lambda x, t: x <= t,
    ">": lambda x, t: x > t,
    ">=": lambda x, t: x >= t,
    "==": lambda x, t: x == t,
    "t!=": lambda x, t: t != x,
    "where": lambda x, t: torch.where(x > 0, x, t),
    "where-first": lambda x, t: torch.where(x > 0, t, x),
    "where-number": lambda x, t: torch.where(x > 0, t, 0.25),
    "where-whole": lambda x, t: torch.where(x > 0, 1, t),
    "where-both": lambda x, t: torch.where(x > 0, t, 2 * t),
    "where-method": lambda x, t: x.where(x > 0, t),
    "tensor": lambda x, t: torch.tensor(t) * x,
    "tensor-alone": lambda x, t: torch.tensor(t),
    "tensor-dtype": lambda x, t: torch.tensor(t, dtype=x.dtype, device=x.device),
    "tensor-list": lambda x, t: torch.tensor([1 - t, t, 2]),
    "as_tensor": lambda x, t: torch.as_tensor(t, dtype=torch.float64),
    "new_tensor": lambda x, t: x.new_tensor(t),
    "full": lambda x, t: torch.full(x.shape, t),
    "full-dtype": lambda x, t: torch.full((2, 3), fill_value=t, dtype=torch.float64),
    "full_like": lambda x, t: torch.full_like(x, t),
    "new_full": lambda x, t: x.new_full((3,), t),
    "fill_": lambda x, t: torch.zeros_like(x, dtype=torch.float32).fill_(t),
    "masked_fill": lambda x, t: (x + 0.0).masked_fill(x > 0, t),
    "masked_fill_": lambda x, t: (x + 0.0).masked_fill_(x > 0, t),
    "set": lambda x, t: set_item(x + 0.0, ..., t),
    "set-mask": lambda x, t: set_item(torch.atleast_1d(x) + 0.0, torch.atleast_1d(x) > 0, t),
    "+=": lambda x, t: operator.iadd(x + 0.0, t),
    "-=": lambda x, t: operator.isub(x + 0.0, t),
    "*=": lambda x, t: operator.imul(x + 0.0, t),
    "/=": lambda x, t: operator.itruediv(x + 0.0, t),
    "normal": lambda x, t: dist.Normal(t, 1 + abs(t)).log_prob(x),
    "normal-of-x": lambda x, t: dist.Normal(x + 0.0, 1 + abs(t)).log_prob(x / 3),
    "bernoulli": lambda x, t: dist.Bernoulli(logits=t).log_prob((x > 0) + 0.0),
    "gamma": lambda x, t: dist.Gamma(1 + abs(t), 1.0).log_prob(1.0 + x * x),
}


def set_item(x, index, value):
    x[index] = value
    return x


def examples(dtype):
    """Tensors of no, one and two dimensions."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(37, dtype=torch.float64, generator=generator) * 3
    x = torch.cat([torch.tensor([0.1, 1 / 3, -7.7e3], dtype=torch.float64), x]).to(dtype)
    return [*x[:5]], [x, x.flip(0)], [x.reshape(8, 5)]


DTYPES = (
    torch.float32,
    torch.float64,
    pytest.param(torch.int64, marks=pytest.mark.slow),
    pytest.param(torch.bool, marks=pytest.mark.slow),
)
DIFFERENCES = ("x-t", "t-x", "normal")


@pytest.mark.one_in(3)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", PROGRAMS)
def test_functions_of_torch_give_the_bits_that_they_give_for_floats(name, dtype):
    if name in DIFFERENCES and dtype == torch.bool:
        pytest.skip("torch has no differences of bools")
    assert_bits(PROGRAMS[name], dtype)


def name_of(function):
    return f"{type(function).__name__}-{function.__name__}"


@pytest.mark.one_in(3)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("function", [f for f, way in _RULES.items() if way is _with_one], ids=name_of)
def test_each_function_of_a_tensor_and_a_number(function, dtype):
    assert_bits(lambda x, t: function(x + 0.0, t), dtype)


def assert_bits(program, dtype):
    """A graph gives the dtypes and bits that torch gives for floats, for all shapes and values."""
    for same_shape in examples(dtype):
        graph = capture(program, [same_shape[0], 0.5])
        assert graph.floats == [1]
        for x, t in itertools.product(same_shape, VALUES):
            found, expected = run(graph, [x, torch.tensor(t, dtype=torch.float64)]), program(x, t)
            assert found.dtype == expected.dtype
            assert torch.equal(found, expected)


@pytest.mark.parametrize("name", ["x+t", "x*t", "t*x", "x/t", "t/x", "t-x", "where", "<"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_computed_with_the_float_before_it_is_rounded(name, dtype):
    program = PROGRAMS[name]
    (scalar, *_), (x, _), _ = examples(dtype)
    graph = capture(program, [x, 0.5])
    for t in VALUES:
        assert torch.equal(run(graph, [x, torch.tensor(t, dtype=torch.float64)]), program(x, t))
    with pytest.raises(CannotCaptureError, match=r"float argument meets a tensor \(\) of torch"):
        capture(program, [scalar, 0.5])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", ["x+t", "x-t", "t-x", "x*t", "x/t", "t/x", "where", "masked_fill", "normal", "*="])
def test_gradients_have_the_bits_that_they_have_for_floats(name, dtype):
    def program(x, t):
        leaf = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad((PROGRAMS[name](leaf, t) * x).sum(), leaf)
        return gradient

    for same_shape in examples(dtype):
        graph = capture(program, [same_shape[0], 0.5])
        for x, t in itertools.product(same_shape, VALUES):
            assert torch.equal(run(graph, [x, torch.tensor(t, dtype=torch.float64)]), program(x, t))


UNFOLLOWED = {
    "pow": lambda x, t: x**t,
    "softplus": lambda x, t: functional.softplus(x, beta=t),
    "dropout": lambda x, t: functional.dropout(x, t),
    "clamp": lambda x, t: x.clamp(min=t),
    "__floordiv__": lambda x, t: x // t,
    "fmod|remainder": lambda x, t: x % t,
    "tensor": lambda x, t: torch.tensor(t, requires_grad=True),
    "addcmul": lambda x, t: torch.addcmul(x, x, x, value=t),
    "lerp": lambda x, t: torch.lerp(x, 2 * x, t),
    "where": lambda x, t: torch.where(condition=x > 0, input=x, other=t),
    "masked_fill_": lambda x, t: (x > 0).masked_fill_(x > 0, t),
}


@pytest.mark.parametrize("name", UNFOLLOWED)
def test_other_functions_of_torch_are_refused_by_their_line(name):
    with pytest.raises(
        CannotCaptureError, match=rf"float argument goes into \S*({name})\b.* pass a tensor.*test_float_functions\.py"
    ):
        capture(lambda x, t: UNFOLLOWED[name](x, t), [torch.ones(3), 0.5])


def test_numpys_float_keeps_its_dtype():
    for t in (0.1, np.float64(0.1)):
        found = run(capture(lambda t: torch.tensor(2 * t), [t]), [torch.tensor(t, dtype=torch.float64)])
        assert found.dtype == torch.tensor(t).dtype
        assert torch.equal(found, torch.tensor(2 * t))


def test_quotients_of_sizes_are_known_to_the_bit():
    def program(x, t):
        weight = t * (1.0 * x.shape[0] / 3)
        return x * weight if weight == 7.0 * t / 3 else x - weight

    x, t = torch.ones(7), 0.1
    graph = capture(program, [x, t])
    for n, takes in ((7, True), (8, False)):
        assert graph.decides_alike([torch.ones(n), torch.tensor(t, dtype=torch.float64)]) is takes
    assert torch.equal(run(graph, [x, torch.tensor(t, dtype=torch.float64)]), program(x, t))
    # An expression combines 0.1 and 0.3, so the size stays fixed.
    graph = capture(lambda x, t: x * (t if 0.1 * x.shape[0] * 0.3 > t else 2 * t), [x, t])
    assert graph.takes([x, torch.tensor(t)])
    assert not graph.takes([torch.ones(8), torch.tensor(t)])


def test_sizes_stay_open():
    def program(x, t):
        scale = t * 50 / x.shape[0]
        return x.sum() * scale if x.shape[0] * t > 4.0 else x.sum() - scale

    graph = capture(program, [torch.ones(8, 2), 0.7])
    for n, t, takes in ((8, 0.6, True), (20, 0.3, True), (5, 0.7, False), (8, 0.5, False)):
        x, number = torch.rand(n, 2), torch.tensor(t, dtype=torch.float64)
        assert graph.takes([x, number])
        assert graph.decides_alike([x, number]) is takes
        if takes:
            assert torch.equal(run(graph, [x, number]), program(x, t))
