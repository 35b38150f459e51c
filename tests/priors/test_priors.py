"""Arguments of priors, and priors that start from data."""

from __future__ import annotations

import pytest
import torch

from pyro_vae import build, fit, load, nets, posteriors, priors

X = torch.rand(40, 3, generator=torch.Generator().manual_seed(0)).round()


def encoder(latent_dim=2, context=0):
    return posteriors.DiagonalNormal(nets.MLP(3, (5,), 2 * latent_dim, context_features=context))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: priors.Normal(0), "latent_dim must be an integer of at least 1; got 0"),
        (
            lambda: priors.StudentT(2, initial_df=1.0),
            "initial_df must be a finite number above 1, so that the mean exists; got 1.0",
        ),
        (lambda: priors.MixtureOfNormals(2, components=0), "components must be an integer of at least 1; got 0"),
        (lambda: priors.UniformOnSphere(1), "latent_dim must be an integer of at least 2; got 1"),
        (
            lambda: priors.Categorical(7, classes=3),
            "classes must divide latent_dim = 7, the entries of all groups; got 3",
        ),
        (lambda: priors.Categorical(4, classes=1), "classes must be an integer of at least 2; got 1"),
        (
            lambda: priors.RelaxedCategorical(4, temperature=0.0),
            "temperature must be a finite number of at least 0.01; got 0",
        ),
        (lambda: priors.Dirichlet(1), "latent_dim must be an integer of at least 2; got 1"),
        (
            lambda: priors.Dirichlet(3, initial_concentration=0),
            "initial_concentration must be a finite number above 1e-6; got 0",
        ),
        (
            lambda: priors.Flow(2, "MAF", context_features=3)(),
            "prior Flow was built for 3 context features; got none. Pass the context to the prior",
        ),
        (lambda: priors.Flow(2, "Glow"), "flow must be the name of one in zuko.flows: BPF, CNF, .*; got 'Glow'"),
        (
            lambda: priors.Flow(2, "CNF"),
            "flow CNF cannot be made with .*Leave out .None. the arguments that it does not take",
        ),
        (
            lambda: priors.Exemplar(encoder(), 3, initial_scale=0),
            "initial_scale must be a finite number above 1e-6; got 0",
        ),
        (lambda: priors.Exemplar(encoder(), 3)(), r"prior Exemplar has no exemplars yet. .*prior.start_from\(x\)"),
        (
            lambda: priors.VampPrior(encoder(), 3).start_from(torch.zeros(4, 5)),
            r"prior VampPrior needs examples of shape \(n, 3\) to start from; got \(4, 5\)",
        ),
        (
            lambda: priors.Conditional(priors.StandardNormal(2), nets.MLP(2, (), 1)),
            "prior Conditional needs a prior with parameters of its own, such as Normal, .*; got StandardNormal",
        ),
        (
            lambda: priors.Conditional(priors.VampPrior(encoder(), 3), nets.MLP(2, (), 1)),
            "needs a prior with parameters of its own.*; got VampPrior",
        ),
        (
            lambda: priors.Conditional(priors.Flow(2), nets.MLP(2, (), 1)),
            r"not for flows, which take the context themselves: Flow\(..., context_features=...\)",
        ),
        (lambda: priors.Conditional(priors.Normal(2), nets.MLP(2, (), 4))(), "prior Conditional needs the context"),
        (
            lambda: priors.Conditional(priors.Normal(2), nets.MLP(2, (), 5))(torch.zeros(3, 2)),
            "prior Conditional needs a net with 4 outputs, one for each parameter of Normal; got 5",
        ),
        (
            lambda: build((3,), 2, prior={"class": "conditional", "prior": "normal"}),
            "prior Conditional depends on the context, and this VAE has none",
        ),
    ],
)
def test_what_a_prior_cannot_be_made_of_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_exemplar_prior_needs_a_posterior_with_a_mean():
    flow = posteriors.InverseAutoregressiveFlow(nets.MLP(3, (), 2 * 2 + 4), 2, features=4)
    with pytest.raises(
        ValueError, match="prior Exemplar needs a posterior with a mean; InverseAutoregressiveFlow has none"
    ):
        priors.Exemplar(flow, 3, components=5)


