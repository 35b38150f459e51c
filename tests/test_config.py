"""A VAE from names and numbers, and back."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO
from torch import nn

from pyro_vae import VAE, build, likelihoods, nets, posteriors, priors
from pyro_vae.config import KINDS, describe, find, make_objective
from pyro_vae.registry import NotAllowedError, allowing


class Wide(priors.StandardNormal):
    """A prior of a user's."""

    def __init__(self, latent_dim: int, width: float = 2.0) -> None:
        super().__init__(latent_dim)
        self.width = width
        self.scale *= width


class Forgetful(priors.StandardNormal):
    """Does not keep its argument."""

    def __init__(self, latent_dim: int, width: float = 2.0) -> None:
        super().__init__(latent_dim)


class MyLikelihood(nn.Module):
    """Asks for everything that is filled in."""

    def __init__(self, net: nn.Module, event_shape: tuple[int, ...], latent_dim: int) -> None:
        super().__init__()
        self.net, self.event_shape, self.latent_dim = net, event_shape, latent_dim

    def forward(self, z, *context):
        return likelihoods.Bernoulli(self.net)(z, *context)


class Decoding(nn.Module):
    """Calls its network by another name."""

    def __init__(self, decoder: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        self.decoder, self.scale = decoder, scale

    def forward(self, z):
        return torch.distributions.Independent(torch.distributions.Laplace(self.decoder(z), self.scale), 1)


def wide_prior(*context):
    return Wide(3)()


def ramp(step):
    """A schedule of a user's."""
    return step / 100


HERE = __name__
VAE_ = build((3,), latent_dim=2, hidden=(4,))


def test_build_fills_in_shapes():
    vae = build((1, 4, 4), latent_dim=3, hidden=(7, 5), activation="Tanh", context_features=2)
    assert vae.prior.latent_dim == 3
    encoder, decoder = vae.posterior.net, vae.likelihood.net
    assert (encoder.in_shape, encoder.hidden, encoder.out_shape, encoder.context_features) == (
        (1, 4, 4),
        (7, 5),
        (6,),
        2,
    )
    assert (decoder.in_shape, decoder.hidden, decoder.out_shape, decoder.context_features) == (
        (3,),
        (5, 7),
        (1, 4, 4),
        2,
    )
    assert isinstance(encoder.layers[1], nn.Tanh)


def test_build_takes_arguments_dotted_paths_and_nets():
    vae = build(
        (2, 2),
        latent_dim=3,
        prior={"class": f"{HERE}.Wide", "width": 5.0},
        likelihood={"class": "Normal", "scale": "per_element", "net": {"class": "MLP", "hidden": [9]}},
        posterior={"class": "DiagonalNormal", "net": nets.MLP((2, 2), (), 6)},
    )
    assert vae.prior().base_dist.scale.tolist() == [5.0] * 3
    assert vae.likelihood.net.hidden == (9,)
    assert vae.likelihood.net.out_shape == (2, 2, 2)
    assert vae.sample(2, seed=0).shape == (2, 2, 2)


def test_build_takes_functions_and_classes_of_the_users():
    vae = build((4,), latent_dim=3, prior=f"{HERE}.wide_prior", likelihood=f"{HERE}.MyLikelihood")
    assert vae.prior is wide_prior
    assert (vae.likelihood.event_shape, vae.likelihood.latent_dim, vae.likelihood.net.out_shape) == ((4,), 3, (4,))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prior": "StandardNormale"}, r"unknown prior 'StandardNormale'; .*Did you mean 'StandardNormal'\?"),
        ({"prior": "vampp"}, r"there are .*, VampPrior \(vamp\), and .*Did you mean 'VampPrior'\?"),
        ({"prior": "MyPrior"}, "unknown prior 'MyPrior'; there are .*such as my_module.MyClass.$"),
        ({"prior": "mog"}, r"Did you mean 'MixtureOfNormals'\?"),
        ({"likelihood": "Gaussian"}, r"Did you mean 'Normal'\?"),
        (
            {"prior": "Bernoulli"},
            "unknown prior 'Bernoulli'; there are .*StandardNormal.*, and your own by dotted path",
        ),
        ({"likelihood": "no.such.Class"}, "likelihood 'no.such.Class' cannot be imported: No module named 'no'"),
        ({"likelihood": "math.Gauss"}, "likelihood 'math.Gauss' cannot be imported"),
        (
            {"prior": {"class": "StandardNormal", "scale": 2}},
            "prior StandardNormal has no argument 'scale'; it has none",
        ),
        (
            {"prior": {"class": "vamp", "component": 2}},
            r"prior VampPrior has no argument 'component'; it has components. Did you mean components\?$",
        ),
        ({"prior": {"latent_dim": 2}}, "prior must name its class under 'class'"),
        ({"prior": 3}, "prior must be a name, or a mapping with a name under 'class'; got 3"),
        ({"prior": priors.StandardNormal(2)}, r"got StandardNormal\(latent_dim=2\).*already goes into VAE"),
        (
            {"prior": {"class": f"{HERE}.wide_prior", "a": 1}},
            "prior wide_prior is a function and takes no arguments here",
        ),
        ({"likelihood": {"class": "Normal", "scale": -1.0}}, "scale must be a finite number above 0; got -1.0"),
        (
            {"posterior": {"class": "DiagonalNormal", "net": {"class": "MLP", "depth": 3}}},
            "net MLP has no argument 'depth'",
        ),
        (
            {"prior": "torch.nn.Linear"},
            r"prior Linear\(in_features, out_features, .*\) cannot be made from {}: .*missing",
        ),
    ],
)
def test_what_cannot_be_built_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        build((4,), **options)


