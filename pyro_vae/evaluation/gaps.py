"""Why the ELBO lies below log p(x): what the family of q cannot do, and what the encoder does not find in it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions import Delta
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from pyro_vae.argument_checks import at_least_one, finite_number
from pyro_vae.distributions import innermost, part_name
from pyro_vae.evaluation.estimates import blocks, running
from pyro_vae.evaluation.importance import ImportanceEstimate, weighed
from pyro_vae.evaluation.weights import warn_of_heavy_tails
from pyro_vae.model_guide import ModelGuide
from pyro_vae.parts import child
from pyro_vae.seeds import derive, seeded
from pyro_vae.vae import VAE

__all__ = ["InferenceGaps", "inference_gaps"]

_OPTIMISING, _PICKING, _REPORTING = range(3)  # whose draws are independent
_DRAWS_TO_PICK = 500


@dataclass(frozen=True)
class InferenceGaps:
    """Log p(x) and the ELBO of two q of each example, in nats, each ``(batch,)``.

    Args:
        elbo: of the encoder's q.
        best_elbo: of the best q of the same family that was found.
        log_prob: log p(x), by importance sampling from that best q.
        standard_error: of ``log_prob``, from the draws.
        effective_sample_size: of ``log_prob``. Where it is small, log p(x) and the approximation gap are too low.
        pareto_k: of ``log_prob``, see :class:`pyro_vae.evaluation.ImportanceEstimate`; likewise where it is above 0.7.
    """

    elbo: Tensor
    best_elbo: Tensor
    log_prob: Tensor
    standard_error: Tensor
    effective_sample_size: Tensor
    pareto_k: Tensor

    @property
    def approximation(self) -> Tensor:
        """What the family of q cannot do: log p(x) − best ELBO, ``(batch,)``. Not below 0, by the way it is drawn."""
        return self.log_prob - self.best_elbo

    @property
    def amortisation(self) -> Tensor:
        """What the encoder does not find: best ELBO − ELBO, ``(batch,)``; where it is below 0, that is noise."""
        return self.best_elbo - self.elbo

    @property
    def means(self) -> dict[str, float]:
        """The means over the examples of the three and of the two gaps."""
        names = ("elbo", "best_elbo", "log_prob", "approximation", "amortisation")
        return {name: getattr(self, name).double().mean().item() for name in names}


def inference_gaps(
    vae: Any,
    x: Tensor | None = None,
    *context: Tensor,
    steps: int = 1000,
    num_particles: int = 8,
    importance_particles: int = 5000,
    lr: float = 0.05,
    seed: int = 0,
    **named: Any,
) -> InferenceGaps:
    """Log p(x) − ELBO of each example, taken apart into an approximation gap and an amortisation gap.

    A large approximation gap asks for another posterior, a large amortisation gap for a larger encoder or a longer
    training of it (Cremer, Li and Duvenaud 2018, arXiv 1801.03558).

    The best q of an example has parameters of its own, in the place of what the posterior's net gives for x. They
    start from that and follow the gradient of the ELBO (Adam, with a learning rate that falls to 0). All else stays as
    it is: the decoder, the prior, and the weights of a flow's maps, so that the family of a flow is here what its net
    can reach. Where the search has not helped, the encoder's q is kept. Which of the two is better is judged with other
    draws than those that the results are from, since the larger of two noisy numbers is too large on average; the
    results of both have the same noise, so that their difference has little.

    Log p(x) is a lower bound, as :func:`pyro_vae.evaluation.importance_sampling` explains, and the best q that was
    found may not be the best there is: approximation gaps are rather too small through the one and too large through
    the other. The best q has lighter tails than p(z | x), and a diagonal one of strongly correlated codes so light that
    weights have no variance. A better log p(x), by :func:`pyro_vae.evaluation.quadrature` or
    :func:`pyro_vae.evaluation.annealed_importance_sampling`, takes its place with
    ``dataclasses.replace(gaps, log_prob=better)``.

    Args:
        vae: a :class:`pyro_vae.VAE` whose posterior has a ``net`` and draws with gradient, as all of
            :mod:`pyro_vae.posteriors` but ``Delta`` and ``Categorical``, or
            :class:`pyro_vae.model_guide.ModelGuide` of one.
        x: data ``(batch, *event_shape)``; some hundred examples are enough for the means.
        context: tensors ``(batch, ...)``.
        steps: of the search.
        num_particles: of z, an example and a step of the search.
        importance_particles: of z, an example, from which log p(x) and the ELBOs are.
        lr: at the first step, in units of the net's outputs.
        seed: of the draws.
        named: see :func:`pyro_vae.evaluation.importance_sampling`.

    Raises:
        ValueError: where a number is out of range, where there is no posterior whose net could be replaced, and where
            q is a point or its draws have no gradient.

    Example:
        >>> import torch
        >>> from pyro_vae import build
        >>> x = torch.ones(3, 1, 8, 8)
        >>> found = inference_gaps(build((1, 8, 8), 2), x, steps=20, importance_particles=100)
        >>> bool((found.approximation > 0).all()), sorted(found.means)
        (True, ['amortisation', 'approximation', 'best_elbo', 'elbo', 'log_prob'])
    """
    at_least_one(steps=steps, num_particles=num_particles, importance_particles=importance_particles)
    finite_number("lr", lr, above=0)
    with running(vae, x, context, named, seed) as pair:
        net = _net(pair)
        start = torch.cat([_rows_of(net, part) for _, part in blocks(pair)])
        free = _freed(pair, net, start)
        found = [
            _search(part, steps, num_particles, lr, derive(seed, _OPTIMISING, number)) for number, part in blocks(free)
        ]
        best = torch.cat(found)

        def estimate(some: ModelGuide, num_particles: int, stream: int) -> ImportanceEstimate:
            return weighed(some, num_particles=num_particles, bounds=(1,), seed=derive(seed, stream))

        enough = min(importance_particles, _DRAWS_TO_PICK)
        first = estimate(pair, enough, _PICKING).bounds[1]
        better = estimate(_with_rows(free, best), enough, _PICKING).bounds[1] > first
        best = torch.where(better.reshape(-1, *(1 for _ in best.shape[1:])), best, start)
        elbo = estimate(pair, importance_particles, _REPORTING).bounds[1]
        last = estimate(_with_rows(free, best), importance_particles, _REPORTING)
    warn_of_heavy_tails(last.pareto_k, "inference_gaps")
    error, size = last.standard_error, last.effective_sample_size
    return InferenceGaps(elbo, last.bounds[1], last.log_prob, error, size, last.pareto_k)


class _Rows(nn.Module):
    """Takes the place of a net: gives the same rows, whatever it is asked."""

    rows: Tensor

    def forward(self, *_: Any) -> Tensor:
        return self.rows


def _net(pair: ModelGuide) -> nn.Module:
    """The net of the posterior, or a ValueError that says why there is none to be replaced."""
    vae = pair.vae
    if not isinstance(vae, VAE):
        raise ValueError(
            "inference_gaps needs a pyro_vae.VAE, of whose posterior it replaces the net; got "
            f"{type(vae).__name__}. Put the programs' distributions together as VAE(prior, likelihood, posterior)"
        )
    name, net = part_name(vae.posterior), child(vae.posterior, "net")
    if not isinstance(vae.posterior, nn.Module) or not isinstance(net, nn.Module):
        raise ValueError(
            f"inference_gaps needs a posterior that is a module with a net, whose outputs it replaces by free "
            f"parameters; got {name}, which has none. Use one such as posteriors.DiagonalNormal(net), or name the "
            "module in yours that gives the parameters net"
        )
    q = pair.rows(0, 1).posterior()
    if isinstance(innermost(q), Delta):
        raise ValueError(
            f"inference_gaps needs a posterior with a density; got {name}, a point, whose ELBO is no bound on log "
            "p(x). Use one such as posteriors.DiagonalNormal"
        )
    if not q.has_rsample:
        raise ValueError(
            f"inference_gaps needs a posterior whose draws have a gradient; got {name}, whose draws have none. For "
            "discrete codes, enumeration gives log p(x), to compare with the ELBO; or use "
            "posteriors.RelaxedCategorical"
        )
    return net


def _rows_of(net: nn.Module, pair: ModelGuide) -> Tensor:
    """What the net gives when the guide runs, ``(batch, ...)``."""
    kept: list[Any] = []
    hook = net.register_forward_hook(lambda _net, _inputs, output: kept.append(output))
    try:
        pair.posterior()
    finally:
        hook.remove()
    if len(kept) != 1 or not isinstance(kept[0], Tensor) or kept[0].shape[:1] != (pair.batch,):
        what = [tuple(k.shape) if isinstance(k, Tensor) else type(k).__name__ for k in kept]
        raise ValueError(
            f"inference_gaps needs a posterior that asks its net once, for a tensor with a row an example, "
            f"({pair.batch}, ...); got {what if what else 'no call'}. Let the net give one tensor, and split it "
            "in the posterior"
        )
    return kept[0]


def _freed(pair: ModelGuide, net: nn.Module, rows: Tensor) -> ModelGuide:
    """The same programs, which take the ``rows`` that the net gives by name, and so example by example."""
    vae, given = pair.vae, _Rows()
    # Prior and likelihood stay what they are, also where a prior (VampPrior) holds the posterior.
    kept = {id(part): part for part in (vae.prior, vae.likelihood)}
    free = copy.deepcopy(vae, {**kept, id(net): given})

    def model(x: Tensor, *context: Tensor, rows: Tensor, **named: Tensor) -> Tensor:
        return vae.model(x, *context, **named)

    def guide(x: Tensor, *context: Tensor, rows: Tensor, **named: Tensor) -> Tensor:
        given.rows = rows
        return free.guide(x, *context, **named)

    named: Any = {**pair.named, "rows": rows}
    names: Any = {"latent": pair.latent, "observed": pair.observed}
    return ModelGuide((model, guide), pair.x, *pair.context, **names, **named)


def _with_rows(free: ModelGuide, rows: Tensor) -> ModelGuide:
    named: Any = {**free.named, "rows": rows}
    return ModelGuide(free.vae, free.x, *free.context, latent=free.latent, observed=free.observed, **named)


def _search(free: ModelGuide, steps: int, num_particles: int, lr: float, seed: int) -> Tensor:
    """The rows with the largest ELBO that Adam finds."""
    rows = free.named["rows"].clone().requires_grad_()
    free = _with_rows(free, rows)
    # Adam goes by each number's own gradient, so examples do not see one another.
    optimizer = torch.optim.Adam([rows], lr=lr)
    schedule = CosineAnnealingLR(optimizer, steps)
    with torch.enable_grad(), seeded(seed):
        for _ in range(steps):
            loss = -free.draw_terms(num_particles).weight.mean(0).sum()
            # Not backward(), which would leave gradients in the weights of the VAE.
            (gradient,) = torch.autograd.grad(loss, rows)
            # An example without a finite gradient has none in this step.
            rows.grad = gradient.nan_to_num(0.0, 0.0, 0.0)
            optimizer.step()
            schedule.step()
    return rows.detach()
