"""fit() of any model and guide: the numbers of SVI by hand, and all that it does for a VAE."""

from __future__ import annotations

import copy
import math
import re

import pyro
import pyro.distributions as dist
import pytest
import safetensors.torch
import torch
import yaml
from pyro.infer import SVI, RenyiELBO, Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule, PyroParam
from torch import nn

from pyro_vae import VAE, TrainingDivergedError, average_elbo, fit, load, objectives
from pyro_vae.data import batches
from pyro_vae.seeds import derive, seeded
from pyro_vae.training.optimizer import learning_rate
from pyro_vae.training.streams import TRAIN_DATA, TRAIN_NOISE
from pyro_vae.value_checks import without_validation
from tests.conftest import make_vae, make_x
from tests.test_targets import OTHERS, TARGETS, User, data_for, functions, make_user, methods, with_params
from tests.training.fitting.conftest import records, same

X = data_for("functions", n=40)
OWN = [name for name in TARGETS if "vae" not in name]


@pytest.fixture(autouse=True)
def store():
    """Pyro's parameter store, which is cleared afterwards."""
    yield pyro.get_param_store()
    pyro.clear_param_store()


def train(target, x=X, **options):
    return fit(target, x, **{"epochs": 3, "batch_size": 10, "lr": 0.02, "progress": False, **options})


def by_hand(target, x, *, epochs=3, lr=0.02, seed=0, objective=None):
    """The losses of pyro.infer.SVI with pyro.optim.SGD, on the batches and with the noise of fit."""
    model, guide = target if isinstance(target, tuple) else (target.model, target.guide)
    supply = batches(x, 10, shuffle=True, seed=derive(seed, TRAIN_DATA), dtype=x.dtype)
    losses = []
    for epoch in range(1, epochs + 1):
        with seeded(derive(seed, TRAIN_NOISE, epoch)), without_validation():
            total = 0.0
            for step, (batch,) in enumerate(supply.epoch(epoch)):
                number = (epoch - 1) * len(supply) + step
                rate = learning_rate(lr, "cosine", number, len(supply), number / len(supply) / epochs)
                svi = SVI(model, guide, pyro.optim.SGD({"lr": rate}), objective or Trace_ELBO())
                total += svi.step(batch)
        losses.append(total / len(x))
    return losses


def state_of(target):
    """Parameters and buffers of a target, copied."""
    tensors = dict(pyro.get_param_store().named_parameters())
    if isinstance(target, nn.Module):
        tensors |= target.state_dict()
    for program in target if isinstance(target, tuple) else ():
        owner = getattr(program, "__self__", program)
        tensors |= owner.state_dict() if isinstance(owner, nn.Module) else {}
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


# The numbers.


@pytest.mark.parametrize("name", TARGETS)
def test_the_losses_are_those_of_svi_by_hand(name):
    """To the last bit, and so are the parameters; twins of each target."""
    x = data_for(name, n=40)
    history = train(TARGETS[name](), x, optimizer=torch.optim.SGD)
    pyro.clear_param_store()
    assert [record.loss for record in history] == by_hand(TARGETS[name](), x)


@pytest.mark.parametrize("make", [make_user, with_params])
def test_the_parameters_are_those_of_svi_by_hand(make):
    ours, by_svi = make(), make()
    train(ours, optimizer=torch.optim.SGD)
    found = state_of(ours)
    pyro.clear_param_store()
    by_hand(by_svi, X)
    expected = state_of(by_svi)
    assert found
    assert all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("objective", [TraceMeanField_ELBO, lambda: RenyiELBO(num_particles=3), objectives.BetaELBO])
def test_other_objectives(objective):
    make_objective = (lambda: objectives.BetaELBO(0.5)) if objective is objectives.BetaELBO else objective
    history = train(functions(), optimizer=torch.optim.SGD, objective=make_objective())
    expected = by_hand(functions(), X, objective=make_objective())
    assert [record.loss for record in history] == pytest.approx(expected, rel=1e-12)


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("name", ["object", "functions", "functions with pyro.param", "PyroModules"])
def test_the_compiled_engine_gives_the_numbers_of_pyro(name):
    compiled = train(TARGETS[name](), valid=X[:9], engine="compiled")
    pyro.clear_param_store()
    by_pyro = train(TARGETS[name](), valid=X[:9], engine="pyro")
    for a, b in zip(records(compiled), records(by_pyro), strict=True):
        assert a == pytest.approx(b, rel=1e-10)


