"""The variational autoencoder as a Pyro model and guide."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal

import pyro
import torch
from pyro.distributions import constraints
from pyro.poutine.runtime import am_i_wrapped
from torch import Tensor, nn
from torch.distributions import Distribution

from pyro_vae.argument_checks import at_least, finite_number
from pyro_vae.data.arrays import as_tensor
from pyro_vae.distributions import check_inverse, part_name
from pyro_vae.likelihoods.checks import check_event_shape, check_finite, check_support
from pyro_vae.likelihoods.missing import fill_missing, observed
from pyro_vae.nets.shapes import Shape
from pyro_vae.parts import as_likelihood, as_posterior, as_prior, check_same_codes, same_support
from pyro_vae.seeds import seeded
from pyro_vae.vae.arrays import as_tensors, batch_size, reference
from pyro_vae.vae.missing import imputed, no_mask, where_observed, with_mask
from pyro_vae.vae.parts import call, check_part, declare, evaluating, over_batch, over_codes, points_of
from pyro_vae.vae.paths import path_between
from pyro_vae.vae.weights import load_weights, save_weights
from pyro_vae.value_checks import capturing

__all__ = ["VAE"]

_SOME = 64  # examples that are encoded to see whether data fit


class VAE(nn.Module):
    """A prior, a likelihood and a posterior, put together as a Pyro ``model`` and ``guide``.

    Each of the three is called and returns a distribution with its event dimensions declared: ``prior(*c)``
    over z, ``likelihood(z, *c)`` over x, ``posterior(x, *c)`` over z. Modules are trained; bare functions do as
    well. ``c`` is optional context, such as labels, for a conditional VAE.

    ``vae.model`` and ``vae.guide`` are plain Pyro programs with the sites ``"z"`` and ``"x"`` in one plate
    ``"data"``, for the tools of Pyro. The parameters stay in the modules: Pyro's global parameter store is left as
    it is, so two VAEs never share anything. What looks parameters up in that store by name does not find them:
    ``JitTrace_ELBO``, and an optimiser of Pyro's with arguments for each parameter, or its ``save``. (Kingma and
    Welling 2013, arXiv 1312.6114.)

    Codes on a simplex (``RelaxedCategorical``, ``LogisticNormal``, ``Dirichlet``) travel as their logs, since the
    points themselves underflow near the corners: z is log y, and the likelihood sees y.

    Args:
        prior: returns p(z | c).
        likelihood: returns p(x | z, c).
        posterior: returns q(z | x, c).
        missing: whether x may have missing values: NaN, or False in a ``mask``. They count neither in the likelihood
            nor in what the posterior sees, which is x with ``fill`` in their place and the mask (1 where observed)
            beside it: its net takes twice the first dimension of x (Mattei and Frellsen 2019, arXiv 1812.02633).
        fill: what the posterior sees in the place of a missing value.

    Raises:
        TypeError: where one of the three cannot be called, or is a class and not an instance.
        ValueError: where prior and posterior are over different kinds of z; names what goes together.

    Example:
        >>> import pyro, torch
        >>> from pyro.infer import SVI, Trace_ELBO
        >>> from pyro_vae import VAE, likelihoods, nets, posteriors, priors
        >>> vae = VAE(
        ...     prior=priors.StandardNormal(2),
        ...     likelihood=likelihoods.Bernoulli(nets.MLP(2, (32,), (1, 8, 8))),
        ...     posterior=posteriors.DiagonalNormal(nets.MLP((1, 8, 8), (32,), 2 * 2)),
        ... )
        >>> svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), loss=Trace_ELBO())
        >>> loss = svi.step(torch.rand(16, 1, 8, 8).bernoulli())
    """

    def __init__(
        self,
        prior: Callable[..., Any],
        likelihood: Callable[..., Any],
        posterior: Callable[..., Any],
        *,
        missing: bool = False,
        fill: float = 0.0,
    ) -> None:
        super().__init__()
        for place, part in (("prior", prior), ("likelihood", likelihood), ("posterior", posterior)):
            check_part(place, part)
        check_same_codes(as_prior(prior), as_posterior(posterior), (part_name(prior), part_name(posterior)))
        if missing and not as_likelihood(likelihood).elementwise:
            raise ValueError(
                f"likelihood {part_name(likelihood)} is not a product over the elements of x, so missing values cannot "
                "be left out of it. Use a likelihood of independent elements, such as Poisson for counts"
            )
        finite_number("fill", fill)
        self.prior = prior
        self.likelihood = likelihood
        self.posterior = posterior
        self.log_codes = as_prior(prior).log_codes or as_posterior(posterior).log_codes
        self.missing = missing
        self.fill = fill
        self._fits: tuple[Any, ...] = ()  # a likelihood and the event shape that it was last seen to have

    @classmethod
    def build(cls, event_shape: Shape, latent_dim: int = 20, **options: Any) -> VAE:
        """A VAE from names and numbers: :func:`pyro_vae.build`, with its options.

        Example:
            >>> VAE.build((1, 8, 8), 2, prior="mixture", likelihood="normal").sample(3, seed=0).shape
            torch.Size([3, 1, 8, 8])
        """
        from pyro_vae.config import build  # which reads this module

        return build(event_shape, latent_dim=latent_dim, **options)

    # The Pyro programs.

    def model(self, x: Tensor | None = None, *context: Tensor, mask: Tensor | None = None) -> Tensor:
        """p(x, z | c): samples ``"z"`` from the prior and ``"x"`` from the likelihood, observed where x is given.

        Here and in all the methods, x and context may be NumPy arrays, and of another dtype or on another device than
        the parameters: see :meth:`tensors`.

        Args:
            x: data ``(batch, *event_shape)``, or None to sample it (the batch is then the context's, or 1).
            context: tensors ``(batch, ...)``.
            mask: bool, of the shape of x, True where x is observed; by default where x is not NaN. For a VAE built
                with ``missing=True``.

        Returns:
            x, ``(batch, *event_shape)``.

        Raises:
            ValueError: where x lies outside the likelihood's support or has another shape, where the context
                has another batch, and where prior and posterior disagree on z.
        """
        x, context = self.tensors(x, *context)
        declare(prior=self.prior, likelihood=self.likelihood)
        with pyro.plate("data", batch_size(x, context)):
            prior = self.prior_of(*context)
            z = pyro.sample("z", prior)
            self.check_codes(prior, z)
            likelihood = self.decode(z, *context)
            if x is not None:
                likelihood, x = self.observed(likelihood, x, mask)
            return pyro.sample("x", likelihood, obs=x)

    def guide(self, x: Tensor, *context: Tensor, mask: Tensor | None = None) -> Tensor:
        """q(z | x, c): samples ``"z"`` from the posterior.

        Args:
            x: data ``(batch, *event_shape)``.
            context: tensors ``(batch, ...)``.
            mask: see :meth:`model`.

        Returns:
            z, ``(batch, latent_dim)``.
        """
        x, context = self.tensors(x, *context)
        declare(posterior=self.posterior)
        with pyro.plate("data", batch_size(x, context)):
            posterior = self.encode(x, *context, mask=mask)
            # TraceEnum_ELBO sums over discrete codes; the other objectives take no notice.
            infer = {"enumerate": "parallel"} if posterior.has_enumerate_support else {}
            z = pyro.sample("z", posterior, infer=infer)
            check_inverse(posterior, f"posterior {part_name(self.posterior)}", z)
            return z

    # The three distributions.

    def prior_of(self, *context: Tensor) -> Any:
        """p(z | c), with batch shape ``()`` or ``(batch,)`` and event shape ``(latent_dim,)``."""
        _, context = self.tensors(None, *context)
        return over_codes(call("prior", self.prior, *context), "prior", self.prior, self.log_codes)

    def encode(self, x: Tensor, *context: Tensor, mask: Tensor | None = None) -> Any:
        """q(z | x, c), with batch shape ``(batch,)`` and event shape ``(latent_dim,)``; the mask is :meth:`model`'s."""
        x, context = self.tensors(x, *context)
        posterior = self.posterior_of(x, *context, mask=mask)
        if not (am_i_wrapped() or capturing()):  # among Pyro's handlers the model does it
            self._check_event_shape(x, posterior, *context)
        return posterior

    def decode(self, z: Tensor, *context: Tensor) -> Any:
        """p(x | z, c), with the batch shape of z, ``(batch,)``, and the event shape of x.

        Codes on a simplex are given as their logs; see :meth:`decoder_input`.
        """
        z = as_tensor("z", z, *reference(self))
        _, context = self.tensors(None, *context)
        # With codes that are enumerated, z is (values, 1, latent_dim), and a context has the batch.
        batch_shape = torch.broadcast_shapes(z.shape[:-1], *(c.shape[:1] for c in context))
        likelihood = call("likelihood", self.likelihood, self.decoder_input(z), *context)
        return over_batch(likelihood, batch_shape, "likelihood", self.likelihood)

    def decoder_input(self, z: Tensor) -> Tensor:
        """What the likelihood sees of z: z itself, or where z is the log of points of a simplex, the points.

        Args:
            z: codes ``(batch, latent_dim)``.

        Raises:
            ValueError: where z must hold logs and does not.
        """
        if not self.log_codes:
            return z
        return points_of(z, f"posterior {part_name(self.posterior)} and prior {part_name(self.prior)}")

    def encoder_input(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """What the posterior sees of x: x itself, or with ``missing=True`` x filled up and the mask beside it.

        Args:
            x: data ``(batch, *event_shape)``.
            mask: see :meth:`model`.

        Returns:
            ``(batch, *event_shape)``, with ``missing=True`` twice as long in the dimension after the batch.
        """
        x, _ = self.tensors(x)
        observed = self._where_observed(x, mask)
        if observed is not None and x.dim() < 2:
            raise ValueError(
                f"x must be of shape (batch, *event_shape); got {tuple(x.shape)}. One example alone needs a batch "
                "dimension, as x[None] has"
            )
        filled = x if observed is None else with_mask(x, observed, self.fill)
        check_finite(filled)
        return filled

    def observed(self, likelihood: Distribution, x: Tensor, mask: Tensor | None = None) -> tuple[Any, Tensor]:
        """p(x | z) of the observed elements of x alone, and x with some value of its support in the other places.

        Args:
            likelihood: p(x | z), as :meth:`decode` gives it.
            x: data ``(batch, *event_shape)``.
            mask: see :meth:`model`.

        Raises:
            ValueError: where x has another shape or lies outside the support, or where the likelihood of an example
                is no product over its elements.
        """
        x, _ = self.tensors(x)
        seen = self._where_observed(x, mask)
        if seen is not None and x.shape[1:] == likelihood.event_shape:
            x = fill_missing(likelihood, x, seen)
        check_support(self.likelihood, likelihood, x)
        if not self._is_known_to_fit(x):
            self._fits = (self.likelihood, likelihood.event_shape)
        return (likelihood if seen is None else observed(self.likelihood, likelihood, seen)), x

    # What one does with a trained VAE.

    def sample(self, n: int, *context: Tensor, mean: bool = False, seed: int | None = None) -> Tensor:
        """Draws n times from the model: z from the prior, then x from the likelihood.

        Args:
            n: how many, at least 1.
            context: tensors ``(n, ...)``.
            mean: give the mean of p(x | z) instead of a draw from it, as pictures usually show.
            seed: makes the draws repeatable and leaves torch's generators as they were.

        Returns:
            ``(n, *event_shape)``, without gradient.
        """
        n = at_least(1, "n", n)
        _, context = self.tensors(None, *context)
        for i, c in enumerate(context):
            if c.shape[0] != n:
                raise ValueError(f"context {i} must have n = {n} rows; got {c.shape[0]}")
        with evaluating(self), seeded(seed):
            z = over_batch(self.prior_of(*context), torch.Size((n,)), "prior", self.prior).sample()
            likelihood = self.decode(z, *context)
            return likelihood.mean if mean else likelihood.sample()

    def reconstruct(self, x: Tensor, *context: Tensor, mask: Tensor | None = None, seed: int | None = None) -> Tensor:
        """The mean of p(x | z) at the :meth:`codes` of x.

        Args:
            x: data ``(batch, *event_shape)``.
            context: tensors ``(batch, ...)``.
            mask: see :meth:`model`.
            seed: see :meth:`codes`.

        Returns:
            ``(batch, *event_shape)``, without gradient.
        """
        with evaluating(self):
            return self.decode(self.codes(x, *context, mask=mask, seed=seed), *context).mean

    def impute(
        self,
        x: Tensor,
        *context: Tensor,
        mask: Tensor | None = None,
        num_particles: int = 100,
        mean: bool = True,
        seed: int | None = None,
    ) -> Tensor:
        """Puts E[x | the observed values], or a draw, in the place of the missing values.

        Over draws of z from q, weighted by p(x observed, z) / q(z) (self-normalised importance sampling, and for a draw
        importance resampling; Mattei and Frellsen 2019, arXiv 1812.02633).

        Args:
            x: data ``(batch, *event_shape)``.
            context: tensors ``(batch, ...)``.
            mask: see :meth:`model`.
            num_particles: draws of z an example; they are decoded all at once.
            mean: give the mean of what is missing, not a draw from p(missing | observed); of class codes and counts a
                draw is such a value, a mean is not.
            seed: makes the draws repeatable and leaves torch's generators as they were.

        Returns:
            x with the missing values filled, ``(batch, *event_shape)``, without gradient.

        Raises:
            ValueError: where the VAE was not built with ``missing=True``.
        """
        num_particles = at_least(1, "num_particles", num_particles)
        x, context = self.tensors(x, *context)
        seen = self._where_observed(x, mask)
        if seen is None:
            raise ValueError("impute needs a VAE for missing values: build it with missing=True")
        with evaluating(self), seeded(seed):
            return imputed(self, x, seen, *context, num_particles=num_particles, mean=mean)

    def codes(self, x: Tensor, *context: Tensor, mask: Tensor | None = None, seed: int | None = None) -> Tensor:
        """The mean of q(z | x); its mode where a mean is no code (directions, categories); a draw where q has neither.

        Args:
            x: data ``(batch, *event_shape)``.
            context: tensors ``(batch, ...)``.
            mask: see :meth:`model`.
            seed: makes a draw repeatable; of no account where there is a mean.

        Returns:
            ``(batch, latent_dim)``, without gradient; on a simplex the logs of its points, as everywhere, of which
            :meth:`decoder_input` gives the points.
        """
        with evaluating(self), seeded(seed):
            posterior = self.encode(x, *context, mask=mask)
            support = as_posterior(self.posterior).support
            if any(same_support(support, known) for known in (constraints.sphere, constraints.one_hot)):
                return posterior.mode
            try:
                return posterior.mean
            except NotImplementedError:
                return posterior.sample()

    def interpolate(
        self,
        x0: Tensor,
        x1: Tensor,
        steps: int,
        *context: Tensor,
        path: Literal["linear", "spherical"] = "linear",
        seed: int | None = None,
    ) -> Tensor:
        """Decodes a path through the latent space from the codes of x0 to those of x1.

        A straight path leaves the shell on which a normal prior has its mass; a spherical one (White 2016,
        arXiv 1609.04468) stays on it.

        Args:
            x0: where the paths start, ``(batch, *event_shape)``.
            x1: where they end, of the same shape.
            steps: points on each path, both ends included, at least 2.
            context: tensors ``(batch, ...)``, the same along a path.
            path: ``"linear"`` or ``"spherical"``.
            seed: see :meth:`codes`.

        Returns:
            The means of p(x | z) along the paths, ``(batch, steps, *event_shape)``, without gradient.
        """
        x0, context = self.tensors(x0, *context)
        x1, _ = self.tensors(x1)
        if x0.shape != x1.shape:
            raise ValueError(f"x0 and x1 must have the same shape; got {tuple(x0.shape)} and {tuple(x1.shape)}")
        steps = at_least(2, "steps", steps)
        if path not in ("linear", "spherical"):
            raise ValueError(f'path must be "linear" or "spherical"; got {path!r}')
        # On a simplex the path is one of the points, not of their logs, which would keep to its edges.
        z0, z1 = (self.decoder_input(self.codes(x, *context, seed=seed)) for x in (x0, x1))
        z = path_between(z0, z1, steps, spherical=path == "spherical")
        if self.log_codes:
            z = z.log()
        with evaluating(self):
            repeated = (c.repeat_interleave(steps, dim=0) for c in context)
            return self.decode(z.flatten(0, 1), *repeated).mean.unflatten(0, (-1, steps))

    def tensors(self, x: Any, *context: Any) -> tuple[Any, tuple[Tensor, ...]]:
        """X and context as tensors in the dtype and on the device of the parameters, if they are not that already.

        Integers in x become floating-point numbers too, unless the posterior is a function or has an embedding, which
        looks them up; those in the context, such as class labels, stay integers.

        Args:
            x: a tensor or NumPy array ``(batch, *event_shape)``, or None.
            context: tensors or NumPy arrays ``(batch, ...)``.

        Returns:
            x, or None, and the context.

        Raises:
            TypeError: for what is no dense array of real numbers; says what would do.
            ValueError: where a number would come out as infinity or another integer.

        Example:
            >>> import numpy as np
            >>> from pyro_vae import build
            >>> x, (labels,) = build(4).tensors(np.ones((3, 4), dtype=np.uint8), np.array([2, 0, 1]))
            >>> x.dtype, labels.dtype
            (torch.float32, torch.int64)
        """
        return as_tensors(self, self.posterior, x, *context)

    # Weights on disk.

    def save_weights(self, path: str | os.PathLike[str]) -> None:
        """Writes the weights as safetensors; the file appears whole or not at all."""
        save_weights(self, path)

    def load_weights(self, path: str | os.PathLike[str]) -> VAE:
        """Reads weights that :meth:`save_weights` wrote into this VAE and returns it.

        Raises:
            FileNotFoundError: where there is no such file.
            CheckpointError: where the file is damaged.
            ValueError: where it belongs to a VAE with other parameters.
        """
        load_weights(self, path)
        return self

    # Inside.

    def check_codes(self, prior: Distribution, z: Tensor) -> None:
        """Raises a ValueError where the prior has no density at z, from the posterior: of another dimension, say."""
        if z.shape[-1:] != prior.event_shape[-1:]:
            raise ValueError(
                f"prior {part_name(self.prior)} is over z of shape {tuple(prior.event_shape)}; got z of shape "
                f"({z.shape[-1]},) from posterior {part_name(self.posterior)}. Give both the same latent dimension"
            )
        check_inverse(prior, f"prior {part_name(self.prior)}", z)

    def check_event_shape(self, x: Tensor, *context: Tensor, mask: Tensor | None = None) -> None:
        """Raises a ValueError where x has another event shape than p(x | z), as :meth:`model` does.

        An image without a batch dimension would be taken for a batch of its channels. The event shape is that of
        p(x | z) at some codes, which are decoded where the shape is not known yet, or seems to be another now.
        """
        if self._is_known_to_fit(x):
            return
        some, *rest = (t[:_SOME] for t in (x, *context))
        with evaluating(self), seeded(0):
            posterior = self.posterior_of(some, *rest, mask=None if mask is None else mask[:_SOME])
        # The shape of x itself is what the error must show.
        self._check_event_shape(x, posterior, *rest)

    def _is_known_to_fit(self, x: Tensor) -> bool:
        return bool(self._fits) and self._fits[0] is self.likelihood and self._fits[1] == x.shape[1:]

    def _check_event_shape(self, x: Tensor, posterior: Distribution, *context: Tensor) -> None:
        if self._is_known_to_fit(x):
            return
        with evaluating(self), seeded(0):
            event_shape = self.decode(posterior.sample(), *context).event_shape
        check_event_shape(self.likelihood, event_shape, x)
        self._fits = (self.likelihood, event_shape)

    def posterior_of(self, x: Tensor, *context: Tensor, mask: Tensor | None = None) -> Any:
        """As :meth:`encode`, for tensors whose event shape is looked at elsewhere."""
        batch = batch_size(x, context)
        seen = self.encoder_input(x, mask)
        posterior = call("posterior", self.posterior, seen, *context)
        posterior = over_codes(posterior, "posterior", self.posterior, self.log_codes)
        return over_batch(posterior, torch.Size((batch,)), "posterior", self.posterior)

    def _where_observed(self, x: Tensor, mask: Tensor | None) -> Tensor | None:
        """Where x is observed; None for a VAE over complete data."""
        if self.missing:
            return where_observed(x, mask)
        no_mask(mask)
        return None
