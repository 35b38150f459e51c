"""Seeds repeat, and generators come back."""

from __future__ import annotations

import pytest
import torch

from pyro_vae.seeds import derive, seeded


def test_seeded_repeats_and_restores():
    before = torch.get_rng_state()
    with seeded(3):
        a = torch.rand(3)
    with seeded(3):
        assert torch.equal(a, torch.rand(3))
    assert torch.equal(before, torch.get_rng_state())


def test_no_seed_leaves_the_generator_running():
    before = torch.get_rng_state()
    with seeded(None):
        torch.rand(3)
    assert not torch.equal(before, torch.get_rng_state())


def test_derived_seeds_differ_by_every_key():
    seeds = {derive(s, a, b) for s in range(10) for a in range(10) for b in range(10)}
    assert len(seeds) == 1000
    assert len({derive(5), derive(5, 0), derive(5, 0, 0), derive(0, 5), derive(2**32), derive(0, 1)}) == 6


@pytest.mark.parametrize("seed", [-1, 1.5, "0", True, None])
def test_unusable_seeds_are_refused(seed):
    with pytest.raises(ValueError, match="seed must be an integer of at least 0; got"):
        derive(seed)