def test_the_terms_are_those_of_the_bound():
    assert_terms_are_those_of_the_bound(train(functions(), epochs=50, lr=1e-300))


def assert_terms_are_those_of_the_bound(history):
    """Without movement, the means of many epochs agree within five standard errors."""
    exact = average_elbo(functions(), X, kl="analytic", num_particles=2000)
    for name in ("recon", "kl"):
        drawn = torch.tensor([getattr(record, name) for record in history])
        assert abs(drawn.mean() - getattr(exact, name)) < 5 * drawn.std() / math.sqrt(len(history))


def test_an_automatic_guide():
    def model(x):
        pyro.module("decoder", decoder)
        loc = pyro.param("loc", torch.zeros(3, dtype=torch.float64))
        z = pyro.sample("z", dist.Normal(torch.zeros(2, dtype=torch.float64), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(decoder(z) + loc, 1.0).to_event(1), obs=x)

    decoder = make_user().decoder
    guide = AutoNormal(model)
    history = train((model, guide), X + 5, epochs=20, lr=0.1)
    assert history[-1].loss < 0.5 * history[0].loss
    assert [-record.elbo for record in history] == pytest.approx([record.loss for record in history], rel=1e-9)
    assert list(pyro.get_param_store()) == ["loc"]
    assert pyro.param("loc").mean() > 1
    assert all(p.dtype is torch.float64 for p in guide.parameters())


class TwoLatents(User):
    """z1 and z2, and a plate of pixels beside that of the examples."""

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x), dim=-2):
            first = pyro.sample("z1", dist.Normal(x.new_zeros(len(x), 1), 1.0))
            second = pyro.sample("z2", dist.Normal(x.new_zeros(len(x), 1), 1.0))
            with pyro.plate("pixels", 3, dim=-1):
                pyro.sample("x", dist.Normal(self.decoder(torch.cat([first, second], -1)), 0.5), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        loc, raw = self.encoder(x).chunk(2, -1)
        with pyro.plate("data", len(x), dim=-2):
            for i in (0, 1):
                scale = nn.functional.softplus(raw[:, i : i + 1]) + 1e-3
                pyro.sample(f"z{i + 1}", dist.Normal(loc[:, i : i + 1], scale))


def twin_of(user):
    twin = TwoLatents().double()
    twin.load_state_dict(user.state_dict())
    return twin


def test_several_latent_sites_and_plates():
    """The same bound as with one latent site of two dimensions, so the same terms per example."""
    history = train(twin_of(make_user()), epochs=20, lr=1e-300)
    assert [record.loss for record in history] == pytest.approx([-record.elbo for record in history], rel=1e-9)
    assert_terms_are_those_of_the_bound(history)


def test_a_second_plate_around_all_sites():
    def model(x):
        with pyro.plate("pixels", 3, dim=-1), pyro.plate("data", len(x), dim=-2):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        loc = pyro.param("loc", torch.zeros(3, dtype=torch.float64))
        with pyro.plate("pixels", 3, dim=-1), pyro.plate("data", len(x), dim=-2):
            pyro.sample("z", dist.Normal(loc, 1.0))

    for record in train((model, guide), batch_size=16):
        assert -record.elbo == pytest.approx(record.loss, rel=1e-9)


def test_validation_of_several_latent_sites():
    """The bound of the same model with one latent site of two dimensions."""
    user = make_user()
    for kind in ({"num_particles": 400}, {"num_particles": 400, "seed": 1}):
        found, one = average_elbo(twin_of(user), X, **kind), average_elbo(user, X, **kind)
        assert (found.recon, found.kl) == pytest.approx((one.recon, one.kl), rel=0.05)
    history = train(twin_of(user), valid=X)
    assert history[-1].valid_elbo > average_elbo(user, X, num_particles=400).elbo


def test_validation_needs_a_plate_over_the_examples():
    def model(x):
        pyro.module("decoder", decoder)
        z = pyro.sample("z", dist.Normal(torch.zeros(2, dtype=torch.float64), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(decoder(z), 1.0).to_event(1), obs=x)

    decoder = make_user().decoder
    with pytest.raises(ValueError, match="must be in one plate over the 40 examples of x, .* got 0 such plates"):
        train((model, AutoNormal(model)), valid=X)


def discrete(enumerated):
    probs = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    locs = nn.Parameter(torch.eye(3, dtype=torch.float64))

    class Discrete(nn.Module):
        def __init__(self):
            super().__init__()
            self.locs, self.probs = locs, probs

        def model(self, x):
            pyro.module("discrete", self)
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.OneHotCategorical(logits=x.new_zeros(3)))
                pyro.sample("x", dist.Normal(z @ self.locs, 1.0).to_event(1), obs=x)

        def guide(self, x):
            pyro.module("discrete", self)
            infer = {"enumerate": "parallel"} if enumerated else {}
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.OneHotCategorical(logits=x @ self.locs.T + self.probs), infer=infer)

    return Discrete()


