"""fit(engine=...): the compiled steps of a training, against Pyro's own."""

from __future__ import annotations

import copy
import math
import warnings

import numpy as np
import pyro
import pytest
import torch
from torch import nn

from pyro_vae import VAE, TrainingDivergedError, build, data, fit, likelihoods, posteriors, priors
from pyro_vae.svi import CompiledSVI
from pyro_vae.training.run import Run
from tests.conftest import X, Z, make_context, make_x
from tests.conftest import make_vae as with_context

slow = pytest.mark.slow


class Linear(nn.Module):
    """A net whose graph is small."""

    def __init__(self, inputs, shape):
        super().__init__()
        self.layer, self.shape = nn.Linear(inputs, math.prod(shape)), shape

    def forward(self, x):
        return self.layer(x.flatten(1)).unflatten(1, self.shape)


def make_vae(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        likelihood = likelihoods.Bernoulli(Linear(Z, X))
        return VAE(priors.StandardNormal(Z), likelihood, posteriors.DiagonalNormal(Linear(6, (2 * Z,)))).double()


def train(vae=None, x=None, **options):
    vae, x = vae or make_vae(), make_x(n=40) if x is None else x
    history = fit(vae, x, **{"epochs": 3, "batch_size": 8, "progress": False, **options})
    return vae, history


def records(history):
    return [(r.epoch, r.loss, r.elbo, r.recon, r.kl, r.valid_elbo) for r in history]


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def assert_close(ours, theirs, rel):
    for a, b in zip(records(ours), records(theirs), strict=True):
        assert [n for n in a if n is not None] == pytest.approx([n for n in b if n is not None], rel=rel)


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("n", [41, pytest.param(40, marks=slow), pytest.param(43, marks=slow)])
def test_the_compiled_engine_gives_the_numbers_of_pyro(n):
    """In float64 to ten digits; of 41, the last batch has one row, which is a structure of its own."""
    options = {"x": make_x(n=n), "valid": make_x(n=9)}
    vae, history = train(engine="compiled", **options)
    other, expected = train(engine="pyro", **options)
    assert_close(history, expected, rel=1e-10)
    for a, b in zip(vae.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@slow
@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD, torch.optim.RMSprop])
def test_other_optimisers(optimizer):
    assert_close(
        train(engine="compiled", optimizer=optimizer)[1], train(engine="pyro", optimizer=optimizer)[1], rel=1e-10
    )


@slow
@pytest.mark.usefixtures("uncompiled")
def test_context():
    x = make_x(n=41), *make_context(4, n=41)
    ours, theirs = (train(with_context(context=4), x, engine=engine)[1] for engine in ("compiled", "pyro"))
    assert_close(ours, theirs, rel=1e-10)


