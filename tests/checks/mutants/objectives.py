"""Objectives by hand, beside a model and guide that are right."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import Tensor
from torch.nn import functional as F

from tests.checks.mutants.common import (
    BATCH,
    BINARY,
    ELEMENTS,
    MUTANTS,
    PLAIN,
    Binary,
    Mutant,
    Plain,
    Setup,
    bits,
    mutant,
    reals,
)

# Objectives by hand, beside a model and guide that are right.


def of_normal(vae: Plain, x: Tensor, z: Tensor) -> Tensor:
    """Log p(x|z) of :class:`Plain`, summed."""
    error = (x - vae.decoder(z)) ** 2
    return -(error / (2 * vae.scale**2) + math.log(vae.scale) + 0.5 * math.log(2 * math.pi)).sum()


def of_bits(vae: Plain, x: Tensor, z: Tensor) -> Tensor:
    return -F.binary_cross_entropy_with_logits(vae.decoder(z), x, reduction="sum")


def to_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(q || p), summed."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum()


def plain_loss(recon: Tensor, kl: Tensor) -> Tensor:
    return kl - recon


def with_objective(
    make: type[Plain] = Plain,
    log_x: Callable[[Plain, Tensor, Tensor], Tensor] = of_normal,
    kl: Callable[[Tensor, Tensor], Tensor] = to_prior,
    loss: Callable[[Tensor, Tensor], Tensor] = plain_loss,
    draw: Callable[[Tensor], Tensor] = lambda z: z,
) -> Setup:
    """A VAE and its loss by hand, made of exchangeable steps."""
    vae, x = make(), bits() if make is Binary else reals()

    def objective(x: Tensor) -> Tensor:
        mean, log_variance = vae.encode(x)
        z = draw(mean + torch.exp(log_variance / 2) * torch.randn_like(mean))
        return loss(log_x(vae, x, z), kl(mean, log_variance))

    return Setup(vae, x, {"objective": objective})


def wrong_step(name: str, bug: str, says: str = "", line: str = "objective", **step: Any) -> None:
    """A bug in one step of an objective by hand; all share one twin for each kind of data."""
    right = {"make": Binary, "log_x": of_bits} if step.get("make") is Binary else {}
    twin = BINARY if right else PLAIN
    MUTANTS.append(
        Mutant(
            name,
            bug,
            line,
            lambda wrong: with_objective(**(right | step if wrong else right)),
            says,
            "" if name == twin else twin,
        )
    )


wrong_step(
    "kl_of_log_variance_as_log_scale",
    "the KL takes the encoder's log-variance for a log-scale",
    kl=lambda mean, log_scale: 0.5 * (mean**2 + (2 * log_scale).exp() - 1 - 2 * log_scale).sum(),
)
wrong_step(
    "kl_without_half",
    "the factor 1/2 of the KL is missing",
    "a factor 1/2 is missing",
    kl=lambda mean, log_variance: (mean**2 + log_variance.exp() - 1 - log_variance).sum(),
)
wrong_step(
    "kl_mean_over_latents",
    "a mean over the latents instead of a sum",
    "KL / 2",
    kl=lambda mean, log_variance: 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean(1).sum(),
)
wrong_step(
    "kl_mean_over_batch",
    "a KL averaged over the batch beside a reconstruction that is summed over it",
    "- log p(x|z)",  # a sixteenth of the KL is within the noise of none
    kl=lambda mean, log_variance: 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean(),
)
wrong_step(
    "kl_turned_round",
    "KL(p || q) instead of KL(q || p)",
    kl=lambda mean, log_variance: 0.5 * ((mean**2 + 1) * (-log_variance).exp() - 1 + log_variance).sum(),
)
wrong_step("kl_left_out", "no KL at all: an autoencoder", "it is left out", loss=lambda recon, kl: -recon)
wrong_step(
    "recon_mean_over_elements",
    "the mean over the pixels instead of the sum",
    "a mean over the elements of x",
    loss=lambda recon, kl: kl - recon / ELEMENTS,
)
wrong_step(
    "mean_over_batch",
    "the loss is the mean over the batch",
    "a mean over the batch",
    loss=lambda recon, kl: (kl - recon) / BATCH,
)
wrong_step("in_bits", "base-2 logarithms", "in bits", loss=lambda recon, kl: (kl - recon) / math.log(2))
wrong_step("sign_turned_round", "the bound is minimised", "the sign is wrong", loss=lambda recon, kl: recon - kl)
wrong_step(
    "mse_without_scale",
    "half the squared error, as if the model's scale were 1",
    log_x=lambda vae, x, z: -0.5 * F.mse_loss(vae.decoder(z), x, reduction="sum"),
)
wrong_step(
    "mse_without_constant",
    "the squared error without the normal's constant",
    log_x=lambda vae, x, z: -F.mse_loss(vae.decoder(z), x, reduction="sum") / (2 * vae.scale**2),
)
wrong_step(
    "double_sigmoid",
    "binary_cross_entropy_with_logits of what is a probability already",
    make=Binary,
    log_x=lambda vae, x, z: -F.binary_cross_entropy_with_logits(vae.decoder(z).sigmoid(), x, reduction="sum"),
)
wrong_step(
    "mean_cross_entropy",
    "binary_cross_entropy_with_logits at its default, a mean over batch and pixels",
    "a mean over batch and elements",
    make=Binary,
    log_x=lambda vae, x, z: -F.binary_cross_entropy_with_logits(vae.decoder(z), x),
)
wrong_step(
    "draw_without_gradient",
    "sample() where rsample() is meant",
    "encoder",
    "objective-gradient",
    draw=lambda z: z.detach(),
)
wrong_step(
    "kl_detached",
    "the KL is detached, as where it was meant for the log file alone",
    "encoder",
    "objective-gradient",
    kl=lambda mean, log_variance: to_prior(mean, log_variance).detach(),
)
wrong_step(
    "decoder_detached",
    "the decoder's output is detached",
    "decoder",
    "objective-gradient",
    log_x=lambda vae, x, z: (
        -((x - vae.decoder(z).detach()) ** 2).sum() / (2 * vae.scale**2)
        - x.numel() * (math.log(vae.scale) + 0.5 * math.log(2 * math.pi))
    ),
)


@mutant("objective", "the importance-weighted bound without - log k")
def iwae_without_log_k(wrong: bool) -> Setup:
    vae, k = Plain().double(), 5

    def objective(x: Tensor) -> Tensor:
        q = vae.posterior(x)
        z = q.rsample((k,))
        log_weight = vae.likelihood(z).log_prob(x) + vae.prior(x).log_prob(z) - q.log_prob(z)
        bound = log_weight.logsumexp(0) - (0 if wrong else math.log(k))
        return -bound.sum()

    return Setup(vae, reals().double(), {"objective": objective, "importance_particles": k})


@mutant("objective", "an ELBO of Pyro's that weighs the KL twice", "a factor 1/2 is missing")
def elbo_class_with_two_kl(wrong: bool) -> Setup:
    class Ours(Trace_ELBO):
        def differentiable_loss(self, model: Any, guide: Any, *args: Any) -> Tensor:
            q = poutine.trace(guide).get_trace(*args)
            p = poutine.trace(poutine.replay(model, q)).get_trace(*args)
            log_q, log_p = q.log_prob_sum(), p.log_prob_sum(lambda name, site: name == "z")
            log_x = p.log_prob_sum(lambda name, site: name == "x")
            return (2 if wrong else 1) * (log_q - log_p) - log_x

    return Setup(Plain(), reals(), {"objective": Ours()})
