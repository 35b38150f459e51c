"""The linear VAE: factor analysis and probabilistic PCA, with everything in closed form."""

from __future__ import annotations

from typing import Literal

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import Independent, LowRankMultivariateNormal, MultivariateNormal, Normal
from torch.nn.utils import skip_init

from pyro_vae import likelihoods, posteriors, priors
from pyro_vae.argument_checks import at_least, one_of
from pyro_vae.data_checks import check_finite
from pyro_vae.distributions import TorchToPyro, inverse_positive
from pyro_vae.parts import Likelihood
from pyro_vae.vae import VAE
from pyro_vae.value_checks import check_all_finite, exportable, holds

__all__ = ["LinearGaussian"]


class LinearGaussian:
    """x = W z + b + noise, with z from N(0, I) and noise from N(0, diag(scale²)); exact evidence, posterior and ELBO.

    With one scale this is probabilistic PCA (Tipping and Bishop 1999, "Probabilistic principal component analysis");
    with one scale per element of x it is factor analysis. It is the VAE with linear networks: at its optimum the
    columns of W are orthogonal, the true posterior is a diagonal normal, and the ELBO equals the log-likelihood (Lucas
    et al. 2019, arXiv 1911.02469). Use it to check bounds, estimators and training against exact values. All methods
    keep the tensors' device and dtype (use float64 for checks). Gradients flow through methods that return numbers or
    distributions.

    Args:
        weight: W, ``(D, d)``, in a floating-point dtype, which all results have.
        bias: b, ``(D,)``.
        scale: standard deviation of the noise, above 0: a number, or ``(D,)`` for one per element.

    Raises:
        ValueError: if a shape or a dtype does not fit, a value is not finite or a scale is not above 0.

    Example:
        >>> model = LinearGaussian(torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), torch.zeros(3), 0.5)
        >>> x = torch.tensor([[2.0, 1.0, 0.5]])
        >>> bool(torch.isclose(model.elbo(x, model.posterior(x)), model.log_prob(x)))
        True
        >>> model.vae().encode(x).mean.detach()
        tensor([[0.9412, 0.6667]])
    """

    def __init__(self, weight: Tensor, bias: Tensor, scale: float | Tensor) -> None:
        _check_floats("weight", weight, 2, "(D, d)")
        if not isinstance(scale, Tensor):
            scale = torch.as_tensor(scale, dtype=weight.dtype, device=weight.device)
        _check_beside("bias", bias, weight, "(D,)")
        _check_beside("scale", scale, weight, "a number or (D,)")
        _check_above_zero("scale", scale)
        self.weight = weight
        self.bias = bias
        self.scale = scale

    @classmethod
    def maximum_likelihood(cls, data: Tensor, latent_dim: int) -> LinearGaussian:
        """Fit probabilistic PCA to data by maximum likelihood, from the eigenvectors of their covariance.

        With U and Λ the first ``latent_dim`` eigenvectors and eigenvalues, W = U (Λ − σ²I)^½, and σ² is the mean of
        the other eigenvalues (Tipping and Bishop 1999, equations 7 and 8). Rotations of z give other W with the same
        likelihood; no W, b and σ has a higher one.

        Args:
            data: ``(n, D)``, with n at least ``latent_dim`` + 2.
            latent_dim: d, from 1 to D − 1.

        Raises:
            ValueError: if data or latent_dim do not fit, or if the data lie in a subspace of at most latent_dim
                dimensions: then no noise is left, and the likelihood is unbounded.

        Example:
            >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 1.0, 1.0])
            >>> model = LinearGaussian.maximum_likelihood(x, latent_dim=1)
            >>> model.weight.shape, model.scale.shape
            (torch.Size([3, 1]), torch.Size([]))
        """
        _check_floats("data", data, 2, "(n, D), one row per example")
        n, dim = data.shape
        d = at_least("latent_dim", latent_dim, 1)
        if d >= dim:
            raise ValueError(f"latent_dim must be below the {dim} dimensions of the data, to leave noise; got {d}")
        if n < d + 2:
            raise ValueError(f"data must have at least latent_dim + 2 = {d + 2} rows, to leave noise; got {n}")
        centred = data - data.mean(0)
        values, vectors = torch.linalg.eigh(centred.T @ centred / n)  # in ascending order
        noise = values[: dim - d].mean()
        if not noise > torch.finfo(data.dtype).eps * dim * values[-1]:
            raise ValueError(
                f"data lie in a subspace of at most latent_dim = {d} dimensions, which leaves no noise, so the "
                "likelihood is unbounded. Give fewer latent dimensions, or leave out elements that others determine"
            )
        # Below 0 only by rounding, if all eigenvalues are equal.
        factors = (values[dim - d :] - noise).clamp_min(0).sqrt()
        return cls((vectors[:, dim - d :] * factors).flip(1), data.mean(0), noise.sqrt())

    @property
    def latent_dim(self) -> int:
        """The number of dimensions of z, d."""
        return self.weight.shape[1]

    # Exact distributions.

    @exportable
    def marginal(self) -> dist.LowRankMultivariateNormal:
        """Return p(x) = N(b, W Wᵀ + diag(scale²)), with batch shape ``()`` and event shape ``(D,)``."""
        return dist.LowRankMultivariateNormal(self.bias, self.weight, self._noise**2)

    @exportable
    def log_prob(self, x: Tensor) -> Tensor:
        """Return the evidence log p(x) in nats, ``(batch,)``, for x ``(batch, D)``."""
        return self.marginal().log_prob(self._check(x))

    @exportable
    def posterior(self, x: Tensor) -> dist.MultivariateNormal:
        """Return the true p(z | x), with batch shape ``(batch,)`` and event shape ``(d,)``, for x ``(batch, D)``."""
        return dist.MultivariateNormal(self._mean(x), precision_matrix=self._precision)

    @exportable
    def best_diagonal(self, x: Tensor) -> dist.Independent:
        """Return the normal with independent dimensions and the largest ELBO, for x ``(batch, D)``.

        It has the mean of the true posterior. Its variances are one over the diagonal of the posterior's precision,
        which is narrower than the diagonal of the covariance; see Bishop 2006, "Pattern recognition and machine
        learning", section 10.1.2.
        """
        mean = self._mean(x)
        return dist.Normal(mean, self._precision.diagonal().rsqrt().expand_as(mean)).to_event(1)

    # The bound.

    @exportable
    def elbo(self, x: Tensor, q: TorchDistribution) -> Tensor:
        """Return E_q[log p(x | z)] − KL(q || p(z)) in closed form for any normal q.

        It equals log p(x) − KL(q || p(z | x)), so it is at most log p(x). Autograd gives its gradients, also with
        respect to the parameters of q; :meth:`elbo_gradient` has a closed form for a diagonal q.

        Args:
            x: ``(batch, D)``.
            q: a normal over z: ``Normal(...).to_event(1)``, ``MultivariateNormal`` or ``LowRankMultivariateNormal``, as
                the posteriors ``DiagonalNormal``, ``FullNormal`` and ``LowRankNormal`` return; its batch shape
                broadcasts with ``(batch,)``.

        Returns:
            The bound of each example in nats, ``(batch,)``.

        Raises:
            ValueError: if x does not fit, or q is no normal over d dimensions.
        """
        mean, covariance, entropy = self._moments(q)
        at_mean = dist.Normal(mean @ self.weight.T + self.bias, self._noise).to_event(1).log_prob(self._check(x))
        prior = dist.Normal(torch.zeros_like(mean), 1.0).to_event(1).log_prob(mean)
        # Both are quadratic in z: the spread of q lowers each by half the trace of its curvature times the covariance.
        # The two curvatures add up to the precision of the true posterior.
        spread = torch.einsum("ij,...ij->...", self._precision, covariance) / 2
        return at_mean + prior - spread + entropy

    @exportable
    def elbo_gradient(self, x: Tensor, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradient of :meth:`elbo` with respect to the mean and scale of q = N(loc, diag(scale²)).

        With M = I + Wᵀ diag(scale_x⁻²) W, the precision of the true posterior, and m its mean, the gradients are
        M (m − loc) and 1 / scale − diag(M) scale.

        Args:
            x: ``(batch, D)``.
            loc: means of q, ``(batch, d)``.
            scale: standard deviations of q, above 0, ``(batch, d)``.

        Returns:
            The gradients of each example's bound with respect to its ``loc`` and ``scale``, each ``(batch, d)``.

        Raises:
            ValueError: if a shape does not fit or a scale is not above 0.

        Example:
            >>> model = LinearGaussian(torch.ones(3, 1), torch.zeros(3), 1.0)
            >>> model.elbo_gradient(torch.ones(1, 3), torch.zeros(1, 1), torch.ones(1, 1))
            (tensor([[3.]]), tensor([[-3.]]))
        """
        for name, value in (("loc", loc), ("scale", scale)):
            if value.dim() < 1 or value.shape[-1] != self.latent_dim:
                raise ValueError(f"{name} must be (batch, {self.latent_dim}); got shape {tuple(value.shape)}")
        _check_above_zero("scale", scale)
        by_loc = (self._check(x) - self.bias) / self._noise**2 @ self.weight - loc @ self._precision
        by_scale = 1 / scale - self._precision.diagonal() * scale
        shape = torch.broadcast_shapes(by_loc.shape, by_scale.shape)
        return by_loc.expand(shape), by_scale.expand(shape)

    # Comparisons and uses.

    def subspace_angle(self, other_weight: Tensor) -> Tensor:
        """Return the largest principal angle between the spans of the columns of W and of another weight.

        It is 0 if one span contains the other. Two linear VAEs can fit the same data equally well and agree only in
        the span of their weights, since z can be rotated. See Björck and Golub 1973, "Numerical methods for computing
        angles between linear subspaces".

        Args:
            other_weight: ``(D, d')`` of full rank, as W must be; d' is at least 1.

        Returns:
            The angle in radians, from 0 to π/2, ``()``.

        Raises:
            ValueError: if the shape does not fit.

        Example:
            >>> model = LinearGaussian(torch.eye(3, 2), torch.zeros(3), 1.0)
            >>> model.subspace_angle(torch.tensor([[1.0], [0.0], [1.0]])) * 180 / torch.pi
            tensor(45.0000)
        """
        if other_weight.dim() != 2 or other_weight.shape[0] != len(self.weight) or other_weight.shape[1] < 1:
            raise ValueError(
                f"other_weight must be ({len(self.weight)}, d), columns in the space of x; got shape "
                f"{tuple(other_weight.shape)}"
            )
        weights = sorted((self.weight, other_weight.to(self.weight)), key=lambda w: w.shape[1], reverse=True)
        large, small = (torch.linalg.qr(w).Q for w in weights)
        cosines = large.T @ small
        # Uses sine and cosine: the cosine alone loses half the digits near 0, the sine alone near π/2.
        sine = torch.linalg.svdvals(small - large @ cosines).max()
        return torch.atan2(sine, torch.linalg.svdvals(cosines).min())

    def vae(self, posterior: Literal["exact", "diagonal"] = "exact") -> VAE:
        """Return a :class:`pyro_vae.VAE` with these distributions, to try objectives and estimators on.

        The prior is ``StandardNormal``, the likelihood ``Normal`` with a linear net and a fixed scale. The posterior
        has another linear net. Weights and biases are copies and can be trained; the noise is fixed.

        Args:
            posterior: ``"exact"`` for the true posterior (``FullNormal``), ``"diagonal"`` for the best one with
                independent dimensions (``DiagonalNormal``).

        Raises:
            ValueError: for another word, or if a scale of the posterior is not above 1e-6, the minimum in a VAE.

        Example:
            >>> from pyro_vae import elbo_terms
            >>> model = LinearGaussian(torch.ones(3, 1), torch.zeros(3), 1.0)
            >>> x = torch.tensor([[1.0, 0.0, 2.0]])
            >>> elbo_terms(model.vae(), x, kl="sampled", seed=0).elbo.allclose(model.log_prob(x))
            True
        """
        one_of("posterior", posterior, "exact", "diagonal")
        d = self.latent_dim
        with torch.no_grad():
            net = _linear(self.weight, self.bias)
            q: nn.Module
            if posterior == "exact":
                cholesky = self.posterior(self.bias).scale_tril
                below = cholesky[tuple(torch.tril_indices(d, d, -1))]  # row by row, as FullNormal takes it
                q = posteriors.FullNormal(self._encoder(cholesky.diagonal(), below))
            else:
                scale = self._precision.diagonal().rsqrt()
                q = posteriors.DiagonalNormal(self._encoder(scale, scale.new_empty(0)))
        if self.scale.dim():
            likelihood: nn.Module = _FactorAnalysis(net, self.scale)
        else:
            likelihood = likelihoods.Normal(net, scale=self.scale.item())
        return VAE(priors.StandardNormal(d), likelihood, q).to(self.weight.device, self.weight.dtype)

    @property
    def _noise(self) -> Tensor:
        """The scale of each element, ``(D,)``."""
        return self.scale.expand_as(self.bias)

    @property
    def _precision(self) -> Tensor:
        """The precision of the true posterior, the same for all x, ``(d, d)``."""
        whitened = self.weight / self._noise.unsqueeze(-1)
        return torch.eye(self.latent_dim).to(whitened) + whitened.T @ whitened

    @property
    def _gain(self) -> Tensor:
        """The derivative of the true posterior's mean with respect to x, ``(d, D)``."""
        return torch.linalg.solve(self._precision, (self.weight / self._noise.unsqueeze(-1) ** 2).T)

    def _mean(self, x: Tensor) -> Tensor:
        """Return the mean of the true posterior, ``(batch, d)``."""
        return (self._check(x) - self.bias) @ self._gain.T

    def _encoder(self, scales: Tensor, others: Tensor) -> nn.Linear:
        """Return a linear layer for the mean of the posterior, raw scales, and other outputs constant in x."""
        if not (scales > 1e-6).all():
            raise ValueError(
                f"the scales of a VAE's posterior are above 1e-6, and the true one has {scales.min().item():g}. Use a "
                "smaller weight or a larger scale"
            )
        constants = torch.cat([inverse_positive(scales), others])
        nothing = self.weight.new_zeros(len(constants), len(self.weight))
        return _linear(torch.cat([self._gain, nothing]), torch.cat([-self._gain @ self.bias, constants]))

    def _check(self, x: Tensor) -> Tensor:
        if x.dim() < 1 or x.shape[-1] != len(self.bias):
            raise ValueError(f"x must be (batch, {len(self.bias)}); got shape {tuple(x.shape)}. Flatten its events")
        if x.dtype != self.weight.dtype:
            raise ValueError(f"x must have the dtype of weight, {self.weight.dtype}; got {x.dtype}")
        check_finite(x)
        return x

    def _moments(self, q: TorchDistribution) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mean, covariance and entropy of a normal."""
        q = q.base if isinstance(q, TorchToPyro) else q
        diagonal = isinstance(q, Independent) and isinstance(q.base_dist, Normal)
        if not (diagonal or isinstance(q, (MultivariateNormal, LowRankMultivariateNormal))):
            raise ValueError(
                "q must be a normal over vectors z, such as Normal(loc, scale).to_event(1) or a MultivariateNormal; "
                f"got {type(q).__name__}"
            )
        if q.event_shape != (self.latent_dim,):
            raise ValueError(f"q must have event shape ({self.latent_dim},); got {tuple(q.event_shape)}")
        if q.mean.dtype != self.weight.dtype:
            raise ValueError(f"q must have the dtype of weight, {self.weight.dtype}; got {q.mean.dtype}")
        covariance = torch.diag_embed(q.variance) if diagonal else q.covariance_matrix
        return q.mean, covariance, q.entropy()


class _FactorAnalysis(Likelihood):
    """A normal with one fixed scale per element of x; ``likelihoods.Normal`` has one fixed scale for all."""

    remedy = likelihoods.Normal.remedy
    scale: Tensor

    def __init__(self, net: nn.Module, scale: Tensor) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("scale", scale.detach().clone())

    def forward(self, z: Tensor, *context: Tensor) -> dist.Distribution:
        return dist.Normal(self.net(z, *context), self.scale).to_event(1)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """Return a linear layer with copies of a weight and a bias."""
    # Initialisation would draw from torch's generator.
    layer = skip_init(nn.Linear, weight.shape[1], weight.shape[0], device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


def _check_floats(name: str, value: Tensor, dims: int, words: str) -> None:
    """Check that a value is a finite floating-point tensor with so many dimensions."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = f"dtype {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{name} must be a floating-point tensor {words}; got {kind}")
    if value.dim() != dims or not value.numel():
        raise ValueError(f"{name} must be {words}; got shape {tuple(value.shape)}")
    check_all_finite(name, value)


def _check_beside(name: str, value: Tensor, weight: Tensor, words: str) -> None:
    """Check that a value is a finite tensor with the dtype of ``weight`` and the shape in ``words``."""
    if not isinstance(value, Tensor) or value.dtype != weight.dtype:
        kind = f"dtype {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{name} must be a tensor of the dtype of weight, {weight.dtype}; got {kind}")
    if value.shape != weight.shape[:1] and (value.dim() or words == "(D,)"):
        raise ValueError(f"{name} must be {words} for weight {tuple(weight.shape)}; got shape {tuple(value.shape)}")
    check_all_finite(name, value)


def _check_above_zero(name: str, value: Tensor) -> None:
    if not holds((value > 0).all()):
        raise ValueError(f"{name} must be above 0 everywhere; got {value.min().item():g}")
