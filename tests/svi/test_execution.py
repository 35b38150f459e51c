"""Captured graphs, compiled."""

from __future__ import annotations

import subprocess
import sys

import torch

from pyro_vae.svi.capture import capture
from pyro_vae.svi.execution import CompiledGraph


def test_square_weights_and_sizes_that_go_through_reshapes():
    """What TorchInductor makes of open sizes here does not run: the graph is for its first sizes alone."""
    into, square, out = torch.nn.Linear(6, 7), torch.nn.Linear(7, 7), torch.nn.Linear(7, 6)

    def program(z, x):
        rows = out(square(into(z.flatten(0, 1)).tanh()))
        return (rows * x.repeat(z.shape[0], 1)).sum(-1).unflatten(0, (z.shape[0], -1))

    for parameter in (*into.parameters(), *square.parameters(), *out.parameters()):
        parameter.requires_grad_(False)
    compiled = CompiledGraph(capture(program, [torch.randn(3, 5, 6), torch.randn(5, 6)]))
    for draws in (3, 3, 4, 3):
        z, x = torch.randn(draws, 5, 6), torch.randn(5, 6)
        torch.testing.assert_close(compiled([z, x]), program(z, x), rtol=1e-4, atol=1e-4)


def test_compiling_for_any_size_leaves_the_validation_of_distributions_as_it_was():
    """In a process of its own, since it is the first ``torch.compile`` of a process that turns validation off."""
    program = (
        "import torch\n"
        "from torch.distributions import Distribution\n"
        "from pyro_vae.svi import execution\n"
        "from pyro_vae.svi.capture import capture\n"
        "for flag in (True, False):\n"
        "    Distribution.set_default_validate_args(flag)\n"
        "    compiled = execution.CompiledGraph(capture(lambda x: x + 1, [torch.zeros(3)]))\n"
        "    assert torch.equal(compiled([torch.zeros(3)]), torch.ones(3))\n"
        "    for _ in range(100):\n"
        "        assert torch.equal(compiled([torch.zeros(2)]), torch.ones(2))\n"
        "    assert compiled._for_any is not None\n"
        "    assert Distribution._validate_args is flag, flag\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