def test_descriptions_build_the_same_vae_again():
    vae = build(
        (1, 2, 3),
        latent_dim=2,
        hidden=(5,),
        prior={"class": f"{HERE}.Wide", "width": 3.0},
        likelihood={"class": "Normal", "scale": 0.25},
    )
    described = {part: describe(getattr(vae, part)) for part in ("prior", "likelihood", "posterior")}
    assert described["prior"] == {"class": f"{HERE}.Wide", "latent_dim": 2, "width": 3.0}
    assert described["likelihood"]["scale"] == 0.25
    again = build((1, 2, 3), **described)
    again.load_state_dict(vae.state_dict())
    assert torch.equal(vae.sample(4, seed=1), again.sample(4, seed=1))


def test_networks_by_another_name_are_described_and_built_too():
    described = describe(Decoding(nets.MLP(2, (3,), 4), 0.5))
    again = build((4,), latent_dim=2, likelihood=described).likelihood
    assert isinstance(again, Decoding)
    assert (again.scale, again.decoder.hidden, again.decoder.out_shape) == (0.5, (3,), (4,))


def test_shapes_may_be_single_numbers():
    vae = build(8, latent_dim=2, hidden=16)
    assert vae.sample(3, seed=0).shape == (3, 8)


def test_activations_given_as_classes_are_described_by_name():
    assert describe(nets.MLP(2, (3,), 1, activation=nn.Tanh))["activation"] == "Tanh"


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (lambda: None, "<lambda> of .* cannot be found again by name; define it in a module"),
        (
            Forgetful(2),
            "Forgetful does not keep its constructor's argument 'width' as an attribute; add self.width = width",
        ),
        (nn.Sequential(), r"Sequential takes \*args, which cannot be written"),
        (posteriors.DiagonalNormal(nn.Sequential()), "Sequential"),
        (object(), "a object cannot be written to a configuration"),
    ],
)
def test_what_cannot_be_described_is_named(thing, message):
    with pytest.raises(ValueError, match=message):
        describe(thing)


def test_objectives_by_name():
    assert type(make_objective("Trace_ELBO", VAE_)) is Trace_ELBO
    renyi = make_objective({"class": "RenyiELBO", "alpha": 0.5, "num_particles": 3}, VAE_)
    assert (type(renyi), renyi.alpha, renyi.num_particles) == (RenyiELBO, 0.5, 3)
    assert make_objective({"num_particles": 4}, VAE_).num_particles == 4


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("ELBOW", "unknown objective 'ELBOW'; there are .*TraceMeanField_ELBO.*Trace_ELBO"),
        ("SVI", "unknown objective 'SVI'"),
        ({"class": "Trace_ELBO", "beta": 2}, "objective Trace_ELBO has no argument 'beta'; it has num_particles"),
        ({"class": "iwae", "k": 5}, "objective IWAE.* has no argument 'k'; it has num_particles, vectorize_particles"),
        ({"class": "beta", "k": 5}, "objective BetaELBO.* has no argument 'k'; it has beta, .*num_particles"),
    ],
)
def test_unknown_objectives_are_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        make_objective(spec, VAE_)


def test_built_vaes_are_vaes():
    assert isinstance(build((3,)), VAE)


@pytest.mark.parametrize(
    ("room", "short", "found"),
    [
        ("prior", "vamp", priors.VampPrior),
        ("prior", "standard_normal", priors.StandardNormal),
        ("prior", "StandardNormal", priors.StandardNormal),
        ("prior", "normal", priors.Normal),
        ("prior", "mixture", priors.MixtureOfNormals),
        ("prior", "sphere", priors.UniformOnSphere),
        ("posterior", "normal", posteriors.DiagonalNormal),
        ("posterior", "iaf", posteriors.InverseAutoregressiveFlow),
        ("posterior", "power-spherical", posteriors.PowerSpherical),
        ("likelihood", "bernoulli", likelihoods.Bernoulli),
        ("likelihood", "student_t", likelihoods.StudentT),
        ("net", "conv_encoder", nets.ConvEncoder),
    ],
)
def test_short_names(room, short, found):
    assert find(room, short) is found


def test_usual_words_hint_at_names_that_are_there():
    for kind in KINDS.values():
        for word, name in kind.usual.items():
            assert name in kind.classes
            with pytest.raises(ValueError, match=f"unknown {kind.name} '{word}'.*Did you mean '{name}'"):
                find(kind.name, word)


