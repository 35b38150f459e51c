"""Measure bias and variance of estimators of a bound and of its gradient, against the number of draws K.

    python examples/estimator_laboratory.py [figure.png]

The truth is known: one x of a linear Gaussian VAE. Each of thousands of estimates has its own q near p(z|x).
"""

import sys

import pyro.distributions as dist
import torch
from matplotlib.figure import Figure

from pyro_vae import VAE
from pyro_vae.checks import estimators
from pyro_vae.closed_forms import LinearGaussian
from pyro_vae.model_guide import ModelGuide

WEIGHT = torch.tensor([[1.0, 0.5], [1.0, -0.5], [1.0, 0.5], [1.0, -0.5]]).double()  # orthogonal: q can be the truth
MODEL, X = LinearGaussian(WEIGHT, torch.zeros(4).double(), 1.0), torch.tensor([[1.0, 0.2, -0.5, 1.5]]).double()
FEW, DISTANCES = 8, (1.0, 0.3, 0.1, 0.03, 0.01, 0.0)  # draws where q varies; q is at distance 1 where the draws do
ELBO, IWAE, DREG = ("score_function", "pathwise", "analytic_kl"), "importance_weighted", "doubly_reparametrised"
ALL = (*ELBO, "sticking_the_landing", IWAE, DREG)
COLOURS = dict(zip(ALL, ("#8a95a1", "#0b6e99", "#3fa796", "#c2378a", "#d9822b", "#5b3fa0"), strict=True))
PANELS = (  # a number, of which estimators, its axis, and the lesson
    ("gap", (*ELBO[1:], IWAE), "log p(x) less the mean, nats", "Value: the weighted bound rises, the ELBO not"),
    ("spread", (*ELBO[1:], IWAE), "variance, nats²", "Value: the variance falls as 1/K"),
    ("noise", ALL, "sum of variances", "Gradient: variance falls as 1/K, one as 1/K³"),
    ("signal", (IWAE, DREG), "|mean| / standard deviation", "Gradient of the weighted bound: one sinks in noise"),
    ("noise", ALL, f"sum of variances, K = {FEW}", "Gradient: three have no noise where q = p(z|x)"),
)


def measure(name, k, distance, repeats):
    """Of the value, and of its gradient by the means and scales of q, off by half a scale and 35 % at distance 1."""
    p = MODEL.best_diagonal(X.expand(repeats, -1))  # the true posterior
    q = torch.stack([p.mean + 0.5 * distance * p.stddev, (1 + 0.35 * distance) * p.stddev], 1).requires_grad_()
    exact = torch.cat(MODEL.elbo_gradient(X, *q[:1].detach().unbind(1)), 1)[0]
    vae = VAE(MODEL.vae().prior, MODEL.vae().likelihood, lambda x: dist.Normal(*q.unbind(1)).to_event(1)).double()
    of_q = ([q],) if name in ("sticking_the_landing", DREG) else ()
    value = getattr(estimators, name)(ModelGuide(vae, X.expand(repeats, -1)), *of_q, num_particles=k)
    gradient, gap = torch.autograd.grad(value.sum(), q)[0].flatten(1), MODEL.log_prob(X) - value.detach()
    mean, variance = gradient.mean(0), gradient.var(0)
    signal = ((mean**2 - variance / repeats).sum().clamp_min(0) / variance.sum()).sqrt()  # without the part of chance
    numbers = {"gap": gap.mean(), "spread": gap.var(), "noise": variance.sum(), "signal": signal}
    return numbers | {"bias": mean - exact, "error": (variance / repeats).sqrt()}


def figure(by_draws, by_distance):
    picture = Figure(figsize=(15, 8), dpi=150, layout="constrained")
    *axes, last = picture.subplots(2, 3).flat
    for axis, (number, names, label, title), found in zip(axes, PANELS, [by_draws] * 4 + [by_distance], strict=True):
        for name in names:
            points = {at: numbers[number] for (n, at), numbers in found.items() if n == name and at}
            axis.loglog(points.keys(), points.values(), "o-", ms=4, color=COLOURS[name], label=name.replace("_", " "))
        axis.set(title=title, ylabel=label, xlabel="draws K" if found is by_draws else "distance of q from p(z|x)")
        axis.set_xscale("log", base=2 if found is by_draws else 10)
    for i, name in enumerate(ALL[:5]):  # the gradient of the weighted bound is compared with its more precise estimate
        bias = by_distance[name, 1.0]["bias"] - (by_distance[DREG, 1.0]["bias"] if name == IWAE else 0)
        last.errorbar(torch.arange(4) + i / 8, bias, 3 * by_distance[name, 1.0]["error"], fmt="o", color=COLOURS[name])
    last.axhline(0, color="black", lw=1)
    last.set(title="Gradient: none is biased", ylabel=f"bias ± 3 standard errors, K = {FEW}", xlabel="parameters of q")
    last.set_xticks(torch.arange(4) + 0.25, ("mean 1", "mean 2", "scale 1", "scale 2"))
    picture.legend(*axes[2].get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
    return picture


def main(path="estimators.png", draws=(1, 2, 4, 8, 16, 32, 64), repeats=20_000, seed=0):
    torch.manual_seed(seed)
    by_draws = {(n, k): measure(n, k, 1.0, repeats) for n in ALL for k in draws if k > 1 or n != "score_function"}
    by_distance = {(n, d): measure(n, FEW, d, repeats) for n in ALL for d in DISTANCES}
    for n in ALL:
        print(f"{n:22} variance as q nears p(z|x)", *(f"{by_distance[n, d]['noise']:8.1e}" for d in DISTANCES))
    figure(by_draws, by_distance).savefig(path)
    return by_draws, by_distance


if __name__ == "__main__":
    main(*sys.argv[1:2])
