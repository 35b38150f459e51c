"""Captured graphs, compiled."""

from __future__ import annotations

import torch

from pyro_vae.svi.capture import capture
from pyro_vae.svi.running import Compiled


def test_square_weights_and_sizes_that_go_through_reshapes():
    """What TorchInductor makes of open sizes here does not run: the graph is for its first sizes alone."""
    into, square, out = torch.nn.Linear(6, 7), torch.nn.Linear(7, 7), torch.nn.Linear(7, 6)

    def program(z, x):
        rows = out(square(into(z.flatten(0, 1)).tanh()))
        return (rows * x.repeat(z.shape[0], 1)).sum(-1).unflatten(0, (z.shape[0], -1))

    for parameter in (*into.parameters(), *square.parameters(), *out.parameters()):
        parameter.requires_grad_(False)
    compiled = Compiled(capture(program, [torch.randn(3, 5, 6), torch.randn(5, 6)]))
    for draws in (3, 3, 4, 3):
        z, x = torch.randn(draws, 5, 6), torch.randn(5, 6)
        torch.testing.assert_close(compiled([z, x]), program(z, x), rtol=1e-4, atol=1e-4)
