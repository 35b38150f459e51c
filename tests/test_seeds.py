"""Seeds repeat, and generators come back."""

from __future__ import annotations

import contextlib
import random

import numpy as np
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


@pytest.mark.parametrize("devices", [0, 1])
def test_devices_that_are_not_in_use_yet_are_seeded_too(monkeypatch, devices):
    seen = []
    monkeypatch.setattr("pyro_vae.seeds._has_devices", lambda: devices > 0)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seen.append)
    with seeded(3):
        a = torch.rand(3)
    assert seen == [3] * devices
    assert torch.equal(a, torch.rand(3, generator=torch.Generator().manual_seed(3)))


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


# NumPy's global functions are what is tested here.
# ruff: noqa: NPY002
def _draws():
    return torch.rand(2).tolist(), np.random.rand(2).tolist(), np.random.normal(), random.random()


def test_numpy_and_python_repeat_too():
    with seeded(3):
        a = _draws()
    with seeded(3):
        assert _draws() == a
    with seeded(4):
        assert _draws() != a


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_all_generators_are_left_as_they_were_whatever_ends_the_block(error):
    np.random.seed(1)
    np.random.normal()  # NumPy draws two and keeps one for the next time
    random.gauss(0, 1)  # as Python does
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    with contextlib.suppress(ValueError, KeyboardInterrupt), seeded(2**40):
        _draws()
        np.random.seed(5)
        random.seed(5)
        if error:
            raise error
    assert torch.equal(before[0], torch.get_rng_state())
    assert all(np.array_equal(a, b) for a, b in zip(before[1], np.random.get_state(), strict=True))
    assert before[2] == random.getstate()


def test_a_bit_generator_of_another_kind_comes_back():
    mine, other = np.random.get_bit_generator(), np.random.PCG64(5)
    np.random.set_bit_generator(other)
    try:
        with seeded(2):
            a = np.random.rand()
        with seeded(2):
            assert np.random.rand() == a
        assert np.random.get_bit_generator() is other
        assert np.random.rand() == np.random.Generator(np.random.PCG64(5)).random()
    finally:
        np.random.set_bit_generator(mine)
