"""The streams of random numbers in a training, by number; each has a seed of its own, from ``seeds.derive``."""

from __future__ import annotations

__all__ = ["CALLBACK", "TRAIN_DATA", "TRAIN_NOISE", "VALID_DATA", "VALID_NOISE"]

TRAIN_DATA, VALID_DATA, TRAIN_NOISE, VALID_NOISE, CALLBACK = 1, 2, 3, 4, 5
