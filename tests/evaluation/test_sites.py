"""Programs with other sites than one latent and one observed: the right number, or an error that names the sites."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO

from pyro_vae import build, evaluation
from pyro_vae.model_guide import ModelGuide
from tests.evaluation.models import Linear

X = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64)


def normal(loc, scale=1.0):
    return dist.Normal(torch.as_tensor(loc, dtype=torch.float64), scale)


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", normal(0.0))
        pyro.sample("x", normal(z), obs=x)


def guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", normal(x / 2, 0.8))


def two_latents(x):
    with pyro.plate("data", len(x)):
        w = pyro.sample("w", normal(0.0))
        z = pyro.sample("z", normal(w))
        pyro.sample("x", normal(z), obs=x)


def guide_of_two(x):
    with pyro.plate("data", len(x)):
        pyro.sample("w", normal(x / 3))
        pyro.sample("z", normal(x / 2))


def renamed(x):
    with pyro.plate("data", len(x)):
        code = pyro.sample("code", normal(0.0))
        pyro.sample("image", normal(code), obs=x)


def renamed_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("code", normal(x / 2, 0.8))


def without_latents(x):
    with pyro.plate("data", len(x)):
        pyro.sample("x", normal(0.0), obs=x)


def labelled(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", normal(0.0))
        pyro.sample("y", normal(z), obs=x.sign())
        pyro.sample("x", normal(z), obs=x)


def with_factor(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", normal(0.0))
        pyro.factor("penalty", -z.square())
        pyro.sample("x", normal(z), obs=x)


def guide_with_factor(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", normal(x / 2))
        pyro.factor("penalty", -z.square(), has_rsample=True)


def unobserved(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", normal(0.0))
        pyro.sample("x", normal(z))


def shared(x):
    z = pyro.sample("z", normal(0.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", normal(z), obs=x)


def shared_guide(x):
    pyro.sample("z", normal(0.0))


def subsampled(x):
    with pyro.plate("data", len(x), subsample_size=2) as chosen:
        z = pyro.sample("z", normal(0.0))
        pyro.sample("x", normal(z), obs=x[chosen])


def undeclared(x):
    z = pyro.sample("z", normal(torch.zeros(len(x), 2)).to_event(1))
    pyro.sample("x", normal(z), obs=x.reshape(len(x), -1).expand(-1, 2))


def guide_of_vectors(x):
    pyro.sample("z", normal(torch.zeros(len(x), 2)).to_event(1))


FUNCTIONS = {
    "importance_sampling": lambda pair, **names: evaluation.importance_sampling(pair, X, num_particles=50, **names),
    "quadrature": lambda pair, **names: evaluation.quadrature(pair, X, tolerance=1e-2, **names),
    "annealed": lambda pair, **names: evaluation.annealed_importance_sampling(
        pair, X, annealing=evaluation.Annealing(3), **names
    ),
    "reverse": lambda pair, **names: evaluation.reverse_annealed_importance_sampling(
        pair, X, z=torch.zeros(2, 3, dtype=torch.float64), annealing=evaluation.Annealing(3), **names
    ),
    "sandwich": lambda pair, **names: evaluation.sandwich(
        pair, X, annealing=evaluation.Annealing(3), num_particles=2, **names
    ),
    "enumeration": lambda pair, **names: evaluation.enumeration(pair, X, **names),
    "latent_use": lambda pair, **names: evaluation.latent_use(pair, X, **names),
    "outlier_scores": lambda pair, **names: evaluation.outlier_scores(pair, X, num_particles=20, **names),
}
BAD = {
    "two latents": ((two_latents, guide_of_two), r"must have one latent site, 'z'; got 'w' and 'z'. Put them into one"),
    "two in the model": ((two_latents, guide), r"the model must have one latent site, 'z'; got 'w' and 'z'. Put them"),
    "another name": ((renamed, renamed_guide), r"must have one latent site, 'z'; got 'code'. Name it with latent="),
    "no latent": ((without_latents, without_latents), "must have one latent site, 'z'; got none"),
    "two observed": ((labelled, guide), r"the model must have one observed site, 'x'; got 'y' and 'x'\. All of them "),
    "factor": (
        (with_factor, guide),
        r"the model must have one observed site, 'x'; got 'penalty' and 'x'\. All of them ",
    ),
    "factor in the guide": ((model, guide_with_factor), "the guide must have no observed site .* got 'penalty'"),
    "nothing observed": ((unobserved, guide), "the model must observe its site 'x', with obs=x"),
    "one code for all": (
        (shared, shared_guide),
        r"must have one distribution per example, of batch shape \(\d+,\); got batch shape \(\)",
    ),
    "a subsample": ((subsampled, guide), r"must have one distribution per example, of batch shape|[Ss]hape mismatch"),
    "undeclared": (
        (undeclared, guide_of_vectors),
        r"site 'x' must have one distribution per example|z must be draws|needs discrete codes",
    ),
}
# These functions do not use the wrong part, so their result is right.
RIGHT = {
    ("factor in the guide", "annealed"),
    ("factor in the guide", "reverse"),
    ("factor in the guide", "sandwich"),
    ("undeclared", "latent_use"),
}


@pytest.mark.parametrize(
    ("case", "function"), [(case, function) for case in BAD for function in FUNCTIONS if (case, function) not in RIGHT]
)
def test_other_programs_are_refused(case, function):
    pair, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        FUNCTIONS[function](pair)


@pytest.mark.parametrize("function", ["annealed", "reverse", "sandwich"])
def test_a_factor_in_a_guide_that_is_not_run(function):
    found = FUNCTIONS[function]((model, guide_with_factor)), FUNCTIONS[function]((model, guide))
    torch.testing.assert_close(*(getattr(f, "lower", f).log_prob for f in found), rtol=0, atol=0)


@pytest.mark.parametrize("function", [name for name in FUNCTIONS if name != "enumeration"])
def test_sites_of_other_names(function):
    found = FUNCTIONS[function]((renamed, renamed_guide), latent="code", observed="image")
    expected = FUNCTIONS[function]((model, guide))
    for name in ("log_prob", "kl"):
        value = found.get(name) if isinstance(found, dict) else getattr(found, name, None)
        other = expected.get(name) if isinstance(expected, dict) else getattr(expected, name, None)
        if value is not None:
            torch.testing.assert_close(value, other, rtol=0, atol=0)
    with pytest.raises(ValueError, match="must have one observed site, 'x'; got 'image'. Name it with observed="):
        evaluation.importance_sampling((renamed, renamed_guide), X, latent="code")


def test_deterministic_sites_and_scales_are_of_no_account():
    def told(x):
        with poutine.scale(scale=3.0), pyro.plate("data", 100, subsample_size=len(x)):
            z = pyro.deterministic("twice", 2 * pyro.sample("z", normal(0.0))) / 2
            pyro.sample("x", normal(z), obs=x)

    expected = evaluation.quadrature((model, guide), X).log_prob
    torch.testing.assert_close(expected, normal(0.0, math.sqrt(2)).log_prob(X), rtol=0, atol=1e-6)
    vae = poutine.scale(guide, scale=3.0)
    found = ModelGuide((told, vae), X).terms(torch.zeros(1, 3, dtype=torch.float64)).totals
    plain = ModelGuide((model, guide), X).terms(torch.zeros(1, 3, dtype=torch.float64)).totals
    torch.testing.assert_close(found, plain, rtol=0, atol=0)


def test_masks_leave_examples_out_of_all_three():
    """Masked examples have log p(x) = 0, and the ELBO equals Pyro's at the same draws."""
    linear = Linear(2, shift=0.3, wide=1.3)
    x, seen = linear.data(4), torch.tensor([True, False, True, False])

    def masked(program):
        def run(x):
            with poutine.mask(mask=seen.repeat(len(x) // 4)):
                return program(x)

        return run

    pair = (masked(linear.model), masked(linear.guide))
    found = evaluation.importance_sampling(pair, x, num_particles=400, bounds=(1,))
    whole = evaluation.importance_sampling(linear, x, num_particles=400, bounds=(1,))
    assert (found.log_prob[~seen] == 0).all()
    torch.testing.assert_close(found.log_prob[seen], whole.log_prob[seen], rtol=1e-12, atol=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        losses = torch.tensor([Trace_ELBO().loss(*pair, x) for _ in range(200)])
    error = losses.std() / math.sqrt(200) + found.bounds[1].std() / math.sqrt(400)
    assert abs(-losses.mean() - found.bounds[1].sum()) < 5 * error  # 6e-7, on a fixed seed


def test_what_a_likelihood_refuses_is_said_without_the_table_of_shapes_that_pyro_appends():
    x = torch.rand(5, 4)
    with pytest.raises(ValueError, match=r"^likelihood Bernoulli needs x in \{0, 1\}; [^\n]*ContinuousBernoulli$"):
        evaluation.importance_sampling(build((4,), 2, hidden=(3,)), x, num_particles=5)


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"particles": 10}, "^particles=10 is no argument of this function; draws of z are num_particles"),
        ({"chunksize": 10}, "^chunksize=10 is no argument of this function; rows are chunk_size"),
        ({"method": "fast"}, "^method='fast' is no argument of this function. The model and guide take"),
        ({"mask": True}, "^mask must be a tensor, a NumPy array or a table of numbers; got bool: True"),
        ({"context": X}, "^context must come by position, after x"),
    ],
)
@pytest.mark.parametrize("target", ["VAE", "pair"])
def test_an_unknown_argument_is_named(named, words, target):
    vae = build(3, 1, hidden=()) if target == "VAE" else (model, guide)
    for function in (evaluation.importance_sampling, evaluation.latent_use, evaluation.outlier_scores):
        with pytest.raises(TypeError, match=words):
            function(vae, torch.ones(2, 3), **named)


def test_a_swapped_pair_is_refused():
    with pytest.raises(ValueError, match=r"got none. Sample x with obs=x; the pair is \(model, guide\), in this order"):
        evaluation.importance_sampling((guide, model), X)


def test_a_model_without_a_plate_says_how_many_rows_ran():
    def one_code(x):
        pyro.sample("z", normal(0.0))

    with pytest.raises(ValueError, match=r"\(\) for 64 rows that run at once\. Sample it in a plate of all examples"):
        evaluation.importance_sampling((model, one_code), X.repeat(40))
