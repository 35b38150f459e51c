"""Mixtures of normals by matrix products, against torch's MixtureSameFamily and NumPy."""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Predictive, Trace_ELBO
from scipy import integrate, stats
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch.utils._python_dispatch import TorchDispatchMode

from pyro_vae.distributions.mixture import NormalMixture

K, D = 5, 4
SCALES = [(K, D), (K, 1), (1, D), (1, 1)]


def parameters(batch=(), scale=(K, D)):
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(*batch, K, generator=g, dtype=torch.float64)
    loc = 2 + torch.randn(*batch, K, D, generator=g, dtype=torch.float64)
    scales = 0.2 + torch.rand(*batch, *scale, generator=g, dtype=torch.float64)
    return [p.requires_grad_() for p in (logits, loc, scales)]


def of_torch(logits, loc, scale):
    return MixtureSameFamily(Categorical(logits=logits), Independent(Normal(loc, scale.expand_as(loc)), 1))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    ("batch", "z_shape"),
    [
        ((), (D,)),
        ((), (7, D)),
        ((), (6, 7, D)),
        ((1,), (6, 7, D)),
        ((7,), (D,)),
        ((7,), (7, D)),
        ((7,), (6, 7, D)),
        ((7,), (6, 1, D)),
        ((7,), (2, 3, 7, D)),
        ((3, 7), (7, D)),
        ((3, 7), (2, 3, 7, D)),
    ],
)
def test_density_and_gradients_equal_torchs(batch, z_shape, scale):
    inputs = [*parameters(batch, scale), torch.randn(z_shape, dtype=torch.float64, requires_grad=True)]
    values = [d(*inputs[:3]).log_prob(inputs[3]) for d in (NormalMixture, of_torch)]
    torch.testing.assert_close(*values, rtol=1e-10, atol=1e-10)
    weights = torch.randn_like(values[0])
    grads = [torch.autograd.grad((v * weights).sum(), inputs) for v in values]
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-10)


def test_parameters_of_different_batches():
    logits, loc, scale = parameters()
    logits = torch.randn(7, K, dtype=torch.float64)
    z = torch.randn(6, 7, D, dtype=torch.float64)
    together = NormalMixture(logits, loc, scale)
    assert together.batch_shape == (7,)
    for i in range(7):
        torch.testing.assert_close(together.log_prob(z)[:, i], NormalMixture(logits[i], loc, scale).log_prob(z[:, i]))


def test_an_empty_batch():
    p = NormalMixture(*parameters(), validate_args=False)  # torch's validation cannot check nothing
    assert p.log_prob(torch.empty(0, D, dtype=torch.float64)).shape == (0,)


def test_density_equals_scipys():
    logits, loc, scale = (p.detach().numpy() for p in parameters())
    z = np.linspace(-1, 4, 3 * D).reshape(3, D)
    weights = np.exp(logits) / np.exp(logits).sum()
    each = [stats.norm.pdf(z, loc[k], scale[k]).prod(-1) for k in range(K)]
    ours = NormalMixture(*parameters()).log_prob(torch.tensor(z))
    np.testing.assert_allclose(ours.detach(), np.log(np.einsum("k,kn", weights, each)), rtol=1e-10)


def test_it_integrates_to_one():
    logits, loc, scale = parameters()
    p = NormalMixture(logits, loc[:, :1], scale[:, :1])

    def density(z):
        return p.log_prob(torch.tensor([z], dtype=torch.float64)).exp().item()

    assert integrate.quad(density, -15, 20, points=loc[:, 0].tolist(), limit=200)[0] == pytest.approx(1.0, rel=1e-8)


@pytest.mark.parametrize("batch", [(), (2,)])
def test_gradcheck(batch):
    inputs = [*parameters(batch), torch.randn(3, 2, D, dtype=torch.float64, requires_grad=True)]
    assert torch.autograd.gradcheck(lambda a, b, c, z: NormalMixture(a, b, c, validate_args=False).log_prob(z), inputs)


