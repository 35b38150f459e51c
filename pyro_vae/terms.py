"""The terms of a bound, log p(x | z), log p(z) and log q(z | x), at draws of z, read from traces of a model and guide.

This is their one home: the objectives, :class:`pyro_vae.model_guide.ModelGuide` and training read them here.
:func:`pyro_vae.elbo_terms` computes them in another way, for the cross-check.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import torch
from pyro.distributions import Delta, TorchDistribution
from pyro.distributions.util import scale_and_mask
from pyro.infer.util import get_dependent_plate_dims
from pyro.poutine import Trace
from pyro.poutine.indep_messenger import CondIndepStackFrame
from pyro.poutine.runtime import Message
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_vae.distributions import HasFactors, factors, innermost, without_independent

__all__ = [
    "FROM_MODEL",
    "WITH_X",
    "Latent",
    "RunSites",
    "Site",
    "Term",
    "Terms",
    "read_terms",
    "shared_plates",
]

FROM_MODEL = "from_model"
"""The mark in ``infer`` of a latent site that the guide draws from the model's own conditional distribution, such as
values of x that are missing. Its log-densities in model and guide are equal, so it has no KL and is no code."""

WITH_X = "with_x"
"""The mark in ``infer`` of an observed site that belongs to x, such as the mask of its observed values."""

Term: TypeAlias = Literal["recon", "prior", "posterior"]
"""log p(x | z), log p(z) or log q(z | x)."""


class Site(NamedTuple):
    """One sample site of a run.

    Args:
        name: of the site.
        distribution: of the site, as the program made it.
        value: what was drawn from it or observed, ``(..., *event_shape)``.
        log_prob: its log-density as it counts in the bound, in nats.
        scale: the factor in ``log_prob``, such as a weight of ``poutine.scale``.
        mask: of ``poutine.mask``; None if there is none.
        summed_dims: the plates that ``log_prob`` is summed over, since not all sites are in them.
        copies: how many times ``distribution`` has each example, if the rows were repeated for several particles.
        from_model: True if the site has the mark :data:`FROM_MODEL`.
    """

    name: str
    distribution: TorchDistribution
    value: Tensor
    log_prob: Tensor
    scale: float | Tensor = 1.0
    mask: Tensor | bool | None = None
    summed_dims: Sequence[int] = ()
    copies: int = 1
    from_model: bool = False

    def counted(self, log_prob: Tensor) -> Tensor:
        """Scale, mask and sum a log-density of this site's distribution, as ``log_prob`` is."""
        return _summed(scale_and_mask(log_prob, self.scale, self.mask), self.summed_dims)

    def factor_log_probs(self) -> dict[str, Tensor]:
        """Return the log-density of each named factor, laid out as ``log_prob``, which is their sum.

        Named factors are the columns of a :class:`pyro_vae.distributions.Columns`, for example. Other distributions
        have none, and the result is empty.
        """
        if not isinstance(self.distribution, HasFactors):
            return {}
        found = self.distribution.factor_log_probs(self.value)
        return {name: self.counted(log_prob).reshape(self.log_prob.shape) for name, log_prob in found.items()}


RunSites: TypeAlias = Mapping[Term, Mapping[str, Site]]
"""The sites of one run of model and guide: the observed ones, the model's latent ones and the guide's, each by name."""


class Latent(NamedTuple):
    """A latent site that model and guide share.

    Args:
        posterior: the site in the guide.
        prior: the site in the model, with the same value.
        same_order: True if guide and model draw their latent sites in the same order. If not, q and p of a site may
            depend on different other draws, and the closed form of their KL does not hold.
    """

    posterior: Site
    prior: Site
    same_order: bool

    def kl(self, *, analytic: bool = False) -> Tensor:
        """Return KL(q || p), laid out as the terms: in closed form if it is known, else at the draws.

        Args:
            analytic: refuse the estimate at the draws.

        Raises:
            ValueError: if q is a point, if the model ran on repeated rows and the guide did not, or if the closed form
                is asked for and not known or not valid.
        """
        name, q, p = self.posterior.name, self._posterior_with_density(), self.prior.distribution
        kl = self._closed_form(q, p)
        if kl is None and analytic:
            why = (
                f"no closed form is known for KL(q || p) of {_class_name(q)} and {_class_name(p)}"
                if self.same_order
                else "guide and model draw their latent sites in different orders, so the KL is no sum over sites"
            )
            raise ValueError(f"site {name!r}: {why}. Leave kl='analytic' out")
        return self.posterior.log_prob - self.prior.log_prob if kl is None else self.posterior.counted(kl)

    def kl_of_dimensions(self) -> Tensor:
        """Return KL(q || p) of each dimension of z, ``(..., dimensions)``: in closed form if it is known.

        Raises:
            ValueError: if q or p is not a product over the dimensions.
        """
        q, p = self.factors()
        site = self.posterior
        kl = self._closed_form(q, p)
        if kl is None:
            kl = q.log_prob(site.value) - p.log_prob(site.value)
        batch = kl.shape[: kl.dim() - len(site.distribution.event_shape)]
        scale, mask = (t.unsqueeze(-1) if isinstance(t, Tensor) else t for t in (site.scale, site.mask))
        return scale_and_mask(kl.reshape(*batch, -1), scale, mask)

    def factors(self) -> tuple[TorchDistribution, TorchDistribution]:
        """Return q and p of the single dimensions of z.

        Raises:
            ValueError: if one of them is not a product over the dimensions.
        """
        name = self.posterior.name
        q = _over_dimensions(self._posterior_with_density(), name, "guide")
        return q, _over_dimensions(self.prior.distribution, name, "model")

    def _closed_form(self, q: TorchDistribution, p: TorchDistribution) -> Tensor | None:
        if self.prior.copies != self.posterior.copies:
            raise ValueError(
                f"site {self.posterior.name!r}: the model ran on rows repeated for {self.prior.copies} particles, and "
                "the guide did not, so there is no closed form of the KL of these terms. Take it from one particle"
            )
        try:
            return kl_divergence(q, p) if self.same_order else None
        except NotImplementedError:
            return None

    def _posterior_with_density(self) -> TorchDistribution:
        if isinstance(innermost(self.posterior.distribution), Delta):
            raise ValueError(
                f"site {self.posterior.name!r}: the guide's distribution is a point (Delta), which has no KL of its "
                "own, as in the automatic guides over all sites at once"
            )
        return self.posterior.distribution


