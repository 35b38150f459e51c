"""fit(): the same numbers as SVI by hand, the same bits again, and nothing lost when something goes wrong."""

from __future__ import annotations

import copy
import math
import os

import numpy as np
import pyro
import pytest
import torch
import yaml
from pyro.infer import SVI, JitTrace_ELBO, RenyiELBO, ReweightedWakeSleep, Trace_ELBO, TraceMeanField_ELBO
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pyro_vae import VAE, TrainingDivergedError, TrainingInterrupted, average_elbo, build, data, fit, likelihoods, load
from pyro_vae.checkpoints import read_last
from pyro_vae.svi.optimizer import SharedOptim
from pyro_vae.training import History, fitting
from pyro_vae.training.optimizer import learning_rate
from pyro_vae.training.run import Run
from tests.conftest import make_context, make_vae, make_x
from tests.vae.test_parameters import ScaledPrior


def train(vae, x=None, **options):
    x = make_x(n=40) if x is None else x
    return fit(vae, x, **{"epochs": 3, "batch_size": 16, "progress": False, **options})


def weights(vae):
    return {name: value.clone() for name, value in vae.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def records(history):
    return [(r.epoch, r.loss, r.elbo, r.recon, r.kl, r.valid_elbo) for r in history]


# What it computes.


@pytest.mark.parametrize("objective", [Trace_ELBO(), TraceMeanField_ELBO(), RenyiELBO(num_particles=3)])
def test_one_batch_of_one_epoch_is_one_step_of_svi(objective):
    """At the smallest learning rate nothing moves, so the epoch's loss is that of the weights it began with."""
    vae, x = make_vae(), make_x(n=8)
    (record,) = train(vae, x, epochs=1, batch_size=8, lr=1e-300, objective=objective)
    losses = []
    for order in (x[torch.randperm(8)] for _ in range(400)):
        losses.append(objective.loss(vae.model, vae.guide, order) / 8)
    spread = torch.tensor(losses).std().item()
    assert abs(record.loss - np.mean(losses)) < 5 * spread  # one draw against the mean of 400


def test_the_records_are_recon_minus_kl():
    for record in train(
        make_vae(context=4), (make_x(n=40), *make_context(4, n=40)), valid=(make_x(), *make_context(4))
    ):
        assert record.elbo == pytest.approx(record.recon - record.kl, rel=1e-9)
        assert record.loss == pytest.approx(-record.elbo, rel=1e-9)
        assert record.seconds > 0


@pytest.mark.parametrize(
    "objective",
    [
        Trace_ELBO(num_particles=4),
        Trace_ELBO(num_particles=4, vectorize_particles=True, max_plate_nesting=1),
        TraceMeanField_ELBO(),
        RenyiELBO(alpha=0, num_particles=4, vectorize_particles=True, max_plate_nesting=1),
    ],
)
def test_the_terms_are_those_of_the_vae_under_any_objective(objective):
    """Without movement, the terms of many epochs agree with the average over the data within 5 standard errors."""
    vae, x = make_vae("normal_fixed"), make_x("normal_fixed", n=40)
    history = train(vae, x, epochs=60, lr=1e-300, objective=objective)
    exact = average_elbo(vae, x, kl="analytic", num_particles=5000)
    for name, value in (("recon", exact.recon), ("kl", exact.kl)):
        drawn = np.array([getattr(record, name) for record in history])
        assert abs(drawn.mean() - value) < 5 * drawn.std() / math.sqrt(60)


def test_training_improves_the_bound_on_real_data():
    digits = data.load("digits", binarize="dynamic")
    torch.manual_seed(0)
    vae = build(digits.event_shape, latent_dim=4, hidden=(64,))
    history = fit(vae, digits.train, valid=digits.valid, epochs=30, lr=5e-3, progress=False)
    assert history[-1].valid_elbo > -28
    assert history[0].valid_elbo < -32
    assert average_elbo(vae, digits.test).elbo > -28


def test_the_vae_ends_with_the_best_weights():
    vae, x = make_vae(), make_x(n=40)
    valid, seen = make_x(n=20), {}
    history = train(
        vae,
        x,
        valid=valid,
        epochs=8,
        lr=0.3,
        schedule="constant",
        on_epoch=lambda r: seen.update({r.epoch: weights(vae)}),
    )
    assert same(weights(vae), seen[history.best.epoch])
    assert history.best.valid_elbo == max(r.valid_elbo for r in history)


def test_without_validation_the_vae_ends_with_the_last_weights():
    vae, seen = make_vae(), {}
    train(vae, epochs=3, on_epoch=lambda r: seen.update({r.epoch: weights(vae)}))
    assert same(weights(vae), seen[3])


def test_patience_stops_after_epochs_without_a_better_bound():
    history = train(make_vae(), valid=make_x(n=20), epochs=200, lr=0.3, schedule="constant", patience=3)
    assert len(history) < 200
    assert len(history) == history.best.epoch + 3


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_learning_rate_follows_its_schedule(schedule):
    rates = []

    class Recording(torch.optim.SGD):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    train(make_vae(), lr=1e-3, schedule=schedule, epochs=4, optimizer=Recording)  # 40 examples: three steps an epoch
    assert rates == pytest.approx([learning_rate(1e-3, schedule, i, 3, i / 12) for i in range(12)], rel=1e-12)
    assert rates[0] < rates[3]


class Watching(nn.Module):
    """Notes what it is given, and in which mode."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.seen = inner, []

    def forward(self, x):
        self.seen.append((self.training, x))
        return self.inner(x)


def test_training_shuffles_in_training_mode_and_validates_in_evaluation_mode():
    whole, x = make_vae("normal_fixed"), torch.arange(8.0).reshape(8, 1, 1).expand(8, 2, 3).double()
    vae = VAE(whole.prior, whole.likelihood, Watching(whole.posterior)).eval()
    train(vae, x, valid=x[:2], epochs=6, batch_size=8)
    orders = [tuple(x[:, 0, 0].tolist()) for training, x in vae.posterior.seen if training]
    assert len(orders) == 6
    assert len(set(orders)) > 1
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert [len(x) for training, x in vae.posterior.seen if not training] == [8, 2] + 6 * [2]


def test_optimisers_of_torch_are_taken():
    vae = make_vae()
    twin = copy.deepcopy(vae)
    train(vae, lr=0.01, optimizer=torch.optim.SGD)
    train(twin, lr=0.01)
    assert not same(weights(vae), weights(twin))


def test_shared_optimiser_takes_the_steps_of_pyros_own():
    x = make_x(n=30)
    ours, pyros = make_vae(), make_vae()
    for vae, optim in (
        (ours, SharedOptim(torch.optim.Adam(ours.parameters(), lr=1e-2))),
        (pyros, pyro.optim.Adam({"lr": 1e-2})),
    ):
        pyro.set_rng_seed(1)
        svi = SVI(vae.model, vae.guide, optim, loss=Trace_ELBO())
        for _ in range(10):
            svi.step(x)
    for p, q in zip(ours.parameters(), pyros.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


# Seeds and isolation.


def test_the_same_seed_gives_the_same_bits():
    first, second, other = make_vae(), make_vae(), make_vae()
    digits = data.load("digits", binarize="dynamic").train[:100]
    vaes = [build(digits.pixels.shape[1:], latent_dim=2, hidden=(8,)) for _ in range(3)]
    for vae in vaes[1:]:
        vae.load_state_dict(vaes[0].state_dict())
    histories = [
        fit(v, digits, valid=digits, epochs=2, seed=s, progress=False) for v, s in zip(vaes, (1, 1, 2), strict=True)
    ]
    first, second, other = map(weights, vaes)
    assert same(first, second)
    assert records(histories[0]) == records(histories[1])
    assert not same(first, other)


def test_generators_and_the_store_are_left_as_they_were():
    pyro.param("mine", torch.ones(2))
    before = torch.get_rng_state()
    train(make_vae(), valid=make_x())
    assert torch.equal(before, torch.get_rng_state())
    assert list(pyro.get_param_store().keys()) == ["mine"]
    pyro.clear_param_store()


def test_trainings_in_turns_give_what_each_gives_alone():
    def options(vae):
        return {"valid": make_x(n=10), "epochs": 4, "seed": 3}

    alone = [make_vae(seed=s) for s in (1, 2)]
    for vae in alone:
        train(vae, **options(vae))
    a, b = (make_vae(seed=s) for s in (1, 2))
    # The whole training of b, and a draw from the generator, take place after the second epoch of a.
    train(a, **options(a), on_epoch=lambda r: (torch.rand(3), train(b, **options(b))) if r.epoch == 2 else None)
    assert same(weights(a), weights(alone[0]))
    assert same(weights(b), weights(alone[1]))


def test_pyro_modules_of_the_same_names_do_not_share():
    """The best weights of b are chosen by b's own prior, whatever was trained before."""

    def options(vae):
        return {"valid": make_x(n=20), "epochs": 3, "seed": 1}

    whole = make_vae()
    alone, a, b = (
        VAE(ScaledPrior(s), copy.deepcopy(whole.likelihood), copy.deepcopy(whole.posterior)) for s in (5.0, 1.0, 5.0)
    )
    expected = records(train(alone, **options(alone)))
    train(a, **options(a))
    assert records(train(b, **options(b))) == expected


def test_parameters_in_pyros_store_are_refused():
    def prior():
        return pyro.distributions.Normal(pyro.param("loc", torch.zeros(2).double()), 1.0).to_event(1)

    whole = make_vae()
    with pytest.raises(ValueError, match="prior prior keeps the parameter 'loc' in Pyro's parameter store"):
        train(VAE(prior, whole.likelihood, whole.posterior))


def test_the_mode_of_the_vae_stays():
    vae = make_vae().eval()
    train(vae)
    assert not vae.training


# Kinds of data.


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        lambda x: x.numpy(),
        lambda x: (x,),
        lambda x: TensorDataset(x, torch.arange(len(x))),
        lambda x: DataLoader(TensorDataset(x, torch.arange(len(x))), batch_size=16, shuffle=True),
    ],
    ids=["tensor", "array", "tuple", "dataset", "loader"],
)
def test_any_kind_of_data_trains(wrap):
    vae = make_vae()
    before = weights(vae)
    history = train(vae, wrap(make_x(n=40)), valid=wrap(make_x(n=20)))
    assert len(history) == 3
    assert not same(before, weights(vae))


