"""What an argument that is no tensor is to a model, what a loss is to its user, and what SVI takes."""

from __future__ import annotations

import json
import math
import pickle
import statistics

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import ReweightedWakeSleep, Trace_ELBO

from tests.svi.drop_in.breaking.table import breaks
from tests.svi.drop_in.harness import STEPS, Program
from tests.svi.drop_in.tiny import data, guide, latent, model, seen, times


def sloped(x, t, **_):
    """A prior with a scale computed from a float."""
    seen(pyro.sample("z", dist.Normal(0.0, 1.0 - t)), x)


def rising(svi):
    for i in range(STEPS):
        yield svi.step(data(4), 0.1 * i)


@breaks("floats", "graph")
def float_that_is_computed_with():
    return Program(sloped, guide, rising)


@breaks("floats", "either")
def float_that_is_asked_for_its_type():
    def asks(x, t):
        seen(pyro.sample("z", dist.Normal(0.0, 1.0 - t if isinstance(t, float) else 5.0)), x)

    return Program(asks, guide, rising)


@breaks("floats", "graph")
def losses_that_are_floats():
    """Some number-like object fails each of these uses."""
    uses = [
        lambda v: json.loads(json.dumps([v]))[0],
        lambda v: statistics.mean([v, v]),
        lambda v: float(np.mean([v, v])),
        lambda v: str(np.array([v, v]).dtype),
        lambda v: math.isfinite(v) and not np.isnan(v),
        lambda v: f"{v:>10.3f} " + "%.2f" % v,  # noqa: UP031  as users do
        lambda v: round(v, 2),
        lambda v: pickle.loads(pickle.dumps(v)),
        lambda v: v.is_integer() or v.hex(),
        lambda v: {v: 1}[float(v)],
        lambda v: max([v, 1.0]),
        lambda v: list(divmod(v, 2.0)),
        lambda v: isinstance(v, float),
        lambda v: torch.tensor([v, v]),
    ]

    def steps(svi):
        for _ in range(3):
            loss = svi.step(data(4))
            yield [loss, *[use(loss) for use in uses]]
            loss = svi.evaluate_loss(data(4))
            yield [loss, *[use(loss) for use in uses]]

    return Program(model, guide, steps)


@breaks("floats", "graph")
def fifth_argument():
    elbo = Trace_ELBO()
    return Program(model, guide, times(data(4)), loss=elbo.loss, loss_and_grads=elbo.loss_and_grads)


@breaks("floats", "either")
def fifth_argument_that_differs_from_the_loss():
    """The gradient is of half the loss that is evaluated."""
    elbo = Trace_ELBO()

    def half(*args):
        loss = elbo.differentiable_loss(*args) / 2
        loss.backward()
        return loss

    def steps(svi):
        for _ in range(STEPS):
            yield svi.step(data(4))
            yield svi.evaluate_loss(data(4))

    return Program(model, guide, steps, loss=elbo.loss, loss_and_grads=half)


@breaks("floats", "graph")
def float_that_python_rounds():
    """Double precision, until a tensor takes part."""

    def rounds(x, t):
        part = (t * 3 - 1) / 7
        seen(latent() * (part * part + 1e-9) + (t - t / 3) * 1e7, x)

    return Program(rounds, guide, rising)


@breaks("floats", "either")
def float_to_a_power():
    """Rounding as in the C library."""
    return Program(lambda x, t: seen(latent() * (t + 1) ** 2.5, x), guide, rising)


def reads(read) -> Program:
    return Program(lambda x, t: seen(latent() + read(t), x), guide, rising)


@breaks("floats", "either")
def float_in_a_function_of_math():
    return reads(math.exp)


@breaks("floats", "either")
def float_that_is_compared():
    return reads(lambda t: 1.0 if t > 0.35 else 0.0)


@breaks("floats", "either")
def float_that_becomes_an_int():
    return reads(lambda t: int(10 * t) // 3)


@breaks("floats", "either")
def float_that_is_a_key():
    return reads(lambda t: {0.0: 5.0}.get(t, 1.0))


@breaks("floats", "either")
def float_in_a_new_tensor():
    return reads(lambda t: torch.tensor(t) + torch.full((4,), t))


@breaks("floats", "either")
def float_in_words():
    return reads(lambda t: len(f"{t}"))


@breaks("floats", "either")
def float_in_an_array():
    return reads(lambda t: float(np.interp(t, [0.0, 0.3, 1.0], [0.0, 2.0, 3.0])))


@breaks("floats", "either")
def float_by_name_in_a_list():
    def steps(svi):
        for i in range(STEPS):
            yield svi.step(data(4), options={"ts": [0.5, 0.1 * i]})

    def listed(x, *, options):
        seen(latent(sum(options["ts"])), x)

    return Program(listed, guide, steps)


@breaks("floats", "either")
def integer_and_flag():
    """Each value makes another program, which must not reuse the previous graph."""

    def repeated(x, n, wide):
        z = latent()
        for _ in range(n):
            z = z / 2
        with pyro.plate("data", x.shape[0]):
            pyro.sample("x", dist.Normal(z, 2.0 if wide else 1.0), obs=x)

    def steps(svi):
        for i in range(3 * STEPS):
            yield svi.step(data(4), i % 3, wide=i % 2 == 0)

    return Program(repeated, lambda *_, **__: guide(), steps)


@breaks("floats", "either")
def parameters_named_by_sizes():
    """A batch of another size has its own parameter, made in its first step."""

    def named(x):
        z = pyro.sample(f"z_{x.shape[0]}", dist.Normal(0.0, 1.0))
        seen(z, x)

    def located(x):
        n = x.shape[0]
        pyro.sample(f"z_{n}", dist.Normal(pyro.param(f"loc_{n}", torch.tensor(3.0)), 0.1))

    def steps(svi):
        for i in range(2 * STEPS):
            yield svi.step(data(5 if i % 4 else 3))

    return Program(named, located, steps)


@breaks("floats", "either")
def two_losses():
    def steps(svi):
        for _ in range(STEPS):
            yield svi.step(data(4))
            yield svi.evaluate_loss(data(4))

    return Program(model, guide, steps, loss=ReweightedWakeSleep(num_particles=2))


@breaks("floats", "either")
def loss_that_is_a_function():
    def weighted(model, guide, *args):
        return 2 * Trace_ELBO().differentiable_loss(model, guide, *args)

    return Program(model, guide, times(data(4)), loss=weighted)


@breaks("floats", "either")
def loss_that_is_an_item():
    def loss_and_grads(model, guide, *args):
        loss = Trace_ELBO().differentiable_loss(model, guide, *args)
        loss.backward()
        return round(loss.item(), 3)

    return Program(model, guide, times(data(4)), loss=Trace_ELBO().loss, loss_and_grads=loss_and_grads)


@breaks("floats", "graph")
def early_stopping():
    """Losses as keys, in sorted lists, and in the condition of a loop."""

    def steps(svi):
        best, since = {}, 0
        for i in range(30):
            loss = svi.step(data(4))
            best.setdefault(loss, i)
            since = 0 if loss == min(best) else since + 1
            yield [loss, sorted(best)[0], since]
            if since == 5:
                return

    return Program(model, guide, steps)
