"""The table of a quadrature's cells, and its rules: volumes, sums by example, and exact polynomials."""

from __future__ import annotations

import pytest
import torch

from pyro_vae.evaluation.quadrature_cells import Boxes, Cells
from pyro_vae.evaluation.quadrature_rules import Rule


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def boxes(n, dim, examples=3):
    example = torch.arange(n) * 7 % examples
    return Boxes(randn(n, dim), 0.1 + randn(n, dim, seed=1).abs(), example, torch.arange(n) % 2)


def cells(n, dim=2, examples=3):
    some = boxes(n, dim, examples)
    return Cells(
        *(some.corner, some.width, some.example, some.shell),
        peak=5 * randn(n, seed=2),
        value=randn(n, seed=3).abs(),
        error=1e-3 * randn(n, seed=4).abs(),
        densities=randn(n, 4, seed=5),
        fresh=torch.arange(n) % 3 == 0,
        batch=examples,
    )


@pytest.mark.parametrize("dim", [1, 2])
def test_halves_fill_the_box(dim):
    whole = boxes(5, dim)
    halves = whole.halved()
    assert len(halves) == 5 * 2**dim
    groups = [halves.select(slice(i * 2**dim, (i + 1) * 2**dim)) for i in range(5)]
    for i, group in enumerate(groups):
        assert (group.example == whole.example[i]).all()
        assert (group.shell == whole.shell[i]).all()
        torch.testing.assert_close(group.volume.sum(), whole.volume[i])
        torch.testing.assert_close(group.corner.amin(0), whole.corner[i])
        torch.testing.assert_close((group.corner + group.width).amax(0), whole.corner[i] + whole.width[i])
        assert len(group.corner.unique(dim=0)) == 2**dim


def test_selecting_and_appending_keep_every_column():
    table = cells(9)
    chosen = torch.arange(9) % 2 == 0
    again = table.select(chosen).append(table.select(~chosen))
    order = torch.cat([chosen.nonzero(), (~chosen).nonzero()]).squeeze(-1)
    for name, column in vars(table).items():
        if isinstance(column, torch.Tensor):
            assert torch.equal(getattr(again, name), column[order]), name
    empty = Cells.none(3, 2, 4, torch.device("cpu"))
    assert len(empty) == 0
    both = empty.append(table)
    assert all(torch.equal(getattr(both, n), c) for n, c in vars(table).items() if isinstance(c, torch.Tensor))
    assert [c.dtype for c in vars(both).values() if isinstance(c, torch.Tensor)] == [
        c.dtype for c in vars(empty).values() if isinstance(c, torch.Tensor)
    ]


def test_sums_are_those_of_each_example():
    table = cells(20)
    value, error = table.value * table.peak.exp(), table.error * table.peak.exp()
    for i in range(3):
        mine = table.example == i
        torch.testing.assert_close(table.log_prob()[i], value[mine].sum().log())
        torch.testing.assert_close(table.sums()[1][i] / table.sums()[0][i], error[mine].sum() / value[mine].sum())
        outer = mine & (table.shell == 1)
        share = (value + error)[outer].sum() / value[mine].sum()
        torch.testing.assert_close(table.shares(table.shell == 1)[i], share)
        assert table.highest()[i] == table.peak[mine].max()
    order, sums = table.ranked(table.error, table.value)
    for place, cell in enumerate(order):
        before = (table.example == table.example[cell]) & (table.error <= table.error[cell])
        torch.testing.assert_close(sums[place], table.value[before].sum())
    assert (table.example[order].diff() >= 0).all()


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("n", [2, 6, 8])
def test_a_rule_is_exact_for_polynomials(n, dim):
    """A rule with n nodes is exact up to degree 2 n − 1 in each dimension."""
    rule = Rule.gauss_legendre(n, dim, torch.device("cpu"))
    assert rule.nodes.shape == (n**dim, dim)
    for degree in (0, 1, 2 * n - 1):
        found = rule.weights @ rule.nodes.pow(degree).prod(-1)
        torch.testing.assert_close(found.item(), (degree + 1.0) ** -dim, rtol=1e-12, atol=0)
    some = boxes(4, dim)
    zeros = torch.zeros(4, n**dim, dtype=torch.float64)
    torch.testing.assert_close(rule.integral(some, zeros, zeros[:, 0]), some.volume)
