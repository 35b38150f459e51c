"""fit() of any model and guide: the numbers of SVI by hand, and all that it does for a VAE."""

from __future__ import annotations

import copy
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import RenyiELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal
from torch import nn

from pyro_vae import TrainingDivergedError, average_elbo, objectives
from tests.test_targets import TARGETS, User, data_for, functions, make_user, with_params
from tests.training.fitting.conftest import records, same
from tests.training.fitting.pairs import X, by_hand, state_of, train

# The numbers.


@pytest.fixture(autouse=True)
def store():
    """Pyro's parameter store, which is cleared afterwards."""
    yield pyro.get_param_store()
    pyro.clear_param_store()


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