def test_a_guide_that_enumerates_gets_an_objective_that_sums():
    expected = by_hand(discrete(True), X, objective=TraceEnum_ELBO(max_plate_nesting=1))
    pyro.clear_param_store()
    history = train(discrete(True), optimizer=torch.optim.SGD)
    assert [record.loss for record in history] == expected
    assert [-record.elbo for record in history] == pytest.approx(expected, rel=1e-9)
    assert train(discrete(False), optimizer=torch.optim.SGD)[0].loss != expected[0]


def test_context_reaches_the_programs():
    seen = []

    def model(x, c):
        seen.append(c.shape[1:])
        return user.model(x + c)

    user = make_user()
    train((model, lambda x, c: user.guide(x)), (X, torch.ones(40, 3, dtype=torch.float64)), valid=(X, X))
    assert set(seen) == {(3,)}


def test_float32_data_for_float64_parameters():
    assert records(train(functions(), X.float())) == records(train(functions(), X.float().double()))


# The weights that are kept.


@pytest.mark.parametrize("name", ["object", "methods", "PyroModules", "functions with pyro.param"])
def test_the_best_weights_are_kept(name):
    target, seen = TARGETS[name](), {}
    options = {"epochs": 8, "lr": 1.0, "schedule": "constant", "optimizer": torch.optim.Adam}
    history = train(target, valid=X[:9], **options, on_epoch=lambda r: seen.update({r.epoch: state_of(target)}))
    assert history.best.epoch < 8
    assert same(state_of(target), seen[history.best.epoch])
    assert not same(seen[8], seen[history.best.epoch])


class Breaking(User):
    """Gives NaN from its tenth step on."""

    def __init__(self):
        super().__init__()
        self.steps = 0

    def guide(self, x):
        self.steps += len(x) == 10
        super().guide(x * (math.nan if self.steps > 9 else 1.0))


@pytest.mark.filterwarnings("ignore:Encountered NaN:UserWarning")  # Pyro's; ours is the error
def test_nan_stops_and_leaves_the_last_good_weights():
    target, seen = Breaking(), {}
    words = r"at step \d of epoch [23] .* The pair \(model, guide\) has the weights of epoch [12] again"
    with pytest.raises(TrainingDivergedError, match=words):
        train((target.model, target.guide), on_epoch=lambda r: seen.update({r.epoch: state_of(target)}))
    assert same(state_of(target), seen[max(seen)])


def with_batch_norm():
    norm, frozen = nn.BatchNorm1d(3).double(), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(3)).double()
    for p in frozen.parameters():
        p.requires_grad_(False)
    user = make_user()

    def guide(x):
        pyro.module("norm", norm)
        frozen(x)
        user.guide(norm(x))

    return (user.model, guide), norm, frozen.eval()


def test_buffers_and_modes_of_all_modules_that_are_used():
    target, norm, frozen = with_batch_norm()
    modes, seen = [], []

    def note(module, inputs):
        modes.append((module.training, frozen.training))

    norm.register_forward_pre_hook(note)
    history = train(
        target,
        valid=X[:9],
        epochs=6,
        lr=1.0,
        schedule="constant",
        on_epoch=lambda r: seen.append(norm.running_mean.clone()),
    )
    assert {frozen for _, frozen in modes} == {False}, "a frozen module keeps its mode"
    assert [training for training, _ in modes].count(True) >= 24, "the others train in training mode"
    assert False in [training for training, _ in modes], "and are validated in evaluation mode"
    assert norm.training
    assert torch.equal(norm.running_mean, seen[history.best.epoch - 1])
    assert torch.equal(frozen[1].running_mean, torch.zeros(3, dtype=torch.float64))


def test_a_single_example_is_merged_for_a_batch_norm():
    target, *_ = with_batch_norm()
    with pytest.warns(UserWarning, match="a batch of one example is merged .* BatchNorm1d in norm cannot be trained"):
        train(target, X[:21])


UNUSED = make_user()


