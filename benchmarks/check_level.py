"""Count the false alarms of a check: how often it fails on right models.

    python benchmarks/check_level.py                 # 24 seeds of each of 14 kinds of VAE, two processes
    python benchmarks/check_level.py --checks 14     # the first seed of each

One run of a line that compares estimates fails by chance in at most one of 10,000 checks (``level=``). The line fails
only if a second run, with other draws, fails too. This holds by construction:

- The options and the shapes of the networks fix the number of draws before anything is drawn, and each line has random
  numbers of its own. A line that failed runs again, independently, and must fail again: this makes failures rarer.
- A line that compares many numbers (the columns of a gradient, the elements of x) gives each its share of the level
  (Bonferroni). So the line fails in at most its level, however the numbers are correlated.
- Counts are compared with binomial distributions, which are exact.
- Means are compared by t-tests. Hall's transformation corrects the score for skewness; of the scores with and without
  it, the smaller one counts. The order of bounds uses Welch's test, one-sided. Both assume that means are nearly
  normal, which is the only approximation here. For numbers as skewed as squares of normals, a mean of 100 fails at 1e-5
  about twice as often as stated, and a mean of 20, as for large networks, about 30 times as often; for symmetric
  numbers with heavy tails, far less often.
- Lines that compare to rounding do not depend on chance: the noise is the same on both sides.

So of n comparisons at most n / 10,000 are expected to run twice (0.4 in 336 checks of about 12 such lines each), and
n / 10,000² to fail. P-values are those of whole lines, after Bonferroni, and of the second run if there are two.
Bonferroni treats correlated numbers as independent, so small p-values are rarer than by chance: at most p of them lie
below any p.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_vae import build
from pyro_vae.checks import check
from pyro_vae.closed_forms import LinearGaussian

D, B = 6, 16  # elements of x, examples


@dataclass
class Setup:
    """The arguments of ``check(vae, x, *context, **options)``."""

    vae: Any
    x: Tensor
    context: tuple[Tensor, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


# Pyro programs.


class Script(nn.Module):
    """A VAE as in many scripts, with a learned noise scale and its own loss."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(D, 8), nn.Tanh(), nn.Linear(8, 6))
        self.decoder = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, D))
        self.log_sigma = nn.Parameter(torch.tensor(-0.4))
        self.size = None  # of all data, where a batch is a subsample

    def plate(self, x):
        """The plate of the batch, or of all data."""
        if self.size is None:
            return pyro.plate("data", len(x))
        return pyro.plate("data", self.size, subsample=torch.arange(len(x)))

    def encode(self, x):
        """Location and scale of q(z|x)."""
        loc, raw = self.encoder(x).chunk(2, -1)
        return loc, (0.5 * raw).exp()

    def prior(self, x):
        """p(z), one per example."""
        return dist.Normal(x.new_zeros(len(x), 3), 1.0).to_event(1)

    def posterior(self, x):
        """q(z|x)."""
        return dist.Normal(*self.encode(x)).to_event(1)

    def model(self, x):
        """p(z) and p(x|z)."""
        pyro.module("script", self)
        with self.plate(x):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", dist.Normal(self.decoder(z), self.log_sigma.exp()).to_event(1), obs=x)

    def guide(self, x):
        """q(z|x) in its plate."""
        pyro.module("script", self)
        with self.plate(x):
            pyro.sample("z", self.posterior(x))

    def loss(self, x):
        """The negative ELBO by hand."""
        loc, scale = self.encode(x)
        z = loc + scale * torch.randn_like(scale)
        kl = 0.5 * (loc**2 + scale**2 - 1 - 2 * scale.log()).sum()
        return kl - dist.Normal(self.decoder(z), self.log_sigma.exp()).log_prob(x).sum()


class TwoLevels(dist.TorchDistribution):
    """(z1, z2), where z2 is normal and z1 is normal about a function of it: a hierarchy in one site."""

    arg_constraints: ClassVar = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, top, below):
        self.top, self.below = top, below  # a normal over z2, and from z2 one over z1
        super().__init__(top.batch_shape, (4,), validate_args=False)

    def rsample(self, sample_shape=torch.Size()):  # noqa: B008  torch.distributions' own signature
        """Draw z2, then z1 given z2."""
        z2 = self.top.rsample(sample_shape)
        return torch.cat([self.below(z2).rsample(), z2], -1)

    def log_prob(self, value):
        """Return the log-density of both levels, in nats."""
        z1, z2 = value.split(2, -1)
        return self.below(z2).log_prob(z1) + self.top.log_prob(z2)

    def expand(self, batch_shape, _instance=None):
        """Expand to more examples."""
        return TwoLevels(self.top.expand(batch_shape), self.below)


class Hierarchy(Script):
    """A prior and a posterior of two levels each."""

    def __init__(self):
        super().__init__()
        self.decoder = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, D))
        self.encoder = nn.Linear(D, 8)
        self.down, self.q_down = nn.Linear(2, 2), nn.Linear(2, 2)

    def prior(self, x):
        """p(z1, z2)."""
        top = dist.Normal(x.new_zeros(len(x), 2), 1.0).to_event(1)
        return TwoLevels(top, lambda z2: dist.Normal(torch.tanh(self.down(z2)), 0.7).to_event(1))

    def posterior(self, x):
        """q(z1, z2|x), from the top down."""
        loc2, raw2, loc1, raw1 = self.encoder(x).chunk(4, -1)
        top = dist.Normal(loc2, raw2.exp()).to_event(1)
        return TwoLevels(top, lambda z2: dist.Normal(loc1 + self.q_down(z2), raw1.exp()).to_event(1))


