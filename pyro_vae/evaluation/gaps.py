"""The gap between log p(x) and the ELBO, split into the approximation gap and the amortisation gap."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions import Delta
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from pyro_vae.argument_checks import at_least_one, finite_number
from pyro_vae.data.arrays import Array
from pyro_vae.data.batches import DataSource
from pyro_vae.distributions import innermost, part_name
from pyro_vae.evaluation.estimates import Named, blocks, running
from pyro_vae.evaluation.importance import ImportanceEstimate, estimate_log_prob
from pyro_vae.evaluation.weights import TOO_HEAVY, warn_of_heavy_tails
from pyro_vae.model_guide import ModelGuide, Target
from pyro_vae.parts import child
from pyro_vae.seeds import derive, seeded
from pyro_vae.vae import VAE

__all__ = ["InferenceGaps", "inference_gaps"]

_OPTIMISING, _PICKING, _REPORTING = range(3)  # independent streams of random numbers
_DRAWS_TO_PICK = 500


@dataclass(frozen=True)
class InferenceGaps:
    """Log p(x) and the ELBO of two q for each example, in nats. Each has shape ``(batch,)``.

    Args:
        elbo: the ELBO of the encoder's q.
        best_elbo: the ELBO of the best q found in the same family.
        log_prob: log p(x), by importance sampling from that best q.
        standard_error: of ``log_prob``, from the draws.
        effective_sample_size: of ``log_prob``. If it is small, log p(x) and the approximation gap are too low.
        pareto_k: of ``log_prob``, see :class:`pyro_vae.evaluation.ImportanceEstimate`. If it is above 0.7, log p(x)
            and the approximation gap are too low.
    """

    elbo: Tensor
    best_elbo: Tensor
    log_prob: Tensor
    standard_error: Tensor
    effective_sample_size: Tensor
    pareto_k: Tensor

    def __repr__(self) -> str:
        """Return the mean log p(x), ELBO and gaps in one line."""
        means = {name: f"{value:.4f}" for name, value in self.means.items()}
        gaps = f"approximation gap {means['approximation']} + amortisation gap {means['amortisation']}"
        parts = f"ELBO {means['elbo']} + {gaps} = log p(x) {means['log_prob']}"
        heavy = int((self.pareto_k > TOO_HEAVY).sum())
        warning = f"; log p(x) is too low for {heavy:,} (Pareto k̂ above {TOO_HEAVY})" if heavy else ""
        return f"InferenceGaps({parts}, means over {len(self.elbo):,} examples in nats{warning})"

    @property
    def approximation(self) -> Tensor:
        """Log p(x) − best ELBO, what the family of q costs, ``(batch,)``. At least 0, as both use the same draws."""
        return self.log_prob - self.best_elbo

    @property
    def amortisation(self) -> Tensor:
        """Best ELBO − ELBO, what the encoder misses, ``(batch,)``. Values below 0 are noise."""
        return self.best_elbo - self.elbo

    @property
    def means(self) -> dict[str, float]:
        """The means of ELBO, best ELBO, log p(x) and both gaps over the examples."""
        names = ("elbo", "best_elbo", "log_prob", "approximation", "amortisation")
        return {name: getattr(self, name).double().mean().item() for name in names}


def inference_gaps(
    vae: Target,
    x: DataSource | None = None,
    *context: Array,
    steps: int = 1000,
    num_particles: int = 8,
    importance_particles: int = 5000,
    lr: float = 0.05,
    seed: int = 0,
    **named: Named,
) -> InferenceGaps:
    """Split log p(x) − ELBO of each example into the approximation gap and the amortisation gap.

    A large approximation gap calls for another posterior; a large amortisation gap calls for a larger encoder or
    longer training (Cremer, Li and Duvenaud 2018, arXiv 1801.03558).

    The best q of an example has its own parameters, which replace the output of the posterior's net for x. The search
    starts from that output and follows the gradient of the ELBO (Adam, with a learning rate that falls to 0).
    Everything else stays fixed: the decoder, the prior, and the weights of a flow's maps, so for a flow the family is
    what its net can reach. If the search does not help, the encoder's q is kept. The choice between the two uses other
    draws than the results, since the larger of two noisy numbers is too large on average. The results of both share
    their noise, so their difference has little.

    Log p(x) is a lower bound, as :func:`pyro_vae.evaluation.importance_sampling` explains, which makes the
    approximation gap too small. The search may miss the best q, which makes it too large. The best q has lighter tails
    than p(z | x). If codes are strongly correlated, the tails of a diagonal q are so light that the weights have no
    variance. To use a better log p(x), from :func:`pyro_vae.evaluation.quadrature` or
    :func:`pyro_vae.evaluation.annealed_importance_sampling`, call ``dataclasses.replace(gaps, log_prob=better)``.

    Args:
        vae: a :class:`pyro_vae.VAE`, or a :class:`pyro_vae.model_guide.ModelGuide` of one. Its posterior has a ``net``
            and reparametrised draws, like all of :mod:`pyro_vae.posteriors` but ``Delta`` and ``Categorical``.
        x: data ``(batch, *event_shape)``; a few hundred examples are enough for the means.
        context: tensors ``(batch, ...)``.
        steps: steps of the search.
        num_particles: draws of z per example and step of the search.
        importance_particles: draws of z per example, for log p(x) and the ELBOs.
        lr: the learning rate at the first step, in units of the net's outputs.
        seed: of the draws.
        named: see :func:`pyro_vae.evaluation.importance_sampling`.

    Raises:
        ValueError: if a number is out of range, if there is no posterior with a net to replace, or if q is a point or
            its draws have no gradient.

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
        vae, net = _vae_and_net(pair)
        start = torch.cat([_rows_of(net, part) for _, part in blocks(pair)])
        free = _freed(pair, vae, net, start)
        found = [
            _search(part, steps, num_particles, lr, derive(seed, _OPTIMISING, number)) for number, part in blocks(free)
        ]
        best = torch.cat(found)

        def estimate(some: ModelGuide, num_particles: int, stream: int) -> ImportanceEstimate:
            return estimate_log_prob(some, num_particles=num_particles, bounds=(1,), seed=derive(seed, stream))

        enough = min(importance_particles, _DRAWS_TO_PICK)
        first = estimate(pair, enough, _PICKING).bounds[1]
        better = estimate(free.replace(rows=best), enough, _PICKING).bounds[1] > first
        best = torch.where(better.reshape(-1, *(1 for _ in best.shape[1:])), best, start)
        elbo = estimate(pair, importance_particles, _REPORTING).bounds[1]
        last = estimate(free.replace(rows=best), importance_particles, _REPORTING)
    warn_of_heavy_tails(last.pareto_k, "inference_gaps", vae)
    error, size = last.standard_error, last.effective_sample_size
    return InferenceGaps(elbo, last.bounds[1], last.log_prob, error, size, last.pareto_k)


