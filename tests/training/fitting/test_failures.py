"""Nothing is lost when something goes wrong in the middle of a training."""

from __future__ import annotations

import copy
import math

import pyro
import pytest
import torch
from torch import nn

from pyro_vae import VAE, TrainingDivergedError, TrainingInterrupted, load
from pyro_vae.training import History
from tests.conftest import make_vae, make_x
from tests.training.fitting.conftest import same, train, weights


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


def test_ctrl_c_between_the_end_of_an_epoch_and_its_snapshot(tmp_path):
    """A snapshot copies the weights; the first copy after the three steps of epoch 2 is its snapshot."""
    vae, steps, interrupted = make_vae(), [], []

    def interrupt(module, prefix, keep_vars):
        if len(steps) == 6 and not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt

    vae.likelihood.register_forward_pre_hook(lambda module, inputs: steps.append(1) if module.training else None)
    vae.register_state_dict_pre_hook(interrupt)
    with pytest.raises(TrainingInterrupted, match="epoch 1 of 3 is kept"):
        train(vae, out=tmp_path)
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

    class Steep(torch.nn.Module):
        def __init__(self, likelihood):
            super().__init__()
            self.likelihood = likelihood

        def forward(self, z):
            return self.likelihood(Cliff.apply(z))

    whole = make_vae()
    vae = VAE(whole.prior, Steep(whole.likelihood), whole.posterior)
    before = weights(vae)
    with pytest.raises(
        TrainingDivergedError, match="the weights became NaN or infinite at step 1 of epoch 1 .*the gradient"
    ):
        train(vae, make_x(n=8), valid=make_x(), epochs=1)
    assert same(weights(vae), before)