@pytest.mark.usefixtures("uncompiled")
def test_stopped_and_resumed_gives_the_same_bits(tmp_path):
    """What ``on_epoch`` changes is kept, too."""

    def change(vae, stop_at=None):
        def on_epoch(record):
            if record.epoch == stop_at:
                raise KeyboardInterrupt
            with torch.no_grad():
                next(vae.parameters()).mul_(0.9 if record.epoch == 1 else 1.0)

        return on_epoch

    options = {"epochs": 4, "engine": "compiled", "valid": make_x(n=9), "batch_size": 20}
    whole, first, rest = make_vae(), make_vae(), make_vae(seed=5)
    _, expected = train(whole, on_epoch=change(whole), out=tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        train(first, on_epoch=change(first, stop_at=2), out=tmp_path / "parts", **options)
    _, history = train(rest, on_epoch=change(rest), out=tmp_path / "parts", resume=True, **options)
    assert records(history) == records(expected)
    assert same(rest, whole)


@slow
@pytest.mark.usefixtures("uncompiled")
def test_the_same_seed_gives_the_same_bits():
    """Compiling draws nothing and leaves weights, buffers and the optimiser as they were."""
    (one, a), (two, b) = train(engine="compiled", epochs=2), train(engine="compiled", epochs=2)
    assert records(a) == records(b)
    assert same(one, two)


class Counts(nn.Module):
    """Counts its calls in a buffer that no checkpoint keeps."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, x):
        if self.training:
            self.calls.add_(1)
        return self.net(x)


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("engine", ["compiled", pytest.param("pyro", marks=slow)])
def test_compiling_counts_for_nothing(engine):
    vae = make_vae()
    vae.posterior.net = Counts(vae.posterior.net)
    train(vae, engine=engine)
    assert vae.posterior.net.calls == 15


@pytest.mark.usefixtures("uncompiled")
def test_the_steps_run_as_graphs(monkeypatch):
    runs = []
    original = Run.__post_init__

    def note(self):
        original(self)
        runs.append(self)

    monkeypatch.setattr(Run, "__post_init__", note)
    state = torch.get_rng_state()
    train(engine="compiled", epochs=2, x=make_x(n=43))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(pyro.get_param_store()) == 0
    (run,) = runs
    assert isinstance(run.svi, CompiledSVI)
    assert run.svi.refused is None
    assert run.svi.captures == 1


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize(
    ("engine", "steps", "compiled"),
    [("auto", 2999, False), ("auto", 3000, True), ("pyro", 3000, False), ("compiled", 1, True)],
)
def test_which_engine(engine, steps, compiled):
    """One step per epoch. Only a step that is to be a graph warns that a net which counts cannot be captured."""
    vae, calls = make_vae(), []
    vae.likelihood.net.register_forward_pre_hook(lambda module, inputs: calls.append(1))

    class EnoughError(Exception):
        pass

    def stop(record):
        raise EnoughError

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(EnoughError):
            train(vae, make_x(n=8), engine=engine, epochs=steps, on_epoch=stop)
    assert any("cannot be captured as one graph" in str(w.message) for w in caught) == compiled


def test_short_trainings_are_pyros_own():
    (vae, history), (other, expected) = train(), train(engine="pyro")
    assert records(history) == records(expected)
    assert same(vae, other)


@pytest.mark.parametrize("engine", ["fast", None, True, "Pyro"])
def test_a_wrong_engine(engine):
    vae = make_vae()
    before = copy.deepcopy(vae)
    with pytest.raises(ValueError, match=f'engine must be "auto", "compiled" or "pyro"; got {engine!r}'):
        train(vae, engine=engine)
    assert same(before, vae)


@pytest.mark.usefixtures("uncompiled")
def test_divergence_names_the_step():
    messages = []
    for engine in ("compiled", "pyro"):
        with pytest.raises(
            TrainingDivergedError, match=r"became .* at step \d+ of epoch \d+ .*Try a smaller lr"
        ) as error:
            train(lr=1e200, schedule="constant", engine=engine)
        messages.append(str(error.value).split("through")[0])
    assert messages[0] == messages[1]


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("engine", ["compiled", pytest.param("pyro", marks=slow)])
@pytest.mark.parametrize("value", [0.3, pytest.param(float("nan"), marks=slow)])
def test_bad_data_in_the_middle_of_an_epoch(engine, value):
    """The VAE is left with the weights of the start."""
    x = make_x(n=40)

    class Late(torch.utils.data.Dataset):
        """Turns bad after so many reads."""

        reads = 0

        def __len__(self):
            return len(x)

        def __getitem__(self, i):
            Late.reads += 1
            return torch.full_like(x[i], value) if Late.reads > 40 else x[i]

    vae = make_vae()
    before = copy.deepcopy(vae)
    with pytest.raises(ValueError, match="x in {0, 1}; got values in|x has NaN"):
        fit(vae, Late(), epochs=3, batch_size=8, engine=engine, progress=False)
    assert same(before, vae)


@slow
def test_history_of_real_data_equals_pyros():
    """Three epochs on digits at the same seed, compiled: each number within 1e-3 nats, the weights too."""
    digits = data.load("digits", binarize="dynamic")
    histories = []
    for engine in ("compiled", "pyro"):
        torch.manual_seed(0)
        vae = build(digits.event_shape, latent_dim=4, hidden=(32,))
        histories.append(fit(vae, digits.train, valid=digits.valid, epochs=3, engine=engine, progress=False))
    for a, b in zip(*map(records, histories), strict=True):
        assert a == pytest.approx(b, abs=1e-3)


@slow
def test_both_engines_reach_the_same_elbo_over_five_seeds():
    """On digits: the means of the last validation ELBOs differ by less than their spread from seed to seed."""
    digits = data.load("digits", binarize="dynamic")
    reached = {"compiled": [], "pyro": []}
    for engine, elbos in reached.items():
        for seed in range(5):
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                vae = build(digits.event_shape, latent_dim=8, hidden=(64,))
            history = fit(vae, digits.train, valid=digits.valid, epochs=20, engine=engine, seed=seed, progress=False)
            elbos.append(list(history)[-1].valid_elbo)
    ours, theirs = np.array(reached["compiled"]), np.array(reached["pyro"])
    assert theirs.std(ddof=1) > 0
    assert abs(ours.mean() - theirs.mean()) < theirs.std(ddof=1)


@pytest.mark.usefixtures("uncompiled")
def test_what_cannot_be_captured_is_trained_by_pyro():
    def branching():
        vae = make_vae()
        inner = vae.posterior.net

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = inner

            def forward(self, x):
                return self.inner(x) if x.mean() > -1 else self.inner(-x)

        vae.posterior.net = Net()
        return vae

    with pytest.warns(UserWarning, match="cannot be captured as one graph: a branch or a number depends on the value"):
        vae, history = train(branching(), engine="compiled")
    other, expected = train(branching(), engine="pyro")
    assert records(history) == records(expected)
    assert same(vae, other)
