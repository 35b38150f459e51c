"""NumPyro's SVI."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.infer import SVI, Trace_ELBO

from svi.serving import Contender
from svi.sizes import LR, Size


def _start(size: Size) -> tuple[SVI, Any, jax.Array]:
    vae = size.vae()
    nets = {"encoder": vae.posterior.net, "decoder": vae.likelihood.net}
    weights = {
        name: [(jnp.array(layer.weight.detach().numpy()).T, jnp.array(layer.bias.detach().numpy())) for layer in linear]
        for name, linear in ((name, net.layers[::2]) for name, net in nets.items())
    }

    def net(name: str, x: jax.Array) -> jax.Array:
        (w1, b1), (w2, b2) = numpyro.param(name, weights[name])
        return jax.nn.silu(x @ w1 + b1) @ w2 + b2

    def model(x: jax.Array) -> None:
        with numpyro.plate("data", x.shape[0]):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(size.latent), 1.0).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=net("decoder", z)).to_event(1), obs=x)

    def guide(x: jax.Array) -> None:
        with numpyro.plate("data", x.shape[0]):
            loc, raw = jnp.split(net("encoder", x), 2, axis=-1)
            numpyro.sample("z", dist.Normal(loc, jax.nn.softplus(raw) + 1e-6).to_event(1))

    svi = SVI(model, guide, numpyro.optim.Adam(LR), Trace_ELBO())
    xs = jnp.stack([jnp.asarray(x) for x in size.batches()])
    return svi, svi.init(jax.random.key(1), xs[0]), xs


def update(size: Size) -> Contender:
    """Call the jitted update once per step."""
    svi, state, stacked = _start(size)
    step = jax.jit(svi.update, donate_argnums=0)
    xs = list(stacked)

    def run(n: int) -> list[Any]:
        nonlocal state
        losses = []
        for x in xs[:n]:
            state, loss = step(state, x)
            losses.append(loss)
        jax.block_until_ready((state, losses))
        return losses

    return Contender(run, size.batch)


def scan(size: Size) -> Contender:
    """Take all batches in one call."""
    svi, state, xs = _start(size)
    steps = jax.jit(lambda state, xs: jax.lax.scan(svi.update, state, xs), donate_argnums=0)

    def run(n: int) -> Any:
        nonlocal state
        state, losses = steps(state, xs if n == len(xs) else xs[:n])
        jax.block_until_ready((state, losses))
        return losses

    return Contender(run, size.batch)
