"""Densities over vectors of what can be counted, over spheres and tori, and wrong draws beside a right density."""

from __future__ import annotations

import itertools
import math

import pyro.distributions as dist
import pytest
import torch
from torch.autograd.functional import jacobian
from torch.nn.functional import normalize

from pyro_vae.checks.covariances import likeliest_mistake
from pyro_vae.checks.sphere_charts import HalfAngle, Stereographic
from pyro_vae.checks.supports import take_elements, to_reals
from pyro_vae.checks.vectors import ProductOfCounts, ProductOfParts, all_vectors, fitted_product, neighbours, parts_of
from pyro_vae.distributions import DiscretizedLogistic, Grouped, Multinomial, PowerSpherical, UniformOnSphere
from pyro_vae.seeds import seeded
from tests.checks.mutants.vectors import Full
from tests.checks.test_densities import _look, _off, _t


def _randn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Opaque(dist.TorchDistribution):
    """A distribution of independent elements that shows nothing of that."""

    arg_constraints = {}  # noqa: RUF012  # as in torch

    def __init__(self, elements, dims=1):
        self.inside = elements.to_event(dims)
        super().__init__(self.inside.batch_shape, self.inside.event_shape, validate_args=False)

    @property
    def support(self):
        return self.inside.support

    def log_prob(self, value):
        return self.inside.log_prob(value)

    def sample(self, sample_shape=()):
        return self.inside.sample(sample_shape)


FEW = {
    "bits": lambda: Opaque(dist.Bernoulli(logits=_randn(3, 9))),
    "an-image-of-bits": lambda: Opaque(dist.Bernoulli(logits=_randn(3, 2, 4)), 2),
    "one-bit": lambda: Opaque(dist.Bernoulli(logits=_randn(3, 1))),
    "limits-of-their-own": lambda: Opaque(dist.Binomial(_t(1, 2, 5), logits=_randn(3, 3))),
    "levels": lambda: Opaque(DiscretizedLogistic(0.5 + _randn(3, 3), _t(0.1), levels=9)),
    "one-hot": lambda: Opaque(dist.OneHotCategorical(logits=_randn(3, 4, 5))),
    "multinomial": lambda: dist.Multinomial(4, logits=_randn(3, 5)),
    "multinomial-of-any-total": lambda: Multinomial(4, logits=_randn(3, 5)),
}
MANY = {
    "bits": lambda: Opaque(dist.Bernoulli(logits=_randn(3, 40))),
    "rare-bits": lambda: Opaque(dist.Bernoulli(logits=3 * _randn(3, 60))),
    "levels": lambda: Opaque(DiscretizedLogistic(0.5 + 0.1 * _randn(3, 12), _t(0.05))),
    "one-hot": lambda: Opaque(dist.OneHotCategorical(logits=_randn(3, 10, 12))),
    "counts": lambda: Opaque(dist.Poisson(_randn(3, 8).exp())),
    "overdispersed": lambda: Opaque(dist.NegativeBinomial(_t(0.7), logits=_randn(3, 4))),
    "multinomial": lambda: Multinomial(100, logits=_randn(3, 8)),
    "overdispersed-multinomial": lambda: dist.DirichletMultinomial(_t(1, 2, 3, 4, 5, 6).expand(3, 6), _t(50)),
}
ROUND = {
    **{f"uniform-{n}": lambda n=n: UniformOnSphere(n, _t(0)) for n in (2, 3, 4, 16, 60)},
    **{
        f"concentrated-{n}": lambda n=n: PowerSpherical(normalize(_randn(3, n), dim=-1), _t(0.5, 20, 1e5))
        for n in (2, 3, 5, 16)
    },
    "projected-2": lambda: dist.ProjectedNormal(2 * _randn(3, 2)),
    "projected-3": lambda: dist.ProjectedNormal(2 * _randn(3, 3)),
    "antipodes": lambda: dist.MixtureSameFamily(
        dist.Categorical(logits=_t(1, 0)), PowerSpherical(torch.eye(5).double()[:1] * _t(1, -1)[:, None], _t(30, 30))
    ),
    "torus": lambda: dist.SineSkewed(dist.VonMises(_t(0.3, 1), _t(2, 5)).to_event(1), _t(0.3, 0.2)),
    "three-angles": lambda: dist.SineSkewed(dist.VonMises(_t(0.3, 1, 3), _t(2, 5, 0.1)).to_event(1), _t(0.3, 0.2, 0.1)),
}


