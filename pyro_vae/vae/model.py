"""The variational autoencoder as a Pyro model and guide."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Literal, overload

import pyro
import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.nn.parameter import is_lazy

from pyro_vae.argument_checks import at_least, one_of
from pyro_vae.data.arrays import Array
from pyro_vae.data.batches import DataSource
from pyro_vae.distributions import check_inverse, part_name
from pyro_vae.model_guide import ModelGuide
from pyro_vae.parts import as_posterior, same_support
from pyro_vae.seeds import seeded
from pyro_vae.tensors import load_weights, save_weights
from pyro_vae.terms import FROM_MODEL, WITH_X
from pyro_vae.vae.arrays import batch_by_batch, batch_size
from pyro_vae.vae.calls import declare, evaluating, over_batch, summary
from pyro_vae.vae.conditionals import Conditionals
from pyro_vae.vae.masks import where_observed
from pyro_vae.vae.missing import imputed
from pyro_vae.vae.paths import path_between
from pyro_vae.vae.point_values import most_probable
from pyro_vae.vae.suited import suited_to
from pyro_vae.vae.tables import TensorOrTable, as_context, as_rows, as_table, filled_in, is_table, with_index

__all__ = ["VAE"]


class VAE(Conditionals):
    """A prior, a likelihood and a posterior as a Pyro ``model`` and ``guide``.

    Each of the three returns a distribution with its event dimensions declared when it is called: ``prior(*c)``
    over z, ``likelihood(z, *c)`` over x, ``posterior(x, *c)`` over z. Modules are trained; bare functions work too.
    ``c`` is optional context, such as labels, for a conditional VAE.

    ``vae.model`` and ``vae.guide`` are plain Pyro programs with the sites ``"z"`` and ``"x"`` in one plate ``"data"``,
    for all of Pyro's tools. Parameters stay in the modules and Pyro's global parameter store stays as it is, so two
    VAEs never share anything. Tools that look up parameters in that store by name do not find them: ``JitTrace_ELBO``,
    and Pyro's optimisers if they have arguments per parameter, or ``save``. (Kingma and Welling 2013, arXiv 1312.6114.)

    Codes on a simplex (``RelaxedCategorical``, ``LogisticNormal``, ``Dirichlet``) are passed on as their logs, because
    the points themselves underflow near the corners: z is log y, and the likelihood sees y.

    Args:
        prior: returns p(z | c).
        likelihood: returns p(x | z, c).
        posterior: returns q(z | x, c).
        missing: True if x may have missing values: NaN, or False in a ``mask``. The likelihood leaves them out. The
            posterior sees x with ``fill`` in their place and, beside it, the mask (1 where observed), so its net takes
            twice the first dimension of x (Mattei and Frellsen 2019, arXiv 1812.02633).
        fill: what the posterior sees in place of a missing value.
        schema: of the table that x is, if it is one. DataFrames are then read as it says, and :meth:`sample`,
            :meth:`reconstruct` and :meth:`impute` return DataFrames.
        mask_likelihood: returns p(s | x, c), over the mask s of x, which is 1 where x is observed; None if values are
            missing at random. With it, values may be missing because of what they are (not-MIWAE: Ipsen, Mattei and
            Frellsen 2020, arXiv 2006.12871); see :mod:`pyro_vae.mask_likelihoods`. The programs then have two more
            sites: ``"x_missing"``, which guide and model draw from p(x | z), and ``"mask"``, which is observed. The
            bound is one on log p(x observed, s | c), so do not compare it with that of a VAE without this part.

    Raises:
        TypeError: if one of the three cannot be called, is a class and not an instance, or is a distribution.
        ValueError: if prior and posterior are over different kinds of z (the message names parts that fit), or if there
            is a ``mask_likelihood`` without ``missing=True``.

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
        >>> vae
        VAE(
          prior=StandardNormal(latent_dim=2),
          likelihood=Bernoulli(net=MLP),
          posterior=DiagonalNormal(net=MLP),
          x of shape (1, 8, 8); 4,420 parameters
        )
    """

    # The Pyro programs.

    def model(self, x: DataSource | None = None, *context: Array, mask: Array | None = None) -> Tensor:
        """p(x, z | c): sample ``"z"`` from the prior and ``"x"`` from the likelihood; if x is given, observe it.

        Here and in all methods, x and context may be any data that :meth:`tensors` takes, and may differ from the
        parameters in dtype and device.

        Args:
            x: data ``(batch, *event_shape)``, or None to sample it (the batch is then the context's, or 1).
            context: tensors ``(batch, ...)``.
            mask: bool, of the shape of x, True where x is observed; by default where x is not NaN. Only for a VAE
                with ``missing=True``.

        Returns:
            x, ``(batch, *event_shape)``.

        Raises:
            ValueError: if x lies outside the likelihood's support or has another shape, if the context has another
                batch size, or if prior and posterior disagree on z.
        """
        x, context = self.tensors(x, *context)
        declare(prior=self.prior, likelihood=self.likelihood, mask_likelihood=self.mask_likelihood)
        with pyro.plate("data", batch_size(x, context)):
            prior = self.prior_of(*context)
            z = pyro.sample("z", prior)
            self.check_codes(prior, z)
            likelihood = self.decode(z, *context)
            if self.mask_likelihood is not None:
                return self._model_with_mask(likelihood, x, *context, mask=mask)
            if x is not None:
                likelihood, x = self.observed(likelihood, x, mask)
            return pyro.sample("x", likelihood, obs=x)

    def _model_with_mask(
        self, likelihood: TorchDistribution, x: Tensor | None, *context: Tensor, mask: Array | None
    ) -> Tensor:
        """p(x, s | z, c): sample the missing values and the observed ones, and the mask given both."""
        seen = None
        if x is not None:
            drawn, seen = self._sample_missing(likelihood, x, mask)
            likelihood, x = self.observed(likelihood, x, mask)
            x = torch.where(seen, x, drawn)
        x = pyro.sample("x", likelihood, obs=x)
        observed = None if seen is None else seen.to(x.dtype)
        pyro.sample("mask", self.mask_of(x, *context), obs=observed, infer={WITH_X: True})
        return x

    def _sample_missing(self, likelihood: TorchDistribution, x: Tensor, mask: Array | None) -> tuple[Tensor, Tensor]:
        """Sample ``"x_missing"``, with a value for each element of x; return it, and where x is observed."""
        missing, seen = self.missing_values(likelihood, x, mask)
        return pyro.sample("x_missing", missing, infer={FROM_MODEL: True}), seen

    def guide(self, x: DataSource, *context: Array, mask: Array | None = None) -> Tensor:
        """q(z | x, c): sample ``"z"`` from the posterior, and with a model of the mask ``"x_missing"`` from p(x | z).

        Args:
            x: data ``(batch, *event_shape)``.
            context: tensors ``(batch, ...)``.
            mask: see :meth:`model`.

        Returns:
            z, ``(batch, latent_dim)``.
        """
        x, context = self.tensors(x, *context)
        declare(posterior=self.posterior)
        if self.mask_likelihood is not None:
            declare(likelihood=self.likelihood)
        with pyro.plate("data", batch_size(x, context)):
            posterior = self.encode(x, *context, mask=mask)
            # TraceEnum_ELBO sums over discrete codes; the other objectives take no notice.
            infer = {"enumerate": "parallel"} if posterior.has_enumerate_support else {}
            z = pyro.sample("z", posterior, infer=infer)
            check_inverse(posterior, f"posterior {part_name(self.posterior)}", z)
            if self.mask_likelihood is not None:
                self._sample_missing(self.decode(z, *context), x, mask)
            return z

    # Uses of a trained VAE.

    def sample(self, n: int, *context: Array, mean: bool = False, seed: int | None = None) -> TensorOrTable:
        """Draw n examples from the model: z from the prior, then x from the likelihood.

        Args:
            n: how many, at least 1.
            context: tensors ``(n, ...)``; for a table whose schema has context columns, a DataFrame with these columns.
            mean: return the mean of p(x | z), which pictures usually show, instead of a draw from it; of a category,
                the most probable value.
            seed: makes the draws repeatable and leaves torch's generators as they were.

        Returns:
            A tensor ``(n, *event_shape)``, without gradient; a DataFrame if the VAE has a schema.
        """
        n = at_least("n", n, 1)
        if self.schema is not None and self.schema.context and not context:
            names = ", ".join(repr(column.name) for column in self.schema.context)
            raise ValueError(f"sample needs the context: a DataFrame of n = {n} rows with the columns {names}")
        _, context = self.tensors(None, *context)
        for i, c in enumerate(context):
            if c.shape[0] != n:
                raise ValueError(f"context {i} must have n = {n} rows; got {c.shape[0]}")
        with evaluating(self), seeded(seed):
            z = over_batch(self.prior_of(*context), torch.Size((n,)), "prior", self.prior).sample()
            likelihood = self.decode(z, *context)
            return as_table(self.schema, self._point(likelihood) if mean else likelihood.sample())

    def _point(self, likelihood: TorchDistribution) -> Tensor:
        """Return the mean of p(x | z), with the most probable codes in the columns of a table that have codes."""
        return likelihood.mean if self.schema is None else most_probable(self.schema, likelihood)

    @overload
    def reconstruct(self, x: Tensor, *context: Array, mask: Array | None = ..., seed: int | None = ...) -> Tensor: ...
    @overload
    def reconstruct(
        self, x: DataSource, *context: Array, mask: Array | None = ..., seed: int | None = ...
    ) -> TensorOrTable: ...
    def reconstruct(
        self, x: DataSource, *context: Array, mask: Array | None = None, seed: int | None = None
    ) -> TensorOrTable:
        """Return the mean of p(x | z) at the :meth:`codes` of x; of a category, the most probable value.

        Args:
            x: data ``(n, *event_shape)``; see :meth:`codes`.
            context: arrays ``(n, ...)``.
            mask: see :meth:`model`.
            seed: see :meth:`codes`.

        Returns:
            A tensor ``(n, *event_shape)``, without gradient; a DataFrame if x is a table and the VAE has its schema.
        """
        with evaluating(self), seeded(seed):
            found = torch.cat(
                [
                    self._point(self.decode(self._codes(some, *c, mask=m), *c))
                    for some, c, m in self._pieces(x, context, mask, seed)
                ]
            )
        return with_index(as_table(self.schema, found), x) if self.schema is not None and is_table(x) else found

    @overload
    def impute(
        self,
        x: Tensor,
        *context: Array,
        mask: Array | None = ...,
        num_particles: int = ...,
        mean: bool = ...,
        seed: int | None = ...,
    ) -> Tensor: ...
    @overload
    def impute(
        self,
        x: DataSource,
        *context: Array,
        mask: Array | None = ...,
        num_particles: int = ...,
        mean: bool = ...,
        seed: int | None = ...,
    ) -> TensorOrTable: ...
    def impute(
        self,
        x: DataSource,
        *context: Array,
        mask: Array | None = None,
        num_particles: int = 100,
        mean: bool = True,
        seed: int | None = None,
    ) -> TensorOrTable:
        """Replace missing values by their mean given the observed ones, or by a draw; a category by the most probable.

        z is drawn from q and weighted by p(x observed, z) / q(z): self-normalised importance sampling for the mean,
        importance resampling for a draw (Mattei and Frellsen 2019, arXiv 1812.02633). With a model of the mask, the
        missing values are drawn too, and p(mask | x) is a part of the weights.

        Args:
            x: data ``(n, *event_shape)``; see :meth:`codes`.
            context: arrays ``(n, ...)``.
            mask: see :meth:`model`.
            num_particles: draws of z per example, decoded all at once.
            mean: return means, not draws from p(missing | observed). A draw of a class code or a count is such a
                value; a mean is not.
            seed: makes the draws repeatable and leaves torch's generators as they were.

        Returns:
            x with its missing values replaced, a tensor ``(n, *event_shape)``, without gradient. If x is a DataFrame
            and the VAE has its schema, that DataFrame; what is there stays as it is.

        Raises:
            ValueError: if the VAE was not built with ``missing=True``.
        """
        num_particles = at_least("num_particles", num_particles, 1)
        if not self.missing:
            raise ValueError("impute needs a VAE for missing values: build it with missing=True")
        found = []
        with evaluating(self), seeded(seed):
            for some, c, m in self._pieces(x, context, mask, seed):
                rows, of_rows = self.tensors(some, *c)
                seen = where_observed(rows, m)
                posterior = self.encode(rows, *of_rows, mask=seen)
                pair = ModelGuide(self, rows, *of_rows, mask=seen)
                found.append(imputed(pair, posterior, seen, num_particles=num_particles, mean=mean, schema=self.schema))
        filled = torch.cat(found)
        return filled if self.schema is None or not is_table(x) else filled_in(self.schema, x, filled)

    def codes(self, x: DataSource, *context: Array, mask: Array | None = None, seed: int | None = None) -> Tensor:
        """Return the mean of q(z | x), or its mode if z is a direction or a category, or a draw if q has no mean.

        Args:
            x: data ``(n, *event_shape)``: anything that :func:`pyro_vae.data.batches` takes. An array is one batch. A
                split, a Dataset, a DataLoader or a sparse matrix goes through the VAE batch by batch, in the order of
                its examples; see :meth:`tensors` for its context.
            context: arrays ``(n, ...)``, if x brings none: integer labels ``(n,)``, or numbers ``(n, features)``.
            mask: see :meth:`model`.
            seed: of a draw, if q has no mean, and of the binarisation of a split (then 0 by default).

        Returns:
            ``(n, latent_dim)``, without gradient. On a simplex these are the logs of points;
            :meth:`decoder_input` returns the points.
        """
        with evaluating(self), seeded(seed):
            found = [self._codes(some, *c, mask=m) for some, c, m in self._pieces(x, context, mask, seed)]
        return found[0] if len(found) == 1 else torch.cat(found)

    def _pieces(
        self, x: DataSource, context: tuple[Array, ...], mask: Array | None, seed: int | None
    ) -> Iterator[tuple[Any, tuple[Any, ...], Any]]:
        x = as_rows(self.schema, x, False) if context else suited_to(self.likelihood, x, self.schema)
        context = as_context(self.schema, context)
        return batch_by_batch(self, self.context_features, x, context, mask, seed)

    def _codes(self, x: Array, *context: Array, mask: Array | None) -> Tensor:
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
        """Decode a path through the latent space from the codes of x0 to those of x1.

        A straight path leaves the shell on which a normal prior has its mass; a spherical one stays on it (White 2016,
        arXiv 1609.04468).

        Args:
            x0: the start of each path, ``(batch, *event_shape)``.
            x1: the end of each path, of the same shape.
            steps: points on each path, both ends included, at least 2.
            context: tensors ``(batch, ...)``, the same along a path.
            path: ``"linear"`` or ``"spherical"``.
            seed: see :meth:`codes`.

        Returns:
            The means of p(x | z) along the paths, ``(batch, steps, *event_shape)``, without gradient; of a category,
            the most probable code.
        """
        x0, context = self.tensors(x0, *context)
        x1, _ = self.tensors(x1)
        if x0.shape != x1.shape:
            raise ValueError(f"x0 and x1 must have the same shape; got {tuple(x0.shape)} and {tuple(x1.shape)}")
        steps = at_least("steps", steps, 2)
        one_of("path", path, "linear", "spherical")
        # On a simplex the path goes from point to point: from log to log it would keep to the edges.
        z0, z1 = (self.decoder_input(self.codes(x, *context, seed=seed)) for x in (x0, x1))
        z = path_between(z0, z1, steps, spherical=path == "spherical")
        if self.log_codes:
            z = z.log()
        with evaluating(self):
            repeated = (c.repeat_interleave(steps, dim=0) for c in context)
            return self._point(self.decode(z.flatten(0, 1), *repeated)).unflatten(0, (-1, steps))

    # Weights on disk.

    def save_weights(self, path: str | os.PathLike[str]) -> None:
        """Write the weights as safetensors; the file appears whole or not at all."""
        save_weights(self, path)

    def load_weights(self, path: str | os.PathLike[str]) -> VAE:
        """Read weights that :meth:`save_weights` wrote into this VAE, and return it.

        Raises:
            FileNotFoundError: if there is no such file.
            CheckpointError: if the file is damaged.
            ValueError: if it belongs to a VAE with other parameters.
        """
        load_weights(self, path)
        return self

    def __repr__(self) -> str:
        """The parts, the shape of x once data were seen, and the size; ``print(vae.likelihood)`` shows the layers."""
        parts = [f"{name}={summary(getattr(self, name))}" for name in ("prior", "likelihood", "posterior")]
        parts += [f"mask_likelihood={summary(self.mask_likelihood)}"] if self.mask_likelihood is not None else []
        parts += [f"missing=True, fill={self.fill}"] if self.missing else []
        size = sum(parameter.numel() for parameter in self.parameters() if not is_lazy(parameter))
        seen = f"x of shape {tuple(self._fits[1])}; " if self._fits else ""
        lines = "".join(f"  {part},\n" for part in parts)
        return f"{type(self).__name__}(\n{lines}  {seen}{size:,} parameters\n)"
