"""Which factor of p(x|z) depends on which element of x."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pyro_vae import check
from pyro_vae.checks.teacher_forcing import find_cycle, influence
from pyro_vae.model_guide import ModelGuide
from tests.checks.mutants.common import bits, reals
from tests.checks.mutants.seeing import CausalConvolution, MaskedLinear, Recurrent, tokens


@pytest.fixture(autouse=True)
def _empty_store():
    yield
    pyro.clear_param_store()


def edges(n, *pairs):
    found = torch.zeros(n, n, dtype=torch.bool)
    for k, j in pairs:
        found[k, j] = True
    return found


@pytest.mark.parametrize(
    ("pairs", "cycle"),
    [
        ([], []),
        ([(0, 1), (1, 2), (0, 3)], []),
        ([(3, 2), (2, 1), (3, 0)], []),
        ([(0, 1), (1, 0)], [0, 1]),
        ([(0, 1), (1, 2), (2, 3), (3, 1)], [1, 2, 3]),
        ([(2, 2)], []),  # of its own element another line speaks
    ],
)
def test_cycles(pairs, cycle):
    assert find_cycle(edges(4, *pairs)) == cycle


def of(vae, x):
    p = ModelGuide(vae, x)
    return influence(p, p.draw(1)[0], 1e-5, 0)


def test_a_triangle_is_seen_as_one():
    chosen, seen = of(MaskedLinear(), bits())
    assert chosen.tolist() == list(range(6))
    assert torch.equal(seen, torch.triu(torch.ones(6, 6), 1).bool())


def test_a_convolution_is_seen_as_a_band():
    _, seen = of(CausalConvolution(), reals())
    expected = torch.diag(torch.ones(5), 1) + torch.diag(torch.ones(4), 2)
    assert torch.equal(seen, expected.bool())


def test_vectors_as_elements():
    """One-hot tokens, of which one factor has four numbers."""

    class OneHot(Recurrent):
        def one_hot(self, x):
            return x

        def likelihood_given(self, z, x):
            return dist.OneHotCategorical(logits=super().likelihood_given(z, x).base_dist.logits).to_event(1)

    chosen, seen = of(OneHot(), F.one_hot(tokens(), 4).float())
    assert chosen.tolist() == list(range(5))
    assert torch.equal(seen, torch.triu(torch.ones(5, 5), 1).bool())


class PixelCNN(CausalConvolution):
    """A decoder of images that sees the pixels above and to the left."""

    centre = 0.0

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(256, 4), nn.Linear(2, 256)
        self.filter = nn.Parameter(0.2 + 0.1 * torch.rand(1, 1, 3, 3))
        self.convolution = None

    def encode(self, x):
        return super().encode(x.flatten(1))

    def likelihood_given(self, z, x):
        mask = torch.tensor([[1.0, 1, 1], [1, self.centre, 0], [0, 0, 0]], dtype=x.dtype)
        seen = F.conv2d(x, self.filter * mask, padding=1)
        return dist.Bernoulli(logits=self.decoder(z).reshape(-1, 1, 16, 16) + seen).to_event(3)


@pytest.mark.parametrize(("centre", "verdict"), [(0.0, "passed"), (1.0, "failed")])
def test_an_image_of_which_not_all_pixels_are_looked_at(centre, verdict):
    vae = PixelCNN()
    vae.centre = centre
    x = (torch.rand(12, 1, 16, 16, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    report = check(vae, x, only=["peeking"])
    assert report["peeking"].verdict == verdict, report["peeking"].finding.detail


def test_neighbours_are_among_those_that_are_looked_at():
    """A filter that looks both ways but not at its own place is found on any image."""

    class BothWays(PixelCNN):
        def likelihood_given(self, z, x):
            mask = torch.tensor([[0.0, 0, 0], [1, 0, 1], [0, 0, 0]], dtype=x.dtype)
            seen = F.conv2d(x, self.filter * mask, padding=1)
            return dist.Bernoulli(logits=self.decoder(z).reshape(-1, 1, 16, 16) + seen).to_event(3)

    x = (torch.rand(12, 1, 16, 16, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    for seed in range(5):
        report = check(BothWays(), x, only=["peeking"], seed=seed)
        assert "each depend on the others" in report["peeking"].finding.detail