@pytest.mark.parametrize("which", ["mass", "draws"])
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, id=f"{kind}-{name}")
        for kind, of in (("few", FEW), ("many", MANY), ("round", ROUND))
        for name, make in of.items()
    ],
)
def test_a_right_density_passes(make, which):
    found = _look(which, make())
    assert found.verdict == "passed", found.detail


@pytest.mark.parametrize(
    ("make", "constant"),
    [
        *(pytest.param(make, 1e-5, id=f"few-{name}") for name, make in FEW.items()),
        *(pytest.param(make, 0.4, id=f"many-{name}") for name, make in MANY.items()),
        *(pytest.param(make, 0.3, id=f"round-{name}") for name, make in ROUND.items()),
    ],
)
def test_a_density_without_its_constant_is_found_and_its_draws_are_not_blamed(make, constant):
    distribution = _off(make(), constant)
    found = _look("mass", distribution)
    assert found.verdict == "failed"
    assert "normalisation" in found.detail
    assert _look("draws", distribution).verdict == "passed"


@pytest.mark.parametrize("n", [2, 3, 16])
def test_the_constant_of_another_sphere_is_found(n):
    constant = UniformOnSphere(n, _t(0)).entropy() - UniformOnSphere(n + 1, _t(0)).entropy()
    found = _look("mass", _off(UniformOnSphere(n, _t(0)), constant))
    assert found.verdict == "failed"


@pytest.mark.parametrize(
    ("density", "drawn"),
    [
        (FEW["bits"], Opaque(dist.Bernoulli(logits=_randn(3, 9) + 0.5))),
        (FEW["multinomial"], dist.Multinomial(4, logits=1.3 * _randn(3, 5))),
        (FEW["one-hot"], Opaque(dist.OneHotCategorical(logits=1.3 * _randn(3, 4, 5)))),
        (MANY["bits"], Opaque(dist.Bernoulli(logits=1.4 * _randn(3, 40)))),
        (MANY["counts"], Opaque(dist.Poisson(1.3 * _randn(3, 8).exp()))),
        (MANY["levels"], Opaque(DiscretizedLogistic(0.5 + 0.1 * _randn(3, 12), _t(0.07)))),
        (MANY["one-hot"], Opaque(dist.OneHotCategorical(logits=_randn(3, 10, 12).flip(-1)))),
        (MANY["multinomial"], dist.DirichletMultinomial(20 * _randn(3, 8).softmax(-1), _t(100))),
        (ROUND["concentrated-5"], PowerSpherical(normalize(_randn(3, 5), dim=-1), _t(0.5, 30, 1e5))),
        (ROUND["torus"], dist.VonMises(_t(0.3, 1), _t(2, 5)).to_event(1)),
    ],
    ids=lambda d: getattr(type(d), "__name__", ""),
)
def test_draws_of_another_distribution_are_found(density, drawn):
    found = _look("draws", _off(density(), drawn=drawn))
    assert found.verdict == "failed"


def test_pairs_of_elements_are_compared_too():
    """Two bits that are always equal, beside a density under which they are independent."""

    class Equal(Opaque):
        def sample(self, sample_shape=()):
            return super().sample(sample_shape)[..., :1].expand(*sample_shape, *self.batch_shape, 2)

    assert _look("draws", Equal(dist.Bernoulli(_t(0.5, 0.5)))).verdict == "failed"


# All values.


