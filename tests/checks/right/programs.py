"""Right programs with data, sites, distributions and decoders that are easily taken for wrong."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule, PyroParam, pyro_method
from torch import nn
from torch.nn import functional as F

from pyro_vae import build
from tests.checks.mutants.common import BATCH, ELEMENTS, LATENTS, Binary, Plain, Setup, bits, net, reals
from tests.checks.mutants.plates import InPlate
from tests.checks.mutants.seeing import CausalConvolution, MaskedLinear, Recurrent
from tests.checks.right.table import right

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
            self.gain = PyroParam(torch.ones(ELEMENTS))

        @pyro_method
        def model(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), LATENTS), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(self.gain * self.decoder(z), self.scale).to_event(1), obs=x)

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


class Box(dist.TorchDistribution):
    """Uniform within two scales of its middle: its ends move with its parameters."""

    arg_constraints, support, has_rsample = {}, dist.constraints.real, True

    def __init__(self, loc, scale):
        self.loc, self.scale = loc, scale
        super().__init__(loc.shape, validate_args=False)

    def expand(self, shape, _instance=None):
        return Box(self.loc.expand(shape), self.scale.expand(shape))

    def rsample(self, sample_shape=()):
        return self.loc + self.scale * (4 * torch.rand(self._extended_shape(sample_shape)).to(self.loc) - 2)

    def log_prob(self, value):
        inside = (value - self.loc).abs() <= 2 * self.scale * (1 + 1e-6)
        return torch.where(inside, -torch.log(4 * self.scale), -torch.inf)


@right
def a_posterior_in_a_box():
    class Model(Plain):
        def posterior(self, x):
            mean, log_variance = self.encode(x)
            return Box(mean, torch.exp(log_variance / 2)).to_event(1)

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


class ClassAsCode(InPlate):
    """A code of four values, of which the guide does not say that they are to be summed over."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = net(ELEMENTS, 8, 4), net(4, 8, ELEMENTS)

    def prior(self, x):
        return dist.OneHotCategorical(logits=x.new_zeros(len(x), 4))

    def posterior(self, x):
        return dist.OneHotCategorical(logits=self.encoder(x))


@right
def a_class_as_code_that_need_not_be_summed_over():
    return Setup(ClassAsCode(), reals())


@right
def a_class_as_code_in_a_subsample():
    class Model(ClassAsCode):
        def plate(self, x):
            return pyro.plate("data", 500, subsample=x)

    return Setup(Model(), reals(), {"data_size": 500})


@right
def a_class_as_code_in_a_model_that_only_takes_draws():
    class Model(ClassAsCode):
        def likelihood(self, z):
            return super().likelihood(z.reshape(-1, 4))

    return Setup(Model(), reals())


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