def test_names_differ_in_more_than_case_and_underscores():
    for room in (priors, likelihoods, posteriors, nets):
        names = [n.lower() for n in room.__all__ if isinstance(getattr(room, n), type)]
        assert len(set(names)) == len(names)


def test_the_posterior_is_filled_into_a_prior_that_asks_for_it():
    vae = build((3,), 2, hidden=(5,), prior={"class": "vamp", "components": 7}, context_features=2)
    assert vae.prior.posterior is vae.posterior
    assert (vae.prior.components, vae.prior.context_features, vae.prior.event_shape) == (7, 2, (3,))
    described = describe(vae.prior, vae.posterior)
    assert described == {"class": "VampPrior", "event_shape": [3], "components": 7, "context_features": 2}
    assert build((3,), 2, hidden=(5,), prior=described, context_features=2).prior.components == 7


@pytest.mark.parametrize(
    ("kind", "encoder", "decoder"),
    [
        ("mlp", nets.MLP, nets.MLP),
        ("gated_mlp", nets.GatedMLP, nets.GatedMLP),
        ("conv", nets.ConvEncoder, nets.ConvDecoder),
        ("resnet", nets.ResNetEncoder, nets.ResNetDecoder),
    ],
)
def test_nets_by_kind(kind, encoder, decoder):
    normal = {"class": "normal", "scale": "per_element"}
    vae = build((1, 8, 8), 3, hidden=(16,), nets=kind, posterior="full", likelihood=normal, context_features=2)
    assert type(vae.posterior.net) is encoder
    assert type(vae.likelihood.net) is decoder
    x, c = torch.rand(4, 1, 8, 8), torch.rand(4, 2)
    assert vae.reconstruct(x, c).shape == x.shape
    again = build((1, 8, 8), 3, posterior=describe(vae.posterior), likelihood=describe(vae.likelihood))
    again.load_state_dict(vae.state_dict())
    assert torch.equal(again.reconstruct(x, c), vae.reconstruct(x, c))


def test_other_kinds_of_nets_are_refused():
    with pytest.raises(ValueError, match=r"nets must be one of mlp, gated_mlp, conv, resnet; got 'transformer'"):
        build((1, 8, 8), nets="transformer")


def test_importing_zuko_leaves_argument_validation_as_it_was():
    code = (
        "import torch; before = torch.distributions.Distribution._validate_args\n"
        "from pyro_vae import build; build((3,), 2, prior='flow', posterior='iaf')\n"
        "import sys; assert 'zuko' in sys.modules\n"
        "assert torch.distributions.Distribution._validate_args == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_old_names_of_arguments_are_translated():
    """As run folders of older versions have them, in nets within parts too."""
    found = make_objective({"class": "IWAE", "particles": 5}, VAE_)
    assert (type(found).__name__, found.num_particles) == ("IWAE", 5)
    groups = make_objective({"class": "MIWAE", "groups": 2, "particles": 3}, VAE_)
    assert (groups.group_size, groups.num_particles) == (3, 6)
    net = {"class": "MLP", "in_shape": [3], "hidden": [4], "out_shape": [4], "context": 2}
    vae = build((3,), 2, hidden=(4,), posterior={"class": "DiagonalNormal", "net": net}, context_features=2)
    assert vae.posterior.net.context_features == 2
    flow = build((3,), 2, prior={"class": "zuko.flows.NSF", "features": 2, "context": 0, "hidden_features": [3]})
    assert flow.sample(4, seed=0).shape == (4, 3)


def test_an_old_name_beside_the_present_one_is_refused():
    with pytest.raises(
        ValueError, match=r"objective IWAE\(num_particles\) .*has no argument 'particles'; it has num_particles, "
    ):
        make_objective({"class": "IWAE", "particles": 5, "num_particles": 3}, VAE_)


def test_a_refused_schedule_names_its_argument_and_its_module():
    spec = {"class": "beta", "beta": {"class": "not_installed.Schedule"}}
    with (
        allowing([]),
        pytest.raises(NotAllowedError, match="^beta: schedule 'not_installed.Schedule' is not one") as refused,
    ):
        make_objective(spec, VAE_)
    assert refused.value.module == "not_installed"


def test_functions_that_return_parts_stand_for_themselves():
    assert build((3,), 3, prior=wide_prior).prior is wide_prior
    with pytest.raises(ValueError, match="schedule ramp is a function and takes no arguments here; got {'a': 1}"):
        make_objective({"class": "beta", "beta": {"class": f"{HERE}.ramp", "a": 1}}, VAE_)
    assert make_objective({"class": "beta", "beta": {"class": f"{HERE}.ramp"}}, VAE_).beta is ramp


@pytest.mark.parametrize("kind", KINDS)
def test_each_name_of_a_kind_is_found_and_described_by_it(kind):
    for name, cls in KINDS[kind].classes.items():
        assert find(kind, name) is cls
        assert find(kind, name.upper()) is cls
        assert find(kind, f"{cls.__module__.rpartition('.')[0]}.{name}") is cls
    for short, name in KINDS[kind].short.items():
        assert find(kind, short) is KINDS[kind].classes[name]
    for path, cls in KINDS[kind].listed.items():
        assert find(kind, path) is cls
