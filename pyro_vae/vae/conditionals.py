"""The three conditional distributions of a VAE, and checks that its parts and data fit together."""

from __future__ import annotations

import torch
from pyro.distributions import TorchDistribution
from pyro.poutine.runtime import am_i_wrapped
from torch import Tensor, nn

from pyro_vae.argument_checks import finite_number
from pyro_vae.data.arrays import Array, as_tensor, module_dtype_and_device
from pyro_vae.data.batches import DataSource
from pyro_vae.data.frames import column_names, is_frame
from pyro_vae.data.schema import Schema
from pyro_vae.data_checks import check_column_order, check_event_shape, check_finite, check_support
from pyro_vae.distributions import check_inverse, part_name
from pyro_vae.distributions.observed import fill_missing, observed
from pyro_vae.parts import Part, as_likelihood, as_posterior, as_prior, check_same_codes
from pyro_vae.seeds import seeded
from pyro_vae.vae.arrays import as_tensors, batch_size
from pyro_vae.vae.calls import call, check_part, evaluating, over_batch, over_codes, points_of
from pyro_vae.vae.labels import are_features, features_of
from pyro_vae.vae.masking import check_masking, over_masks
from pyro_vae.vae.masks import refuse_mask, where_observed, with_mask
from pyro_vae.vae.suited import suited_to
from pyro_vae.vae.tables import as_context, as_rows
from pyro_vae.value_checks import capturing

__all__ = ["Conditionals"]

_FEW_EXAMPLES = 64  # examples that are encoded to find the event shape of p(x | z)


