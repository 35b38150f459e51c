"""Mixture priors: of normals, and of posteriors at learned or given examples."""

from __future__ import annotations

from abc import abstractmethod

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, constraints

from pyro_vae.argument_checks import at_least, finite_number
from pyro_vae.distributions import NormalMixture, TorchToPyro, as_pyro, inverse_positive, part_name, positive
from pyro_vae.nets.shapes import Shape, as_shape
from pyro_vae.parts import Part, Posterior, Prior, as_posterior, same_support, words_for
from pyro_vae.value_checks import holds

__all__ = ["Exemplar", "MixtureOfNormals", "VampPrior"]


class MixtureOfNormals(Prior):
    """A mixture of normals with learned weights, means and scales.

    With it, codes can form clusters (as in Dilokthanakul et al. 2016, arXiv 1611.02648, and Tomczak and Welling 2017,
    arXiv 1705.07120, where it is a baseline). Its density is computed by matrix products, so hundreds of components
    cost little.

    Args:
        latent_dim: dimensions of z, at least 1.
        components: how many normals, at least 1.

    Raises:
        ValueError: if one of the two is below 1.

    Example:
        >>> MixtureOfNormals(20, components=10)().event_shape
        torch.Size([20])
    """

    support = constraints.real_vector

    def __init__(self, latent_dim: int, components: int = 10) -> None:
        super().__init__()
        self.latent_dim = at_least("latent_dim", latent_dim, 1)
        self.components = at_least("components", components, 1)
        self.logits = nn.Parameter(torch.zeros(components))
        # Equal components would stay equal. With these two the mixture starts with variance 1.
        self.loc = nn.Parameter(0.6 * torch.randn(components, latent_dim))
        self.raw_scale = nn.Parameter(inverse_positive(torch.full((components, latent_dim), 0.8)))

    def forward(self, *context: Tensor) -> TorchDistribution:
        """Return the mixture, with batch shape ``()`` and event shape ``(latent_dim,)``."""
        return NormalMixture(self.logits, self.loc, positive(self.raw_scale))


class _OfExamples(Prior):
    """Mixtures with one component per example, which start from training data."""

    event_shape: tuple[int, ...]
    components: int
    context_features: int
    started: Tensor

    @abstractmethod
    def _examples(self) -> tuple[Tensor, Tensor | None]:
        """Return the examples, ``(components, *event_shape)``, and their contexts, ``(components, features)``."""

    def wanted_examples(self) -> int:
        """Return the number of components, or 0 if the prior has started."""
        return 0 if self.started else self.components

    def start_from(self, x: Tensor, *context: Tensor) -> None:
        """Start from the first ``components`` examples; ``fit`` calls this once, with training data.

        To keep examples that you have set yourself, call ``prior.started.fill_(True)``.

        Args:
            x: inputs of the posterior (``vae.encoder_input(x)`` if values are missing), ``(n, *event_shape)``;
                repeated if there are fewer than components.
            context: tensors ``(n, ...)``.

        Raises:
            ValueError: if x or the context has another shape.
        """
        if tuple(x.shape[1:]) != self.event_shape or not len(x):
            raise ValueError(
                f"prior {part_name(self)} needs examples of shape (n, {', '.join(map(str, self.event_shape))}) to "
                f"start from; got {tuple(x.shape)}"
            )
        features = sum(c.shape[-1] for c in context)
        if features != self.context_features:
            raise ValueError(
                f"prior {part_name(self)} was built for {self.context_features} context features; got {features} "
                f"beside x. Pass the context after x, or build it with context_features={features}"
            )
        examples, contexts = self._examples()
        rows = torch.arange(self.components, device=x.device) % len(x)
        with torch.no_grad():
            examples.copy_(x[rows])
            if contexts is not None:
                contexts.copy_(torch.cat([c[rows] for c in context], dim=-1))
            self.started.fill_(True)