@pytest.mark.parametrize("name", FEW)
def test_all_values_are_listed_once(name):
    """Against what 20,000 draws come to: all of them are listed, and none twice; their number by combinatorics."""
    d = FEW[name]()
    values = all_vectors(d).reshape(-1, math.prod(d.event_shape))
    numbers = {
        "bits": 512,
        "an-image-of-bits": 256,
        "one-bit": 2,
        "limits-of-their-own": 216,
        "levels": 729,
        "one-hot": 625,
    }
    assert len(values) == numbers.get(name, math.comb(4 + 4, 4))
    assert len(values.unique(dim=0)) == len(values)
    rows = {tuple(row) for row in values.tolist()}
    assert {tuple(row) for row in d.sample((20_000 // 3,)).reshape(-1, values.shape[1]).tolist()} <= rows


def test_compositions_are_those_of_a_search():
    found = all_vectors(dist.Multinomial(3, probs=_t(1, 1, 1))).tolist()
    brute = [list(v) for v in itertools.product(range(4), repeat=3) if sum(v) == 3]
    assert sorted(found) == sorted([float(k) for k in v] for v in brute)


def test_more_than_a_hundred_thousand_are_not_listed():
    assert len(all_vectors(Opaque(dist.Bernoulli(logits=torch.zeros(16))))) == 2**16
    assert all_vectors(Opaque(dist.Bernoulli(logits=torch.zeros(17)))) is None
    assert all_vectors(dist.Multinomial(40, logits=torch.zeros(6))) is None


@pytest.mark.parametrize("name", ["bits", "levels", "one-hot"])
def test_parts_are_numbered_as_they_are_listed(name):
    d = MANY[name]()
    parts = parts_of(d)
    index = torch.randint(len(parts.values), (7, parts.count))
    assert torch.equal(parts.index_of(parts.at(index)), index)


def test_densities_beside_have_the_mass_one():
    bits = FEW["bits"]()
    r = ProductOfParts(parts_of(bits), bits.sample((50,)))
    assert torch.allclose(r.log_prob(all_vectors(bits).expand(-1, 3, 9)).exp().sum(0), torch.ones(3).double())
    counts = torch.cartesian_prod(torch.arange(300.0), torch.arange(300.0)).double()
    r = ProductOfCounts(dist.Poisson(_t(2.0, 0.3)).sample((50,)))
    assert r.log_prob(counts).exp().sum().item() == pytest.approx(1)
    r = fitted_product(FEW["multinomial"](), FEW["multinomial"]().sample((50,)))
    assert torch.allclose(r.log_prob(all_vectors(FEW["multinomial"]())).exp().sum(0), torch.ones(3).double())


@pytest.mark.parametrize(
    "d",
    [
        Opaque(dist.Bernoulli(_t(0.5, 0.5))),
        Opaque(dist.Binomial(_t(2, 2), _t(0.5))),
        Opaque(DiscretizedLogistic(_t(0.5, 0.5), _t(0.1), levels=12)),
        Opaque(dist.OneHotCategorical(logits=_t(0, 0, 0).expand(2, 3))),
        Opaque(dist.Poisson(_t(2.0, 2.0))),
        dist.Multinomial(3, probs=_t(1, 1, 1)),
    ],
    ids=["bits", "few-levels", "levels", "one-hot", "counts", "multinomial"],
)
def test_a_step_back_is_as_likely(d):
    """From uniform vectors, as many steps lead from one to another as back: 5 standard deviations of a difference."""
    with seeded(0):
        before = d.sample((200,)).flatten(1)
        values = all_vectors(d)
        if values is None:
            values = torch.cartesian_prod(torch.arange(6.0), torch.arange(6.0)).double()
        values = values.reshape(len(values), -1)
        start = torch.randint(len(values), (100_000,))
        moved = neighbours(d, values[start], 0, before)
        same = torch.cdist(moved, values, p=1)
        inside = same.min(-1).values < 1e-9
        count = torch.zeros(len(values), len(values))
        count.index_put_((start[inside], same.argmin(-1)[inside]), torch.ones(()), accumulate=True)
    assert (count - torch.diag(count.diagonal())).sum() > 1000
    assert ((count - count.T).abs() <= 5 * (count + count.T).sqrt() + 1).all()


def test_groups_of_more_values_than_are_listed_are_looked_at_one_by_one():
    from pyro_vae.checks.densities import elements_of

    groups = Grouped(dist.OneHotCategorical(logits=_randn(3, 10, 7)))
    assert [e.event_shape for e in elements_of(groups)] == [(7,)]


# Spheres.


@pytest.mark.parametrize("n", [2, 3, 6])
@pytest.mark.parametrize("last", [1.0, -1.0, 0.3])
def test_the_stereographic_projection_and_its_jacobian(n, last):
    pole = normalize(_randn(n).index_fill(0, torch.tensor([n - 1]), last), dim=-1)
    transform, u = Stereographic(pole), _randn(4, n - 1, seed=1)
    y = transform(u)
    assert torch.allclose(y.norm(dim=-1), torch.ones(4).double())
    assert torch.allclose(transform.inv(y), u)
    for row, log_det in zip(u, transform.log_abs_det_jacobian(u, y), strict=True):
        j = jacobian(lambda v: transform(v), row)
        assert torch.linalg.slogdet(j.T @ j)[1].item() / 2 == pytest.approx(log_det.item())
    assert torch.allclose(transform(1e9 * u[:1]), pole, atol=1e-8)


def test_a_half_angle_and_its_jacobian():
    transform, u = HalfAngle(_t(3.0)), _randn(5)
    y = transform(u)
    assert torch.allclose(transform.inv(y + 2 * math.pi), u)
    assert torch.allclose(jacobian(lambda v: transform(v), u).diagonal().log(), transform.log_abs_det_jacobian(u, y))


def test_the_pole_is_where_no_draws_are():
    d = ROUND["antipodes"]()
    with seeded(0):
        drawn = d.sample((400,))
        u = to_reals(d).inv(drawn)
    assert u.norm(dim=-1).max() < 20


# Wrong draws beside a right density.

_FACTORS = {
    "transposed": lambda q: q.scale_tril.mT,
    "a precision taken": lambda q: torch.linalg.inv(q.scale_tril).mT,
    "transposed factor of the precision": lambda q: torch.linalg.cholesky(
        torch.cholesky_inverse(q.scale_tril)
    ).inverse(),
    "a variance taken for a scale": lambda q: q.scale_tril @ q.scale_tril.mT,
    "off the diagonal": lambda q: torch.diag_embed((q.scale_tril**2).sum(-1).sqrt()),
    "2.25 times": lambda q: 1.5 * q.scale_tril,
}


def _full(factor, n):
    scale_tril = torch.tril(0.4 * _randn(n, n, seed=2), -1) + torch.diag(torch.linspace(0.3, 1.2, n).double())
    q = Full(_randn(3, n), scale_tril.expand(3, n, n))
    q.factor = lambda: factor(q)
    return q


@pytest.mark.parametrize("n", [2, 6])
@pytest.mark.parametrize("says", _FACTORS)
def test_the_mistake_in_the_draws_is_named_and_the_density_is_not_blamed(says, n):
    q = _full(_FACTORS[says], n)
    found = _look("draws", q)
    assert found.verdict == "failed"
    # Over the median of the variances, with its error.
    assert says in found.detail or (says == "2.25 times" and "times the density's" in found.detail)
    assert _look("mass", q).verdict == ("passed" if n == 2 else "skipped")


def test_a_mean_that_is_off_is_named():
    class Shifted(dist.Normal):
        def sample(self, sample_shape=()):
            return super().sample(sample_shape) + self.scale

    assert "mean is up to 1 standard" in _look("draws", Shifted(_t(0, 1), _t(0.3, 2))).detail


def test_where_no_mistake_fits_none_is_named():
    found = _look("draws", _off(dist.Normal(_t(0, 0), _t(0.5, 2)), drawn=dist.Normal(_t(0, 0), _t(1, 1.3))))
    assert found.verdict == "failed"
    assert found.detail.startswith("draws do not follow the density: look for")
    laplace = _look("draws", _off(dist.Laplace(_t(0, 0), _t(0.5, 2)), drawn=dist.Laplace(_t(0, 0), _t(0.25, 4))))
    assert laplace.detail.startswith("draws do not follow the density: look for")


def test_one_noise_for_all_draws_is_named():
    u = _randn(1, 3, 2).expand(500, 3, 2)
    assert "share one noise" in likeliest_mistake(lambda at: -at, u)


def test_a_mass_above_one_is_certain_whatever_the_draws():
    """A density of three times the mass, with draws of another scale."""
    q = _off(_full(lambda q: 0.8 * q.scale_tril, 4), math.log(3))
    found = _look("mass", q)
    assert found.verdict == "failed"
    assert "above 1" in found.detail


# What cannot be looked at.


def test_a_density_that_ends_within_its_support_is_not_judged():
    uniform = dist.TransformedDistribution(dist.Uniform(_t(0), _t(1)), [dist.transforms.AffineTransform(0.1, 0.8)])
    for seed in range(3):
        assert _look("mass", uniform, seed=seed).verdict == "skipped"
        found = _look("draws", uniform, seed=seed)
        assert (found.verdict, "stated support" in found.detail) == ("skipped", True)


def test_a_chain_of_many_bits_is_skipped_with_a_reason():
    class Chain(Opaque):
        """Each of 200 bits is the one before it, nearly always."""

        def log_prob(self, x):
            return dist.Bernoulli(0.001 + 0.998 * x[..., :-1]).log_prob(x[..., 1:]).sum(-1) - math.log(2)

        def sample(self, sample_shape=()):
            start = torch.bernoulli(torch.full((*sample_shape, 1), 0.5)).double()
            turned = torch.bernoulli(torch.full((*sample_shape, 199), 0.001)).double()
            return torch.cat([start, (start + turned.cumsum(-1)) % 2], -1)

    found = _look("mass", Chain(dist.Bernoulli(torch.full((200,), 0.5).double())))
    assert found.verdict == "skipped"
    assert "too dependent" in found.detail


@pytest.mark.parametrize("which", ["mass", "draws"])
def test_vectors_that_take_long_to_draw_are_skipped_with_the_work(which):
    class Slow(Opaque):
        def sample(self, sample_shape=()):
            for _ in range(math.prod(sample_shape)):
                torch.empty(5_000_000)  # which costs nothing and counts as work
            return super().sample(sample_shape)

    found = _look(which, Slow(dist.Bernoulli(torch.full((120,), 0.5).double())))
    assert found.verdict == "skipped"
    assert "draws take" in found.detail


# Some elements of many.


@pytest.mark.parametrize(
    "make",
    [
        lambda: dist.Normal(_randn(2, 30, 20), _randn(2, 30, 20).exp()),
        lambda: dist.LogNormal(_randn(2, 30, 20), _randn(2, 30, 20).exp()),
        lambda: DiscretizedLogistic(_randn(2, 30, 20), _randn(2, 30, 20).exp()),
        lambda: dist.MixtureSameFamily(
            dist.Categorical(logits=_randn(2, 30, 20, 3)), dist.Normal(_randn(2, 30, 20, 3), _t(1.0))
        ),
    ],
    ids=["normal", "transformed", "levels", "mixture"],
)
def test_some_elements_have_the_densities_that_they_have_in_the_whole(make):
    d, keep = make(), torch.tensor([7, 1100, 0])
    part, x = take_elements(d, keep), make().sample((5,))
    assert torch.allclose(part.log_prob(x.flatten(1)[:, keep]), d.log_prob(x).flatten(1)[:, keep])


def test_what_cannot_be_taken_apart_is_not():
    loc = _randn(2, 30)
    shifted = dist.TransformedDistribution(dist.Normal(0 * loc, 1.0), [dist.transforms.AffineTransform(loc, 2.0)])
    assert take_elements(shifted, torch.tensor([3, 40])) is None