def test_context_of_a_loader_is_taken_where_it_is_asked_for():
    dataset = TensorDataset(make_x(n=40), *make_context(4, n=40))
    train(make_vae(context=4), dataset, has_context=True)
    with pytest.raises(ValueError, match="was built for 4 context features; got 0"):
        train(make_vae(context=4), dataset)


# Run folders.


def test_a_run_folder_gives_the_vae_back(tmp_path):
    digits = data.load("digits", binarize="dynamic", labels=True)
    vae = build(digits.event_shape, latent_dim=2, hidden=(8,), context_features=10)
    history = fit(vae, digits.train[:100], valid=digits.valid, epochs=2, out=tmp_path / "run", progress=False)
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "config.yaml",
        "weights.safetensors",
        "last.safetensors",
        "history.jsonl",
    }
    again = load(tmp_path / "run")
    assert same(weights(again), weights(vae))
    assert type(again.prior) is type(vae.prior)
    assert records(History.read(tmp_path / "run" / "history.jsonl")) == records(history)
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (config["data"], config["binarize"], config["labels"]) == ("digits", "dynamic", True)
    assert config["shapes"] == {"x": [1, 8, 8], "context": 10}
    assert (config["epochs"], config["seed"], config["dtype"]) == (2, 0, "float32")


def test_float64_comes_back_as_float64(tmp_path):
    vae = make_vae("normal_learned")
    train(vae, make_x("normal_learned", n=20), out=tmp_path, epochs=1)
    again = load(tmp_path)
    assert next(again.parameters()).dtype == torch.float64
    assert same(weights(again), weights(vae))


