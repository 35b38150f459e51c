"""Conditions on the values of tensors."""

from __future__ import annotations

import contextvars
import threading

import pyro.distributions as dist
import pytest
import torch

from pyro_vae import build
from pyro_vae.value_checks import check_all_finite, exportable, holds, noting
from tests.combinations.parts import DENSITIES


@pytest.mark.parametrize("value", [True, False])
def test_a_condition_is_its_value(value):
    assert holds(torch.tensor(value)) is value


def test_infinite_values_are_counted():
    check_all_finite("x", torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"^x must be finite; got 2 values that are not$"):
        check_all_finite("x", torch.tensor([[1.0, torch.nan], [torch.inf, 0.0]]))
    with pytest.raises(ValueError, match=r"^x must be finite; got 1 values that are not\. Scale it$"):
        check_all_finite("x", torch.tensor([-torch.inf]), "Scale it")


def test_in_the_block_it_holds_and_is_noted():
    yes, no = torch.tensor(True), torch.tensor(False)
    with noting() as noted:
        assert holds(yes)
        assert holds(no)
    assert len(noted) == 2
    assert noted[0] is yes
    assert noted[1] is no
    assert not holds(no)


def test_blocks_within_blocks():
    with noting() as outer:
        holds(torch.tensor(False))
        with noting() as inner:
            holds(torch.tensor(True))
            holds(torch.tensor(True))
        holds(torch.tensor(True))
    assert [t.item() for t in outer] == [False, True]
    assert len(inner) == 2


def test_an_error_ends_the_block():
    def fail():
        with noting():
            raise RuntimeError("as programs do")

    with pytest.raises(RuntimeError, match="as programs do"):
        fail()
    assert not holds(torch.tensor(False))


def test_other_threads_and_contexts_have_none_of_it():
    seen = {}
    with noting() as noted:
        thread = threading.Thread(target=lambda: seen.update(thread=holds(torch.tensor(False))))
        thread.start()
        thread.join()
        assert contextvars.Context().run(holds, torch.tensor(False)) is False
    assert seen == {"thread": False}
    assert noted == []


def test_what_a_vae_asks_of_its_data_is_noted():
    """Exactly the conditions that a bad batch breaks are False."""
    vae = build((3,), 2, hidden=(4,))
    good, grey, nan = torch.ones(5, 3), torch.full((5, 3), 0.3), torch.full((5, 3), torch.nan)
    z = vae.guide(good)
    for x, ok in ((good, True), (grey, False), (nan, False)):
        with noting() as noted:
            vae.encoder_input(x)
            vae.observed(vae.decode(z), x)
        assert noted
        assert all(condition.shape == () and condition.dtype == torch.bool for condition in noted)
        assert all(noted) is ok
    with pytest.raises(ValueError, match="needs x in {0, 1}"):
        vae.model(grey)
    with pytest.raises(ValueError, match="x has NaN"):
        vae.guide(nan)


def test_it_holds_while_torch_compiles():
    def f(x):
        return x + 1 if holds(x.sum() > 0) else x - 1

    compiled = torch.compile(f, backend="eager", fullgraph=True)
    assert torch.equal(compiled(-torch.ones(3)), torch.zeros(3))
    assert torch.equal(f(-torch.ones(3)), -2 * torch.ones(3))


class Calling(torch.nn.Module):
    """A function as a module, which is what ``torch.export`` takes."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *x):
        return self.function(*x)


def export(function, *x):
    """A graph for any batch."""
    rows = {0: torch.export.Dim("batch", min=2)}
    return torch.export.export(Calling(function), x, strict=False, dynamic_shapes=((rows,) * len(x),)).module()


def test_an_exported_graph_looks_at_the_condition_in_each_run():
    graph = export(lambda x: x + 1 if holds(x.sum() > 0) else x - 1, -torch.ones(3))
    assert torch.equal(graph(torch.ones(4)), 2 * torch.ones(4))
    with pytest.raises(RuntimeError, match="this graph does not take these values"):
        graph(-torch.ones(3))


def test_distributions_within_distributions_are_exported():
    """Validation is off for all that a function returns, and as it was for all else."""

    @exportable
    def make(x):
        inner = dist.MixtureSameFamily(dist.Categorical(logits=x), dist.Normal(x, x.exp()).mask(x > 0))
        return [dist.TransformedDistribution(dist.Normal(x, x.exp()), []).to_event(1), {"mixture": inner}["mixture"]]

    graph = export(lambda x: [d.log_prob(x if d.event_shape else x.sum(-1)) for d in make(x)], torch.randn(3, 2))
    x = torch.randn(5, 2)
    torch.testing.assert_close(graph(x), [d.log_prob(x if d.event_shape else x.sum(-1)) for d in make(x)])
    with pytest.raises(ValueError, match="parameter scale"):
        dist.Normal(0.0, -1.0)
    with pytest.raises(ValueError, match="within the support"):
        exportable(lambda: dist.Exponential(1.0))().log_prob(torch.tensor(-1.0))


@pytest.mark.parametrize("density", [d for d in DENSITIES if d.room == "posterior"], ids=str)
def test_encoding_is_exported_with_validation_on_and_for_any_batch(density):
    vae = density.vae()

    def encoded(x, z):
        return vae.encode(x).log_prob(z)

    x = torch.randn(5, 4, dtype=torch.float64).sign().clamp_min(0)
    z = vae.encode(x).sample()
    graph = export(encoded, x[:3], z[:3])
    assert torch.distributions.Distribution._validate_args
    torch.testing.assert_close(graph(x, z), encoded(x, z))
    with pytest.raises(RuntimeError, match="this graph does not take these values"):
        graph(torch.full_like(x, torch.nan), z)
