"""Cells of an adaptive quadrature over codes of one or two dimensions."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pyro_vae.evaluation.mode_search import landmarks
from pyro_vae.evaluation.unconstrained import RealCodes

__all__ = ["Cells", "PosteriorNodes"]

_LOW, _HIGH = 6, 8  # nodes a dimension of the two Gauss-Legendre rules, of which the difference is the error
_PRIOR_DRAWS, _GUIDE_DRAWS = 256, 24
_ASCENTS = {1: 48, 2: 8}  # from draws of the prior, by the dimension of the codes
_START = {1: 1024, 2: 16}  # cells a dimension at the start
_REACH = {1: 3.0, 2: 1.6}  # of the box they fill: so many times the furthest draw of the prior
_AROUND = {1: 64, 2: 2}  # into so many cells a dimension the boxes around it are cut
_SHELLS = 40  # each three times as wide as the one inside
_SEEN = 1.0  # nats by which a known point may exceed every node of its cell
_LOST = 1e-12  # of the mass, below which nodes are not kept
_EMPTY = 1e-5  # of the tolerance: a cell with a smaller share of the mass is spared the second rule
_UNSEEN = 0.01  # of the tolerance, which the error allows for what no node has seen
_CHECKED = {1: 8, 2: 3}  # heaviest cells, and as many others, that are halved once more whatever their rules say
_CHECKS = 4  # rounds at most, each of four times as many cells


@dataclass(frozen=True)
class PosteriorNodes:
    """p(z | x) of a block of examples as nodes with weights, from which it can be drawn.

    Args:
        codes: maps u to z.
        low: the lower corners of the boxes around the nodes, ``(nodes, dim)``, as vectors of reals u.
        width: the sides of the boxes, ``(nodes, dim)``.
        weight: p(z | x) of each box, ``(nodes,)``; the weights of an example sum to 1.
        example: to which example of the block a node belongs, ``(nodes,)``, ascending.
        dtype: of z.
    """

    codes: RealCodes
    low: Tensor
    width: Tensor
    weight: Tensor
    example: Tensor
    dtype: torch.dtype

    def draw(self, n: int) -> Tensor:
        """Draws from p(z | x): a box by its weight, and a point of the box, ``(n, batch, *event)``."""
        batch = self.codes.pair.batch
        ends = self.weight.cumsum(0)
        last = torch.bincount(self.example, minlength=batch).cumsum(0) - 1
        total = ends[last]
        before = torch.cat([total.new_zeros(1), total[:-1]])
        place = before + (total - before) * torch.rand(n, batch, dtype=ends.dtype, device=ends.device)
        chosen = torch.searchsorted(ends, place.flatten()).reshape(n, batch).minimum(last)
        u = self.low[chosen] + self.width[chosen] * torch.rand_like(self.low[chosen])
        return self.codes.constrain(u.to(self.dtype))


def _rule(n: int, dim: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes ``(n ** dim, dim)`` and weights on the unit cube."""
    x, w = (torch.tensor(a, dtype=torch.float64, device=like.device) for a in np.polynomial.legendre.leggauss(n))
    axes = torch.meshgrid(*[(x + 1) / 2] * dim, indexing="ij")
    weights = torch.meshgrid(*[w / 2] * dim, indexing="ij")
    return torch.stack([a.flatten() for a in axes], -1), torch.stack(weights).prod(0).flatten()