def test_modules_that_are_only_near_are_left_alone():
    user, before = make_user(), copy.deepcopy(UNUSED.state_dict())

    def guide(x):
        return user.guide(x) if len(x) else UNUSED.guide(x)

    UNUSED.eval()
    train((user.model, guide), valid=X)
    assert not UNUSED.training
    assert same(UNUSED.state_dict(), before)


# Pyro's parameter store.


def test_parameters_of_the_store_are_trained_and_stay_there(store):
    """They start from what the store has, and nothing else in it changes."""
    pyro.param("mine", torch.ones(2))
    start = torch.full((3,), 7.0, dtype=torch.float64)
    pyro.param("decoder.bias", start.clone())
    bias = dict(store.named_parameters())["decoder.bias"]
    train(with_params(), lr=1e-4)
    assert sorted(store) == ["decoder.bias", "decoder.weight", "encoder.bias", "encoder.weight", "mine"]
    assert dict(store.named_parameters())["decoder.bias"] is bias
    assert 0 < (pyro.param("decoder.bias") - start).abs().max() < 0.1
    assert torch.equal(pyro.param("mine"), torch.ones(2))


def test_constraints_of_the_store_hold(store):
    model, _ = functions()

    def scaled(x):
        scale = pyro.param("scale", torch.tensor(0.3, dtype=torch.float64), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.new_zeros(2), scale).to_event(1))

    train((model, scaled), lr=0.5)
    assert pyro.param("scale") > 0
    assert pyro.param("scale") != 0.3
    fit((model, scaled), X, epochs=1, progress=False)  # goes on from there
    assert list(store) == ["scale"]


def test_modules_leave_nothing_in_the_store(store):
    pyro.param("mine", torch.ones(2))
    train((UserLike(), make_user().guide))
    assert list(store) == ["mine"]


class UserLike(PyroModule):
    """A PyroModule with a parameter that has a constraint."""

    def __init__(self):
        super().__init__()
        self.net = make_user().decoder
        self.scale = PyroParam(torch.tensor(0.5, dtype=torch.float64), dist.constraints.positive)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.net(z), self.scale).to_event(1), obs=x)


def test_trainings_in_turns_share_nothing():
    """PyroModules of the same names, the second trained in the middle of the first."""

    def pair(scale):
        model = UserLike()
        model.scale = torch.tensor(scale, dtype=torch.float64)
        return model, make_user().guide

    alone = [records(train(pair(scale))) for scale in (0.5, 2.0)]
    first, second = pair(0.5), pair(2.0)
    inner = []
    outer = train(first, on_epoch=lambda r: inner.append(train(second)) if r.epoch == 2 else None)
    assert [records(outer), records(inner[0])] == alone


