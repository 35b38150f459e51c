"""The ELBO with another weight of its KL: constant, scheduled, limited or found by a constraint."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, Literal

import torch
from torch import Tensor

from pyro_vae.argument_checks import finite_number
from pyro_vae.objectives.objective import Objective, weight
from pyro_vae.objectives.schedules import Weight
from pyro_vae.objectives.terms import Draws

__all__ = ["GECO", "BetaELBO", "CapacityELBO", "FreeBits"]


class BetaELBO(Objective):
    """recon − β kl (Higgins et al. 2017, openreview Sy2fzU9gl).

    With β = 1 it is the ELBO. Below 1 the codes carry more and reconstructions are sharper, while samples from the
    prior get worse, since the posteriors leave parts of it unfilled; above 1 the codes carry less, each dimension apart
    from the others, and reconstructions are smoother. It is a bound of log p(x) from β = 1 on, and tight at 1 alone:
    compare models by a test likelihood. A schedule from 0 to 1 (KL warm-up) is a remedy for posterior collapse.

    Args:
        beta: the weight of the KL, at least 0, or a schedule of it (:class:`Linear`, :class:`Cyclical`,
            :class:`Sigmoid`, or any function of the number of steps).
        num_particles: draws of the latent variables an example.
        kl: ``"sampled"``, or ``"analytic"`` for the closed form of KL(q || p), which has less variance.
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
        kl: Literal["sampled", "analytic"] = "sampled",
        **options: Any,
    ) -> None:
        weight("beta", beta)
        super().__init__(num_particles, **options)
        self.beta = beta
        self.kl = _checked_kl(kl)

    @property
    def bounds_log_prob(self) -> bool:
        """Where the weight is 1, at least at the end of its schedule."""
        end = getattr(self.beta, "end", self.beta)
        return isinstance(end, Real) and end == 1

    @property
    def importance_particles(self) -> int | None:
        """One where the weight is 1."""
        return 1 if isinstance(self.beta, Real) and self.beta == 1 else None

    def objective(self, draws: Draws) -> Tensor:
        """Recon − β kl, a sum over the examples."""
        recon, kl = draws.mean(draws.recon).sum(), _kl(draws, self.kl)
        beta = self.weigh(self.beta, recon)
        self.note(draws, kl=kl)
        self.keep(self.terms, "beta", beta)
        return recon - beta * kl


