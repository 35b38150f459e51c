"""What an objective is made of: log-densities at draws of the latent variables, read from Pyro's traces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from pyro.distributions import Delta
from pyro.distributions.util import scale_and_mask
from pyro.infer.util import get_dependent_plate_dims
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_vae.distributions import factors, innermost, without_independent

__all__ = ["Draws", "Latent", "draws_of"]


class Latent(NamedTuple):
    """A latent site that model and guide share.

    Args:
        name: of the site.
        q: its distribution in the guide.
        p: its distribution in the model.
        z: the draws, ``(..., *event)``.
        scale: by which its log-densities count beside those of other sites, such as a weight of ``poutine.scale``.
        mask: of its plates, or None.
        others: dimensions to sum over: plates that other sites are not in.
        in_order: whether guide and model draw their latent sites in one order. If not, q and p of a site may depend on
            different other draws, and a closed form of their KL is of no use.
    """

    name: str
    q: Any
    p: Any
    z: Tensor
    scale: Any
    mask: Any
    others: list[int]
    in_order: bool

    def kl(self, closed: bool) -> Tensor:
        """KL(q || p), laid out as the terms of :class:`Draws`.

        Args:
            closed: in closed form; else at the draws where none is known.

        Raises:
            ValueError: where q is a point, and where the closed form is not known or not right.
        """
        q, p = _with_density(self.q, self.name), self.p
        kl = self._closed_kl(q, p)
        if kl is None and closed:
            why = (
                f"no closed form is known for KL(q || p) of {_name(q)} and {_name(p)}"
                if self.in_order
                else "guide and model draw their latent sites in different orders, so the KL is no sum over sites"
            )
            raise ValueError(f"site {self.name!r}: {why}. Leave kl='analytic' out")
        if kl is None:
            kl = q.log_prob(self.z) - p.log_prob(self.z)
        return _summed(scale_and_mask(kl, self.scale, self.mask), self.others)

    def kl_of_dimensions(self) -> Tensor:
        """KL(q || p) of each dimension of the event, ``(..., dimensions)``; in closed form where there is one.

        Raises:
            ValueError: where q or p is not a product over the dimensions.
        """
        q, p = self.factors()
        kl = self._closed_kl(q, p)
        if kl is None:
            kl = q.log_prob(self.z) - p.log_prob(self.z)
        batch = kl.shape[: kl.dim() - len(self.q.event_shape)]
        scale, mask = (t.unsqueeze(-1) if isinstance(t, Tensor) else t for t in (self.scale, self.mask))
        return scale_and_mask(kl.reshape(*batch, -1), scale, mask)

    def _closed_kl(self, q: Any, p: Any) -> Tensor | None:
        try:
            return kl_divergence(q, p) if self.in_order else None
        except NotImplementedError:
            return None

    def factors(self) -> tuple[Any, Any]:
        """Q and p of the single dimensions of the event.

        Raises:
            ValueError: where one of them is not a product over them.
        """
        return _factors(_with_density(self.q, self.name), self.name, "guide"), _factors(self.p, self.name, "model")


class Draws(NamedTuple):
    """Log-densities in nats; particles in the dimension ``dim``, in the others the plates that all sites are in.

    Plates that only some of the sites are in are summed over, so that what is left of them are blocks ("examples") that
    do not depend on each other.

    Args:
        recon: log p(x | z), of the observed sites.
        prior: log p(z).
        posterior: log q(z | x).
        runs: the latent sites of each run; where particles are vectorised, there is one.
        dim: the dimension of the particles, negative.
        scale: how many examples each example stands for, as subsampling has it; scales of ``poutine.scale`` are in the
            log-densities.
        whole: how many examples there are with those that are not in this subsample; None where it is all of them.
        unpaired: the name of a latent site that the guide or the model has alone, or None.
    """

    recon: Tensor
    prior: Tensor
    posterior: Tensor
    runs: list[list[Latent]]
    dim: int
    scale: Any
    whole: int | None
    unpaired: str | None

    @property
    def kl(self) -> Tensor:
        """Log q(z | x) − log p(z) at the draws, of which the mean is the KL divergence."""
        return self.posterior - self.prior

    @property
    def weight(self) -> Tensor:
        """Log of p(x, z) / q(z | x), of which the mean is the ELBO."""
        return self.recon + self.prior - self.posterior

    def mean(self, term: Tensor) -> Tensor:
        """The mean of a term over the particles."""
        return term.mean(self.dim, keepdim=True)

    def log_mean(self, log_weight: Tensor) -> Tensor:
        """Log of the mean over the particles of weights given by their logs."""
        return log_weight.logsumexp(self.dim, keepdim=True) - math.log(log_weight.shape[self.dim])

    def closed_kl(self) -> Tensor:
        """KL(q || p) of all latent sites in closed form, laid out as :attr:`kl`.

        Raises:
            ValueError: where it is not known.
        """
        if self.unpaired is not None:
            raise ValueError(
                f'kl="analytic" needs latent sites that guide and model share; {self.unpaired!r} is in only one of them'
            )
        zero = torch.zeros_like(self.kl[0])
        kls = [sum((latent.kl(closed=True) for latent in run), zero) for run in self.runs]
        found = kls[0] if len(kls) == 1 else torch.stack(torch.broadcast_tensors(*kls))
        return found.expand(self.kl.shape)

    @property
    def num_particles(self) -> int:
        """How many draws an example."""
        return self.recon.shape[self.dim]

    @property
    def examples(self) -> int:
        """How many examples there are in this run."""
        return self.recon.numel() // self.recon.shape[self.dim]


def draws_of(traces: Sequence[tuple[Any, Any]], dim: int | None) -> Draws:
    """Reads the traces of model and guide.

    Args:
        traces: of each run, model and guide, with their log-densities computed.
        dim: the dimension of the particles where they are vectorised, negative; None where each has a run.
    """
    found = [_of_run(model, guide) for model, guide in traces]
    if dim is not None:
        return found[0]._replace(dim=dim)
    terms = [torch.stack(torch.broadcast_tensors(*[run[i] for run in found])) for i in range(3)]
    return found[0]._replace(
        recon=terms[0], prior=terms[1], posterior=terms[2], runs=[run.runs[0] for run in found], dim=-terms[0].dim()
    )


def _of_run(model: Any, guide: Any) -> Draws:
    in_model = [site for site in model.nodes.values() if site["type"] == "sample"]
    in_guide = [site for site in guide.nodes.values() if site["type"] == "sample"]
    sites = in_model + in_guide
    others = get_dependent_plate_dims(sites)
    plates = set(sites[0]["cond_indep_stack"]).intersection(*(site["cond_indep_stack"] for site in sites))
    common = [plate for plate in plates if plate.vectorized and plate.name != "num_particles_vectorized"]
    scale = math.prod((plate.full_size or plate.size) / plate.size for plate in common)

    def term(chosen: list[Any]) -> Any:
        logs = [_summed(site["log_prob"], others) for site in chosen]
        return sum(logs[1:], logs[0]) / scale if logs else torch.zeros(())

    recon = term([site for site in in_model if site["is_observed"]])
    prior = term([site for site in in_model if not site["is_observed"]])
    posterior = term(in_guide)
    recon, prior, posterior = torch.broadcast_tensors(recon, prior, posterior)
    names = [[site["name"] for site in sites if not site["is_observed"]] for sites in (in_model, in_guide)]
    shared = [name for name in names[1] if name in names[0]]
    in_order = shared == [name for name in names[0] if name in shared]
    unpaired = next(iter(set(names[0]) ^ set(names[1])), None)
    latents = [
        Latent(
            site["name"],
            site["fn"],
            model.nodes[site["name"]]["fn"],
            site["value"],
            site["scale"] / scale,
            site["mask"],
            others,
            in_order,
        )
        for site in in_guide
        if site["name"] in model.nodes
    ]
    subsampled = any(plate.full_size not in (None, plate.size) for plate in common)
    whole = math.prod(plate.full_size or plate.size for plate in common) if subsampled else None
    return Draws(recon, prior, posterior, [latents], 0, scale, whole, unpaired)


def _summed(log_prob: Tensor, others: list[int]) -> Tensor:
    dims = [d for d in others if -d <= log_prob.dim()]
    return log_prob.sum(dims, keepdim=True) if dims else log_prob


def _with_density(distribution: Any, site: str) -> Any:
    if isinstance(innermost(distribution), Delta):
        raise ValueError(
            f"site {site!r}: the guide's distribution is a point (Delta), which has no KL of its own, as in the "
            "automatic guides over all sites at once"
        )
    return distribution


def _factors(distribution: Any, site: str, where: str) -> Any:
    inner = factors(distribution)
    if inner is None:
        raise ValueError(
            f"site {site!r}: the {where}'s {_name(distribution)} is not a product over its dimensions, so that there "
            'is no KL of each. With DiagonalNormal and StandardNormal, say, there is; FreeBits has per="site"'
        )
    return inner


def _name(distribution: Any) -> str:
    return type(without_independent(distribution)).__name__
