"""Pyro's own SVI, and ours."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, JitTrace_ELBO, RenyiELBO, Trace_ELBO
from torch import Tensor, nn
from torch.nn.functional import softplus

from svi.serving import Contender
from svi.sizes import LR, Size


def _objective(size: Size) -> Any:
    if size.num_particles == 1:
        return Trace_ELBO()
    return RenyiELBO(alpha=0, num_particles=size.num_particles, vectorize_particles=True, max_plate_nesting=1)


class Example(nn.Module):
    """A VAE written after Pyro's example, with our networks."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        vae = size.vae()
        self.encoder, self.decoder, self.latent = vae.posterior.net.layers, vae.likelihood.net.layers, size.latent

    def model(self, x: Tensor) -> None:
        """p(x, z)."""
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", x.shape[0]):
            loc, scale = x.new_zeros(x.shape[0], self.latent), x.new_ones(x.shape[0], self.latent)
            z = pyro.sample("latent", dist.Normal(loc, scale).to_event(1))
            pyro.sample("obs", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        """q(z | x)."""
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", x.shape[0]):
            loc, raw = self.encoder(x).chunk(2, dim=-1)
            pyro.sample("latent", dist.Normal(loc, softplus(raw)).to_event(1))


def _contender(make: Callable[..., Any], program: Any, objective: Any, size: Size, at_once: bool = False) -> Contender:
    torch.manual_seed(1)
    svi = make(program.model, program.guide, pyro.optim.Adam({"lr": LR}), objective)
    xs = [torch.from_numpy(x) for x in size.batches()]

    def run(n: int) -> Any:
        return svi.steps(xs[:n]) if at_once else [svi.step(x) for x in xs[:n]]

    def note() -> str:
        refused = getattr(svi, "refused", None)
        return f"refused: {refused}" if refused else ""

    return Contender(run, size.batch, note)


def stock(size: Size) -> Contender:
    """Our VAE with Pyro's SVI."""
    return _contender(SVI, size.vae(), _objective(size), size)


def example(size: Size) -> Contender:
    """Pyro's example with Pyro's SVI, unchanged."""
    return _contender(SVI, Example(size), Trace_ELBO(), size)


def example_unchecked(size: Size) -> Contender:
    """The same without Pyro's validation, which is on by default."""
    pyro.enable_validation(False)
    return example(size)


def example_jit(size: Size) -> Contender:
    """Pyro's example with torch.jit.trace, Pyro's own way to compile."""
    return _contender(SVI, Example(size), JitTrace_ELBO(ignore_jit_warnings=True), size)


def ours(size: Size) -> Contender:
    """Our VAE with CompiledSVI."""
    return _contender(_compiled("fast"), size.vae(), _objective(size), size)


def ours_unaudited(size: Size) -> Contender:
    """The same, without audits."""
    return _contender(_compiled("fast", audit=False), size.vae(), _objective(size), size)


def ours_at_once(size: Size) -> Contender:
    """The same, all batches in one call of ``steps``."""
    return _contender(_compiled("fast"), size.vae(), _objective(size), size, at_once=True)


def ours_exact(size: Size) -> Contender:
    """The same, with PyTorch's own kernels and the stock optimiser."""
    return _contender(_compiled("exact"), size.vae(), _objective(size), size)


def ours_on_example(size: Size) -> Contender:
    """Pyro's example with CompiledSVI."""
    return _contender(_compiled("fast"), Example(size), Trace_ELBO(), size)


def _compiled(mode: str, **options: Any) -> Callable[..., Any]:
    from pyro_vae.svi import CompiledSVI

    return functools.partial(CompiledSVI, mode=mode, **options)