class CapacityELBO(Objective):
    """recon − γ |KL − C|, with the capacity C raised during training (Burgess et al. 2018, arXiv 1804.03599).

    The KL, a mean over the batch, is held at C nats an example, whatever the likelihood; what a code of so many nats is
    used for can be watched as C rises.

    Args:
        capacity: C in nats an example, at least 0, or a schedule of it.
        gamma: how strongly it is held; 1 with C = 0 is the ELBO, where the KL is not below 0, as in closed form.
        num_particles: draws of the latent variables an example.
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
        kl: Literal["sampled", "analytic"] = "sampled",
        **options: Any,
    ) -> None:
        weight("capacity", capacity)
        finite_number("gamma", gamma, least=0)
        super().__init__(num_particles, **options)
        self.capacity = capacity
        self.gamma = gamma
        self.kl = _checked_kl(kl)

    def objective(self, draws: Draws) -> Tensor:
        """Recon − γ |KL − C|, of the batch."""
        recon, kl = draws.mean(draws.recon).sum(), _kl(draws, self.kl)
        capacity = self.weigh(self.capacity, recon)
        self.note(draws, kl=kl)
        self.keep(self.terms, "capacity", capacity)
        return recon - self.gamma * (kl - draws.examples * capacity).abs()


class FreeBits(Objective):
    """recon − Σ max(λ, KL of a group): no gradient pushes a group's KL below λ (Kingma et al. 2016, arXiv 1606.04934).

    A group is a dimension of a latent site, or the site; its KL is a mean over the batch. The codes keep at least λ
    nats a group, which a decoder that could do without them would else give up: a remedy for posterior collapse.

    Args:
        nats: λ, at least 0, or a schedule of it; 0 is the ELBO.
        per: ``"dimension"``, which needs posterior and prior that are products over dimensions, or ``"site"``.
        num_particles: draws of the latent variables an example.
        **options: see :class:`Objective`.

    Example:
        >>> FreeBits(0.1).per
        'dimension'
    """

    bounds_log_prob = True  # it is below the ELBO

    def __init__(
        self,
        nats: Weight = 0.25,
        per: Literal["dimension", "site"] = "dimension",
        num_particles: int = 1,
        **options: Any,
    ) -> None:
        weight("nats", nats)
        if per not in ("dimension", "site"):
            raise ValueError(f'per must be "dimension" or "site"; got {per!r}')
        super().__init__(num_particles, **options)
        self.nats = nats
        self.per = per

    def objective(self, draws: Draws) -> Tensor:
        """Recon − Σ max(λ, KL), of the batch."""
        recon, kl = draws.mean(draws.recon).sum(), self._groups(draws)
        nats = self.weigh(self.nats, recon)
        if not (isinstance(self.nats, Real) and self.nats == 0):  # a KL at single draws may be below 0
            kl = torch.maximum(kl, nats * draws.examples)
        self.note(draws, paid_kl=kl.sum())
        return recon - kl.sum()

    def _groups(self, draws: Draws) -> Tensor:
        """The KL of each group, a sum over the examples and a mean over the particles, ``(groups,)``."""
        found = []
        for run in draws.runs:
            if self.per == "site":
                found.append(torch.stack([latent.kl(closed=False).sum() for latent in run]))
            else:
                kls = [latent.kl_of_dimensions() for latent in run]
                found.append(torch.cat([kl.reshape(-1, kl.shape[-1]).sum(0) for kl in kls]))
        return torch.stack(found).sum(0) / draws.num_particles


class GECO(Objective):
    """The least KL at which the reconstruction is as good as asked for (Rezende and Viola 2018, arXiv 1810.00597).

    Minimises kl + λ (target − recon), where the multiplier λ grows while the moving average of recon is below the
    target and falls while it is above. So the weight of the KL is found, not set: 1 / λ is the β of :class:`BetaELBO`.

    Args:
        recon: the target, a mean log p(x | z) in nats an example, which is negative for pixels, say.
        rate: how fast λ follows: by a factor of e^(rate · nats missing) a step, and by at most e^0.1.
        decay: of the moving average.
        num_particles: draws of the latent variables an example.
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
        kl: Literal["sampled", "analytic"] = "sampled",
        **options: Any,
    ) -> None:
        finite_number("recon", recon)
        finite_number("rate", rate, least=0)
        finite_number("decay", decay, least=0, most=1)
        super().__init__(num_particles, **options)
        self.recon = recon
        self.rate = rate
        self.decay = decay
        self.kl = _checked_kl(kl)
        self.state |= {name: torch.zeros((), dtype=torch.float64) for name in ("missing", "log_multiplier")}

    def objective(self, draws: Draws) -> Tensor:
        """−kl − λ (target − recon), of the batch."""
        recon, kl = draws.mean(draws.recon).sum(), _kl(draws, self.kl)
        multiplier = self.state["log_multiplier"].to(recon).exp()
        self.note(draws, kl=kl)
        self.keep(self.terms, "multiplier", multiplier)
        return -kl - multiplier * (draws.examples * self.recon - recon)

    def loss_and_grads(self, *args: Any, **kwargs: Any) -> Any:
        """The loss, whose gradient is added to that of the parameters; and a step of the multiplier."""
        loss = super().loss_and_grads(*args, **kwargs)
        with torch.no_grad():
            missing = self.recon - self.terms["recon"]
            first = self.state["steps"] <= 1
            average = torch.where(first, missing, torch.lerp(missing, self.state["missing"].to(missing), self.decay))
            change = (self.rate * average).clamp(-0.1, 0.1)
            log_multiplier = (self.state["log_multiplier"].to(missing) + change).clamp(-_MOST, _MOST)
        self.keep(self.state, "missing", average)
        self.keep(self.state, "log_multiplier", log_multiplier)
        return loss


_MOST = math.log(1e6)  # of the multiplier and its inverse


def _kl(draws: Draws, kl: Literal["sampled", "analytic"]) -> Tensor:
    """The KL, a sum over the examples and a mean over the particles."""
    return draws.mean(draws.closed_kl() if kl == "analytic" else draws.kl).sum()


def _checked_kl(kl: Literal["sampled", "analytic"]) -> Literal["sampled", "analytic"]:
    if kl not in ("sampled", "analytic"):
        raise ValueError(f'kl must be "sampled" or "analytic"; got {kl!r}')
    return kl