@dataclass(frozen=True)
class Terms:
    """The terms of the bound at draws of z, in nats: particles in one dimension, independent examples in the others.

    Each is ``(num_particles, batch)`` for a VAE. In general, the examples are the plates that all sites share; plates
    of single sites are summed over.

    Args:
        recon: log p(x | z), of all observed sites.
        prior: log p(z), of all latent sites of the model.
        posterior: log q(z | x), of all latent sites of the guide.
        runs: the sites of each run; one run if the particles are vectorised, else one for each particle.
        dim: the dimension of the particles, negative.
        scale: how many examples of the data each example stands for, if a plate subsamples them. The terms are not
            multiplied by it; they are by scales of ``poutine.scale``.
        data_size: how many examples the data have if a plate subsamples them; None if they are all here.

    Example:
        >>> from pyro_vae import build
        >>> from pyro_vae.model_guide import ModelGuide
        >>> terms = ModelGuide(build(4, 2, hidden=()), torch.ones(3, 4)).draw_terms(5)
        >>> terms.recon.shape, bool((terms.weight == terms.recon + terms.prior - terms.posterior).all())
        (torch.Size([5, 3]), True)
        >>> {name: log_prob.shape for name, log_prob in terms.by_site("recon").items()}
        {'x': torch.Size([5, 3])}
    """

    recon: Tensor
    prior: Tensor
    posterior: Tensor
    runs: Sequence[RunSites]
    dim: int = -2
    scale: float = 1.0
    data_size: int | None = None

    @property
    def totals(self) -> tuple[Tensor, Tensor, Tensor]:
        """``recon``, ``prior`` and ``posterior``."""
        return self.recon, self.prior, self.posterior

    @property
    def kl(self) -> Tensor:
        """Log q(z | x) − log p(z) at the draws, with the KL divergence as mean."""
        return self.posterior - self.prior

    @property
    def weight(self) -> Tensor:
        """The logarithm of p(x, z) / q(z | x), with the ELBO as mean."""
        return self.recon + self.prior - self.posterior

    @property
    def num_particles(self) -> int:
        """The number of draws of z per example."""
        return self.recon.shape[self.dim]

    @property
    def examples(self) -> int:
        """The number of examples."""
        return self.recon.numel() // self.recon.shape[self.dim]

    def mean(self, term: Tensor) -> Tensor:
        """Return the mean over the particles."""
        return term.mean(self.dim, keepdim=True)

    def log_mean(self, log_weight: Tensor) -> Tensor:
        """Return the logarithm of the mean over the particles of weights, given their logarithms."""
        return log_weight.logsumexp(self.dim, keepdim=True) - math.log(log_weight.shape[self.dim])

    def by_site(self, term: Term) -> dict[str, Tensor]:
        """Return a term split by site, each laid out as the term, which is their sum."""
        names = self.runs[0][term]
        return {name: self._laid_out([run[term][name].log_prob for run in self.runs]) for name in names}

    def by_factor(self, term: Term) -> dict[str, dict[str, Tensor]]:
        """Return the terms of the sites with named factors, such as the columns of a table, split by factor.

        Each is laid out as the term. They are worked out when asked for.
        """
        found = {name: [run[term][name].factor_log_probs() for run in self.runs] for name in self.runs[0][term]}
        return {
            name: {factor: self._laid_out([run[factor] for run in runs]) for factor in runs[0]}
            for name, runs in found.items()
            if runs[0]
        }

    def latents(self) -> list[list[Latent]]:
        """Return the latent sites that model and guide share, of each run, without those marked :data:`FROM_MODEL`."""
        found = []
        for run in self.runs:
            shared = [name for name, q in run["posterior"].items() if name in run["prior"] and not q.from_model]
            same_order = shared == [name for name in run["prior"] if name in shared]
            found.append([Latent(run["posterior"][name], run["prior"][name], same_order) for name in shared])
        return found

    def analytic_kl(self) -> Tensor:
        """Return KL(q || p) of all latent sites in closed form, laid out as :attr:`kl`.

        Raises:
            ValueError: if it is not known.
        """
        in_one = sorted(self.runs[0]["prior"].keys() ^ self.runs[0]["posterior"].keys())
        if in_one:
            raise ValueError(
                f'kl="analytic" needs latent sites that guide and model share; {in_one[0]!r} is in only one of them'
            )
        zero = torch.zeros_like(self.kl[0])
        kls = [sum((latent.kl(analytic=True) for latent in run), zero) for run in self.latents()]
        found = kls[0] if len(kls) == 1 else torch.stack(torch.broadcast_tensors(*kls))
        return found.expand(self.kl.shape)

    def _laid_out(self, runs: Sequence[Tensor]) -> Tensor:
        if len(runs) == 1:
            return runs[0].expand(self.recon.shape)
        return torch.stack([log_prob.expand(self.recon.shape[1:]) for log_prob in runs])


