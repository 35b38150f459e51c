"""The data of the programs, each batch with a generator of its own."""

from __future__ import annotations

import torch
from torch import Tensor

SIZES = (8,) * 5


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(100 + seed)


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed))


def coins(*shape: int, seed: int = 0) -> Tensor:
    return (torch.rand(*shape, generator=generator(seed)) < 0.5).float()


def regression(kind: str = "linear", sizes: tuple[int, ...] = SIZES) -> list[tuple[Tensor, Tensor]]:
    batches = []
    for i, n in enumerate(sizes):
        x = normals(n, 3, seed=i)
        eta = x @ torch.tensor([1.0, -0.5, 0.2])
        y = {
            "linear": lambda eta=eta, n=n, i=i: eta + 0.3 * normals(n, seed=50 + i),
            "logistic": lambda eta=eta, i=i: torch.bernoulli(eta.sigmoid(), generator=generator(i)),
            "poisson": lambda eta=eta, i=i: torch.poisson(eta.exp(), generator=generator(i)),
        }[kind]()
        batches.append((x, y))
    return batches


def real(*shape: int, steps: int = 5) -> list[tuple[Tensor]]:
    return [(normals(*shape, seed=i),) for i in range(steps)]


def binary(*shape: int, steps: int = 5) -> list[tuple[Tensor]]:
    return [(coins(*shape, seed=i),) for i in range(steps)]


def counts(*shape: int, high: int, steps: int = 5) -> list[tuple[Tensor]]:
    return [(torch.randint(high, shape, generator=generator(i)),) for i in range(steps)]