def test_parts_without_a_name_are_said_at_load_and_the_vae_can_be_given(tmp_path):
    whole = make_vae()
    vae = VAE(
        lambda: pyro.distributions.Laplace(torch.zeros(2).double(), 1.0).to_event(1), whole.likelihood, whole.posterior
    )
    train(vae, out=tmp_path, epochs=1)
    with pytest.raises(ValueError, match=r"the prior of .* cannot be built .*<lambda>.*load\(run, vae=vae\)"):
        load(tmp_path)
    other = copy.deepcopy(vae)
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    assert same(weights(load(tmp_path, vae=other)), weights(vae))


def test_numbers_of_numpy_are_numbers(tmp_path):
    vae = VAE(
        make_vae().prior,
        likelihoods.Normal(make_vae("normal_fixed").likelihood.net, scale=np.float64(0.3)),
        make_vae().posterior,
    )
    options = {
        "epochs": np.int64(2),
        "batch_size": np.int64(16),
        "lr": np.float64(1e-3),
        "seed": np.int64(1),
        "patience": np.int64(5),
    }
    train(vae, make_x("normal_fixed", n=40), out=tmp_path, **options)
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert [config[name] for name in options] == [2, 16, 1e-3, 1, 5]
    assert config["likelihood"]["scale"] == 0.3
    assert same(weights(load(tmp_path)), weights(vae))