class Conditionals(nn.Module):
    """p(z | c), p(x | z, c) and q(z | x, c), without the Pyro programs that :class:`VAE` makes of them.

    The arguments and errors are those of :class:`VAE`.
    """

    def __init__(
        self,
        prior: Part,
        likelihood: Part,
        posterior: Part,
        *,
        missing: bool = False,
        fill: float = 0.0,
        schema: Schema | None = None,
        mask_likelihood: Part | None = None,
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
        if mask_likelihood is not None:
            check_part("mask_likelihood", mask_likelihood)
            check_masking(missing, likelihood)
        self.prior = prior
        self.likelihood = likelihood
        self.posterior = posterior
        self.log_codes = as_prior(prior).log_codes or as_posterior(posterior).log_codes
        self.missing = missing
        self.fill = fill
        self.schema = schema
        self.mask_likelihood = mask_likelihood
        # The likelihood that was last seen to fit some data, and the event shape of these.
        self._fits: tuple[Part, torch.Size] | None = None

    # The three distributions.

    def prior_of(self, *context: Array) -> TorchDistribution:
        """Return p(z | c), with batch shape ``()`` or ``(batch,)`` and event shape ``(latent_dim,)``."""
        _, context = self.tensors(None, *context)
        shared = self.shared_context(*context)
        return over_codes(call("prior", self.prior, *shared), "prior", self.prior, self.log_codes)

    def encode(self, x: DataSource, *context: Array, mask: Array | None = None) -> TorchDistribution:
        """Return q(z | x, c), with batch shape ``(batch,)`` and event shape ``(latent_dim,)``.

        Args:
            x: data ``(batch, *event_shape)``, all examples at once; :meth:`VAE.codes` goes batch by batch.
            context: arrays ``(batch, ...)``; see :meth:`tensors`.
            mask: see :meth:`VAE.model`.
        """
        x, context = self.tensors(x, *context)
        posterior = self.posterior_of(x, *context, mask=mask)
        if not (am_i_wrapped() or capturing()):  # among Pyro's handlers, the model checks it
            self._check_event_shape(x, posterior, *context)
        return posterior

    def decode(self, z: Array, *context: Array) -> TorchDistribution:
        """Return p(x | z, c), with the batch shape of z, ``(batch,)``, and the event shape of x.

        If the codes are points of a simplex, z holds their logs; see :meth:`decoder_input`.
        """
        z = as_tensor("z", z, *module_dtype_and_device(self))
        _, context = self.tensors(None, *context)
        # With codes that are enumerated, z is (values, 1, latent_dim), and a context has the batch.
        batch_shape = torch.broadcast_shapes(z.shape[:-1], *(c.shape[:1] for c in context))
        likelihood = call("likelihood", self.likelihood, self.decoder_input(z), *context)
        return over_batch(likelihood, batch_shape, "likelihood", self.likelihood)

    def posterior_of(self, x: Tensor, *context: Tensor, mask: Array | None = None) -> TorchDistribution:
        """Return q(z | x, c) as :meth:`encode` does, without a check that x has the event shape of p(x | z)."""
        batch = batch_size(x, context)
        seen = self.encoder_input(x, mask)
        posterior = call("posterior", self.posterior, seen, *self.shared_context(*context))
        posterior = over_codes(posterior, "posterior", self.posterior, self.log_codes)
        return over_batch(posterior, torch.Size((batch,)), "posterior", self.posterior)

    # What the parts are given.

    def tensors(self, x: DataSource | None, *context: Array) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return x and context as tensors in the dtype and on the device of the parameters.

        Integers in x become floating-point numbers too, unless the posterior is a function or has an embedding, which
        looks them up. Integer labels ``(batch,)`` in the context become one-hot if :attr:`context_features` says how
        many classes there are; otherwise they stay integers.

        Args:
            x: a tensor, NumPy array, DataFrame of numbers or sparse matrix ``(batch, *event_shape)``; None; or anything
                else that :func:`pyro_vae.data.batches` takes, whose examples all become one batch. What a Dataset or
                DataLoader yields after x is context if :attr:`context_features` is not 0.
            context: such arrays ``(batch, ...)``, unless the data bring them.

        Returns:
            x (None if it was None) and the context.

        Raises:
            TypeError: if one is none of these, or its numbers are not real; says what is taken.
            ValueError: if the conversion would make a number infinite or change an integer, for labels out of range,
                and for data that shuffle.

        Example:
            >>> import numpy as np
            >>> from pyro_vae import build
            >>> vae = build(4, context_features=3)
            >>> x, (labels,) = vae.tensors(np.ones((2, 4), dtype=np.uint8), np.array([2, 0]))
            >>> labels
            tensor([[0., 0., 1.],
                    [1., 0., 0.]])
        """
        features, context = 0, as_context(self.schema, context)
        if not (x is None or isinstance(x, Tensor)):
            features = self.context_features
            if is_frame(x) and self.schema is None:
                check_column_order(self.likelihood, column_names(x))
            x = as_rows(self.schema, x, False) if context else suited_to(self.likelihood, x, self.schema)
        elif not all(isinstance(c, Tensor) and are_features(c) for c in context):
            features = self.context_features
        own = as_likelihood(self.likelihood).own_context if features else 0
        return as_tensors(self, self.posterior, features, x, *context, own=own)

    @property
    def context_features(self) -> int:
        """How many numbers the context has per example, as the networks of this library's parts were built for.

        It is 0 without context, if all parts are your own, and for a subclass with a ``model`` or ``guide`` of its own.
        """
        programs = (getattr(type(self), name, None) for name in ("model", "guide"))
        if not all(getattr(program, "__module__", "").startswith("pyro_vae.") for program in programs):
            return 0
        return features_of(self.prior, self.likelihood, self.posterior)

    def encoder_input(self, x: DataSource, mask: Array | None = None) -> Tensor:
        """Return what the posterior sees of x: x itself or, with ``missing=True``, x filled in and the mask beside it.

        Args:
            x: data ``(batch, *event_shape)``.
            mask: see :meth:`VAE.model`.

        Returns:
            ``(batch, *event_shape)``; with ``missing=True``, the first dimension after the batch is twice as long.
        """
        x, _ = self.tensors(x)
        seen = self._where_observed(x, mask)
        if seen is not None and x.dim() < 2:
            raise ValueError(
                f"x must be of shape (batch, *event_shape); got {tuple(x.shape)}. Give a single example a batch "
                "dimension: x[None]"
            )
        filled = x if seen is None else with_mask(x, seen, self.fill)
        check_finite(filled)
        return filled

    def shared_context(self, *context: Tensor) -> tuple[Tensor, ...]:
        """Return what prior and posterior see of the context: all but the tensors that are for the likelihood alone.

        Those are the last ones, such as the log library size of counts: see :class:`pyro_vae.likelihoods.Poisson`.

        Args:
            context: tensors ``(batch, ...)``.

        Raises:
            ValueError: if a tensor that the likelihood needs is missing.
        """
        own = as_likelihood(self.likelihood).own_context
        if len(context) < own:
            raise ValueError(
                f"likelihood {part_name(self.likelihood)} takes the end of the context for itself alone, {own} tensor"
                f"{'s' * (own > 1)}, such as the log library size of counts: x.sum(-1, keepdim=True).log(). Give it "
                f"after x, as the last; got {len(context)} tensors"
            )
        return context[: len(context) - own]

    def decoder_input(self, z: Tensor) -> Tensor:
        """Return what the likelihood sees of z: z itself or, if z holds logs of points of a simplex, the points.

        Args:
            z: codes ``(batch, latent_dim)``.

        Raises:
            ValueError: if z must hold such logs and does not.
        """
        if not self.log_codes:
            return z
        return points_of(z, f"posterior {part_name(self.posterior)} and prior {part_name(self.prior)}")

    def observed(
        self, likelihood: TorchDistribution, x: Tensor, mask: Array | None = None
    ) -> tuple[TorchDistribution, Tensor]:
        """Return p(x | z) of the observed elements of x alone, and x with a value of its support in the other places.

        Args:
            likelihood: p(x | z), as :meth:`decode` returns it.
            x: data ``(batch, *event_shape)``.
            mask: see :meth:`VAE.model`.

        Raises:
            ValueError: if x has another shape or lies outside the support, or if values are missing and the likelihood
                is not a product over the elements of x.
        """
        x, _ = self.tensors(x)
        seen = self._where_observed(x, mask)
        if seen is not None and x.shape[1:] == likelihood.event_shape:
            x = fill_missing(likelihood, x, seen)
        check_support(self.likelihood, likelihood, x)
        if not self._is_known_to_fit(x):
            self._fits = (self.likelihood, likelihood.event_shape)
        return (likelihood if seen is None else observed(self.likelihood, likelihood, seen)), x

    def missing_values(
        self, likelihood: TorchDistribution, x: Tensor, mask: Array | None = None
    ) -> tuple[TorchDistribution, Tensor]:
        """Return p(x | z) of the missing elements of x alone, and where x is observed.

        Draws of it have a value for each element of x; its log-density counts the missing ones.

        Args:
            likelihood: p(x | z), as :meth:`decode` returns it.
            x: data ``(batch, *event_shape)``.
            mask: see :meth:`VAE.model`.
        """
        x, _ = self.tensors(x)
        seen = where_observed(x, mask)
        check_event_shape(self.likelihood, likelihood.event_shape, x)
        return observed(self.likelihood, likelihood, ~seen), seen

    def mask_of(self, x: Tensor, *context: Array) -> TorchDistribution:
        """Return p(s | x, c) of the mask s, which is 1 where x is observed, with the batch and event shape of x.

        Args:
            x: complete data ``(*batch, *event_shape)``, in the units of the likelihood.
            context: arrays ``(batch, ...)``; the mask model sees of them what the posterior does.

        Raises:
            ValueError: if the VAE has no model of the mask, or it returns another distribution than one over masks.
        """
        if self.mask_likelihood is None:
            raise ValueError("this VAE has no model of the mask: build it with missing=True and mask_likelihood=...")
        _, context = self.tensors(None, *context)
        found = call("mask_likelihood", self.mask_likelihood, x, *self.shared_context(*context))
        return over_masks(self.mask_likelihood, found, x)

    # Checks.

    def check_codes(self, prior: TorchDistribution, z: Tensor) -> None:
        """Check that the prior has a density at codes of the posterior.

        Args:
            prior: as :meth:`prior_of` returns it.
            z: codes ``(*batch, latent_dim)``.

        Raises:
            ValueError: if it has none; for example, if prior and posterior have different latent dimensions.
        """
        if z.shape[-1:] != prior.event_shape[-1:]:
            raise ValueError(
                f"prior {part_name(self.prior)} is over z of shape {tuple(prior.event_shape)}; got z of shape "
                f"({z.shape[-1]},) from posterior {part_name(self.posterior)}. Give both the same latent dimension"
            )
        check_inverse(prior, f"prior {part_name(self.prior)}", z)

    def check_event_shape(self, x: Tensor, *context: Tensor, mask: Tensor | None = None) -> None:
        """Check that x has the event shape of p(x | z), as :meth:`VAE.model` does.

        Without it, an image that lacks its batch dimension would pass for a batch of its channels. To find the event
        shape, some examples are encoded and decoded, if it is not known yet or x has another one.

        Raises:
            ValueError: if it has another event shape.
        """
        if self._is_known_to_fit(x):
            return
        some, *rest = (t[:_FEW_EXAMPLES] for t in (x, *context))
        with evaluating(self), seeded(0):
            posterior = self.posterior_of(some, *rest, mask=None if mask is None else mask[:_FEW_EXAMPLES])
        # The whole x, because the error shows its shape.
        self._check_event_shape(x, posterior, *rest)

    def _is_known_to_fit(self, x: Tensor) -> bool:
        return self._fits is not None and self._fits[0] is self.likelihood and self._fits[1] == x.shape[1:]

    def _check_event_shape(self, x: Tensor, posterior: TorchDistribution, *context: Tensor) -> None:
        if self._is_known_to_fit(x):
            return
        with evaluating(self), seeded(0):
            event_shape = self.decode(posterior.sample(), *context).event_shape
        check_event_shape(self.likelihood, event_shape, x)
        self._fits = (self.likelihood, event_shape)

    def _where_observed(self, x: Tensor, mask: Array | None) -> Tensor | None:
        """True where x is observed; None for a VAE over complete data."""
        if self.missing:
            return where_observed(x, mask)
        refuse_mask(mask)
        return None