def read_terms(traces: Sequence[tuple[Trace, Trace]], dim: int | None = None, *, scaled: bool = True) -> Terms:
    """Read the terms from traces of a model and a guide, with any number of sites.

    Args:
        traces: of model and guide in each run, with log-densities computed and without the subsamples of plates.
        dim: the dimension of the particles if they are vectorised, negative; None if each particle has a run.
        scaled: False to leave out all scales. The traces then need no log-densities.
    """
    found = [_of_run(model, guide, scaled) for model, guide in traces]
    first = found[0]
    if dim is not None:
        return Terms(*first.totals, first.runs, dim, first.scale, first.data_size)
    recon, prior, posterior = (
        torch.stack(torch.broadcast_tensors(*(run.totals[i] for run in found))) for i in range(3)
    )
    runs = [run.runs[0] for run in found]
    return Terms(recon, prior, posterior, runs, -recon.dim(), first.scale, first.data_size)


def _of_run(model: Trace, guide: Trace, scaled: bool) -> Terms:
    in_model, in_guide = _sample_sites(model), _sample_sites(guide)
    summed_dims = get_dependent_plate_dims(in_model + in_guide)
    plates = shared_plates(model, guide)
    scale = math.prod((plate.full_size or plate.size) / plate.size for plate in plates) if scaled else 1.0

    def read(site: Message) -> Site:
        name, distribution, value, mask = site["name"], site["fn"], site["value"], site["mask"]
        log_prob = site["log_prob"] if scaled else scale_and_mask(distribution.log_prob(value), mask=mask)
        of_site = site["scale"] / scale if scaled else 1.0
        counted = _summed(log_prob, summed_dims) / scale
        from_model = bool(site["infer"].get(FROM_MODEL))
        return Site(name, distribution, value, counted, of_site, mask, summed_dims, from_model=from_model)

    run: RunSites = {
        "recon": {site["name"]: read(site) for site in in_model if site["is_observed"]},
        "prior": {site["name"]: read(site) for site in in_model if not site["is_observed"]},
        "posterior": {site["name"]: read(site) for site in in_guide},
    }
    totals = (_total([site.log_prob for site in sites.values()]) for sites in run.values())
    recon, prior, posterior = torch.broadcast_tensors(*totals)
    subsampled = any(plate.full_size not in (None, plate.size) for plate in plates)
    data_size = math.prod(plate.full_size or plate.size for plate in plates) if subsampled else None
    return Terms(recon, prior, posterior, [run], 0, scale, data_size)


def shared_plates(model: Trace, guide: Trace) -> list[CondIndepStackFrame]:
    """Return the plates that all sites of a run are in, without that of the particles."""
    sites = _sample_sites(model) + _sample_sites(guide)
    shared = set(sites[0]["cond_indep_stack"]).intersection(*(site["cond_indep_stack"] for site in sites))
    return [plate for plate in shared if plate.vectorized and plate.name != "num_particles_vectorized"]


def _sample_sites(trace: Trace) -> list[Message]:
    return [site for site in trace.nodes.values() if site["type"] == "sample"]


def _total(log_probs: Sequence[Tensor]) -> Tensor:
    return sum(log_probs[1:], log_probs[0]) if log_probs else torch.zeros(())


def _summed(log_prob: Tensor, dims: Sequence[int]) -> Tensor:
    dims = [d for d in dims if -d <= log_prob.dim()]
    return log_prob.sum(dims, keepdim=True) if dims else log_prob


def _over_dimensions(distribution: TorchDistribution, site: str, program: str) -> TorchDistribution:
    inner = factors(distribution)
    if inner is None:
        raise ValueError(
            f"site {site!r}: the {program}'s {_class_name(distribution)} is not a product over its dimensions, so "
            'they have no KL of their own. Use DiagonalNormal with StandardNormal, for example, or FreeBits(per="site")'
        )
    return inner


def _class_name(distribution: TorchDistribution) -> str:
    return type(without_independent(distribution)).__name__