@pytest.mark.parametrize("name", ["vamp", "exemplar"])
def test_a_resumed_training_with_a_prior_of_examples_gives_the_bits_of_an_unbroken_one(name, tmp_path):
    def vae():
        torch.manual_seed(0)
        return build((3,), 2, hidden=(5,), prior={"class": name, "components": 9})

    whole, broken = vae(), vae()
    fit(whole, X, epochs=3, schedule="constant", progress=False)
    fit(broken, X, epochs=1, schedule="constant", progress=False, out=tmp_path / "run")
    again = vae()
    fit(again, X, epochs=3, schedule="constant", progress=False, out=tmp_path / "run", resume=True)
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), again.parameters(), strict=True))


def test_pseudo_inputs_of_ones_own_are_kept():
    vae = build((3,), 2, hidden=(5,), prior={"class": "vamp", "components": 4})
    with torch.no_grad():
        vae.prior.pseudo_inputs.fill_(7.0)
        vae.prior.started.fill_(True)
    fit(vae, X, epochs=1, lr=1e-9, progress=False)
    assert vae.prior.pseudo_inputs.min() > 6.9


@pytest.mark.parametrize("name", ["vamp", "exemplar"])
def test_fit_lets_priors_start_from_data_once(name, tmp_path):
    vae = build((3,), 2, hidden=(5,), prior={"class": name, "components": 30})
    examples = vae.prior.pseudo_inputs if name == "vamp" else vae.prior.exemplars
    fit(vae, X, epochs=1, lr=1e-9, batch_size=16, progress=False, out=tmp_path / "run")
    rows = {tuple(row) for row in X.tolist()}
    assert all(tuple(row) in rows for row in examples.round(decimals=4).tolist())
    assert examples.round(decimals=4).unique(dim=0).shape[0] == X.unique(dim=0).shape[0]
    with torch.no_grad():
        examples += 1
    fit(vae, X, epochs=1, lr=1e-9, progress=False)
    assert examples.min() > 0.9, "a second training goes on from where the first ended"
    again = load(tmp_path / "run")
    assert again.prior.posterior is again.posterior
    assert bool(again.prior.started)
    assert torch.allclose(again.sample(5, seed=0), load(tmp_path / "run", vae=vae).sample(5, seed=0))


def test_priors_of_examples_repeat_examples_where_there_are_too_few():
    prior = priors.VampPrior(encoder(), 3, components=5)
    prior.start_from(X[:2])
    assert torch.equal(prior.pseudo_inputs[:4], X[:2].repeat(2, 1))


def test_priors_of_examples_keep_their_contexts():
    c = torch.randn(40, 2, generator=torch.Generator().manual_seed(1))
    vae = build((3,), 2, hidden=(5,), prior={"class": "exemplar", "components": 7}, context_features=2)
    vae.prior.start_from(X, c)
    expected = vae.encode(X[:7], c[:7]).mean
    assert torch.allclose(vae.prior_of(c).loc, expected)
    vamp = build((3,), 2, hidden=(5,), prior={"class": "vamp", "components": 7}, context_features=2)
    vamp.prior.start_from(X, c)
    assert torch.equal(vamp.prior.pseudo_contexts, c[:7])
    fit(vamp, (X, c), epochs=1, progress=False)


def test_a_conditional_prior_adds_its_net_to_the_parameters():
    prior = priors.Conditional(priors.Normal(2), nets.MLP(3, (), 4)).double()
    c = torch.randn(5, 3, dtype=torch.float64)
    with torch.no_grad():
        prior.prior.loc += 0.7
    shift, raw = prior.net(c).chunk(2, dim=-1)
    expected = torch.distributions.Normal(0.7 + shift, torch.nn.functional.softplus(prior.prior.raw_scale + raw) + 1e-6)
    z = torch.randn(5, 2, dtype=torch.float64)
    assert torch.allclose(prior(c).log_prob(z), expected.log_prob(z).sum(-1), rtol=1e-12)


def test_a_conditional_prior_is_built_and_trained_by_name(tmp_path):
    vae = build(
        (3,),
        4,
        hidden=(5,),
        prior={"class": "conditional", "prior": {"class": "mixture", "components": 3}},
        context_features=2,
    )
    assert vae.prior.net.out_shape == (3 + 2 * 3 * 4,)
    c = torch.nn.functional.one_hot(X[:, 0].long(), 2).float()
    fit(vae, (X, c), epochs=1, progress=False, out=tmp_path / "run")
    assert torch.equal(load(tmp_path / "run").sample(40, c, seed=0), vae.sample(40, c, seed=0))