# Kinds of VAE, each a function of a seed.


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed + 1000)


def _reals(seed: int) -> Tensor:
    generator = _generator(seed)
    return torch.randn(B, 3, generator=generator) @ torch.randn(3, D, generator=generator)


def _built(latent_dim: int = 3, objective: Any = Trace_ELBO, **parts: Any) -> Callable[[int], Setup]:
    """Return a VAE of :func:`build` with parameters moved from their start, on data that it generates."""

    def make(seed: int) -> Setup:
        vae = build(D, latent_dim, hidden=(8,), **parts)
        with torch.no_grad():
            for p in vae.parameters():
                p.add_(0.2 * torch.randn(p.shape))
        labels = (torch.randn(B, 2),) if "context_features" in parts else ()
        x = vae.sample(B, *labels, seed=seed)
        return Setup(vae, x, labels, {"objective": objective()} if objective else {})

    return make


def _script(seed: int) -> Setup:
    vae = Script()
    return Setup(vae, _reals(seed), options={"objective": vae.loss})


def _subsampled(seed: int) -> Setup:
    vae = Script()
    vae.size = 500
    return Setup(vae, _reals(seed), options={"data_size": 500, "objective": Trace_ELBO()})


def _hierarchy(seed: int) -> Setup:
    return Setup(Hierarchy(), _reals(seed), options={"objective": Trace_ELBO()})


def _exact(seed: int) -> Setup:
    weight = torch.randn(D, 2, dtype=torch.float64)
    vae = LinearGaussian(weight, torch.zeros(D, dtype=torch.float64), 0.7).vae("exact")
    return Setup(vae, vae.sample(B, seed=seed), options={"exact": True, "objective": TraceMeanField_ELBO()})


CODES = {"class": "Categorical", "classes": 4}
KINDS: dict[str, Callable[[int], Setup]] = {
    "real values": _built(likelihood="normal", objective=TraceMeanField_ELBO),
    "binary": _built(),
    "binary, two latents": _built(2),
    "counts": _built(likelihood="poisson"),
    "overdispersed counts": _built(likelihood="negative_binomial"),
    "discrete codes": _built(4, None, prior=CODES, posterior=CODES),
    "a flow as prior": _built(prior={"class": "Flow", "transforms": 2, "hidden": (8,)}),
    "a mixture as prior": _built(prior={"class": "MixtureOfNormals", "components": 3}, posterior="FullNormal"),
    "directions": _built(prior="UniformOnSphere", posterior="PowerSpherical", likelihood="student_t"),
    "conditional": _built(prior={"class": "Conditional", "prior": {"class": "Normal"}}, context_features=2),
    "hierarchical": _hierarchy,
    "a subsampled plate": _subsampled,
    "a script": _script,
    "the true posterior": _exact,
}


# The checks.


@dataclass
class Outcome:
    """The result of a check for one kind and seed."""

    kind: str
    seed: int
    failed: list[tuple[str, str]]
    p_values: dict[str, float]


def run(kind: str, seed: int) -> Outcome:
    torch.set_num_threads(1)
    pyro.clear_param_store()
    torch.manual_seed(seed)
    setup = KINDS[kind](seed)
    report = check(setup.vae, setup.x, *setup.context, seed=seed, progress=False, **setup.options)
    p_values = {line.name: line.finding.p_value for line in report if line.finding.p_value is not None}
    if not setup.options.get("exact"):
        p_values.pop("calibration", None)  # q is an approximation, as the line rightly notes
    return Outcome(kind, seed, [(line.name, line.finding.detail) for line in report.failures], p_values)


def print_level(outcomes: list[Outcome]) -> None:
    """Print how many lines failed, and the p-values beside those expected by chance."""
    failed = [(o.kind, o.seed, *line) for o in outcomes for line in o.failed]
    found = sorted((p, name, o.kind, o.seed) for o in outcomes for name, p in o.p_values.items())
    print(f"\n{len(outcomes)} checks, {len(found)} comparisons with a p-value, {len(failed)} lines failed")
    for line in failed:
        print("  failed:", *line)
    print("\n      below   of them   by chance at most")
    for level in (0.1, 0.01, 1e-3, 1e-4):
        print(f"{level:11g} {sum(p < level for p, *_ in found):9} {level * len(found):19.2f}")
    print("\nsmallest p-values   by chance about")
    for i, (p, *where) in enumerate(found[:10], start=1):
        print(f"{p:17.3g} {i / (len(found) + 1):17.3g}   {', '.join(map(str, where))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checks", type=int, default=24 * len(KINDS))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="kinds with this in their name")
    options = parser.parse_args()
    kinds = [kind for kind in KINDS if options.only in kind]
    jobs = [(kind, seed) for seed, kind in itertools.product(range(options.checks), kinds)][: options.checks]
    start, outcomes = time.perf_counter(), []
    # Spawned, because a process forked after torch has run threads may hang.

    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(run, *job) for job in jobs]):
            outcome = done.result()
            outcomes.append(outcome)
            for name, detail in outcome.failed:
                print(f"{outcome.kind}, seed {outcome.seed}: {name}: {detail}", flush=True)
    print_level(outcomes)
    print(f"\n{time.perf_counter() - start:.0f} s, {options.processes} processes, torch {torch.__version__}")


if __name__ == "__main__":
    main()