@pytest.mark.parametrize("scale", SCALES)
def test_moments_equal_torchs(scale):
    p, q = (d(*parameters((3,), scale)) for d in (NormalMixture, of_torch))
    torch.testing.assert_close(p.mean, q.mean, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(p.variance, q.variance, rtol=1e-10, atol=1e-12)
    assert p.expand((2, 3)).mean.shape == p.expand((2, 3)).variance.shape == (2, 3, D)


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("scale", [(K, D), (1, 1)])
def test_draws_follow_the_density(batch, scale):
    """Kolmogorov-Smirnov of each marginal: level 1e-4 per test, up to 8 on a fixed seed."""
    logits, loc, scales = (p.detach() for p in parameters(batch, scale))
    torch.manual_seed(0)
    p = NormalMixture(logits, loc, scales)
    z = p.sample((4000,))
    assert z.shape == (4000, *batch, D)
    weights, scales = logits.softmax(-1).numpy(), scales.expand_as(loc).numpy()
    for b in np.ndindex(*batch):
        for i in range(D):

            def cdf(x, b=b, i=i):
                return (weights[b] * stats.norm.cdf(x[:, None], loc[(*b, slice(None), i)], scales[(*b, slice(None), i)])).sum(-1)  # fmt: skip

            assert stats.kstest(z[(slice(None), *b, i)].numpy(), cdf).pvalue > 1e-4


def test_expand_copies_nothing_and_keeps_the_density():
    p = NormalMixture(*parameters())
    q = p.expand((3, 7))
    assert isinstance(q, NormalMixture)
    assert (q.batch_shape, q.event_shape) == ((3, 7), (D,))
    assert q.loc is p.loc
    z = torch.randn(7, D, dtype=torch.float64)
    assert torch.equal(q.log_prob(z), p.log_prob(z).expand(3, 7))
    assert q.sample((2,)).shape == (2, 3, 7, D)
    assert len(q.sample().flatten(0, 1).unique(dim=0)) == 21


def test_a_sample_reaches_no_gradient():
    p = NormalMixture(*parameters())
    assert not p.has_rsample
    assert not p.sample().requires_grad
    with pytest.raises(NotImplementedError):
        p.rsample()


class LargestTensor(TorchDispatchMode):
    """Records the largest number of elements that any operation returns."""

    def __init__(self):
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, tuple | list) else (out,):
            if isinstance(t, torch.Tensor):
                self.size = max(self.size, t.untyped_storage().nbytes() // t.element_size())
        return out


@pytest.mark.parametrize("scale", [(50, 20), (1, 1)])
def test_no_tensor_has_a_batch_of_components_of_dimensions(scale):
    loc, z = torch.randn(50, 20, requires_grad=True), torch.randn(128, 20, requires_grad=True)
    logits, scale = torch.zeros(50, requires_grad=True), torch.ones(scale, requires_grad=True)
    sizes = []
    for make in (NormalMixture, of_torch):
        with LargestTensor() as largest:
            make(logits, loc, scale).log_prob(z).sum().backward()
        sizes.append(largest.size)
    assert sizes == [128 * 50, 128 * 50 * 20]


@pytest.mark.parametrize(("scale", "most"), [(1.0, 1e-4), (0.3, 1e-3), (0.1, 1e-2), (0.05, 5e-2)])
def test_float32_loses_little(scale, most):
    torch.manual_seed(0)
    logits, loc, scale = torch.randn(500), 5 + torch.randn(500, 40), scale * (0.5 + torch.rand(500, 40))
    p = NormalMixture(logits, loc, scale)
    z = p.sample((1000,))
    exact = NormalMixture(logits.double(), loc.double(), scale.double()).log_prob(z.double())
    assert (p.log_prob(z) - exact).abs().max() < most


def test_mixed_precision_is_switched_off():
    p, z = NormalMixture(torch.zeros(9), torch.randn(9, 3), torch.full((9, 3), 0.1)), torch.randn(5, 3)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = p.log_prob(z)
    assert torch.equal(mixed, p.log_prob(z))


@pytest.mark.parametrize("leading", [(), (3,)])
def test_it_is_exported_with_a_batch_of_any_size(leading):
    class Density(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.loc = torch.nn.Parameter(torch.randn(K, D))

        def forward(self, z):
            p = NormalMixture(torch.zeros(K), self.loc, torch.ones(1, 1), validate_args=False)
            return p.expand((z.shape[-2],)).log_prob(z)

    module = Density()
    sizes = ({len(leading): torch.export.Dim.DYNAMIC},)
    graph = torch.export.export(module, (torch.randn(*leading, 6, D),), strict=False, dynamic_shapes=sizes).module()
    z = torch.randn(*leading, 11, D)
    assert torch.equal(graph(z), module(z))


def test_in_a_pyro_model_and_guide():
    logits, loc, scale = (p.detach() for p in parameters())

    def model():
        with pyro.plate("data", 7):
            return pyro.sample("z", NormalMixture(logits, loc, scale))

    def guide():
        with pyro.plate("data", 7):
            return pyro.sample("z", dist.Normal(torch.zeros(D).double(), 1.0).to_event(1))

    assert Predictive(model, num_samples=3, parallel=True)()["z"].shape == (3, 7, D)
    pyro.set_rng_seed(0)
    loss = Trace_ELBO(num_particles=5, vectorize_particles=True, max_plate_nesting=1).loss(model, guide)
    pyro.set_rng_seed(0)
    z = torch.randn(5, 7, D, dtype=torch.float64)
    expected = Normal(0.0, 1.0).log_prob(z).sum(-1) - of_torch(logits, loc, scale).log_prob(z)
    assert loss == pytest.approx(expected.sum(-1).mean().item(), rel=1e-10)


@pytest.mark.parametrize(
    ("logits", "loc", "scale"),
    [
        ((4,), (5, 3), (5, 3)),
        ((), (5, 3), (5, 3)),
        ((5,), (5,), (5,)),
        ((5,), (5, 3), (4, 3)),
        ((5,), (5, 3), (5, 2)),
        ((5,), (5, 3), ()),
        ((2, 5), (3, 5, 3), (1, 1)),
    ],
)
def test_shapes_that_do_not_fit_are_named(logits, loc, scale):
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the message is compared below
        NormalMixture(torch.zeros(logits), torch.zeros(loc), torch.ones(scale))
    assert str(error.value) == (
        "NormalMixture needs logits (*batch, k), loc (*batch, k, d) and scale (*batch, k or 1, d or 1); got logits "
        f"{logits}, loc {loc} and scale {scale}. Give one logit and one row of means per component"
    )


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match="parameter scale"):
        NormalMixture(torch.zeros(2), torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="within the support"):
        NormalMixture(torch.zeros(2), torch.zeros(2, 3), torch.ones(2, 3)).log_prob(torch.full((3,), torch.nan))
