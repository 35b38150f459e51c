"""Compiled graphs, with and without a compiler."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pyro
import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed

from pyro_vae.svi import execution
from tests.svi.compiled_svi.small import (
    batches,
    grey,
    losses_of,
    make_vae,
    normalised,
    same,
    slow,
    stock_of,
    svi_of,
    weights,
    with_nan,
)


def broken(monkeypatch):
    def compile_(module, examples, options):
        raise RuntimeError("no g++ here")

    monkeypatch.setattr(torch._inductor, "compile", compile_)
    monkeypatch.setattr(execution, "_warned", False)


def test_without_a_compiler_it_runs_uncompiled_and_says_so_once(monkeypatch):
    broken(monkeypatch)
    expected = losses_of(stock_of(make_vae()), batches())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        svi = svi_of(make_vae(), mode="fast")
        assert losses_of(svi, batches()) == pytest.approx(expected, rel=1e-12)
        assert losses_of(svi_of(make_vae(), mode="fast"), batches()) == pytest.approx(expected, rel=1e-12)
    assert len(caught) == 1
    assert "torch.compile does not work here" in str(caught[0].message)
    assert "needs g++" in str(caught[0].message)
    assert svi.refused is None


def test_where_no_graph_for_any_size_compiles_it_runs_uncompiled_and_says_so_once(monkeypatch):
    def compile_(module, **options):
        def fail(*args):
            raise BackendCompilerFailed(lambda: None, RuntimeError("no g++ here"), None)

        return fail

    monkeypatch.setattr(torch._inductor, "compile", lambda module, examples, options: module)
    monkeypatch.setattr(torch, "compile", compile_)
    monkeypatch.setattr(execution, "_warned", False)
    sizes = (8, 8, *[3, 5] * 51, 8)  # after 100 steps of other sizes it compiles for any size
    expected = losses_of(stock_of(make_vae()), batches(sizes))
    svi = svi_of(make_vae(), mode="fast")
    with pytest.warns(UserWarning, match="torch.compile does not work here") as caught:
        assert losses_of(svi, batches(sizes)) == pytest.approx(expected, rel=1e-12)
    assert len(caught) == 1
    assert svi.refused is None


PROGRAM = """
import os, sys, warnings
import torch, pyro
from pyro.infer import Trace_ELBO
from pyro_vae import CompiledSVI, build
torch.manual_seed(0)
vae = build((6,), 2, hidden=(8,))
svi = CompiledSVI(vae.model, vae.guide, torch.optim.Adam(vae.parameters(), lr=1e-3), Trace_ELBO())
x = torch.rand(16, 6).bernoulli()
"""


def in_a_process(program, **environment):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + program], env=environment, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@slow
def test_where_there_is_no_compiler(tmp_path):
    out = in_a_process(
        """
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(5):
        loss = svi.step(x)
