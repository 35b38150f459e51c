"""Losses by hand as people write them, in a dozen conventions, each with the mistake that goes with it."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence
from torch.nn import functional as F

from tests.checks.mutants.common import BATCH, ELEMENTS, LATENTS, Binary, Plain, Setup, bits, mutant, net, reals
from tests.checks.mutants.plates import Subsampled, positions

__all__: list[str] = []


def standard_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(q || p), of each latent."""
    return -0.5 * (1 + log_variance - mean**2 - log_variance.exp())


def draw(mean: Tensor, log_variance: Tensor) -> Tensor:
    return mean + (0.5 * log_variance).exp() * torch.randn_like(mean)


# Reconstructions.


class Heteroscedastic(Plain):
    """The decoder gives mean and log-variance of x."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = net(LATENTS, 8, 2 * ELEMENTS, seed=1)

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.decoder(z).chunk(2, -1)
        return mean, log_variance - 1

    def likelihood(self, z: Tensor) -> Any:
        mean, log_variance = self.decode(z)
        return dist.Normal(mean, (0.5 * log_variance).exp()).to_event(1)


@mutant("objective", "gaussian_nll_loss without full=True", "1/2 log 2 pi")
def gaussian_nll_loss(wrong: bool) -> Setup:
    vae = Heteroscedastic()

    def objective(x: Tensor) -> Tensor:
        mean, log_variance = vae.encode(x)
        x_mean, x_log_variance = vae.decode(draw(mean, log_variance))
        recon = F.gaussian_nll_loss(x_mean, x, x_log_variance.exp(), full=not wrong, reduction="sum")
        return recon + standard_kl(mean, log_variance).sum()

    return Setup(vae, reals(), {"objective": objective})


@mutant("objective", "gaussian_nll_loss of a log-variance, without its log term", "without the - log scale")
def weighted_squared_error(wrong: bool) -> Setup:
    vae = Heteroscedastic()

    def objective(x: Tensor) -> Tensor:
        mean, log_variance = vae.encode(x)
        x_mean, x_log_variance = vae.decode(draw(mean, log_variance))
        recon = 0.5 * ((x - x_mean) ** 2 / x_log_variance.exp()).sum()
        if not wrong:
            recon = recon + 0.5 * (x_log_variance + math.log(2 * math.pi)).sum()
        return recon + standard_kl(mean, log_variance).sum()

    return Setup(vae, reals(), {"objective": objective})


class Counts(Plain):
    """Poisson counts, the decoder gives log-rates."""

    def likelihood(self, z: Tensor) -> Any:
        return dist.Poisson(self.decoder(z).exp()).to_event(1)


def counts() -> Tensor:
    return torch.poisson(reals().exp(), generator=torch.Generator().manual_seed(2))


@mutant("objective", "poisson_nll_loss, which leaves log x! out", "constant")
def poisson_nll_loss(wrong: bool) -> Setup:
    vae = Counts()

    def objective(x: Tensor) -> Tensor:
        mean, log_variance = vae.encode(x)
        recon = F.poisson_nll_loss(vae.decoder(draw(mean, log_variance)), x, log_input=True, reduction="sum")
        recon = recon + (0.0 if wrong else torch.lgamma(x + 1).sum())
        return recon + standard_kl(mean, log_variance).sum()

    return Setup(vae, counts(), {"objective": objective})


class Levels(Plain):
    """Four levels per element, the decoder gives their logits."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = net(LATENTS, 8, 4 * ELEMENTS, seed=1)

    def likelihood(self, z: Tensor) -> Any:
        return dist.Categorical(logits=self.decoder(z).unflatten(-1, (ELEMENTS, 4))).to_event(1)


@mutant("objective", "cross_entropy at its default, a mean over all levels", "a mean over batch and elements")
def cross_entropy(wrong: bool) -> Setup:
    vae = Levels()
    x = (reals() + 1.5).round().clamp(0, 3)

    def objective(x: Tensor) -> Tensor:
        mean, log_variance = vae.encode(x)
        logits = vae.decoder(draw(mean, log_variance)).unflatten(-1, (ELEMENTS, 4)).movedim(-1, 1)
        recon = F.cross_entropy(logits, x.long(), reduction="mean" if wrong else "sum")
        return recon + standard_kl(mean, log_variance).sum()

    return Setup(vae, x, {"objective": objective})


@mutant("objective", "the squared error beside probabilities, with a KL in nats", "squared error")
def squared_error_of_bits(wrong: bool) -> Setup:
    vae = Binary()

    def objective(x: Tensor) -> Tensor:
        mean, log_variance = vae.encode(x)
        p = vae.decoder(draw(mean, log_variance)).sigmoid()
        recon = F.mse_loss(p, x, reduction="sum") if wrong else F.binary_cross_entropy(p, x, reduction="sum")
        return recon + standard_kl(mean, log_variance).sum()

    return Setup(vae, bits(), {"objective": objective})


