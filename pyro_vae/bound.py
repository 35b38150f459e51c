"""The evidence lower bound and its two terms, in nats, independent of Pyro's own loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Literal, NamedTuple, overload

import torch
from pyro.distributions import TorchDistribution
from pyro.poutine import Trace
from pyro.poutine.indep_messenger import CondIndepStackFrame
from torch import Tensor, nn
from torch.distributions import kl_divergence

from pyro_vae.argument_checks import at_least, one_of
from pyro_vae.data import DataSource, as_tensor, batches
from pyro_vae.data.arrays import Array, repeat_rows
from pyro_vae.data.batches import dtype_and_device
from pyro_vae.distributions import check_inverse, part_name
from pyro_vae.model_guide import (
    ModelGuide,
    Target,
    check_observed,
    kept_store,
    listed,
    model_and_guide,
    modules_around,
    run_pair,
    sampled_sites,
)
from pyro_vae.seeds import seeded
from pyro_vae.terms import read_terms, shared_plates
from pyro_vae.vae import VAE, as_vae, evaluating, suited, takes_context
from pyro_vae.value_checks import holds

__all__ = [
    "ElboEstimate",
    "ElboTerms",
    "NotANumberError",
    "average_elbo",
    "elbo",
    "elbo_terms",
    "target_terms",
]


class NotANumberError(ValueError):
    """A term of the bound is NaN."""


@overload
def elbo(recon: float, kl: float) -> float: ...
@overload
def elbo(recon: Tensor, kl: Tensor | float) -> Tensor: ...
@overload
def elbo(recon: float, kl: Tensor) -> Tensor: ...
def elbo(recon: float | Tensor, kl: float | Tensor) -> float | Tensor:
    """Return the evidence lower bound: recon − kl, in nats.

    log p(x) ≥ E_q(z|x)[log p(x|z)] − KL(q(z|x) || p(z)) (Kingma and Welling 2013, arXiv 1312.6114, equation 3).

    Args:
        recon: E_q(z|x)[log p(x|z)], in nats: a number, or a tensor of any shape.
        kl: KL(q(z|x) || p(z)), in nats: a number, or a tensor that broadcasts with ``recon``.

    Returns:
        A float for two numbers, else a tensor of the broadcast shape, through which gradients flow. Infinities
        propagate; ∞ − ∞ gives NaN.

    Raises:
        TypeError: if an argument is neither a real number nor a tensor of real numbers.
        NotANumberError: a ValueError, if an argument is NaN or holds one.

    Example:
        >>> elbo(-80.0, 20.0)
        -100.0
        >>> elbo(torch.tensor([-80.0, -90.0]), torch.tensor([20.0, 15.0]))
        tensor([-100., -105.])
    """
    return _number("recon", recon) - _number("kl", kl)


@overload
def _number(name: str, value: float) -> float: ...
@overload
def _number(name: str, value: Tensor) -> Tensor: ...
def _number(name: str, value: float | Tensor) -> float | Tensor:
    """Return a value as a float or as a floating-point tensor."""
    if isinstance(value, Tensor):
        if value.is_complex() or value.dtype == torch.bool:
            raise TypeError(f"{name} must be a tensor of real numbers; got dtype {value.dtype}")
        if not holds(~torch.isnan(value).any()):
            raise NotANumberError(
                f"{name} must not hold NaN; got {int(torch.isnan(value).sum())} of {value.numel()} values"
            )
        return value if value.is_floating_point() else value.to(torch.get_default_dtype())
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number or a torch tensor, in nats; got {type(value).__name__}: {value!r}")
    try:
        number = float(value)
    except OverflowError as error:
        raise ValueError(f"{name} must fit into a float; got an integer of {len(str(value))} digits") from error
    if math.isnan(number):
        raise NotANumberError(f"{name} must be a number in nats; got NaN")
    return number


class ElboTerms(NamedTuple):
    """The two terms of the bound, estimated for each example, in nats. Each has shape ``(batch,)``.

    Args:
        recon: E_q(z|x)[log p(x|z)]; with a model of the mask, E[log p(x observed|z) + log p(mask|x)].
        kl: KL(q(z|x) || p(z)).
    """

    recon: Tensor
    kl: Tensor

    @property
    def elbo(self) -> Tensor:
        """Recon − kl, ``(batch,)``."""
        return elbo(self.recon, self.kl)


def elbo_terms(
    vae: VAE,
    x: DataSource,
    *context: Array,
    mask: Array | None = None,
    kl: Literal["analytic", "sampled"] = "analytic",
    num_particles: int = 1,
    seed: int | None = None,
) -> ElboTerms:
    """Return the terms of the bound for each example of a batch, computed from the three distributions themselves.

    This is the independent path of the cross-check: it uses neither traces of Pyro nor :mod:`pyro_vae.terms`, so that
    :func:`pyro_vae.check` can compare the two.

    With the same noise, the elbo summed over the batch equals ``-Trace_ELBO().loss(vae.model, vae.guide, x)`` for
    ``kl="sampled"``, and ``-TraceMeanField_ELBO().loss(...)`` for ``kl="analytic"``.

    Args:
        vae: the prior, likelihood and posterior.
        x: data ``(batch, *event_shape)``, or anything else that :meth:`VAE.tensors` takes, as one batch.
        context: arrays ``(batch, ...)``.
        mask: True where x is observed, as in :meth:`VAE.model`; recon then counts the observed elements alone.
        kl: ``"analytic"`` for the closed form, ``"sampled"`` for log q(z|x) − log p(z) at the same z as recon.
        num_particles: draws of z per example, at least 1; the terms are means over them.
        seed: makes the draws repeatable and leaves the generators as they were.

    Returns:
        ``recon``, ``kl`` and ``elbo``, in nats. Each has shape ``(batch,)``. The gradients are those of the bound if
        the posterior can be reparametrised (``has_rsample``); for discrete codes they lack the score-function term.

    Raises:
        TypeError: if ``vae`` is no VAE.
        ValueError: if x is outside the likelihood's support, a shape does not fit, or ``kl="analytic"`` is asked of two
            distributions whose KL has no closed form.

    Example:
        >>> from pyro_vae import VAE, likelihoods, nets, posteriors, priors
        >>> vae = VAE(
        ...     prior=priors.StandardNormal(2),
        ...     likelihood=likelihoods.Bernoulli(nets.MLP(2, (), (1, 8, 8))),
        ...     posterior=posteriors.DiagonalNormal(nets.MLP((1, 8, 8), (), 2 * 2)),
        ... )
        >>> terms = elbo_terms(vae, torch.zeros(16, 1, 8, 8), num_particles=10, seed=0)
        >>> bool((terms.elbo == terms.recon - terms.kl).all())
        True
    """
    one_of("kl", kl, "analytic", "sampled")
    num_particles = at_least("num_particles", num_particles, 1)
    if not hasattr(vae, "tensors"):
        what = "a pair" if isinstance(vae, tuple) else type(vae).__name__
        raise TypeError(f"elbo_terms needs a pyro_vae.VAE; got {what}. average_elbo takes any model and guide")
    x, context = vae.tensors(x, *context)
    # observed() checks that x has the event shape of p(x | z).
    posterior, prior = vae.posterior_of(x, *context, mask=mask), vae.prior_of(*context)
    # Particles become rows of the batch, since a decoder need not know any other dimension.
    xs, contexts = repeat_rows(x, num_particles), [repeat_rows(c, num_particles) for c in context]
    masks = None if mask is None else repeat_rows(as_tensor("mask", mask), num_particles)
    with seeded(seed):
        z = posterior((num_particles,))  # with gradient if q can be reparametrised
        vae.check_codes(prior, z)
        likelihood = vae.decode(z.flatten(0, 1), *contexts)
        log_mask = _log_mask(vae, likelihood, xs, *contexts, mask=masks)
    likelihood, xs = vae.observed(likelihood, xs, masks)
    recon = (likelihood.log_prob(xs) + log_mask).unflatten(0, (num_particles, -1)).mean(0)
    if kl == "sampled":
        check_inverse(posterior, f"posterior {part_name(vae.posterior)}", z)
        divergence = (posterior.log_prob(z) - prior.log_prob(z)).mean(0)
    else:
        divergence = _analytic_kl(vae, posterior, prior)
    return ElboTerms(recon, divergence.expand(recon.shape))


def _log_mask(
    vae: VAE, likelihood: TorchDistribution, x: Tensor, *context: Tensor, mask: Tensor | None
) -> Tensor | float:
    """Return log p(mask | x) at a draw of the missing values, ``(batch,)``; 0 without a model of the mask."""
    if vae.mask_likelihood is None:
        return 0.0
    missing, seen = vae.missing_values(likelihood, x, mask)
    complete = torch.where(seen, x, missing())
    return vae.mask_of(complete, *context).log_prob(seen.to(complete.dtype))


def _analytic_kl(vae: VAE, posterior: TorchDistribution, prior: TorchDistribution) -> Tensor:
    names = f"posterior {part_name(vae.posterior)}", f"prior {part_name(vae.prior)}"
    return _closed_form(posterior, prior, names)


def _closed_form(posterior: TorchDistribution, prior: TorchDistribution, names: tuple[str, str]) -> Tensor:
    try:
        return kl_divergence(posterior, prior)
    except NotImplementedError as error:
        raise ValueError(
            f'kl="analytic": no closed form is known for KL(q || p) of {" and ".join(names)}. Use kl="sampled", with '
            "num_particles=100 or so for a smaller variance, or register the closed form with "
            "torch.distributions.register_kl"
        ) from error


def target_terms(
    target: Target, x: Tensor, *context: Tensor, kl: Literal["analytic", "sampled"], num_particles: int = 1
) -> ElboTerms:
    """Return the terms of the bound for each example of a batch, as :func:`elbo_terms`, of any model and guide."""
    vae = as_vae(target)
    if vae is not None:
        return elbo_terms(vae, x, *context, kl=kl, num_particles=num_particles)
    if kl == "sampled":
        runs = [_run_terms(target, x, *context) for _ in range(num_particles)]
        recon, divergence = (torch.stack(terms).mean(0) for terms in zip(*runs, strict=True))
        return ElboTerms(recon, divergence)
    latent, observed = _only_sites(target, x, *context)
    pair = ModelGuide(target, x, *context, latent=latent, observed=observed).strict()
    recon = pair.draw_terms(num_particles).recon.mean(0)
    posterior, prior = pair.posterior(), pair.prior()
    names = f"the guide's {part_name(posterior)}", f"the model's {part_name(prior)}"
    return ElboTerms(recon, _closed_form(posterior, prior, names).expand(recon.shape))


def _only_sites(target: Target, x: Tensor, *context: Tensor) -> tuple[str, str]:
    """Return the names of the latent site and of the observed site, if the model has one of each."""
    with seeded(0):  # so that this extra run does not change the draws
        trace, guide = run_pair(*model_and_guide(target), x, *context)
    check_observed(trace, guide)
    latent, observed = sampled_sites(trace)
    if len(latent) != 1 or len(observed) != 1:
        raise ValueError(
            f'kl="analytic" needs a model with one latent and one observed site; got latent: {listed(latent)}; '
            f'observed: {listed(observed)}. Use kl="sampled", which takes any sites'
        )
    return latent[0], observed[0]


def _run_terms(target: Target, x: Tensor, *context: Tensor) -> tuple[Tensor, Tensor]:
    """Return recon and the sampled KL of each example, of all sites and without scales, in one run."""
    traces = run_pair(*model_and_guide(target), x, *context)
    check_observed(*traces)
    plate = _plate_of_examples(traces, len(x))
    terms = read_terms([traces], scaled=False)
    # All dimensions but the plate's are of one example: the particle, and other plates that all sites are in.
    others = [d for d in range(-terms.recon.dim(), 0) if d != plate.dim]
    recon, prior, posterior = (t.sum(others) for t in terms.totals)
    return recon, posterior - prior


def _plate_of_examples(traces: tuple[Trace, Trace], rows: int) -> CondIndepStackFrame:
    """Return the one plate over the examples that all sites are in; raise a ValueError if there is none."""
    plates = [plate for plate in shared_plates(*traces) if plate.size == rows]
    if len(plates) != 1:
        raise ValueError(
            f"all sites of model and guide must be in one plate over the {rows} examples of x, since each has its "
            f"own bound; got {len(plates)} such plates"
        )
    return plates[0]


@dataclass(frozen=True)
class ElboEstimate:
    """The bound on average over data, in nats per example.

    Args:
        elbo: mean of recon − kl.
        recon: mean of E_q[log p(x|z)].
        kl: mean of KL(q(z|x) || p(z)).
        standard_error: of ``elbo``, from the spread over examples; NaN for one example.
        examples: how many there are.
    """

    elbo: float
    recon: float
    kl: float
    standard_error: float
    examples: int

    def __repr__(self) -> str:
        """Return the bound, its standard error and its two terms in one line."""
        error = "" if math.isnan(self.standard_error) else f", standard error {self.standard_error:.2g}"
        examples = f"{self.examples:,} example{'s' * (self.examples != 1)}"
        terms = f"recon = {self.recon:.4f}, kl = {self.kl:.4f}"
        return f"ElboEstimate(elbo = {self.elbo:.4f} nats over {examples}{error}; {terms})"


def average_elbo(
    vae: Target,
    data: DataSource,
    *,
    kl: Literal["analytic", "sampled"] = "sampled",
    num_particles: int = 1,
    batch_size: int = 1000,
    has_context: bool | None = None,
    seed: int = 0,
) -> ElboEstimate:
    """Return the bound on average over the examples of a data set, in evaluation mode and without gradients.

    Args:
        vae: a VAE, another object with a ``model`` and a ``guide``, or the pair ``(model, guide)``, whose sites are all
            in one plate over the examples. Scales (``poutine.scale``, the subsampling of plates) do not count.
        data: anything that :func:`pyro_vae.data.batches` takes; brought to the device and dtype of the parameters.
        kl: see :func:`elbo_terms`; the closed form needs one latent site and one observed site, of any names.
        num_particles: draws of z per example.
        batch_size: examples at a time.
        has_context: True if what a Dataset or DataLoader yields after x is context; by default, True for a VAE with
            ``context_features``.
        seed: of the draws and the binarisation.

    Raises:
        ValueError: if there are no data, if the sites of a model or guide do not fit, and as :func:`elbo_terms`.
        TypeError: if ``vae`` has no model and guide.
        NotANumberError: if a term is NaN.

    Example:
        >>> from pyro_vae import build, data
        >>> digits = data.load("digits", binarize="dynamic")
        >>> vae = build(digits.event_shape)
        >>> average_elbo(vae, digits.test).examples
        300
        >>> average_elbo((vae.model, vae.guide), digits.test) == average_elbo(vae, digits.test)
        True
    """
    one_of("kl", kl, "analytic", "sampled")
    at_least("num_particles", num_particles, 1)
    model, guide = model_and_guide(vae)
    data = suited(data, vae)
    modules = nn.ModuleList(modules_around(model=model, guide=guide).values())
    dtype, device = dtype_and_device(modules, data)
    if has_context is None:
        has_context = takes_context(vae)
    supply = batches(data, batch_size, seed=seed, device=device, dtype=dtype, has_context=has_context)
    recons, kls = [], []
    with evaluating(modules), kept_store(), seeded(seed):
        for x, *c in supply:
            terms = target_terms(vae, x, *c, kl=kl, num_particles=num_particles)
            recons.append(terms.recon.double())
            kls.append(terms.kl.double())
    if not recons:
        raise ValueError("data must hold at least one example; got none")
    recon, divergence = torch.cat(recons), torch.cat(kls)
    bound = elbo(recon, divergence)
    n = bound.numel()
    return ElboEstimate(
        elbo=bound.mean().item(),
        recon=recon.mean().item(),
        kl=divergence.mean().item(),
        standard_error=(bound.std(correction=1) / math.sqrt(n)).item() if n > 1 else math.nan,
        examples=n,
    )
