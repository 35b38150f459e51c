"""The same training in plain PyTorch, and its matrix products alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from svi.serving import Contender
from svi.sizes import LR, Size


class Bound(nn.Module):
    """The negative ELBO, with the KL in closed form."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        vae = size.vae()
        self.encoder, self.decoder = vae.posterior.net, vae.likelihood.net
        if not size.parts:  # without the shape checks of our nets
            self.encoder, self.decoder = self.encoder.layers, self.decoder.layers

    def forward(self, x: Tensor) -> Tensor:
        """Return a sum over the batch, in nats."""
        loc, raw = self.encoder(x).chunk(2, dim=-1)
        scale = softplus(raw) + 1e-6
        z = loc + scale * torch.randn_like(scale)
        recon = binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum")
        return recon + 0.5 * (loc.square() + scale.square() - 1).sum() - scale.log().sum()


def _contender(step: Callable[[Tensor], Tensor], size: Size) -> Contender:
    torch.manual_seed(1)
    xs = [torch.from_numpy(x) for x in size.batches()]
    return Contender(lambda n: [step(x) for x in xs[:n]], size.batch)


def _stepping(loss_of: Any, update: Callable[[], Any], optimizer: torch.optim.Optimizer, size: Size) -> Contender:
    def step(x: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(x)
        loss.backward()
        update()
        return loss

    return _contender(step, size)


def eager(size: Size) -> Contender:
    """Train as in a tutorial, with the fused Adam."""
    bound = Bound(size)
    optimizer = torch.optim.Adam(bound.parameters(), lr=LR, fused=True)
    return _stepping(bound, optimizer.step, optimizer, size)


def compiled_fused(size: Size) -> Contender:
    """Compile the loss with torch.compile; the fused Adam steps by itself."""
    bound = Bound(size)
    optimizer = torch.optim.Adam(bound.parameters(), lr=LR, fused=True)
    return _stepping(torch.compile(bound, fullgraph=True), optimizer.step, optimizer, size)


def compiled_both(size: Size) -> Contender:
    """Compile the loss and the optimiser's step with torch.compile."""
    bound = Bound(size)
    optimizer = torch.optim.Adam(bound.parameters(), lr=LR)
    return _stepping(torch.compile(bound, fullgraph=True), torch.compile(optimizer.step), optimizer, size)


def compiled_whole(size: Size) -> Contender:
    """Compile loss, gradients and a hand-written Adam together."""
    bound = Bound(size)
    weights = {name: p.detach() for name, p in bound.named_parameters()}
    first, second = ({name: torch.zeros_like(w) for name, w in weights.items()} for _ in range(2))
    steps = torch.zeros(())

    def loss_of(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(bound, weights, (x,))

    @torch.compile(fullgraph=True)
    def step(x: Tensor) -> Tensor:
        gradients, loss = torch.func.grad_and_value(loss_of)(weights, x)
        steps.add_(1)
        for name, gradient in gradients.items():
            first[name].lerp_(gradient, 0.1)
            second[name].lerp_(gradient.square(), 0.001)
            spread = (second[name] / (1 - 0.999**steps)).sqrt() + 1e-8
            weights[name].sub_(LR * (first[name] / (1 - 0.9**steps)) / spread)
        return loss

    return _contender(step, size)


def floor(size: Size) -> Contender:
    """Do the eleven products of a step, in allocated memory: forward, for the weights, for all inputs but x."""
    inputs, hidden, latent, batch = size.event_shape[0], size.hidden, size.latent, size.batch
    products = []
    for i, (before, after) in enumerate([(inputs, hidden), (hidden, 2 * latent), (latent, hidden), (hidden, inputs)]):
        x, y, w = torch.randn(batch, before), torch.randn(batch, after), torch.randn(after, before)
        products += [(x, w.T, torch.empty(batch, after)), (y.T, x, torch.empty(after, before))]
        if i:
            products.append((y, w, torch.empty(batch, before)))

    def run(n: int) -> list[Any]:
        with torch.no_grad():
            for _ in range(n):
                for a, b, out in products:
                    torch.mm(a, b, out=out)
        return []

    return Contender(run)