def test_a_configuration_that_cannot_be_written_is_refused_before_the_training(tmp_path):
    with pytest.raises(ValueError, match="config must hold plain numbers, text, lists and mappings"):
        train(make_vae(), out=tmp_path, config={"a": object()})


def test_shared_modules_are_said_at_load(tmp_path):
    whole = make_vae()

    class Aggregate(nn.Module):
        """As a VampPrior does, it holds the posterior."""

        def __init__(self, posterior):
            super().__init__()
            self.posterior, self.x = posterior, nn.Parameter(make_x(n=1))

        def forward(self):
            return self.posterior(self.x)

    vae = VAE(Aggregate(whole.posterior), whole.likelihood, whole.posterior)
    train(vae, out=tmp_path, epochs=1)
    with pytest.raises(
        ValueError, match="the posterior of .* cannot be built .*shares a module with the prior|the prior of"
    ):
        load(tmp_path)
    assert same(weights(load(tmp_path, vae=copy.deepcopy(vae))), weights(vae))


def test_what_the_command_line_does_not_have_is_recorded(tmp_path):
    train(make_vae(), out=tmp_path, optimizer=torch.optim.SGD)
    text = (tmp_path / "config.yaml").read_text()
    assert "optimizer: SGD" in text
    assert "in Python" in text.splitlines()[0]


@pytest.mark.parametrize("changed", [{"lr": 0.5}, {"batch_size": 8}, {"seed": 9}, {"schedule": "constant"}])
def test_a_training_goes_on_only_with_the_same_options(tmp_path, changed):
    train(make_vae(), out=tmp_path)
    text = (tmp_path / "config.yaml").read_text()
    ((name, value),) = changed.items()
    with pytest.raises(ValueError, match=f"was trained with {name} = .*; got {value}. Go on with the same"):
        train(make_vae(), out=tmp_path, resume=True, epochs=5, **changed)
    assert (tmp_path / "config.yaml").read_text() == text


def test_an_early_stopped_training_stays_stopped(tmp_path):
    options = {"valid": make_x(n=20), "epochs": 200, "lr": 0.3, "schedule": "constant", "patience": 3, "out": tmp_path}
    vae = make_vae()
    history = train(vae, **options)
    assert records(train(make_vae(), **options, resume=True)) == records(history)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(FileExistsError, match=r"is not empty. Choose another out, or go on with its run: resume=True"):
        train(make_vae(), out=tmp_path)
    with pytest.raises(FileExistsError, match="out must be a folder; .*precious.txt is a file"):
        train(make_vae(), out=tmp_path / "precious.txt")
    assert os.listdir(tmp_path) == ["precious.txt"]


class StopError(Exception):
    pass


@pytest.mark.parametrize("stopped_at", [1, 3])
def test_a_resumed_training_gives_the_bits_of_an_unbroken_one(tmp_path, stopped_at):
    options = {"valid": make_x(n=10), "epochs": 5, "seed": 1}
    unbroken, broken = make_vae(), make_vae()
    whole = train(unbroken, **options)

    def stop(record):
        if record.epoch == stopped_at:
            raise StopError

    with pytest.raises(StopError):
        train(broken, **options, out=tmp_path, on_epoch=stop)
    fresh = make_vae(seed=7)
    resumed = train(fresh, **options, out=tmp_path, resume=True)
    assert same(weights(fresh), weights(unbroken))
    assert records(resumed) == records(whole)
    assert same(weights(load(tmp_path)), weights(unbroken))