# KLs.


class LogScale(Plain):
    """The encoder gives mean and log-scale."""

    def posterior(self, x: Tensor) -> Any:
        mean, log_scale = self.encode(x)
        return dist.Normal(mean, (log_scale / 2).exp().square()).to_event(1)


@mutant("objective", "the KL takes a log-scale for a log-variance", "the log-scale taken for a log-variance")
def kl_of_log_scale(wrong: bool) -> Setup:
    vae = LogScale()

    def objective(x: Tensor) -> Tensor:
        mean, log_scale = vae.encode(x)
        z = mean + log_scale.exp() * torch.randn_like(mean)
        kl = standard_kl(mean, log_scale if wrong else 2 * log_scale).sum()
        return kl - vae.likelihood(z).log_prob(x).sum()

    return Setup(vae, reals(), {"objective": objective})


@mutant("objective", "a KL by draws, with its sign turned round", "the sign of the KL is wrong")
def kl_by_draws(wrong: bool) -> Setup:
    vae = Plain()

    def objective(x: Tensor) -> Tensor:
        q, p = vae.posterior(x), vae.prior(x)
        z = q.rsample()
        kl = (p.log_prob(z) - q.log_prob(z)) if wrong else (q.log_prob(z) - p.log_prob(z))
        return (kl - vae.likelihood(z).log_prob(x)).sum()

    return Setup(vae, reals(), {"objective": objective})


@mutant("objective", "kl_divergence(p, q)", "the wrong way round")
def kl_divergence_of_torch(wrong: bool) -> Setup:
    vae = Plain()

    def objective(x: Tensor) -> Tensor:
        q, p = vae.posterior(x), vae.prior(x)
        kl = kl_divergence(p, q) if wrong else kl_divergence(q, p)
        return (kl - vae.likelihood(q.rsample()).log_prob(x)).sum()

    return Setup(vae, reals(), {"objective": objective})


@mutant("objective", "the 1 of the KL is forgotten", "the 1 in 1 + log variance")
def kl_without_one(wrong: bool) -> Setup:
    vae = Plain()

    def objective(x: Tensor) -> Tensor:
        mean, log_variance = vae.encode(x)
        kl = standard_kl(mean, log_variance).sum() + (0.5 * mean.numel() if wrong else 0.0)
        return kl - vae.likelihood(draw(mean, log_variance)).log_prob(x).sum()

    return Setup(vae, reals(), {"objective": objective})


class Elsewhere(Plain):
    """With a prior whose mean and scale are learned."""

    def __init__(self) -> None:
        super().__init__()
        self.prior_mean = nn.Parameter(torch.tensor([1.0, -1.0]))
        self.prior_log_scale = nn.Parameter(torch.tensor([0.3, -0.4]))

    def prior(self, x: Tensor) -> Any:
        return dist.Normal(self.prior_mean, self.prior_log_scale.exp()).expand([len(x), LATENTS]).to_event(1)


@mutant(
    "objective", "the KL to N(0, 1), beside a prior that is learned", "KL to N(0, 1), which is not the model's p(z)"
)
def kl_to_another_prior(wrong: bool) -> Setup:
    vae = Elsewhere()

    def objective(x: Tensor) -> Tensor:
        mean, log_variance = vae.encode(x)
        kl = standard_kl(mean, log_variance) if wrong else kl_divergence(vae.posterior(x), vae.prior(x))
        return kl.sum() - vae.likelihood(draw(mean, log_variance)).log_prob(x).sum()

    return Setup(vae, reals(), {"objective": objective})


# Weights.


@mutant("objective", "log p(x|z) scaled to all data, and the KL of the batch", "KL / 31.25 (without the plate's scale)")
def kl_of_the_batch_alone(wrong: bool) -> Setup:
    vae = Subsampled(positions, 500)

    def objective(x: Tensor) -> Tensor:
        mean, log_variance = vae.encode(x)
        scale = 500 / len(x)
        recon = scale * vae.likelihood(draw(mean, log_variance)).log_prob(x).sum()
        return (1 if wrong else scale) * standard_kl(mean, log_variance).sum() - recon

    return Setup(vae, reals(), {"objective": objective, "data_size": 500})


@mutant("objective", "a KL weight of 4, as of a beta-VAE", "the KL counts 4 times")
def beta_of_four(wrong: bool) -> Setup:
    vae = Plain()

    def objective(x: Tensor) -> Tensor:
        mean, log_variance = vae.encode(x)
        recon = vae.likelihood(draw(mean, log_variance)).log_prob(x).sum()
        return (4 if wrong else 1) * standard_kl(mean, log_variance).sum() - recon

    return Setup(vae, reals(), {"objective": objective})