class VampPrior(_OfExamples):
    """The posterior averaged over learned pseudo-inputs: (1/K) Σ q(z | u_k).

    The best prior for the bound is the posterior averaged over the data; this one learns a few hundred inputs in the
    place of the data (Tomczak and Welling 2017, arXiv 1705.07120).

    Args:
        posterior: the VAE's own posterior; the two share its parameters.
        event_shape: shape of one input of the posterior.
        components: number of pseudo-inputs, K.
        context_features: number of features of the context that the posterior takes after x; each pseudo-input then
            has learned features.

    Raises:
        ValueError: if a number is out of range, or the posterior has no density (``Delta``).

    Example:
        >>> from pyro_vae import nets, posteriors
        >>> q = posteriors.DiagonalNormal(nets.MLP((1, 8, 8), (64,), 2 * 5))
        >>> VampPrior(q, (1, 8, 8), components=50)().event_shape
        torch.Size([5])
    """

    def __init__(self, posterior: Part, event_shape: Shape, components: int = 500, context_features: int = 0) -> None:
        super().__init__()
        if as_posterior(posterior).is_point:
            raise ValueError(
                f"prior VampPrior averages posteriors, and posterior {part_name(posterior)} is a point: it would have "
                "no density. Use priors.MixtureOfNormals or priors.Flow"
            )
        self.posterior = posterior
        self.support = as_posterior(posterior).support
        self.event_shape = as_shape("event_shape", event_shape)
        self.components = at_least("components", components, 1)
        self.context_features = at_least("context_features", context_features, 0)
        self.pseudo_inputs = nn.Parameter(0.5 + 0.1 * torch.randn(self.components, *self.event_shape))
        self.pseudo_contexts = (
            nn.Parameter(torch.zeros(self.components, self.context_features)) if self.context_features else None
        )
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    @classmethod
    def goes_with(cls, posterior: Posterior) -> bool:
        """Return True if the posterior has a density, which can be averaged."""
        return not posterior.is_point

    def _examples(self) -> tuple[Tensor, Tensor | None]:
        return self.pseudo_inputs, self.pseudo_contexts

    def forward(self, *context: Tensor) -> TorchDistribution:
        """Return the mixture, with batch shape ``()`` and event shape ``(latent_dim,)``, for any context."""
        contexts = () if self.pseudo_contexts is None else (self.pseudo_contexts,)
        q = as_pyro(self.posterior(self.pseudo_inputs, *contexts), "the posterior of the VampPrior")
        logits = self.pseudo_inputs.new_zeros(self.components)
        base = getattr(q, "base_dist", None)
        if isinstance(q, dist.Independent) and isinstance(base, dist.Normal):
            return NormalMixture(logits, base.loc, base.scale)
        # torch's class, because Pyro's does not know its support; no validation, because a flow does not know its own.
        return TorchToPyro(MixtureSameFamily(Categorical(logits=logits), q, validate_args=False))


class Exemplar(_OfExamples):
    """Normals of one learned scale around the codes of training examples: (1/K) Σ N(z; E[q(z | x_k)], σ² I).

    A kernel density estimate in the latent space (Norouzi, Fleet and Norouzi 2020, arXiv 2004.04795). Here the
    exemplars are a fixed part of the training data, saved with the weights; the paper draws new ones from all training
    data at each step, without the example that is encoded.

    Args:
        posterior: the VAE's own posterior, which must have a mean; the two share its parameters.
        event_shape: shape of one input of the posterior.
        components: number of exemplars, K.
        context_features: number of features of the context that the posterior takes after x; those of the exemplars
            are saved too.
        initial_scale: where σ starts.

    Raises:
        ValueError: if a number is out of range, or the posterior is not over real vectors or has no mean; in
            ``forward`` if there are no exemplars yet.

    Example:
        >>> from pyro_vae import nets, posteriors
        >>> q = posteriors.DiagonalNormal(nets.MLP((1, 8, 8), (64,), 2 * 5))
        >>> prior = Exemplar(q, (1, 8, 8), components=50)
        >>> prior.start_from(torch.rand(50, 1, 8, 8))
        >>> prior().event_shape
        torch.Size([5])
    """

    support = constraints.real_vector
    exemplars: Tensor
    exemplar_contexts: Tensor | None

    def __init__(
        self,
        posterior: Part,
        event_shape: Shape,
        components: int = 500,
        context_features: int = 0,
        initial_scale: float = 0.5,
    ) -> None:
        super().__init__()
        support = as_posterior(posterior).support
        if support is not None and not same_support(support, self.support):
            raise ValueError(
                f"prior Exemplar puts normals around codes that are real vectors; those of posterior "
                f"{part_name(posterior)} are {words_for(support)}. Use priors.VampPrior"
            )
        if not as_posterior(posterior).has_mean:
            raise ValueError(
                f"prior Exemplar needs a posterior with a mean; {part_name(posterior)} has none in closed form. Use "
                "priors.VampPrior"
            )
        finite_number("initial_scale", initial_scale, above=1e-6)
        self.posterior = posterior
        self.event_shape = as_shape("event_shape", event_shape)
        self.components = at_least("components", components, 1)
        self.context_features = at_least("context_features", context_features, 0)
        self.initial_scale = initial_scale
        self.raw_scale = nn.Parameter(inverse_positive(torch.full((1, 1), float(initial_scale))))
        self.register_buffer("exemplars", torch.zeros(self.components, *self.event_shape))
        self.register_buffer(
            "exemplar_contexts", torch.zeros(self.components, self.context_features) if self.context_features else None
        )
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    @classmethod
    def goes_with(cls, posterior: Posterior) -> bool:
        """Return True if the posterior is over real vectors and has a mean."""
        return posterior.has_mean and super().goes_with(posterior)

    def _examples(self) -> tuple[Tensor, Tensor | None]:
        return self.exemplars, self.exemplar_contexts

    def forward(self, *context: Tensor) -> TorchDistribution:
        """Return the mixture, with batch shape ``()`` and event shape ``(latent_dim,)``, for any context."""
        if not holds(self.started):
            raise ValueError(
                "prior Exemplar has no exemplars yet. Train with fit, which takes them from the training data, or give "
                "it some with prior.start_from(x), for a VAE with missing=True prior.start_from(vae.encoder_input(x))"
            )
        contexts = () if self.exemplar_contexts is None else (self.exemplar_contexts,)
        q = as_pyro(self.posterior(self.exemplars, *contexts), "the posterior of the Exemplar prior")
        loc = q.mean
        return NormalMixture(loc.new_zeros(self.components), loc, positive(self.raw_scale))