def test_checkpoints_are_written_while_training_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "_SECONDS_BETWEEN_WRITES", 0.0)
    seen = []
    train(make_vae(), out=tmp_path, on_epoch=lambda r: seen.append(len(History.read(tmp_path / "history.jsonl"))))
    assert seen == [1, 2, 3]


def test_resuming_a_finished_training_changes_nothing(tmp_path):
    vae = make_vae()
    train(vae, out=tmp_path, valid=make_x())
    files = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.name != "last.safetensors"}
    last = read_last(tmp_path)
    other = make_vae(seed=5)
    assert len(train(other, out=tmp_path, valid=make_x(), resume=True)) == 3
    assert same(weights(other), weights(vae))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.name != "last.safetensors"} == files
    again = read_last(tmp_path)
    assert same(again[0], last[0])
    assert again[2] == last[2]
    assert all(same(again[1][i], last[1][i]) for i in last[1])


def test_resuming_what_is_not_there_or_of_another_vae(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing to go on from"):
        train(make_vae(), out=tmp_path, resume=True)
    train(make_vae(), out=tmp_path)
    with pytest.raises(
        ValueError, match="has finished 3 epochs already; to go on, ask for more epochs than that, not 2"
    ):
        train(make_vae(), out=tmp_path, epochs=2, resume=True)
    with pytest.raises(ValueError, match="holds the training of another VAE"):
        train(make_vae("normal_fixed", context=4), (make_x(), *make_context(4)), out=tmp_path, resume=True)


# When something goes wrong.


class Interrupting(nn.Module):
    """Raises Ctrl-C on its n-th call."""

    def __init__(self, inner, n):
        super().__init__()
        self.inner, self.n, self.calls = inner, n, 0

    def forward(self, *inputs):
        self.calls += 1
        if self.calls == self.n:
            raise KeyboardInterrupt
        return self.inner(*inputs)


def test_ctrl_c_keeps_the_last_finished_epoch_and_says_how_to_go_on(tmp_path):
    whole, seen = make_vae(), {}
    # One call for the first-batch check, then three steps an epoch: call 9 is in the third epoch.
    vae = VAE(whole.prior, Interrupting(whole.likelihood, 9), whole.posterior)
    with pytest.raises(
        TrainingInterrupted, match=r"epoch 2 of 5 is kept in .*Go on with the same fit\(..., out=.*resume=True"
    ) as stop:
        train(vae, epochs=5, out=tmp_path, on_epoch=lambda r: seen.update({r.epoch: weights(vae)}))
    assert isinstance(stop.value, KeyboardInterrupt)
    assert same(weights(vae), seen[2])
    assert len(History.read(tmp_path / "history.jsonl")) == 2
    assert same(weights(load(tmp_path, vae=copy.deepcopy(vae), weights="last")), seen[2])
    vae.likelihood.n = -1
    assert len(train(vae, epochs=5, out=tmp_path, resume=True)) == 5


def test_ctrl_c_between_the_end_of_an_epoch_and_its_snapshot(tmp_path, monkeypatch):
    snapshot = Run._snapshot

    def interrupt(run, epoch):
        if epoch == 2:
            raise KeyboardInterrupt
        return snapshot(run, epoch)

    monkeypatch.setattr(Run, "_snapshot", interrupt)
    with pytest.raises(TrainingInterrupted, match="epoch 1 of 3 is kept"):
        train(make_vae(), out=tmp_path)
    assert [r.epoch for r in History.read(tmp_path / "history.jsonl")] == [1]


@pytest.mark.parametrize("place", ["train", "valid"])
def test_bad_data_in_the_middle_leave_the_last_good_weights(place):
    vae, seen = make_vae(), {}

    class Souring(torch.utils.data.Dataset):
        """NaN from the second pass on (the third look at the first row, after the check)."""

        def __init__(self):
            self.looks = 0

        def __len__(self):
            return 20

        def __getitem__(self, i):
            self.looks += i == 0
            return make_x(n=1)[0] * (math.nan if self.looks > 3 and i == 0 else 1)

    data_sets = {"train": make_x(n=20), "valid": make_x(n=20), place: Souring()}
    with pytest.raises(ValueError, match="^x has NaN"):
        train(
            vae,
            data_sets["train"],
            valid=data_sets["valid"],
            epochs=9,
            on_epoch=lambda r: seen.update({r.epoch: weights(vae)}),
        )
    assert same(weights(vae), seen[max(seen)])


def test_a_validation_bound_that_is_no_number_stops_training():
    whole = make_vae("normal_fixed")

    class Bad(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.calls = whole.likelihood, 0

        def forward(self, z):
            self.calls += not self.training
            d = self.inner(z)
            return d if self.calls < 4 else pyro.distributions.Normal(d.mean, math.nan, validate_args=False).to_event(2)

    vae = VAE(whole.prior, Bad(), whole.posterior)
    seen = {}
    with (
        pyro.validation_enabled(False),
        pytest.raises(
            TrainingDivergedError, match="the validation elbo became NaN after epoch 2: recon must not hold NaN"
        ),
    ):
        train(
            vae,
            make_x("normal_fixed"),
            valid=make_x("normal_fixed"),
            epochs=5,
            on_epoch=lambda r: seen.update({r.epoch: weights(vae)}),
        )
    assert same(weights(vae), seen[1])


@pytest.mark.parametrize("flag", [True, False])
def test_validation_flags_are_left_as_they_were(flag):
    Distribution = torch.distributions.Distribution  # noqa: N806
    before = Distribution._validate_args
    try:
        Distribution.set_default_validate_args(flag)
        train(make_vae())
        assert Distribution._validate_args is flag
    finally:
        Distribution.set_default_validate_args(before)


def test_ctrl_c_without_a_folder_or_before_the_first_epoch(tmp_path):
    for n, message in ((9, "epoch 2 of 5 is kept in the VAE. Give fit"), (2, "nothing was kept")):
        whole = make_vae()
        with pytest.raises(TrainingInterrupted, match=message):
            train(VAE(whole.prior, Interrupting(whole.likelihood, n), whole.posterior), epochs=5)
    with pytest.raises(TrainingInterrupted, match="nothing was kept"):
        train(VAE(whole.prior, Interrupting(whole.likelihood, 2), whole.posterior), out=tmp_path)
    assert not list(tmp_path.iterdir())


class Breaking(nn.Module):
    """Gives a distribution without finite densities from its n-th call on."""

    def __init__(self, inner, n):
        super().__init__()
        self.inner, self.n, self.calls = inner, n, 0

    def forward(self, *inputs):
        self.calls += 1
        d = self.inner(*inputs)
        if self.calls < self.n:
            return d
        nan = d.mean * math.nan
        return (
            type(d.base_dist)(nan, nan).to_event(1)
            if d.event_dim == 1
            else pyro.distributions.Bernoulli(logits=nan).to_event(2)
        )


@pytest.mark.filterwarnings("ignore:Encountered NaN:UserWarning")  # Pyro's; ours is the error
@pytest.mark.parametrize(("part", "term"), [("likelihood", "recon"), ("prior", "kl")])
def test_nan_stops_with_step_term_and_last_good_checkpoint(tmp_path, part, term):
    whole, seen = make_vae(), {}
    parts = {"prior": whole.prior, "likelihood": whole.likelihood, "posterior": whole.posterior}
    vae = VAE(**{**parts, part: Breaking(parts[part], 9)})
    with pytest.raises(
        TrainingDivergedError,
        match=rf"the loss became nan at step 2 of epoch 3 \(step 8 in all\), through {term} .*"
        rf"The VAE has the weights of epoch 2 again. The last good checkpoint is .*last.safetensors. Try a smaller lr",
    ):
        train(vae, epochs=5, out=tmp_path, on_epoch=lambda r: seen.update({r.epoch: weights(vae)}))
    assert same(weights(vae), seen[2])
    assert same(weights(load(tmp_path, vae=copy.deepcopy(vae), weights="last")), seen[2])


@pytest.mark.filterwarnings("ignore:Encountered NaN:UserWarning")  # Pyro's; ours is the error
def test_a_learning_rate_that_is_too_high_is_reported_and_undone():
    vae = make_vae("normal_fixed")
    before = weights(vae)
    with pytest.raises(TrainingDivergedError, match=r"of epoch 1 .*weights of epoch 0 \(the start\) again"):
        train(vae, make_x("normal_fixed", n=40), lr=1e300, optimizer=torch.optim.SGD, schedule="constant")
    assert same(weights(vae), before)


def test_weights_that_become_nan_in_the_last_step_are_reported():
    """The loss of the only step is finite; its gradient, and so the weights after it, are not."""

    class Cliff(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * math.nan

    whole = make_vae()
    vae = VAE(whole.prior, lambda z: whole.likelihood(Cliff.apply(z)), whole.posterior)
    before = weights(vae)
    with pytest.raises(
        TrainingDivergedError, match="the weights became NaN or infinite at step 1 of epoch 1 .*the gradient"
    ):
        train(vae, make_x(n=8), valid=make_x(), epochs=1)
    assert same(weights(vae), before)


# Bad arguments.


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"lr": -1e-3}, ValueError, "lr must be a finite number above 0; got -0.001. 1e-3 is a usual value"),
        ({"lr": 0.0}, ValueError, "lr must be a finite number above 0; got 0.0"),
        ({"lr": math.nan}, ValueError, "lr must be a finite number above 0; got nan"),
        ({"epochs": 0}, ValueError, "epochs must be an integer of at least 1; got 0"),
        ({"epochs": 1.5}, ValueError, "epochs must be an integer of at least 1; got 1.5"),
        ({"batch_size": 0}, ValueError, "batch_size must be an integer of at least 1; got 0"),
        ({"schedule": "linear"}, ValueError, 'schedule must be "cosine", "constant" or "staircase"; got \'linear\''),
        ({"patience": 0}, ValueError, "patience must be an integer of at least 1; got 0"),
        ({"seed": -1}, ValueError, "seed must be an integer of at least 0; got -1"),
        ({"resume": True}, ValueError, "resume needs out="),
        ({"objective": "Trace_ELBO"}, TypeError, "objective must be a Pyro ELBO"),
        ({"objective": JitTrace_ELBO()}, TypeError, "fit cannot minimise JitTrace_ELBO"),
        ({"objective": ReweightedWakeSleep()}, TypeError, "fit cannot minimise ReweightedWakeSleep"),
        ({"valid": data.batches(torch.zeros(2, 2, 3))}, TypeError, "valid must be the data themselves, not batches"),
        ({"optimizer": pyro.optim.Adam({"lr": 1e-3})}, TypeError, "optimizer must make a torch optimiser"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        train(make_vae(), **options)


@pytest.mark.parametrize("place", ["train", "valid"])
def test_bad_data_are_refused_before_anything_is_written(tmp_path, place):
    grey = torch.linspace(0, 0.996, 12, dtype=torch.float64).reshape(2, 2, 3)
    nan = torch.full((2, 2, 3), math.nan, dtype=torch.float64)
    for bad, message in (
        (grey, r"^likelihood Bernoulli needs x in \{0, 1\}; got values in \[0, 0.996\]"),
        (nan, "^x has NaN"),
        (torch.zeros(0, 2, 3), "data must hold at least one example; got none"),
        (torch.zeros(4, 3, 3), r"MLP needs input of shape \(batch, 2, 3\); got \(4, 3, 3\)"),
        ((make_x(n=4), torch.zeros(3, 4)), "context 0 must have one row an example: 4; got 3"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(make_vae(), **{"train": make_x(), "valid": make_x(), place: bad}, out=tmp_path, progress=False)
        assert not list(tmp_path.iterdir())


def test_a_vae_without_parameters_is_refused():
    normal = pyro.distributions.Normal
    vae = VAE(
        lambda: normal(torch.zeros(2), 1.0).to_event(1),
        lambda z: normal(z, 1.0).to_event(1),
        lambda x: normal(x, 1.0).to_event(1),
    )
    with pytest.raises(ValueError, match="the VAE has no parameters to train"):
        fit(vae, torch.zeros(3, 2))


def test_an_empty_stream_is_refused():
    class Empty(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(())

    with pytest.raises(ValueError, match="valid must hold at least one example; got none"):
        train(make_vae(), valid=Empty())


def test_an_iterator_that_runs_dry_is_named():
    class Once(torch.utils.data.IterableDataset):
        def __init__(self):
            self.rows = iter(make_x(n=20))

        def __iter__(self):
            return self.rows

    with pytest.raises(ValueError, match="gave no batch in epoch 1; an iterator gives its data only once"):
        train(make_vae(), Once(), batch_size=30)