class _Rows(nn.Module):
    """Replaces a net: returns the same rows for any input."""

    rows: Tensor

    def forward(self, *_: Tensor) -> Tensor:
        return self.rows


def _vae_and_net(pair: ModelGuide) -> tuple[VAE, nn.Module]:
    """Return the VAE and the net of its posterior.

    Raises:
        ValueError: if there is no net to replace, or q is a point or its draws have no gradient.
    """
    vae = pair.vae
    if not isinstance(vae, VAE):
        raise ValueError(
            "inference_gaps needs a pyro_vae.VAE, since it replaces the net of the posterior; got a "
            f"{type(vae).__name__}. Build a VAE(prior, likelihood, posterior) from model and guide"
        )
    name, net = part_name(vae.posterior), child(vae.posterior, "net")
    if not isinstance(vae.posterior, nn.Module) or not isinstance(net, nn.Module):
        raise ValueError(
            f"inference_gaps needs a posterior that is a module with a net, since it replaces the net's outputs by "
            f"free parameters; got {name}, which has none. Use one such as posteriors.DiagonalNormal(net), or call the "
            "module that returns the parameters of yours net"
        )
    q = pair.rows(0, 1).posterior()
    if isinstance(innermost(q), Delta):
        raise ValueError(
            f"inference_gaps needs a posterior with a density; got {name}, a point, whose ELBO does not bound log "
            "p(x). Use one such as posteriors.DiagonalNormal"
        )
    if not q.has_rsample:
        raise ValueError(
            f"inference_gaps needs a posterior whose draws have a gradient; got {name}, whose draws have none. For "
            "discrete codes, enumeration gives log p(x), to compare with the ELBO; or use "
            "posteriors.RelaxedCategorical"
        )
    return vae, net


def _rows_of(net: nn.Module, pair: ModelGuide) -> Tensor:
    """Return the output of the net when the guide runs, ``(batch, ...)``."""
    kept: list[Any] = []
    hook = net.register_forward_hook(lambda _net, _inputs, output: kept.append(output))
    try:
        pair.posterior()
    finally:
        hook.remove()
    if len(kept) != 1 or not isinstance(kept[0], Tensor) or kept[0].shape[:1] != (pair.batch,):
        what = [tuple(k.shape) if isinstance(k, Tensor) else type(k).__name__ for k in kept]
        raise ValueError(
            f"inference_gaps needs a posterior that calls its net once, for a tensor with one row per example, "
            f"({pair.batch}, ...); got {what if what else 'no call'}. Let the net return one tensor, and split it in "
            "the posterior"
        )
    return kept[0]


def _freed(pair: ModelGuide, vae: VAE, net: nn.Module, rows: Tensor) -> ModelGuide:
    """Return the same model and guide, which take the net's output by name as ``rows``, one per example."""
    given = _Rows()
    # The other parts are not copied, also if a prior (VampPrior) holds the posterior.
    kept = {id(part): part for part in (vae.prior, vae.likelihood, vae.mask_likelihood)}
    free = copy.deepcopy(vae, {**kept, id(net): given})

    def model(x: Tensor, *context: Tensor, rows: Tensor, **named: Tensor) -> Tensor:
        return vae.model(x, *context, **named)

    def guide(x: Tensor, *context: Tensor, rows: Tensor, **named: Tensor) -> Tensor:
        given.rows = rows
        return free.guide(x, *context, **named)

    return pair.replace((model, guide), rows=rows)


def _search(free: ModelGuide, steps: int, num_particles: int, lr: float, seed: int) -> Tensor:
    """Return the rows with the largest ELBO that Adam finds."""
    rows = free.named["rows"].clone().requires_grad_()
    free = free.replace(rows=rows)
    # Adam uses each number's own gradient, so examples do not influence each other.
    optimizer = torch.optim.Adam([rows], lr=lr)
    schedule = CosineAnnealingLR(optimizer, steps)
    with torch.enable_grad(), seeded(seed):
        for _ in range(steps):
            loss = -free.draw_terms(num_particles).weight.mean(0).sum()
            # Not backward(), which would leave gradients on the weights of the VAE.
            (gradient,) = torch.autograd.grad(loss, rows)
            # An example without a finite gradient stays where it is in this step.
            rows.grad = gradient.nan_to_num(0.0, 0.0, 0.0)
            optimizer.step()
            schedule.step()
    return rows.detach()
