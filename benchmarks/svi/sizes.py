"""Networks, batches and contenders."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["CONTENDERS", "LR", "SIZES", "Size"]

LR = 1e-3

# Each name in the table, and the function that makes it.
CONTENDERS = {
    "ours": "svi.in_pyro:ours",
    "ours, never audited": "svi.in_pyro:ours_unaudited",
    "ours, all in one call": "svi.in_pyro:ours_at_once",
    "ours, mode exact": "svi.in_pyro:ours_exact",
    "ours, on Pyro's example": "svi.in_pyro:ours_on_example",
    "Pyro SVI, Pyro's example": "svi.in_pyro:example",
    "Pyro SVI, Pyro's example, no validation": "svi.in_pyro:example_unchecked",
    "Pyro SVI, JitTrace_ELBO, Pyro's example": "svi.in_pyro:example_jit",
    "Pyro SVI, our VAE": "svi.in_pyro:stock",
    "PyTorch by hand, eager": "svi.in_torch:eager",
    "PyTorch by hand, compiled loss, fused Adam": "svi.in_torch:compiled_fused",
    "PyTorch by hand, compiled loss, compiled Adam": "svi.in_torch:compiled_both",
    "PyTorch by hand, compiled as one graph": "svi.in_torch:compiled_whole",
    "NumPyro, jitted update": "svi.in_numpyro:update",
    "NumPyro, lax.scan": "svi.in_numpyro:scan",
    "pythae's trainer": "svi.in_pythae:trainer",
    "matrix products alone": "svi.in_torch:floor",
}
_BY_HAND = tuple(name for name in CONTENDERS if name.startswith("PyTorch"))
_OURS_AND_STOCK = ("ours", "ours, mode exact", "Pyro SVI, our VAE")


@dataclass(frozen=True)
class Size:
    """A VAE with one hidden layer in each network, and batches of random binary data.

    Args:
        event_shape: of one example.
        hidden: width of the hidden layers.
        latent: dimensions of z.
        batch: examples per step.
        steps: number of different batches, which are repeated.
        num_particles: draws of z per example; above 1, the objective is that of the importance-weighted autoencoder.
        parts: further arguments of ``pyro_vae.build``.
        contenders: the names of those that take part.
    """

    event_shape: tuple[int, ...]
    hidden: int
    latent: int
    batch: int
    steps: int = 10
    num_particles: int = 1
    parts: dict[str, Any] = field(default_factory=dict)
    contenders: tuple[str, ...] = tuple(CONTENDERS)

    def batches(self) -> list[np.ndarray]:
        """Return binary images near twenty patterns, float32 ``(batch, *event_shape)``; the same each time."""
        rng = np.random.default_rng(0)
        patterns = rng.choice([0.05, 0.95], size=(20, *self.event_shape), p=[0.8, 0.2])
        which = rng.integers(len(patterns), size=(self.steps, self.batch))
        return [(rng.random(p.shape) < p).astype(np.float32) for p in (patterns[w] for w in which)]

    def vae(self) -> Any:
        """Return the VAE, with the same weights each time; contenders with the same networks start from them."""
        import torch

        from pyro_vae import build

        torch.manual_seed(0)
        return build(self.event_shape, self.latent, hidden=(self.hidden,), **self.parts)


_FLOWS = {"posterior": "InverseAutoregressiveFlow", "prior": {"class": "Flow", "flow": "MAF"}}
_CONV = ("ours", "ours, mode exact", "Pyro SVI, our VAE", *_BY_HAND)

SIZES = {
    "64-64-8, batch 64": Size((64,), 64, 8, 64),
    "784-400-50, batch 128": Size((784,), 400, 50, 128),
    "784-400-50, batch 256": Size((784,), 400, 50, 256),
    "convolutions 28x28, batch 128": Size((1, 28, 28), 128, 20, 128, parts={"nets": "conv"}, contenders=_CONV),
    "IAF and flow prior, 784-400-50, batch 128": Size((784,), 400, 50, 128, parts=_FLOWS, contenders=_OURS_AND_STOCK),
    "IWAE, 50 particles, 784-400-50, batch 20": Size((784,), 400, 50, 20, num_particles=50, contenders=_OURS_AND_STOCK),
}
