"""What the programs share: one latent variable, some data, and a few steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from tests.svi.drop_in.harness import CHANGE, STEPS, Program


def data(n: int = 1) -> Tensor:
    return torch.linspace(1.0, 2.0, n)


def seen(z: Any, x: Tensor) -> None:
    """The likelihood."""
    with pyro.plate("data", x.shape[0]):
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def latent(beta: Any = None) -> Any:
    """A draw from the prior; its term is scaled by ``beta``."""
    if beta is None:
        return pyro.sample("z", dist.Normal(0.0, 1.0))
    with poutine.scale(scale=beta):
        return pyro.sample("z", dist.Normal(0.0, 1.0))


def model(x: Tensor, *_: Any) -> None:
    seen(latent(), x)


def guide(*_: Any, **__: Any) -> None:
    pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(3.0)), 0.1))


def times(*args: Any, n: int = STEPS, **kwargs: Any) -> Callable[[Any], Iterator[Any]]:
    """Steps on the same arguments."""

    def steps(svi: Any) -> Iterator[Any]:
        for _ in range(n):
            yield svi.step(*args, **kwargs)

    return steps


def after(change: Callable[[], Any], *args: Any, n: int = STEPS) -> Callable[[Any], Iterator[Any]]:
    """Steps on the same arguments, with a change before one of them."""

    def steps(svi: Any) -> Iterator[Any]:
        for i in range(n):
            if i == CHANGE:
                change()
            yield svi.step(*(args or (data(),)))

    return steps


def annealed(beta: Callable[[], Any], state: Callable[[], Any], change: Callable[[], Any] | None = None) -> Program:
    """A model whose prior is scaled by ``beta()`` in each run."""

    def annealed_model(x):
        seen(latent(beta()), x)

    return Program(annealed_model, guide, after(change) if change else times(data()), state=state)


class Net(nn.Module):
    """A small VAE, as in Pyro's tutorial."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, 2)
        self.decoder = nn.Linear(2, 3)
        self.beta = 1.0

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", x.shape[0]):
            with poutine.scale(scale=self.beta):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(self.encoder(x), 0.1).to_event(1))


def rows(n: int = 5) -> Tensor:
    return torch.linspace(-1.0, 1.0, 3 * n).reshape(n, 3)