@mutant("objective", "per-example losses and their mean, beside a KL averaged over its latents too", "KL / 2")
def mean_beside_mean(wrong: bool) -> Setup:
    vae = Plain()

    def objective(x: Tensor) -> Tensor:
        mean, log_variance = vae.encode(x)
        recon = vae.likelihood(draw(mean, log_variance)).log_prob(x).mean()
        kl = standard_kl(mean, log_variance)
        return BATCH * ((kl.mean() if wrong else kl.sum(1).mean()) - recon)

    return Setup(vae, reals(), {"objective": objective})


@mutant("objective", "the mean of log-weights instead of the log of their mean", "not the log of the mean")
def mean_of_logs(wrong: bool) -> Setup:
    vae, k = Plain(), 5

    def objective(x: Tensor) -> Tensor:
        q = vae.posterior(x)
        z = q.rsample((k,))
        weight = vae.likelihood(z).log_prob(x) + vae.prior(x).log_prob(z) - q.log_prob(z)
        return -(weight.mean(0) if wrong else weight.logsumexp(0) - math.log(k)).sum()

    return Setup(vae, reals(), {"objective": objective, "importance_particles": k})


# Gradients, noise and modes.


@mutant("objective-gradient", "the scale is detached in the draw", "its scale is detached")
def scale_detached_in_draw(wrong: bool) -> Setup:
    vae = Plain()

    def objective(x: Tensor) -> Tensor:
        mean, log_variance = vae.encode(x)
        scale = (0.5 * log_variance).exp()
        z = mean + (scale.detach() if wrong else scale) * torch.randn_like(mean)
        return standard_kl(mean, log_variance).sum() - vae.likelihood(z).log_prob(x).sum()

    return Setup(vae, reals(), {"objective": objective, "repeats": 100})


@mutant("objective-gradient", "the KL moves the mean alone", "the KL gives no gradient to the scale")
def kl_scale_detached(wrong: bool) -> Setup:
    vae = Plain()

    def objective(x: Tensor) -> Tensor:
        mean, log_variance = vae.encode(x)
        kl = standard_kl(mean, log_variance.detach() if wrong else log_variance).sum()
        return kl - vae.likelihood(draw(mean, log_variance)).log_prob(x).sum()

    return Setup(vae, reals(), {"objective": objective})


@mutant("objective-gradient", "the encoder runs under no_grad", "No gradient reaches parts of encoder")
def encoder_without_gradient(wrong: bool) -> Setup:
    vae = Plain()

    def objective(x: Tensor) -> Tensor:
        with torch.set_grad_enabled(not wrong):
            mean, log_variance = vae.encode(x)
        recon = vae.likelihood(draw(mean, log_variance)).log_prob(x).sum()
        return standard_kl(mean, log_variance).sum() - recon

    return Setup(vae, reals(), {"objective": objective})


@mutant("objective-gradient", "one output of the decoder is cut off", "decoder.2")
def one_output_detached(wrong: bool) -> Setup:
    vae = Plain()

    def objective(x: Tensor) -> Tensor:
        mean, log_variance = vae.encode(x)
        z = draw(mean, log_variance)
        x_mean = vae.decoder(z)
        if wrong:
            x_mean = torch.cat([x_mean[:, :1].detach(), x_mean[:, 1:]], 1)
        recon = dist.Normal(x_mean, vae.scale).log_prob(x).sum()
        return standard_kl(mean, log_variance).sum() - recon

    return Setup(vae, reals(), {"objective": objective})


@mutant("objective-training", "the condition is turned round: in training z is the mean", "at the mean of q(z|x)")
def noise_in_evaluation_only(wrong: bool) -> Setup:
    vae = Plain()

    def objective(x: Tensor) -> Tensor:
        mean, log_variance = vae.encode(x)
        z = mean if wrong and vae.training else draw(mean, log_variance)
        return standard_kl(mean, log_variance).sum() - vae.likelihood(z).log_prob(x).sum()

    return Setup(vae, reals(), {"objective": objective, "repeats": 100})


@mutant("objective-training", "in training one noise for the whole batch", "share one noise", twin="noise_of_one_row")
def noise_of_one_row_in_training(wrong: bool) -> Setup:
    vae = Plain()

    def objective(x: Tensor) -> Tensor:
        mean, log_variance = vae.encode(x)
        noise = torch.randn(1, LATENTS) if wrong and vae.training else torch.randn_like(mean)
        z = mean + (0.5 * log_variance).exp() * noise
        return standard_kl(mean, log_variance).sum() - vae.likelihood(z).log_prob(x).sum()

    return Setup(vae, reals(), {"objective": objective})