print(svi.captures, svi.refused, float(loss) > 0, [str(w.message)[:31] for w in caught if "torch.compile" in str(w.message)])
""",
        CXX="/nonexistent/g++",
        PATH=os.path.dirname(sys.executable),
        TORCHINDUCTOR_CACHE_DIR=str(tmp_path),
    )
    assert out.strip() == "1 None True ['torch.compile does not work her']"


def test_compiled_float64_is_stock_to_nine_digits():
    """Also with a last batch of another size; bad data are refused and change nothing."""
    sizes = (8,) * 10 + (3,) + (8,) * 9
    vae, other = make_vae(), make_vae()
    svi = svi_of(vae, mode="fast")
    expected = losses_of(stock_of(other), batches(sizes))
    assert losses_of(svi, batches(sizes)) == pytest.approx(expected, rel=1e-9)
    same(weights(other), weights(vae), rtol=1e-9)
    assert svi.captures == 1
    before = weights(vae)
    for bad in (grey, with_nan):
        with pytest.raises(ValueError, match="needs x in {0, 1}|x has NaN"):
            svi.step(bad())
    same(before, weights(vae))


@slow
def test_compiled_float32_is_stock_to_four_digits():
    calls = batches((8,) * 20, dtype=torch.float32)
    vae, other = make_vae(dtype=torch.float32), make_vae(dtype=torch.float32)
    expected = losses_of(stock_of(other, pyro.optim.ClippedAdam({"lr": 1e-2, "lrd": 0.99})), calls)
    svi = svi_of(vae, pyro.optim.ClippedAdam({"lr": 1e-2, "lrd": 0.99}), mode="fast")
    assert losses_of(svi, calls) == pytest.approx(expected, rel=1e-4)
    assert svi.captures == 1


@slow
@pytest.mark.parametrize("name", ["adamw-fused", "sgd", "rmsprop"])
def test_compiled_with_other_optimisers(name):
    make = {
        "adamw-fused": lambda vae: torch.optim.AdamW(vae.parameters(), lr=1e-2, fused=True),
        "sgd": lambda vae: torch.optim.SGD(vae.parameters(), lr=1e-3, momentum=0.9, nesterov=True),
        "rmsprop": lambda vae: pyro.optim.RMSprop({"lr": 1e-3}),
    }[name]
    vae, other = make_vae(), make_vae()
    expected = losses_of(stock_of(other, make(other)), batches((8,) * 20))
    assert losses_of(svi_of(vae, make(vae), mode="fast"), batches((8,) * 20)) == pytest.approx(expected, rel=1e-9)


@slow
def test_compiled_with_dropout_and_batch_normalisation_in_both_modes():
    def steps(make):
        vae = normalised()
        svi, losses = make(vae), []
        for i, x in enumerate(batches((8,) * 12)):
            vae.train(i // 3 % 2 == 0)
            losses += losses_of(svi, [x], seed=i)
        return losses, vae

    expected, other = steps(stock_of)
    losses, vae = steps(lambda vae: svi_of(vae, mode="fast"))
    assert losses == pytest.approx(expected, rel=1e-9)
    # The gradient of a bias before batch normalisation is zero except for rounding, which Adam enlarges.
    same(weights(other), weights(vae), rtol=1e-6)


@slow
def test_many_batches_of_other_sizes_compile_a_graph_for_any_size():
    sizes = (8, 8, *([3, 5, 7] * 50), 8)
    expected = losses_of(stock_of(make_vae()), batches(sizes))
    svi = svi_of(make_vae(), mode="fast")
    assert losses_of(svi, batches(sizes)) == pytest.approx(expected, rel=1e-7)
    assert svi.captures == 1


@slow
def test_memory_stays_flat_over_ten_thousand_steps():
    """Resident memory grows by less than 1 % after the first 500."""
    out = in_a_process(
        """
def resident():
    return int(open("/proc/self/statm").read().split()[1])
for i in range(10_000):
    svi.step(x)
    if i == 500:
        first = resident()
print(svi.captures, resident() / first)
"""
    )
    captures, growth = out.split()
    assert captures == "1"
    assert float(growth) < 1.01


@slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_step_takes_no_more_memory_than_pyros():
    """The peak, above the memory before the first step and with the compiler's own, is at most a fifth higher."""
    peaks = {}
    for made in (
        "SVI(vae.model, vae.guide, optim, Trace_ELBO())",
        "CompiledSVI(vae.model, vae.guide, optim, Trace_ELBO())",
    ):
        out = in_a_process(
            f"""
from pyro.infer import SVI
vae, optim = build((784,), 50, hidden=(400,)), pyro.optim.Adam({{"lr": 1e-3}})
svi, x = {made}, torch.rand(16_384, 784).bernoulli()
def status(name):
    return int(next(line for line in open("/proc/self/status") if line.startswith(name)).split()[1])
before = status("VmRSS")
for _ in range(6):
    svi.step(x)
print(status("VmHWM") - before)
"""
        )
        peaks[made.split("(")[0]] = int(out)
    assert peaks["CompiledSVI"] < 1.2 * peaks["SVI"]
