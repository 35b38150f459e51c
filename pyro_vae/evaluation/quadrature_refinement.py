"""Refinement of quadrature cells over codes of one or two dimensions until a tolerance is reached."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import replace

import torch
from torch import Tensor

from pyro_vae.evaluation.mode_search import points_near_modes
from pyro_vae.evaluation.posterior_nodes import PosteriorNodes
from pyro_vae.evaluation.quadrature_cells import Boxes, Cells, largest
from pyro_vae.evaluation.quadrature_rules import Integrand, Rule
from pyro_vae.evaluation.unconstrained import UnconstrainedCodes

__all__ = ["Refinement"]

_LOW, _HIGH = 6, 8  # nodes per dimension of the two Gauss-Legendre rules, whose difference is the error
_PRIOR_DRAWS, _GUIDE_DRAWS = 256, 24
_ASCENTS = {1: 48, 2: 8}  # from draws of the prior, by the dimension of the codes
_START = {1: 1024, 2: 16}  # cells per dimension at the start
_REACH = {1: 3.0, 2: 1.6}  # the box that they fill, in units of the furthest draw of the prior
_AROUND = {1: 64, 2: 2}  # cells per dimension of each box around it
_SHELLS = 40  # each three times as wide as the one inside
_SEEN = 1.0  # nats by which a known point may exceed every node of its cell
_EMPTY = 1e-5  # in units of the tolerance: cells with a smaller share of the mass get one rule only
_UNSEEN = 0.01  # in units of the tolerance: what the error allows for mass that no node has seen
_CHECKED = {1: 8, 2: 3}  # heaviest cells, and as many others, that are halved once more whatever their rules say
_CHECKS = 4  # rounds at most, each with four times as many cells


class Refinement:
    """Cells over the codes of a block of examples, halved until the integral of each example is known.

    Coordinates and sums are in float64, whatever the dtype of the model.

    Args:
        codes: the codes of the block.
        tolerance: relative to an example's integral.
        max_evaluations: per example.
        chunk_size: the number of rows that are decoded at a time.
    """

    def __init__(self, codes: UnconstrainedCodes, tolerance: float, max_evaluations: int, chunk_size: int) -> None:
        self.codes = codes
        self.tolerance = tolerance
        self.max_evaluations = max_evaluations
        self.batch = codes.pair.batch
        prior = codes.unconstrain(codes.prior((_PRIOR_DRAWS,)))
        guide = codes.unconstrain(codes.pair.posterior()((_GUIDE_DRAWS,)))
        self.dtype = prior.dtype
        self.integrand = Integrand(codes, self.dtype, chunk_size)
        starts = torch.cat([prior[: _ASCENTS[codes.dim]], guide.mean(0, keepdim=True), guide[:1]])
        starts = torch.where(starts.isfinite(), starts, prior[:1])
        points, self.seen = points_near_modes(codes, torch.cat([guide, prior]), starts, chunk_size)
        self.points = points.double()
        device = points.device
        self.low, self.high = (Rule.gauss_legendre(n, codes.dim, device) for n in (_LOW, _HIGH))
        self.centre, self.half = self._box(prior.double())
        self.used = torch.zeros(self.batch, dtype=torch.int64, device=device)
        self.active = torch.ones(self.batch, dtype=torch.bool, device=device)
        self.surprise = torch.zeros(self.batch, dtype=torch.float64, device=device)
        self.cells = Cells.none(self.batch, codes.dim, len(self.high.weights), device)

    def _box(self, prior: Tensor) -> tuple[Tensor, Tensor]:
        """Return the centre and half the sides of a box around all known points, ``(batch, dim)`` each."""
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

    def run(self) -> None:
        """Halve cells and add shells until the error is below the tolerance or the evaluations are used up."""
        start = _START[self.codes.dim]
        everyone = torch.arange(self.batch, device=self.points.device)
        step = torch.arange(start, device=self.points.device).double()
        grid = torch.stack(torch.meshgrid(*[step] * self.codes.dim, indexing="ij"), -1).reshape(-1, self.codes.dim)
        self._add(_boxes(self.centre - self.half, 2 * self.half / start, everyone, grid, 0))
        for shell in range(1, _SHELLS + 1):
            self._surround(everyone, shell)
            self._refine()
            outside = self.cells.shares(self.cells.shell == shell)
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
        """Halve the heaviest cells of some examples, and as many others with mass; return who changed too much."""
        share = self.cells.relative()[0] / self.cells.sums()[0][self.cells.example]
        others = torch.where(share > _EMPTY * self._target()[self.cells.example], torch.rand_like(share), -1.0)
        split = torch.zeros(len(share), dtype=torch.bool, device=share.device)
        for score in (share, others):
            order, sums = self.cells.ranked(-score, torch.ones_like(score))
            split[order] |= (sums <= count) & (score[order] > 0)
        before = self.cells.log_prob()
        self._halve(split & examples[self.cells.example] & self._wide())
        change = torch.expm1(before - self.cells.log_prob()).abs().nan_to_num()
        self.surprise = torch.where(examples, change, self.surprise)
        return examples & self.active & (self.surprise > 0.1 * self._target())

    # New cells.

    def _surround(self, examples: Tensor, shell: int) -> None:
        """Add the boxes around what the cells of some examples cover."""
        side = 2 * self.half * 3.0 ** (shell - 1)
        around = [c for c in itertools.product((-1.5, -0.5, 0.5), repeat=self.codes.dim) if set(c) != {-0.5}]
        parts = _AROUND[self.codes.dim]
        within = itertools.product(range(parts), repeat=self.codes.dim)
        offsets = torch.tensor(around, dtype=torch.float64, device=side.device).unsqueeze(1) * parts
        offsets = offsets + torch.tensor(list(within), dtype=torch.float64, device=side.device)
        self._add(_boxes(self.centre[examples], side[examples] / parts, examples, offsets.flatten(0, 1), shell))

    def _refine(self) -> None:
        while True:
            split = self._blind() | self._coarse()
            if not split.any():
                return
            self._halve(split)

    def _halve(self, split: Tensor) -> None:
        """Cut the chosen cells in two along each dimension."""
        if not split.any():
            return
        halves = self.cells.select(split).halved()
        self.cells = self.cells.select(~split)
        self._add(halves)
        self.active = self.used < self.max_evaluations

    def _add(self, boxes: Boxes) -> None:
        """Integrate over boxes and append them to the cells."""
        high = self.integrand.at_nodes(self.high.nodes, boxes)
        counts = self._matters(boxes, high)
        low = high.new_full((len(high), len(self.low.nodes)), -torch.inf)
        low[counts] = self.integrand.at_nodes(self.low.nodes, boxes.select(counts))
        peak = torch.maximum(low.amax(1), high.amax(1))
        log_scale = _finite(peak)
        value = self.high.integral(boxes, high, log_scale)
        # Without the rule of fewer nodes, this is the value itself.
        error = (value - self.low.integral(boxes, low, log_scale)).abs()
        self.used += torch.bincount(boxes.example, minlength=self.batch) * high.shape[1]
        self.used += torch.bincount(boxes.example[counts], minlength=self.batch) * low.shape[1]
        fresh = torch.ones_like(boxes.example, dtype=torch.bool)
        where = (boxes.corner, boxes.width, boxes.example, boxes.shell)
        self.cells = self.cells.append(Cells(*where, peak, value, error, high, fresh, self.batch))

    def _matters(self, boxes: Boxes, high: Tensor) -> Tensor:
        """Return a mask of the new boxes whose share of the mass counts."""
        cells = self.cells
        log_scale = _finite(torch.maximum(cells.highest(), largest(high.amax(1), boxes.example, self.batch)))
        value = self.high.integral(boxes, high, log_scale[boxes.example])
        known = cells.value * (cells.peak - log_scale[cells.example]).exp()
        total = value.new_zeros(self.batch).index_add(0, cells.example, known).index_add(0, boxes.example, value)
        return value > _EMPTY * self.tolerance * total[boxes.example]

    # Which cells to halve.

    def _blind(self) -> Tensor:
        """Return a mask of the cells that hold a known point whose density is above that of all their nodes."""
        cells = self.cells
        blind = torch.zeros(len(cells), dtype=torch.bool, device=cells.example.device)
        # Points further below the highest one have no mass that counts.
        floor = torch.maximum(cells.highest(), self.seen.double().amax(0)) + self._target().log() - 10
        # Points and cells do not change, and the floor only rises, so each cell is compared once. All pairs of points
        # and cells would be many: take some cells at a time.
        for at in cells.fresh.nonzero().squeeze(-1).split(1024):
            example = cells.example[at]
            seen = self.seen[:, example].double()
            found = seen > torch.maximum(cells.peak[at] + _SEEN, floor[example])
            for points, corner, width in zip(
                self.points.unbind(-1), cells.corner[at].unbind(-1), cells.width[at].unbind(-1), strict=True
            ):
                place = points[:, example] - corner
                found &= (place >= 0) & (place <= width)
            blind[at] = found.any(0)
        self.cells = replace(cells, fresh=torch.zeros_like(cells.fresh))
        return blind & self._wide() & self.active[cells.example]

    def _coarse(self) -> Tensor:
        """Return a mask of all cells but those with the smallest errors, which together stay below the limit."""
        value, error = self.cells.relative()
        limit = self._limit() * torch.zeros_like(self._target()).index_add(0, self.cells.example, value)
        order, sums = self.cells.ranked(error, error)
        coarse = torch.zeros_like(error, dtype=torch.bool)
        coarse[order] = sums > limit[self.cells.example[order]]
        return coarse & self._wide() & self.active[self.cells.example]

    def _wide(self) -> Tensor:
        """Return a mask of the cells that can be halved without their nodes falling together."""
        return (self.cells.width > 1e-10 * self.half[self.cells.example]).all(-1)

    # Relative errors of each example, ``(batch,)``.

    def _target(self) -> Tensor:
        """Return the error to reach: the tolerance, or the rounding error if that is larger."""
        return self._rounding().clamp_min(self.tolerance)

    def _limit(self) -> Tensor:
        """Return how far rules may differ: far below the tolerance, as some agree by chance, but not below rounding."""
        return (0.5 * self._rounding()).clamp_min(0.1 * self.tolerance)

    def _rounding(self) -> Tensor:
        # Log-densities are sums of about this size; nodes are many, and their roundings mostly even out.
        return torch.finfo(self.dtype).eps * (1 + self.cells.log_prob().abs().nan_to_num(0, 0, 0))

    # Results.

    def result(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return log p(x), its error, True if the error is small enough, and the evaluations, ``(batch,)`` each."""
        cells = self.cells
        value, error = cells.sums()
        last = largest(cells.shell.double(), cells.example, self.batch)[cells.example] == cells.shell
        # Refinement stops at the limit. The rest of the target allows for errors on which the rules agree, in the
        # tails of peaks at the edges of large cells or by chance.
        unseen = cells.shares(last) + self.surprise + _UNSEEN * self.tolerance
        error = self._target() / self._limit() * error / value + unseen + self._rounding()
        converged = error <= 1.2 * self._target() + self._rounding()
        return cells.log_prob().to(self.dtype), error.to(self.dtype), converged, self.used

    def posterior(self) -> PosteriorNodes:
        """Return p(z | x) at the nodes of the rule with more nodes."""
        return PosteriorNodes.of(self.cells, _HIGH, self.codes, self.dtype)


def _boxes(origin: Tensor, width: Tensor, examples: Tensor, offsets: Tensor, shell: int) -> Boxes:
    """Return boxes at ``origin + offset * width`` for each example and offset."""
    corner = (origin.unsqueeze(1) + offsets * width.unsqueeze(1)).flatten(0, 1)
    each = len(offsets)
    return Boxes(
        corner,
        width.repeat_interleave(each, 0),
        examples.repeat_interleave(each),
        torch.full((len(corner),), shell, dtype=torch.int64, device=corner.device),
    )


def _finite(log_scale: Tensor) -> Tensor:
    return torch.where(log_scale.isfinite(), log_scale, 0.0)