class Dropping(Plain):
    """With dropout in its encoder, which is another q in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(net(ELEMENTS, 8), nn.Dropout(0.2), net(8, 2 * LATENTS, seed=3))


@mutant("objective-training", "a KL weight that holds in training alone, beside dropout", "in training mode")
def warm_up_in_training(wrong: bool) -> Setup:
    vae = Dropping()

    def objective(x: Tensor) -> Tensor:
        mean, log_variance = vae.encode(x)
        weight = 0.1 if wrong and vae.training else 1.0
        return (
            weight * standard_kl(mean, log_variance).sum() - vae.likelihood(draw(mean, log_variance)).log_prob(x).sum()
        )

    return Setup(vae, reals(), {"objective": objective})


@mutant("objective-noise", "one noise for the whole batch", "share one noise")
def noise_of_one_row(wrong: bool) -> Setup:
    vae = Plain()

    def objective(x: Tensor) -> Tensor:
        mean, log_variance = vae.encode(x)
        noise = torch.randn(1, LATENTS) if wrong else torch.randn_like(mean)
        z = mean + (0.5 * log_variance).exp() * noise
        return standard_kl(mean, log_variance).sum() - vae.likelihood(z).log_prob(x).sum()

    return Setup(vae, reals(), {"objective": objective})


@mutant("objective", "x is scaled in place, at each step once more", "changes x in place")
def objective_scales_x(wrong: bool) -> Setup:
    vae = Plain()

    def objective(x: Tensor) -> Tensor:
        y = x.div_(1.0) if wrong else x / 1.0
        mean, log_variance = vae.encode(y)
        return standard_kl(mean, log_variance).sum() - vae.likelihood(draw(mean, log_variance)).log_prob(y).sum()

    return Setup(vae, reals(), {"objective": objective})


# Discrete codes, whose value and gradient are exact.


class Clusters(Binary):
    """One of four codes."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = net(ELEMENTS, 8, 4), net(4, 8, ELEMENTS, seed=1)

    def prior(self, x: Tensor) -> Any:
        return dist.OneHotCategorical(logits=x.new_tensor([0.0, 0.5, 1.0, 1.5]).expand(len(x), 4))

    def posterior(self, x: Tensor) -> Any:
        return dist.OneHotCategorical(logits=2 * self.encoder(x))

    def guide(self, x: Tensor) -> None:
        pyro.module("vae", self)
        with pyro.plate("data", len(x)):
            pyro.sample("z", self.posterior(x), infer={"enumerate": "parallel"})

    def recon(self, x: Tensor) -> Tensor:
        """Log p(x|z) at each code, ``(batch, 4)``."""
        codes = torch.eye(4).unsqueeze(1).expand(4, len(x), 4)
        return self.likelihood(codes).log_prob(x).T


@mutant("objective", "kl_div with its arguments turned round, for a code that is summed over", "the wrong way round")
def kl_div_of_torch(wrong: bool) -> Setup:
    vae = Clusters()

    def objective(x: Tensor) -> Tensor:
        log_q, log_p = vae.posterior(x).logits, vae.prior(x).logits
        first, second = (log_q, log_p) if wrong else (log_p, log_q)
        kl = F.kl_div(first, second, log_target=True, reduction="sum")
        return kl - (log_q.exp() * vae.recon(x)).sum()

    return Setup(vae, bits(), {"objective": objective})


@mutant("objective-gradient", "a code is drawn, and no gradient goes to the encoder", "encoder")
def no_score_function(wrong: bool) -> Setup:
    vae = Clusters()

    def objective(x: Tensor) -> Tensor:
        q = vae.posterior(x)
        share = q.logits.exp().detach() if wrong else q.logits.exp()
        kl = (q.logits.exp() * (q.logits - vae.prior(x).logits)).sum()
        return kl - (share * vae.recon(x)).sum()

    return Setup(vae, bits(), {"objective": objective})


@mutant("objective-gradient", "the score function with log q of the wrong code", "encoder")
def score_of_the_likeliest(wrong: bool) -> Setup:
    vae = Clusters()

    def objective(x: Tensor) -> Tensor:
        q = vae.posterior(x)
        z = q.sample()
        log_q = q.log_prob(z)
        bound = (vae.likelihood(z).log_prob(x) + vae.prior(x).log_prob(z)) - log_q
        likeliest = F.one_hot(q.logits.argmax(-1), 4).to(x)
        score = q.log_prob(likeliest) if wrong else log_q
        surrogate = bound.detach() * (score - score.detach())
        return -(bound - log_q.detach() + log_q.detach() + surrogate).sum()

    return Setup(vae, bits(), {"objective": objective})
