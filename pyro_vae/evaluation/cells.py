"""Cells of an adaptive quadrature over codes of one or two dimensions."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pyro_vae.evaluation.modes import landmarks
from pyro_vae.evaluation.real_codes import RealCodes
from pyro_vae.evaluation.rows import take

__all__ = ["Cells", "PosteriorNodes"]

_LOW, _HIGH = 8, 12  # nodes a dimension of the two Gauss-Legendre rules, of which the difference is the error
_PRIOR_DRAWS, _GUIDE_DRAWS = 256, 24
_SHELLS = 40  # each three times as wide as the one inside
_SEEN = 1.0  # nats by which a known point may exceed every node of its cell
_LOST = 1e-12  # of the mass, below which nodes are not kept


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
        batch = self.codes.programs.batch
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
        self.batch = codes.programs.batch
        prior = codes.unconstrain(codes.prior((_PRIOR_DRAWS,)))
        guide = codes.unconstrain(codes.programs.posterior()((_GUIDE_DRAWS,)))
        self.dtype = prior.dtype
        starts = torch.cat([prior[:4], guide.mean(0, keepdim=True), guide[:1]])
        starts = torch.where(starts.isfinite(), starts, prior[:1])
        points, self.seen = landmarks(codes, guide, starts, chunk_size)
        self.points = points.double()
        self.low_nodes, self.low_weights = _rule(_LOW, codes.dim, self.points)
        self.high_nodes, self.high_weights = _rule(_HIGH, codes.dim, self.points)

        self.centre, self.half = self._box(prior.double())
        self.used = torch.zeros(self.batch, dtype=torch.int64, device=self.points.device)
        self.active = torch.ones(self.batch, dtype=torch.bool, device=self.points.device)
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
        half = torch.maximum(1.5 * (prior - centre).abs().amax(0), 1.2 * (known - centre).abs().amax(0))
        return centre, half.clamp_min(1e-6)

    def _clear(self) -> None:
        device, dim = self.points.device, self.codes.dim
        self.corner = torch.empty(0, dim, dtype=torch.float64, device=device)
        self.width = torch.empty(0, dim, dtype=torch.float64, device=device)
        self.example = torch.empty(0, dtype=torch.int64, device=device)
        self.shell = torch.empty(0, dtype=torch.int64, device=device)
        # Per cell: the largest log-density at a node, and the integral and its error relative to it.
        self.peak, self.value, self.error = (torch.empty(0, dtype=torch.float64, device=device) for _ in range(3))
        self.high = torch.empty(0, len(self.high_weights), dtype=torch.float64, device=device)

    # Refinement.

    def run(self) -> None:
        """Halves cells and adds shells until the error is below the tolerance or evaluations are used up."""
        everyone = torch.arange(self.batch, device=self.points.device)
        step = torch.arange(4, device=self.points.device).double()
        grid = torch.stack(torch.meshgrid(*[step] * self.codes.dim, indexing="ij"), -1).reshape(-1, self.codes.dim)
        self._add(self.centre - self.half, self.half / 2, everyone, grid, 0)
        for shell in range(1, _SHELLS + 1):
            self._surround(everyone, shell)
            self._refine()
            outside = self._shares(self.shell == shell)
            everyone = (self.active & ~(outside < 0.1 * self._target())).nonzero().squeeze(-1)
            if len(everyone) == 0:
                break

    def _surround(self, examples: Tensor, shell: int) -> None:
        side = 2 * self.half * 3.0 ** (shell - 1)
        around = [c for c in itertools.product((-1.5, -0.5, 0.5), repeat=self.codes.dim) if set(c) != {-0.5}]
        offsets = torch.tensor(around, dtype=torch.float64, device=side.device)
        self._add(self.centre[examples], side[examples], examples, offsets, shell)

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
        low, high = self._densities(corner, width, example)
        peak = torch.maximum(low.amax(1), high.amax(1))
        shift = torch.where(peak.isfinite(), peak, 0.0).unsqueeze(1)
        volume = width.prod(-1)
        value = volume * ((high - shift).exp() @ self.high_weights)
        error = (value - volume * ((low - shift).exp() @ self.low_weights)).abs()
        self.used += torch.bincount(example, minlength=self.batch) * (low.shape[1] + high.shape[1])
        for name, new in (
            ("corner", corner),
            ("width", width),
            ("example", example),
            ("shell", shell),
            ("peak", peak),
            ("value", value),
            ("error", error),
            ("high", high),
        ):
            setattr(self, name, torch.cat([getattr(self, name), new]))

    def _densities(self, corner: Tensor, width: Tensor, example: Tensor) -> tuple[Tensor, Tensor]:
        nodes = torch.cat([self.low_nodes, self.high_nodes])
        u = corner.unsqueeze(1) + nodes * width.unsqueeze(1)
        rows = example.repeat_interleave(len(nodes))
        found = [
            self._log_density(chunk, index)
            for chunk, index in zip(u.flatten(0, 1).split(self.chunk_size), rows.split(self.chunk_size), strict=True)
        ]
        densities = torch.cat(found).reshape(-1, len(nodes))
        return densities[:, : len(self.low_nodes)], densities[:, len(self.low_nodes) :]

    def _log_density(self, u: Tensor, index: Tensor) -> Tensor:
        """Log p(x, z) |dz/du| at u ``(rows, dim)`` for the examples of that index, ``(rows,)``, in float64."""
        programs = take(self.codes.programs, index)
        # A support may have limits of each example's own, so that only real vectors need no prior of these rows.
        codes = self.codes if self.codes.transform is None else RealCodes(programs, "quadrature")
        u = u.to(self.dtype).unsqueeze(0)
        z = codes.constrain(u)
        likelihood, prior = programs.log_joint(z)
        density = (likelihood + prior + codes.log_volume(u, z)).squeeze(0).double()
        if density.isnan().any():
            raise ValueError("quadrature found a log p(x, z) that is not a number: the model has bad weights, or x has")
        return density

    def _refine(self) -> None:
        while True:
            split = self._blind() | self._coarse()
            if not split.any():
                return
            corner, width = self.corner[split], self.width[split] / 2
            example, shell = self.example[split], self.shell[split]
            for name in ("corner", "width", "example", "shell", "peak", "value", "error", "high"):
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
        # Points and cells of an example side by side would be many pairs: take some cells at a time.
        for at in torch.arange(len(blind), device=blind.device).split(1024):
            points = self.points[:, self.example[at]]
            place = (points - self.corner[at]) / self.width[at]
            inside = ((place >= 0) & (place <= 1)).all(-1)
            seen = self.seen[:, self.example[at]].double()
            higher = (seen > self.peak[at] + _SEEN) & (seen > floor[self.example[at]])
            blind[at] = (inside & higher).any(0)
        wide = (self.width > 1e-10 * self.half[self.example]).all(-1)
        return blind & wide & self.active[self.example]

    def _coarse(self) -> Tensor:
        """All cells but those with the smallest errors, which together stay below half the tolerance."""
        value, error = self._relative()
        limit = 0.5 * self._target() * torch.zeros_like(self._target()).index_add(0, self.example, value)
        order = error.argsort(stable=True)
        order = order[self.example[order].argsort(stable=True)]
        sums = error[order].cumsum(0)
        counts = torch.bincount(self.example, minlength=self.batch)
        start = torch.cat([sums.new_zeros(1), sums])[counts.cumsum(0) - counts]
        example = self.example[order]
        coarse = torch.zeros_like(error, dtype=torch.bool)
        coarse[order] = (sums - start[example]) > limit[example]
        wide = (self.width > 1e-10 * self.half[self.example]).all(-1)
        return coarse & wide & self.active[self.example]

    # Sums over the cells of an example, ``(batch,)``.

    def _scatter_max(self, values: Tensor) -> Tensor:
        top = values.new_full((self.batch,), -torch.inf)
        return top.scatter_reduce(0, self.example, values, "amax")

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

    def _rounding(self) -> Tensor:
        # Log-densities are sums of about this size; nodes are many, and their roundings mostly even out.
        return torch.finfo(self.dtype).eps * (1 + self._log_prob().abs().nan_to_num(0, 0, 0))

    def result(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log p(x), its error, whether that is small enough, and the evaluations."""
        value, error = self._sums()
        last = self._scatter_max(self.shell.double())[self.example] == self.shell
        # Refinement stops at half the target. What the rules agree on wrongly, in the tails of peaks at the edges of
        # large cells, is of the size of the other half.
        error = 2 * error / value + self._shares(last) + self._rounding()
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