class Cells:
    """Disjoint boxes, each of one example of a block, with the integral over each by two rules.

    Coordinates and sums are in float64, whatever the dtype of the model.

    Args:
        codes: of the block.
        tolerance: relative to an example's integral.
        max_evaluations: an example.
        chunk_size: rows at a time.
    """

    def __init__(self, codes: RealCodes, tolerance: float, max_evaluations: int, chunk_size: int) -> None:
        self.codes = codes
        self.tolerance = tolerance
        self.max_evaluations = max_evaluations
        self.chunk_size = chunk_size
        self.batch = codes.pair.batch
        prior = codes.unconstrain(codes.prior((_PRIOR_DRAWS,)))
        guide = codes.unconstrain(codes.pair.posterior()((_GUIDE_DRAWS,)))
        self.dtype = prior.dtype
        starts = torch.cat([prior[: _ASCENTS[codes.dim]], guide.mean(0, keepdim=True), guide[:1]])
        starts = torch.where(starts.isfinite(), starts, prior[:1])
        points, self.seen = landmarks(codes, torch.cat([guide, prior]), starts, chunk_size)
        self.points = points.double()
        self.low_nodes, self.low_weights = _rule(_LOW, codes.dim, self.points)
        self.high_nodes, self.high_weights = _rule(_HIGH, codes.dim, self.points)

        self.centre, self.half = self._box(prior.double())
        self.used = torch.zeros(self.batch, dtype=torch.int64, device=self.points.device)
        self.active = torch.ones(self.batch, dtype=torch.bool, device=self.points.device)
        self.surprise = torch.zeros(self.batch, dtype=torch.float64, device=self.points.device)
        self._clear()

    def _box(self, prior: Tensor) -> tuple[Tensor, Tensor]:
        """Centre and half the sides of a box around all that is known, ``(batch, dim)``."""
        centre = prior.median(0).values
        if self.codes.transform is None:
            # Densities with a kink, such as Laplace's, have it in the middle: there cells meet.
            with contextlib.suppress(NotImplementedError, AttributeError):
                mean = self.codes.unconstrain(self.codes.prior.mean).double().expand_as(centre)
                centre = torch.where(mean.isfinite(), mean, centre)  # Cauchy's is not
        known = torch.where(self.seen.unsqueeze(-1) > self.seen.amax(0).unsqueeze(-1) - 50, self.points, centre)
        half = torch.maximum(
            _REACH[self.codes.dim] * (prior - centre).abs().amax(0), 1.2 * (known - centre).abs().amax(0)
        )
        return centre, half.clamp_min(1e-6)

    def _clear(self) -> None:
        device, dim = self.points.device, self.codes.dim
        self.corner = torch.empty(0, dim, dtype=torch.float64, device=device)
        self.width = torch.empty(0, dim, dtype=torch.float64, device=device)
        self.example = torch.empty(0, dtype=torch.int64, device=device)
        self.shell = torch.empty(0, dtype=torch.int64, device=device)
        self.fresh = torch.empty(0, dtype=torch.bool, device=device)  # not yet compared with the known points
        # Per cell: the largest log-density at a node, and the integral and its error relative to it.
        self.peak, self.value, self.error = (torch.empty(0, dtype=torch.float64, device=device) for _ in range(3))
        self.high = torch.empty(0, len(self.high_weights), dtype=torch.float64, device=device)

    # Refinement.

    def run(self) -> None:
        """Halves cells and adds shells until the error is below the tolerance or evaluations are used up."""
        start = _START[self.codes.dim]
        everyone = torch.arange(self.batch, device=self.points.device)
        step = torch.arange(start, device=self.points.device).double()
        grid = torch.stack(torch.meshgrid(*[step] * self.codes.dim, indexing="ij"), -1).reshape(-1, self.codes.dim)
        self._add(self.centre - self.half, 2 * self.half / start, everyone, grid, 0)
        for shell in range(1, _SHELLS + 1):
            self._surround(everyone, shell)
            self._refine()
            outside = self._shares(self.shell == shell)
            everyone = (self.active & ~(outside < 0.1 * self._target())).nonzero().squeeze(-1)
            if len(everyone) == 0:
                break
        checked = self.active
        for again in range(_CHECKS):
            checked = self._check(_CHECKED[self.codes.dim] * 4**again, checked)
            if not checked.any():
                break
            self._refine()

    def _check(self, count: int, examples: Tensor) -> Tensor:
        """Halves the heaviest cells of some examples, and as many others with mass; whether that changed too much."""
        value, _ = self._relative()
        share = value / self._sums()[0][self.example]
        others = torch.where(share > _EMPTY * self._target()[self.example], torch.rand_like(share), -1.0)
        split = torch.zeros(len(share), dtype=torch.bool, device=share.device)
        for score in (share, others):
            order, sums = self._order(-score, torch.ones_like(score))
            split[order] |= (sums <= count) & (score[order] > 0)
        before = self._log_prob()
        self._halve(split & examples[self.example] & self._wide())
        self.surprise = torch.where(examples, torch.expm1(before - self._log_prob()).abs().nan_to_num(), self.surprise)
        return examples & self.active & (self.surprise > 0.1 * self._target())

    def _surround(self, examples: Tensor, shell: int) -> None:
        side = 2 * self.half * 3.0 ** (shell - 1)
        around = [c for c in itertools.product((-1.5, -0.5, 0.5), repeat=self.codes.dim) if set(c) != {-0.5}]
        parts = _AROUND[self.codes.dim]
        within = itertools.product(range(parts), repeat=self.codes.dim)
        offsets = torch.tensor(around, dtype=torch.float64, device=side.device).unsqueeze(1) * parts
        offsets = offsets + torch.tensor(list(within), dtype=torch.float64, device=side.device)
        self._add(self.centre[examples], side[examples] / parts, examples, offsets.flatten(0, 1), shell)

    def _add(self, origin: Tensor, width: Tensor, examples: Tensor, offsets: Tensor, shell: int) -> None:
        """Cells at ``origin + offset * width`` for each example and offset."""
        corner = (origin.unsqueeze(1) + offsets * width.unsqueeze(1)).flatten(0, 1)
        each = len(offsets)
        self._append(
            corner,
            width.repeat_interleave(each, 0),
            examples.repeat_interleave(each),
            torch.full((len(corner),), shell, dtype=torch.int64, device=corner.device),
        )

    def _append(self, corner: Tensor, width: Tensor, example: Tensor, shell: Tensor) -> None:
        high = self._densities(self.high_nodes, corner, width, example)
        counts = self._matters(high, width, example)
        low = high.new_full((len(high), len(self.low_nodes)), -torch.inf)
        low[counts] = self._densities(self.low_nodes, corner[counts], width[counts], example[counts])
        peak = torch.maximum(low.amax(1), high.amax(1))
        shift = torch.where(peak.isfinite(), peak, 0.0).unsqueeze(1)
        volume = width.prod(-1)
        value = volume * ((high - shift).exp() @ self.high_weights)
        # Where the rule of fewer nodes was spared, this is the value itself.
        error = (value - volume * ((low - shift).exp() @ self.low_weights)).abs()
        self.used += torch.bincount(example, minlength=self.batch) * high.shape[1]
        self.used += torch.bincount(example[counts], minlength=self.batch) * low.shape[1]
        for name, new in (
            ("corner", corner),
            ("width", width),
            ("example", example),
            ("shell", shell),
            ("peak", peak),
            ("value", value),
            ("error", error),
            ("high", high),
            ("fresh", torch.ones_like(example, dtype=torch.bool)),
        ):
            setattr(self, name, torch.cat([getattr(self, name), new]))

    def _matters(self, high: Tensor, width: Tensor, example: Tensor) -> Tensor:
        """Which of new cells have a share of the mass that counts."""
        top = torch.maximum(self._scatter_max(self.peak), self._scatter_max(high.amax(1), example))
        shift = torch.where(top.isfinite(), top, 0.0)
        value = width.prod(-1) * ((high - shift[example].unsqueeze(1)).exp() @ self.high_weights)
        known = self.value * (self.peak - shift[self.example]).exp()
        total = value.new_zeros(self.batch).index_add(0, self.example, known).index_add(0, example, value)
        return value > _EMPTY * self.tolerance * total[example]

    def _densities(self, nodes: Tensor, corner: Tensor, width: Tensor, example: Tensor) -> Tensor:
        """Log-densities at the nodes of cells, ``(cells, nodes)``."""
        if len(corner) == 0:
            return corner.new_empty(0, len(nodes))
        u = corner.unsqueeze(1) + nodes * width.unsqueeze(1)
        rows = example.repeat_interleave(len(nodes))
        found = [
            self._log_density(chunk, index)
            for chunk, index in zip(u.flatten(0, 1).split(self.chunk_size), rows.split(self.chunk_size), strict=True)
        ]
        return torch.cat(found).reshape(-1, len(nodes))

    def _log_density(self, u: Tensor, index: Tensor) -> Tensor:
        """Log p(x, z) |dz/du| at u ``(rows, dim)`` for the examples of that index, ``(rows,)``, in float64."""
        pair = self.codes.pair.at(index)
        # A support may have limits of each example's own, so that only real vectors need no prior of these rows.
        codes = self.codes if self.codes.transform is None else RealCodes(pair, "quadrature")
        u = u.to(self.dtype).unsqueeze(0)
        z = codes.constrain(u)
        likelihood, prior = pair.log_joint(z)
        density = (likelihood + prior + codes.log_volume(u, z)).squeeze(0).double()
        if density.isnan().any():
            raise ValueError("quadrature found a log p(x, z) that is not a number: the model has bad weights, or x has")
        return density

    def _refine(self) -> None:
        while True:
            split = self._blind() | self._coarse()
            if not split.any():
                return
            self._halve(split)

    def _halve(self, split: Tensor) -> None:
        """The chosen cells in two along each dimension."""
        if not split.any():
            return
        corner, width = self.corner[split], self.width[split] / 2
        example, shell = self.example[split], self.shell[split]
        for name in ("corner", "width", "example", "shell", "peak", "value", "error", "high", "fresh"):
            setattr(self, name, getattr(self, name)[~split])
        halves = torch.tensor(
            list(itertools.product((0.0, 1.0), repeat=self.codes.dim)), dtype=torch.float64, device=corner.device
        )
        each = len(halves)
        self._append(
            (corner.unsqueeze(1) + halves * width.unsqueeze(1)).flatten(0, 1),
            width.repeat_interleave(each, 0),
            example.repeat_interleave(each),
            shell.repeat_interleave(each),
        )
        self.active = self.used < self.max_evaluations

    def _blind(self) -> Tensor:
        """Cells that hold a known point whose density is above that of all their nodes."""
        blind = torch.zeros(len(self.example), dtype=torch.bool, device=self.example.device)
        # What lies further below the highest point than this has no mass that counts.
        floor = torch.maximum(self._scatter_max(self.peak), self.seen.double().amax(0)) + self._target().log() - 10
        # Neither points nor cells change, and the floor only rises: each cell is looked at once. Points and cells of an
        # example side by side would be many pairs: take some cells at a time.
        for at in self.fresh.nonzero().squeeze(-1).split(1024):
            points = self.points[:, self.example[at]]
            place = (points - self.corner[at]) / self.width[at]
            inside = ((place >= 0) & (place <= 1)).all(-1)
            seen = self.seen[:, self.example[at]].double()
            higher = (seen > self.peak[at] + _SEEN) & (seen > floor[self.example[at]])
            blind[at] = (inside & higher).any(0)
        self.fresh = torch.zeros_like(self.fresh)
        return blind & self._wide() & self.active[self.example]

    def _wide(self) -> Tensor:
        """Cells that can be halved without their nodes falling together."""
        return (self.width > 1e-10 * self.half[self.example]).all(-1)

    def _coarse(self) -> Tensor:
        """All cells but those with the smallest errors, which together stay below the limit."""
        value, error = self._relative()
        limit = self._limit() * torch.zeros_like(self._target()).index_add(0, self.example, value)
        order, sums = self._order(error, error)
        coarse = torch.zeros_like(error, dtype=torch.bool)
        coarse[order] = sums > limit[self.example[order]]
        return coarse & self._wide() & self.active[self.example]

    def _order(self, score: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Cells by example, in each by ascending score, and the sums of values over an example's cells up to each."""
        order = score.argsort(stable=True)
        order = order[self.example[order].argsort(stable=True)]
        sums = values[order].cumsum(0)
        counts = torch.bincount(self.example, minlength=self.batch)
        start = torch.cat([sums.new_zeros(1), sums])[counts.cumsum(0) - counts]
        return order, sums - start[self.example[order]]

    # Sums over the cells of an example, ``(batch,)``.

    def _scatter_max(self, values: Tensor, example: Tensor | None = None) -> Tensor:
        top = values.new_full((self.batch,), -torch.inf)
        return top.scatter_reduce(0, self.example if example is None else example, values, "amax")

    def _relative(self) -> tuple[Tensor, Tensor]:
        """The integrals of the cells and their errors, relative to the highest density of each example."""
        top = self._scatter_max(self.peak)
        scale = torch.where(self.peak.isfinite(), self.peak - top[self.example], -torch.inf).exp()
        return self.value * scale, self.error * scale

    def _sums(self) -> tuple[Tensor, Tensor]:
        empty = self.value.new_zeros(self.batch)
        value, error = self._relative()
        return empty.index_add(0, self.example, value), empty.index_add(0, self.example, error)

    def _shares(self, chosen: Tensor) -> Tensor:
        """The mass, and its error, of the chosen cells over that of all."""
        value, error = self._relative()
        part = torch.zeros(self.batch, dtype=torch.float64, device=value.device)
        return part.index_add(0, self.example[chosen], (value + error)[chosen]) / self._sums()[0]

    def _log_prob(self) -> Tensor:
        return self._scatter_max(self.peak) + self._sums()[0].log()

    def _target(self) -> Tensor:
        """The relative error to reach, ``(batch,)``: the tolerance, or what rounding leaves of it."""
        return self._rounding().clamp_min(self.tolerance)

    def _limit(self) -> Tensor:
        """How far rules may differ: far below the tolerance, as some agree by chance, but not below rounding."""
        return (0.5 * self._rounding()).clamp_min(0.1 * self.tolerance)

    def _rounding(self) -> Tensor:
        # Log-densities are sums of about this size; nodes are many, and their roundings mostly even out.
        return torch.finfo(self.dtype).eps * (1 + self._log_prob().abs().nan_to_num(0, 0, 0))

    def result(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log p(x), its error, whether that is small enough, and the evaluations."""
        value, error = self._sums()
        last = self._scatter_max(self.shell.double())[self.example] == self.shell
        # Refinement stops at the limit. What the rules agree on wrongly, in the tails of peaks at the edges of large
        # cells or by chance, is allowed for by the rest of the target.
        unseen = self._shares(last) + self.surprise + _UNSEEN * self.tolerance
        error = self._target() / self._limit() * error / value + unseen + self._rounding()
        converged = error <= 1.2 * self._target() + self._rounding()
        return self._log_prob().to(self.dtype), error.to(self.dtype), converged, self.used

    def posterior(self) -> PosteriorNodes:
        """The nodes of the finer rule, with boxes around them."""
        order = self.example.argsort(stable=True)
        corner, width, example = self.corner[order], self.width[order], self.example[order]
        total = self._log_prob()[example]
        weight = width.prod(-1, keepdim=True) * self.high_weights * (self.high[order] - total.unsqueeze(-1)).exp()
        # The weights of a Gauss rule cut an interval into pieces with one node in each (Chebyshev, Markov, Stieltjes).
        sides = torch.tensor(np.polynomial.legendre.leggauss(_HIGH)[1] / 2, device=corner.device)
        lows = sides.cumsum(0) - sides
        dim = self.codes.dim
        low = torch.stack(torch.meshgrid(*[lows] * dim, indexing="ij"), -1).reshape(-1, dim)
        side = torch.stack(torch.meshgrid(*[sides] * dim, indexing="ij"), -1).reshape(-1, dim)
        weight, kept = weight.flatten(), weight.flatten() > _LOST
        return PosteriorNodes(
            self.codes,
            (corner.unsqueeze(1) + low * width.unsqueeze(1)).flatten(0, 1)[kept],
            (side * width.unsqueeze(1)).flatten(0, 1)[kept],
            weight[kept],
            example.repeat_interleave(len(low))[kept],
            self.dtype,
        )
