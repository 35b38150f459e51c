"""The parts of a data set, and what is in them."""

from __future__ import annotations

import torch


def parts_of(dataset):
    return dataset.train, dataset.valid, dataset.test


def values(split):
    return split.x(slice(None), torch.float64).numpy()


def rows_of(dataset):
    """The rows of each part as tuples, in increasing order."""
    return [sorted(map(tuple, values(split).reshape(len(split), -1).tolist())) for split in parts_of(dataset)]
