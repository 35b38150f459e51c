"""Right programs of kinds that are easily taken for wrong: plates, data and decoders as people write them in Pyro."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.nn import PyroModule, PyroParam, pyro_method
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_vae import build, check
from pyro_vae.programs import Programs
from tests.checks.mutants.common import BATCH, ELEMENTS, LATENTS, Binary, Plain, Setup, bits, net, reals
from tests.checks.mutants.plates import InPlate, Pixels, Subsampled
from tests.checks.mutants.seeing import CausalConvolution, MaskedLinear, Recurrent


@pytest.fixture(autouse=True)
def _fresh():
    torch.manual_seed(0)
    yield
    pyro.clear_param_store()


RIGHT = {}


def right(make):
    """Puts a function that makes a setup into the table."""
    RIGHT[make.__name__] = make
    return make


# Plates.


@right
def a_subsample_of_positions():
    return Setup(Subsampled(lambda x: {"subsample": torch.arange(len(x))}, 500), reals(), {"data_size": 500})


@right
def a_subsample_of_an_odd_size():
    return Setup(Subsampled(lambda x: {"subsample": x}, 1797), reals(13), {"data_size": 1797})


@right
def a_subsample_of_a_large_table():
    return Setup(Subsampled(lambda x: {"subsample": torch.arange(len(x))}, 50_000), reals(), {"data_size": 50_000})


@right
def a_subsample_that_pyro_chooses():
    return Setup(Subsampled(lambda x: {"subsample_size": len(x)}, 1000), reals(), {"data_size": 1000})


@right
def a_subsample_that_is_all_there_is():
    return Setup(Subsampled(lambda x: {"subsample": x}, BATCH), reals(), {"data_size": BATCH})


@right
def a_subsample_by_index_as_context():
    class Model(Plain):
        def model(self, x, index):
            pyro.module("vae", self)
            with pyro.plate("data", 300, subsample=index):
                z = pyro.sample("z", self.prior(x))
                pyro.sample("x", self.likelihood(z), obs=x)

        def guide(self, x, index):
            pyro.module("vae", self)
            with pyro.plate("data", 300, subsample=index):
                pyro.sample("z", self.posterior(x))

    return Setup(Model(), reals(), {"context": [torch.arange(BATCH) * 7 + 3], "data_size": 300})


@right
def closures_with_a_subsample():
    vae = Subsampled(lambda x: {"subsample": torch.arange(len(x))}, 1000)
    return Setup((lambda x: vae.model(x), lambda x: vae.guide(x)), reals())


@right
def a_scale_by_hand_in_float32():
    class Model(Plain):
        def model(self, x):
            with poutine.scale(scale=torch.tensor(500 / len(x))):
                super().model(x)

        def guide(self, x):
            with poutine.scale(scale=torch.tensor(500 / len(x))):
                super().guide(x)

    return Setup(Model(), reals(12), {"data_size": 500})


@right
def a_weight_for_each_example():
    class Model(Plain):
        def model(self, x, weight):
            with poutine.scale(scale=weight):
                super().model(x)

        def guide(self, x, weight):
            with poutine.scale(scale=weight):
                super().guide(x)

    weight = 0.5 + torch.rand(BATCH, generator=torch.Generator().manual_seed(0))
    return Setup(Model(), reals(), {"context": [weight]})


@right
def a_plate_of_pixels():
    return Setup(Pixels(), reals())


@right
def a_plate_of_pixels_in_a_subsample():
    return Setup(Pixels(500), reals(), {"data_size": 500})


@right
def plates_of_rows_and_columns():
    class Model(Plain):
        def model(self, x):
            pyro.module("vae", self)
            with pyro.plate("data", len(x), dim=-3):
                z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), 1, 1, LATENTS), 1.0).to_event(1))
                with pyro.plate("rows", 2, dim=-2), pyro.plate("columns", 3, dim=-1):
                    pyro.sample("x", dist.Normal(self.decoder(z).reshape(-1, 2, 3), 0.5), obs=x)

        def guide(self, x):
            pyro.module("vae", self)
            with pyro.plate("data", len(x), dim=-3):
                mean, log_variance = (t[:, None, None] for t in self.encode(x.flatten(1)))
                pyro.sample("z", dist.Normal(mean, torch.exp(log_variance / 2)).to_event(1))

    return Setup(Model(), reals().reshape(-1, 2, 3))


@right
def pixels_of_scalar_codes():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.raw = nn.Parameter(torch.linspace(-1, 1, ELEMENTS)), nn.Parameter(torch.zeros(()))

        def model(self, x):
            pyro.module("vae", self)
            with pyro.plate("data", len(x), dim=-2):
                z = pyro.sample("z", dist.Normal(0.0 * x[:, :1], 1.0))
                with pyro.plate("pixels", x.shape[1], dim=-1):
                    pyro.sample("x", dist.Normal(z * self.weight, 0.7), obs=x)

        def guide(self, x):
            pyro.module("vae", self)
            with pyro.plate("data", len(x), dim=-2):
                pyro.sample("z", dist.Normal((x @ self.weight)[:, None] / 3, self.raw.exp()))

    return Setup(Model(), reals())


# Data.


@right
def levels_whose_draws_are_integers():
    class Model(Plain):
        def __init__(self):
            super().__init__()
            self.decoder = net(LATENTS, 8, 5 * ELEMENTS)

        def likelihood(self, z):
            return dist.Categorical(logits=self.decoder(z).unflatten(-1, (ELEMENTS, 5))).to_event(1)

    return Setup(Model(), (reals() * 1.2 + 2).round().clamp(0, 4))


class Counts(Plain):
    """Counts, of which the encoder sees the logs."""

    def encode(self, x):
        return super().encode(torch.log1p(x.to(self.encoder[0].weight.dtype)))

    def prior(self, x):
        return dist.Normal(self.encoder[0].weight.new_zeros(len(x), LATENTS), 1.0).to_event(1)

    def likelihood(self, z):
        return dist.Poisson(F.softplus(self.decoder(z)) + 0.1).to_event(1)


@right
def integers_whose_draws_are_floats():
    return Setup(Counts(), torch.arange(BATCH * ELEMENTS).reshape(BATCH, ELEMENTS) % 5)


@right
def binomials_of_grey_levels():
    class Model(Plain):
        def likelihood(self, z):
            return dist.Binomial(255, logits=self.decoder(z)).to_event(1)

    return Setup(Model(), torch.randint(0, 256, (BATCH, ELEMENTS)).float())


@right
def counts_of_thousands():
    model = build(ELEMENTS, LATENTS, likelihood="negative_binomial", hidden=(16,))
    return Setup(model, torch.poisson(4000 * torch.rand(32, ELEMENTS)))


@right
def poisson_counts_of_thousands():
    class Model(Counts):
        def likelihood(self, z):
            return dist.Poisson(self.decoder(z).exp()).to_event(1)

    return Setup(Model(), torch.poisson(4000 * torch.rand(BATCH, ELEMENTS)))


@right
def data_with_a_gradient():
    class Model(Plain):
        def model(self, x, c):
            super().model(x)

        def guide(self, x, c):
            super().guide(x + 0.1 * c)

    return Setup(Model(), reals().requires_grad_(), {"context": [reals(seed=4).requires_grad_()]})


@right
def bits_as_bools():
    class Model(Binary):
        def model(self, x):
            pyro.module("vae", self)
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(self.decoder[0].weight.new_zeros(len(x), LATENTS), 1.0).to_event(1))
                pyro.sample("x", self.likelihood(z), obs=x.to(z.dtype))

        def guide(self, x):
            super().guide(x.to(self.decoder[0].weight.dtype))

    return Setup(Model(), bits() > 0)


@right
def labels_as_context():
    class Model(Binary):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(3, LATENTS)

        def model(self, x, label):
            pyro.module("vae", self)
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(self.embedding(label), 1.0).to_event(1))
                pyro.sample("x", self.likelihood(z), obs=x)

        def guide(self, x, label):
            super().guide(x)

    return Setup(Model(), bits(), {"context": [torch.arange(BATCH) % 3]})


@right
def a_copy_changed_in_place():
    class Model(Plain):
        def encode(self, x):
            x = x.clone()
            x -= 0.1
            x.div_(1.1)
            return super().encode(x)

    return Setup(Model(), reals())


# Sites.


@right
def a_parameter_of_pyros_beside_modules():
    class Model(Plain):
        def likelihood(self, z):
            scale = pyro.param("scale", torch.tensor(0.5), constraint=dist.constraints.positive)
            return dist.Normal(self.decoder(z), scale).to_event(1)

    return Setup(Model(), reals())


@right
def a_module_of_pyros():
    class Model(PyroModule):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = PyroModule[nn.Linear](ELEMENTS, 4), PyroModule[nn.Linear](LATENTS, ELEMENTS)
            self.scale = PyroParam(torch.tensor(0.5), constraint=dist.constraints.positive)

        @pyro_method
        def model(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), LATENTS), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(self.decoder(z), self.scale).to_event(1), obs=x)

        @pyro_method
        def guide(self, x):
            with pyro.plate("data", len(x)):
                mean, log_scale = self.encoder(x).chunk(2, -1)
                pyro.sample("z", dist.Normal(mean, log_scale.exp()).to_event(1))

    return Setup(Model(), reals())


@right
def values_that_are_computed():
    class Model(Plain):
        def likelihood(self, z):
            return dist.Normal(pyro.deterministic("mean", self.decoder(z), event_dim=1), self.scale).to_event(1)

    return Setup(Model(), reals())


@right
def elements_left_out_by_a_mask():
    class Model(Plain):
        def model(self, x, seen):
            pyro.module("vae", self)
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", self.prior(x))
                pyro.sample("x", dist.Normal(self.decoder(z), self.scale).mask(seen).to_event(1), obs=x)

        def guide(self, x, seen):
            super().guide(torch.where(seen, x, 0.0))

    seen = torch.rand(BATCH, ELEMENTS, generator=torch.Generator().manual_seed(0)) > 0.3
    return Setup(Model(), reals(), {"context": [seen]})


# Distributions.


@right
def correlated_noise():
    class Model(Plain):
        def likelihood(self, z):
            factor = 0.3 * torch.ones(ELEMENTS, 1, dtype=z.dtype)
            return dist.LowRankMultivariateNormal(self.decoder(z), factor, torch.full_like(factor[:, 0], 0.3))

    return Setup(Model(), reals())


@right
def tails_without_a_mean():
    class Model(Plain):
        def likelihood(self, z):
            return dist.Cauchy(self.decoder(z), self.scale).to_event(1)

    return Setup(Model(), reals())


@right
def a_mixture_for_each_element():
    class Model(Plain):
        def __init__(self):
            super().__init__()
            self.decoder = net(LATENTS, 8, 3 * ELEMENTS)

        def likelihood(self, z):
            means = self.decoder(z).unflatten(-1, (ELEMENTS, 3))
            mixture = dist.MixtureSameFamily(dist.Categorical(logits=0.3 * means), dist.Normal(means, 0.5))
            return mixture.to_event(1)

    return Setup(Model(), reals())


@right
def codes_on_a_simplex():
    class Model(Counts):
        def prior(self, x):
            return dist.Dirichlet(self.encoder[0].weight.new_full((len(x), LATENTS + 1), 1.5))

        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = net(ELEMENTS, 8, LATENTS + 1), net(LATENTS + 1, 8, ELEMENTS)

        def posterior(self, x):
            return dist.Dirichlet(F.softplus(self.encoder(torch.log1p(x))) + 0.5)

    return Setup(Model(), torch.poisson(2 * torch.rand(BATCH, ELEMENTS)))


@right
def a_class_as_code_that_need_not_be_summed_over():
    class Model(Binary):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = net(ELEMENTS, 8, 4), net(4, 8, ELEMENTS)

        def prior(self, x):
            return dist.OneHotCategorical(logits=x.new_zeros(len(x), 4))

        def posterior(self, x):
            return dist.OneHotCategorical(logits=self.encoder(x))

    return Setup(Model(), bits())


@right
def a_class_as_code_in_a_subsample():
    class Model(Subsampled):
        def __init__(self):
            super().__init__(lambda x: {"subsample": x}, 500)
            self.encoder, self.decoder = net(ELEMENTS, 8, 4), net(4, 8, ELEMENTS)

        def prior(self, x):
            return dist.OneHotCategorical(logits=x.new_zeros(len(x), 4))

        def posterior(self, x):
            return dist.OneHotCategorical(logits=self.encoder(x))

    return Setup(Model(), reals(), {"data_size": 500})


@right
def a_class_as_code_in_a_model_that_only_takes_draws():
    class Model(Binary):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = net(ELEMENTS, 8, 4), net(4, 8, ELEMENTS)

        def prior(self, x):
            return dist.OneHotCategorical(logits=x.new_zeros(len(x), 4))

        def posterior(self, x):
            return dist.OneHotCategorical(logits=self.encoder(x))

        def likelihood(self, z):
            return super().likelihood(z.reshape(-1, 4))

    return Setup(Model(), bits())


# Decoders that see x.


@right
def a_masked_linear_decoder():
    return Setup(MaskedLinear(), bits())


@right
def a_causal_convolution():
    return Setup(CausalConvolution(), reals())


@right
def a_recurrent_decoder_of_tokens():
    return Setup(Recurrent(), torch.arange(BATCH * 5).reshape(BATCH, 5) * 7 % 11 % 4)


@right
def a_decoder_from_the_last_element_to_the_first():
    class Model(MaskedLinear):
        def seen(self, x):
            return x @ torch.triu(self.weight, 1).T

    return Setup(Model(), bits())


@right
def a_decoder_of_halves():
    """The second half given the first, as coupling layers have it."""

    class Model(InPlate):
        def __init__(self):
            super().__init__()
            self.skip = nn.Linear(3, 3)

        def likelihood_given(self, z, x):
            mean = self.decoder(z)
            return dist.Normal(torch.cat([mean[:, :3], mean[:, 3:] + self.skip(x[:, :3])], 1), 0.5).to_event(1)

    return Setup(Model(), reals())


SEE_X = (
    "a_masked_linear_decoder",
    "a_causal_convolution",
    "a_recurrent_decoder_of_tokens",
    "a_decoder_from_the_last_element_to_the_first",
    "a_decoder_of_halves",
)


def run(setup: Setup, **more):
    options = dict(setup.options)
    return check(setup.vae, setup.x, *options.pop("context", []), **{"repeats": 20} | options | more)


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_program_passes(name):
    report = run(RIGHT[name]())
    assert report.passed, [(line.name, line.finding.detail) for line in report.failures]
    assert any(line.verdict == "passed" for line in report)


def test_there_are_many():
    assert len(RIGHT) >= 25


@pytest.mark.parametrize("name", SEE_X)
def test_a_decoder_that_sees_x_passes_in_words_and_draws_no_data(name):
    report = run(RIGHT[name](), only=["peeking", "calibration", "evidence", "trace-elbo"])
    assert "each element only earlier ones" in report["peeking"].finding.detail
    assert report["calibration"].verdict == "skipped"
    assert "data cannot be simulated: p(x|z) depends on the x" in report["calibration"].finding.detail
    assert report["trace-elbo"].verdict == "passed"


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("name", ["counts_of_thousands", "binomials_of_grey_levels", "poisson_counts_of_thousands"])
def test_large_counts_are_reached_whatever_the_seed(name, seed):
    torch.manual_seed(seed)
    report = run(RIGHT[name](), only=["reach"], seed=seed)
    assert report["reach"].verdict == "passed", report["reach"].finding.detail


def test_a_code_that_need_not_be_summed_over_is():
    report = run(RIGHT["a_class_as_code_that_need_not_be_summed_over"](), only=["enum-elbo"])
    assert report["enum-elbo"].verdict == "passed"
    report = run(RIGHT["a_class_as_code_in_a_model_that_only_takes_draws"](), only=["enum-elbo"])
    assert report["enum-elbo"].verdict == "skipped"


def test_what_is_repeated_has_the_same_terms_beyond_the_size_of_the_plate():
    """Sixty draws of 16 rows are more than the 20 examples of the plate."""
    x = reals()
    plain = Programs(Plain(), x)
    z = plain.draw(60)
    expected = plain.terms(z)
    for how in ({"subsample_size": len(x)}, {"subsample": x}, {"subsample": torch.arange(len(x))}):

        def choose(rows: Tensor, how=how):
            return {"subsample_size": len(rows)} if "subsample_size" in how else {"subsample": rows}

        subsampled = Programs(Subsampled(choose, 20), x)
        torch.testing.assert_close(subsampled.terms(z), expected)


def test_the_parameters_of_a_module_of_pyros_stay_as_they_are():
    setup = RIGHT["a_module_of_pyros"]()
    before = {name: value.clone() for name, value in setup.vae.named_parameters()}
    assert run(setup, only=["reach", "gradient"]).passed
    assert all(torch.equal(value, before[name]) for name, value in setup.vae.named_parameters())
    assert all(value.dtype == torch.float32 for value in setup.vae.parameters())