def test_namesakes_in_the_store_are_refused(store):
    """SVI would train them in the place of the module's parameters."""
    pyro.param("decoder$$$weight", torch.zeros(3, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match=re.escape("another tensor than the module's under the name 'decoder$$$wei")):
        train(functions())
    store.clear()
    pyro.module("decoder", (user := make_user()).decoder)  # the module's own
    train((user.model, user.guide))


# Run folders.


@pytest.mark.parametrize("name", ["object", "functions", "PyroModules", "functions with pyro.param"])
def test_a_resumed_training_gives_the_bits_of_an_unbroken_one(tmp_path, name):
    whole = train(TARGETS[name](), valid=X[:9], epochs=4)
    pyro.clear_param_store()

    class StopError(Exception):
        pass

    def stop(record):
        if record.epoch == 2:
            raise StopError

    with pytest.raises(StopError):
        train(TARGETS[name](), valid=X[:9], epochs=4, out=tmp_path, on_epoch=stop)
    pyro.clear_param_store()
    fresh = TARGETS[name]()
    resumed = train(fresh, valid=X[:9], epochs=4, out=tmp_path, resume=True)
    assert records(resumed) == records(whole)


def test_a_run_folder_names_the_programs_and_load_says_what_to_do(tmp_path):
    user = make_user()
    train(user, out=tmp_path)
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert (config["model"], config["guide"], config["dtype"]) == ("User.model", "User.guide", "float64")
    with pytest.raises(ValueError, match="is of a model and guide of your own, not of a VAE. Read weights.safetensors"):
        load(tmp_path)
    other = User().double()
    other.load_state_dict(safetensors.torch.load_file(tmp_path / "weights.safetensors"))
    assert same(other.state_dict(), user.state_dict())
    with pytest.raises(ValueError, match="holds the training of another"):
        train((UserLike(), make_user().guide), out=tmp_path, epochs=5, resume=True)


def test_the_run_folder_of_a_compiled_vae_is_that_of_the_vae(tmp_path):
    vae, x = make_vae("normal_fixed"), make_x("normal_fixed", n=20)
    train(torch.compile(vae), x, out=tmp_path, device="cpu")
    assert same(load(tmp_path).state_dict(), vae.state_dict())


class Shifted(VAE):
    """A VAE with a model of its own: p(x | z) for x - 1."""

    def model(self, x, *context, mask=None):
        return super().model(x - 1, *context, mask=mask)


def test_a_vae_with_a_model_of_its_own_is_trained_by_that(tmp_path):
    vae, x = make_vae("normal_fixed"), make_x("normal_fixed", n=40)
    shifted = Shifted(vae.prior, vae.likelihood, vae.posterior)
    assert average_elbo(shifted, x).elbo == average_elbo((shifted.model, lambda x: shifted.guide(x)), x).elbo
    assert average_elbo(shifted, x).elbo != average_elbo(vae, x).elbo
    expected = by_hand(copy.deepcopy(shifted), x)
    history = train(shifted, x, valid=x[:9], optimizer=torch.optim.SGD, out=tmp_path)
    assert [record.loss for record in history] == expected
    with pytest.raises(ValueError, match="is of a model and guide of your own"):
        load(tmp_path)


# What is refused.


@pytest.mark.parametrize("other", OTHERS)
def test_what_has_no_model_and_guide_is_refused_by_name(other):
    target, words = OTHERS[other]
    with pytest.raises(TypeError, match=f"^vae must .*{re.escape(words)}"):
        fit(target, make_x(), progress=False)


def test_parameters_that_svi_does_not_train_are_refused():
    user = make_user()
    decoder = user.decoder

    def undeclared(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(decoder(z), 0.5).to_event(1), obs=x)

    with pytest.raises(
        ValueError, match=r"use the parameter decoder\.(weight|bias), .* SVI does not train it. Declare"
    ):
        train((undeclared, user.guide))
    decoder.requires_grad_(False)
    before = copy.deepcopy(decoder.state_dict())
    train((undeclared, user.guide))
    assert same(decoder.state_dict(), before)


def test_parameters_that_come_later_are_refused():
    model, guide = functions()
    runs = []

    def later(x):
        runs.append(len(x))
        if len(runs) > 8:
            pyro.param("late", torch.zeros(1, dtype=torch.float64))
        guide(x)

    with pytest.raises(ValueError, match="made the parameter 'late' after their first run, so it is not trained"):
        train((model, later))


def test_a_parameter_with_the_name_of_another_is_refused():
    user = make_user()
    decoder = user.decoder

    def model(x):
        pyro.module("any", decoder)
        bias = pyro.param("decoder.bias", torch.zeros(3, dtype=torch.float64))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(decoder(z) + bias, 0.5).to_event(1), obs=x)

    with pytest.raises(ValueError, match="pyro.param has the name 'decoder.bias', which a tensor of a module has too"):
        train((model, user.guide))


def test_a_latent_site_that_the_guide_lacks_is_refused():
    user = make_user()
    with pytest.raises(ValueError, match="the guide must draw each latent site of the model; it lacks .?z"):
        train((user.model, lambda x: pyro.module("encoder", user.encoder) and None))


def test_programs_without_parameters_are_refused():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 0.5).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x, 1.0).to_event(1))

    with pytest.raises(ValueError, match=r"the pair \(model, guide\) has no parameters to train. Declare them"):
        train((model, guide))


def test_options_that_need_a_vae():
    with pytest.raises(
        ValueError, match="mixed_precision runs networks in bfloat16, those called net in the posterior"
    ):
        train(methods(), mixed_precision=True)
    with pytest.raises(ValueError, match=r"device moves a VAE. Move the modules and tensors of the pair"):
        train(functions(), device="cpu")
    assert len(train(make_user(), device="cpu")) == 3


def test_a_vae_whose_guide_is_the_users_own():
    """Its parameters are found, and the numbers are those of the VAE with the same guide."""
    vae, twin = make_vae("normal_fixed"), make_vae("normal_fixed")
    x = make_x("normal_fixed", n=40)
    found = train((vae.model, lambda x: vae.guide(x)), x)
    assert records(found) == records(train(twin, x))
    assert same(vae.state_dict(), twin.state_dict())
