"""Nearest training examples, and a test for samples that are copies of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from pyro_vae.argument_checks import at_least_one, finite_number
from pyro_vae.data.arrays import as_tensor
from pyro_vae.data.batches import DataSource
from pyro_vae.data.frames import is_frame, is_sparse
from pyro_vae.data.gathering import gathered, is_supply
from pyro_vae.value_checks import check_all_finite, check_tensor

__all__ = ["Memorisation", "Neighbours", "memorisation", "nearest"]

_IMAGES, _TRAIN = 1000, 5000  # distances are computed for so many at a time: 40 MB


@dataclass(frozen=True)
class Neighbours:
    """The training examples nearest to each image, nearest first.

    Args:
        distances: Euclidean, in the units of the values, in float64, ``(n, k)``.
        indices: into the training examples, ``(n, k)``; ties come in any order.
    """

    distances: Tensor
    indices: Tensor


def nearest(images: DataSource, train: DataSource, k: int = 1) -> Neighbours:
    """Find the k training examples nearest to each image, by the Euclidean distance over all their values.

    Args:
        images: ``(n, *event_shape)``: anything that :func:`pyro_vae.data.batches` takes, in the order of its examples.
        train: ``(m, *event_shape)``, likewise.
        k: the number of neighbours, at most m.

    Raises:
        TypeError: if ``images`` or ``train`` is something else.
        ValueError: if shapes do not fit, k is out of range or a value is not finite.

    Example:
        >>> nearest(torch.tensor([[0.0, 1.0]]), torch.tensor([[3.0, 5.0], [0.0, 1.0]]), k=2)
        Neighbours(distances=tensor([[0., 5.]], dtype=torch.float64), indices=tensor([[1, 0]]))
    """
    at_least_one(k=k)
    images, train = _examples("images", images), _examples("train", train)
    if images.shape[1:] != train.shape[1:]:
        raise ValueError(
            f"images and train must have the same event shape; got {tuple(images.shape[1:])} and "
            f"{tuple(train.shape[1:])}"
        )
    if k > len(train):
        raise ValueError(f"k must be at most the number of training examples, {len(train)}; got {k}")
    rows, others = images.detach().flatten(1), train.detach().flatten(1)
    found = [_nearest(part, others, k) for part in rows.split(_IMAGES)]
    return Neighbours(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _nearest(rows: Tensor, train: Tensor, k: int) -> tuple[Tensor, Tensor]:
    # cdist computes |a|² − 2 a·b + |b|², which is fast but loses digits if a and b are near each other and far from 0:
    # all of them in float32 for copies. So use float64, centre the data, and compute the distances of the neighbours
    # found once more, from differences.
    middle = rows.double().mean(0)
    centred = rows.double() - middle
    distances, indices = centred.new_empty(len(rows), 0), torch.empty(len(rows), 0, dtype=torch.long).to(rows.device)
    for start in range(0, len(train), _TRAIN):
        part = train[start : start + _TRAIN].double() - middle
        found, at = torch.cdist(centred, part).topk(min(k, len(part)), largest=False)
        distances, indices = torch.cat([distances, found], 1), torch.cat([indices, at + start], 1)
        distances, best = distances.topk(min(k, distances.shape[1]), largest=False)
        indices = indices.gather(1, best)
    columns = [(rows.double() - train[column].double()).norm(dim=1) for column in indices.unbind(1)]
    distances, order = torch.stack(columns, 1).sort(dim=1, stable=True)
    return distances, indices.gather(1, order)


@dataclass(frozen=True)
class Memorisation:
    """How near samples are to the training examples, compared with test examples.

    Args:
        fraction: the share of samples nearer than ``threshold``. About ``quantile`` if samples are as new as the test
            examples; more if some are copies.
        threshold: the ``quantile`` of the test examples' distances to their nearest training example.
        quantile: the share of test examples below the threshold.
        sample_median: the median distance from a sample to its nearest training example.
        test_median: the median distance from a test example to its nearest training example.
        neighbours: the nearest training example of each sample, ``(n, 1)``.
    """

    fraction: float
    threshold: float
    quantile: float
    sample_median: float
    test_median: float
    neighbours: Neighbours

    def __repr__(self) -> str:
        """Return the share of near samples and the median distances in one line."""
        near = (
            f"{self.fraction:.2%} of the samples are nearer than {self.threshold:.4g}, the {self.quantile:g} quantile"
        )
        medians = f"median distance {self.sample_median:.4g} of samples, {self.test_median:.4g} of test examples"
        return f"Memorisation({near} of test examples; {medians})"

    @property
    def suspects(self) -> Tensor:
        """The indices of the samples, ordered by the distance to their nearest training example, ``(n,)``.

        The neighbours of ``samples[suspects]`` are ``train[neighbours.indices[suspects, 0]]``.
        """
        return self.neighbours.distances[:, 0].argsort(stable=True)


def memorisation(samples: DataSource, train: DataSource, test: DataSource, quantile: float = 0.01) -> Memorisation:
    """Test whether samples are copies of training examples: nearer to them than held-out examples are.

    Held-out examples show how near new data are to the training data (Meehan, Chaudhuri and Dasgupta 2020, arXiv
    2004.05675). Give samples of the same kind as the data: a mean of p(x | z) is nearer to most images than a draw
    from it. Samples that are all alike or all smooth can be near without being copies, so look at the pictures too. If
    some test examples equal training examples, as small binary images can, ``threshold`` may be 0, and no sample is
    below it. Then use a larger ``quantile``, or leave those test examples out.

    Args:
        samples: samples of the model, such as ``vae.sample(1000)``, ``(n, *event_shape)``; data as in :func:`nearest`.
        train: the examples that the model was trained on, ``(m, *event_shape)``.
        test: examples that the model was not trained on, ``(l, *event_shape)``.
        quantile: the share of the test examples that count as near, above 0 and below 1.

    Raises:
        TypeError: if ``samples``, ``train`` or ``test`` is no such data.
        ValueError: if shapes do not fit, a value is not finite, or ``quantile`` is out of range.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> train, test = torch.randn(2, 100, 5, generator=generator)
        >>> memorisation(train[:10], train, test).fraction
        1.0
    """
    finite_number("quantile", quantile, above=0, below=1)
    samples, train, test = _examples("samples", samples), _examples("train", train), _examples("test", test)
    found, others = nearest(samples, train), nearest(test, train).distances[:, 0]
    mine, threshold = found.distances[:, 0], others.quantile(quantile)
    return Memorisation(
        fraction=(mine < threshold).double().mean().item(),
        threshold=threshold.item(),
        quantile=quantile,
        sample_median=mine.median().item(),
        test_median=others.median().item(),
        neighbours=found,
    )


def _examples(name: str, data: DataSource) -> Tensor:
    """Return all examples as one tensor; raise an error if there are none or a value is not finite."""
    if isinstance(data, tuple) and data:
        data = data[0]  # x, without its context
    if is_supply(data):
        values = gathered(data)[0]
    elif isinstance(data, np.ndarray) or is_frame(data) or is_sparse(data):
        values = as_tensor(name, data)
    else:
        check_tensor(name, data, "(n, *event_shape), such as vae.sample(1000) or data")
        values = cast("Tensor", data)
    if values.dim() < 2 or not values.numel():
        raise ValueError(f"{name} must be (n, *event_shape), at least one example; got shape {tuple(values.shape)}")
    check_all_finite(name, values)
    return values
