"""The ELBO with a weight of its KL: constant, scheduled, limited or found from a constraint."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Literal, ParamSpec, TypeAlias, Unpack, get_args

import torch
from torch import Tensor

from pyro_vae.argument_checks import finite_number, one_of
from pyro_vae.objectives.objective import Objective, Options, check_weight
from pyro_vae.objectives.schedules import Weight
from pyro_vae.terms import Terms

__all__ = ["GECO", "BetaELBO", "CapacityELBO", "FreeBits"]

_P = ParamSpec("_P")
_KL: TypeAlias = Literal["sampled", "analytic"]


class BetaELBO(Objective):
    """recon − β kl (Higgins et al. 2017, openreview Sy2fzU9gl).

    With β = 1, this is the ELBO. Below 1, the codes carry more information and reconstructions are sharper, but samples
    from the prior get worse, since the posteriors leave parts of the prior unfilled. Above 1, the codes carry less
    information, their dimensions are less dependent, and reconstructions are smoother. From β = 1 on it is a bound on
    log p(x), tight at 1 alone: compare models by a test likelihood. A schedule from 0 to 1 (KL warm-up) is a remedy for
    posterior collapse.

    Args:
        beta: the weight of the KL, at least 0, or a schedule of it (:class:`Linear`, :class:`Cyclical`,
            :class:`Sigmoid`, or any function of the number of steps).
        num_particles: draws of the latent variables per example.
        kl: ``"sampled"``, or ``"analytic"`` for KL(q || p) in closed form, with less variance.
        **options: see :class:`Objective`.

    Example:
        >>> import pyro, torch
        >>> from pyro.infer import SVI
        >>> from pyro_vae import build
        >>> from pyro_vae.objectives import Linear
        >>> vae = build(4, 2, hidden=())
        >>> beta = BetaELBO(Linear(steps=1000))
        >>> svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), beta)
        >>> loss = svi.step(torch.ones(3, 4))
        >>> sorted(beta.terms)
        ['beta', 'kl', 'recon']
    """

    def __init__(
        self,
        beta: Weight = 1.0,
        num_particles: int = 1,
        *,
        kl: _KL = "sampled",
        **options: Unpack[Options],
    ) -> None:
        check_weight("beta", beta)
        one_of("kl", kl, *get_args(_KL))
        super().__init__(num_particles, **options)
        self.beta = beta
        self.kl: _KL = kl

    @property
    def bounds_log_prob(self) -> bool:
        """True if the weight is 1, at least at the end of its schedule."""
        end = getattr(self.beta, "end", self.beta)
        return isinstance(end, Real) and end == 1

    @property
    def importance_particles(self) -> int | None:
        """One if the weight is 1."""
        return 1 if isinstance(self.beta, Real) and self.beta == 1 else None

    def objective(self, terms: Terms) -> Tensor:
        """Return recon − β kl, a sum over the examples."""
        recon, kl = terms.mean(terms.recon).sum(), _kl(terms, self.kl)
        beta = self.weigh(self.beta, recon)
        self.note(terms, kl=kl)
        self.keep(self.terms, "beta", beta)
        return recon - beta * kl


class CapacityELBO(Objective):
    """recon − γ |KL − C|, with a capacity C that grows during training (Burgess et al. 2018, arXiv 1804.03599).

    The objective holds the mean KL of the batch at C nats per example, for any likelihood. As C grows, one can watch
    what the codes use each nat for.

    Args:
        capacity: C in nats per example, at least 0, or a schedule of it.
        gamma: the weight of the difference. With 1 and C = 0, this is the ELBO if the KL is not negative, as in closed
            form.
        num_particles: draws of the latent variables per example.
        kl: see :class:`BetaELBO`.
        **options: see :class:`Objective`.

    Example:
        >>> from pyro_vae.objectives import Linear
        >>> CapacityELBO(Linear(end=25.0, steps=10_000), gamma=100.0).gamma
        100.0
    """

    def __init__(
        self,
        capacity: Weight,
        gamma: float = 1000.0,
        num_particles: int = 1,
        *,
        kl: _KL = "sampled",
        **options: Unpack[Options],
    ) -> None:
        check_weight("capacity", capacity)
        finite_number("gamma", gamma, least=0)
        one_of("kl", kl, *get_args(_KL))
        super().__init__(num_particles, **options)
        self.capacity = capacity
        self.gamma = gamma
        self.kl: _KL = kl

    def objective(self, terms: Terms) -> Tensor:
        """Return recon − γ |KL − C| of the batch."""
        recon, kl = terms.mean(terms.recon).sum(), _kl(terms, self.kl)
        capacity = self.weigh(self.capacity, recon)
        self.note(terms, kl=kl)
        self.keep(self.terms, "capacity", capacity)
        return recon - self.gamma * (kl - terms.examples * capacity).abs()


class FreeBits(Objective):
    """recon − Σ max(λ, KL of a group): no gradient pushes a group's KL below λ (Kingma et al. 2016, arXiv 1606.04934).

    A group is a dimension of a latent site, or the whole site; its KL is a mean over the batch. The codes keep at least
    λ nats per group, even if the decoder could do without them: a remedy for posterior collapse.

    Args:
        nats: λ, at least 0, or a schedule of it; with 0, this is the ELBO.
        per: ``"dimension"`` or ``"site"``. The first needs a posterior and a prior that are products over dimensions.
        num_particles: draws of the latent variables per example.
        **options: see :class:`Objective`.

    Example:
        >>> FreeBits(0.1).per
        'dimension'
    """

    bounds_log_prob = True  # since it lies below the ELBO

    def __init__(
        self,
        nats: Weight = 0.25,
        per: Literal["dimension", "site"] = "dimension",
        num_particles: int = 1,
        **options: Unpack[Options],
    ) -> None:
        check_weight("nats", nats)
        one_of("per", per, "dimension", "site")
        super().__init__(num_particles, **options)
        self.nats = nats
        self.per = per

    def objective(self, terms: Terms) -> Tensor:
        """Return recon − Σ max(λ, KL) of the batch."""
        recon, kl = terms.mean(terms.recon).sum(), self._groups(terms)
        nats = self.weigh(self.nats, recon)
        if not (isinstance(self.nats, Real) and self.nats == 0):  # a KL at single draws may be negative
            kl = torch.maximum(kl, nats * terms.examples)
        self.note(terms, paid_kl=kl.sum())
        return recon - kl.sum()

    def _groups(self, terms: Terms) -> Tensor:
        """Return the KL of each group, a sum over the examples and a mean over the particles, ``(groups,)``."""
        found = []
        for run in terms.latents():
            if self.per == "site":
                found.append(torch.stack([latent.kl().sum() for latent in run]))
            else:
                kls = [latent.kl_of_dimensions() for latent in run]
                found.append(torch.cat([kl.reshape(-1, kl.shape[-1]).sum(0) for kl in kls]))
        return torch.stack(found).sum(0) / terms.num_particles


class GECO(Objective):
    """The smallest KL that reaches a given reconstruction (Rezende and Viola 2018, arXiv 1810.00597).

    Minimises kl + λ (target − recon). The multiplier λ grows while the moving average of recon is below the target, and
    falls while it is above. So the training finds the weight of the KL: 1 / λ is the β of :class:`BetaELBO`.

    Args:
        recon: the target, a mean log p(x | z) in nats per example; for pixels, for example, it is negative.
        rate: the speed of λ: in each step it changes by the factor e^(rate · nats missing), at most by e^0.1.
        decay: of the moving average.
        num_particles: draws of the latent variables per example.
        kl: see :class:`BetaELBO`.
        **options: see :class:`Objective`.

    Attributes:
        terms: with ``multiplier`` λ.

    Example:
        >>> GECO(recon=-70.0).rate
        0.001
    """

    def __init__(
        self,
        recon: float,
        rate: float = 1e-3,
        decay: float = 0.99,
        num_particles: int = 1,
        *,
        kl: _KL = "sampled",
        **options: Unpack[Options],
    ) -> None:
        finite_number("recon", recon)
        finite_number("rate", rate, least=0)
        finite_number("decay", decay, least=0, most=1)
        one_of("kl", kl, *get_args(_KL))
        super().__init__(num_particles, **options)
        self.recon = recon
        self.rate = rate
        self.decay = decay
        self.kl: _KL = kl
        self.state |= {name: torch.zeros((), dtype=torch.float64) for name in ("missing", "log_multiplier")}

    def objective(self, terms: Terms) -> Tensor:
        """Return −kl − λ (target − recon) of the batch."""
        recon, kl = terms.mean(terms.recon).sum(), _kl(terms, self.kl)
        multiplier = self.state["log_multiplier"].to(recon).exp()
        self.note(terms, kl=kl)
        self.keep(self.terms, "multiplier", multiplier)
        return -kl - multiplier * (terms.examples * self.recon - recon)

    def loss_and_grads(
        self, model: Callable[_P, object], guide: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs
    ) -> float | Tensor:
        """Return the loss, add its gradient to the parameters' gradients, and update the multiplier."""
        loss = super().loss_and_grads(model, guide, *args, **kwargs)
        with torch.no_grad():
            missing = self.recon - self.terms["recon"]
            first = self.state["steps"] <= 1
            average = torch.where(first, missing, torch.lerp(missing, self.state["missing"].to(missing), self.decay))
            change = (self.rate * average).clamp(-0.1, 0.1)
            log_multiplier = (self.state["log_multiplier"].to(missing) + change).clamp(
                -_LARGEST_LOG_MULTIPLIER, _LARGEST_LOG_MULTIPLIER
            )
        self.keep(self.state, "missing", average)
        self.keep(self.state, "log_multiplier", log_multiplier)
        return loss


_LARGEST_LOG_MULTIPLIER = math.log(1e6)


def _kl(terms: Terms, kl: _KL) -> Tensor:
    """Return the KL, a sum over the examples and a mean over the particles."""
    return terms.mean(terms.analytic_kl() if kl == "analytic" else terms.kl).sum()
