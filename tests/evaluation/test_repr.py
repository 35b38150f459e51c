"""Reprs of the results of evaluation: one line with the figures that matter."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from pyro_vae.evaluation import (
    AnnealedEstimate,
    Collapse,
    Enumeration,
    Estimate,
    ImportanceEstimate,
    InferenceGaps,
    LatentUse,
    Memorisation,
    Neighbours,
    Quadrature,
    Remedy,
    Sandwich,
    quadrature,
)
from tests.evaluation.models import Linear

LOG_PROB, ERROR = torch.tensor([-1.0, -2.0, -4.5, -2.5]), torch.tensor([0.36, 0.48, 0.0, 0.0])
MEAN = "mean log p(x) = -2.5000 nats over 4 examples, standard error"
USE = LatentUse(3.0, 1.25, 1.75, torch.tensor([0.5, 0.001, 2.0]), None, 0.1, 0.02, 0.05)


def test_estimates_have_the_mean_and_both_errors():
    assert repr(Estimate(LOG_PROB, ERROR)) == f"Estimate({MEAN} 0.15 from the draws, 0.74 from the data)"
    one = Estimate(torch.tensor([-1.5]), torch.tensor([0.25]))
    assert repr(one) == "Estimate(log p(x) = -1.5000 nats, standard error 0.25 from the draws)"
    assert repr(Estimate(torch.tensor([-1.5]), torch.tensor([0.0]))) == "Estimate(log p(x) = -1.5000 nats)"


def test_a_high_pareto_k_is_named():
    size, k = torch.ones(4), torch.tensor([0.2, 0.71, 0.9, torch.nan])
    text = repr(ImportanceEstimate(LOG_PROB, ERROR, size, {}, k))
    assert text == f"Importance{Estimate(LOG_PROB, ERROR)!r}"[:-1] + "; too low for 2 of 4 (Pareto k̂ above 0.7))"
    assert "Pareto" not in repr(ImportanceEstimate(LOG_PROB, ERROR, size, {}, k.clamp(max=0.7)))


def test_annealed_estimates_have_their_acceptance_and_sandwiches_their_gap():
    lower = AnnealedEstimate(LOG_PROB, ERROR, LOG_PROB[None], torch.full((4,), 0.66))
    assert repr(lower).endswith("from the data; acceptance 0.66)")
    upper = dataclasses.replace(lower, log_prob=LOG_PROB + torch.tensor([0.5, 0.5, 0.5, 0.7]))
    text = repr(Sandwich(lower, upper, torch.zeros(4, 2), torch.zeros(4, 3)))
    assert text == (
        "Sandwich(mean gap 0.5500 nats, standard error 0.05; mean log p(x) between -2.5000 and -1.9500, over 4 "
        "simulated examples)"
    )


def test_exact_estimates_have_no_error_from_draws():
    zeros = torch.zeros(4)
    exact = f"{MEAN} 0.74 from the data"
    assert repr(Enumeration(LOG_PROB, zeros, torch.eye(3), zeros)) == f"Enumeration({exact}; exact, over 3 values of z)"
    error, some = torch.tensor([1e-8, 2e-7, 0.0, 0.0]), torch.tensor([True, False, True, True])
    found = Quadrature(LOG_PROB, zeros, error, some, zeros, ())
    assert repr(found) == f"Quadrature({exact}; error at most 2e-07; not converged: 1 of 4)"
    assert repr(dataclasses.replace(found, converged=some | True)) == f"Quadrature({exact}; error at most 2e-07)"
    linear = Linear(1)
    (nodes,) = quadrature(linear, linear.data(3), nodes=True).nodes
    assert repr(nodes) == f"PosteriorNodes({len(nodes.weight):,} nodes for 3 examples)"


def test_latent_use_is_a_sum():
    assert repr(USE) == (
        "LatentUse(kl 3.000 ± 0.1 = I(x; z) 1.250 ± 0.02 + KL(q(z) || p(z)) 1.750 ± 0.05 nats; 2 of 3 units are active)"
    )
    assert repr(dataclasses.replace(USE, variance_of_means=None)).endswith("± 0.05 nats)")


def test_gaps_are_a_sum():
    elbo, best, k = torch.tensor([-5.0, -7.0]), torch.tensor([-4.0, -6.5]), torch.tensor([0.8, 0.1])
    text = repr(InferenceGaps(elbo, best, torch.tensor([-3.5, -6.0]), torch.zeros(2), torch.ones(2), k))
    assert text == (
        "InferenceGaps(ELBO -6.0000 + approximation gap 0.5000 + amortisation gap 0.7500 = log p(x) -4.7500, means over "
        "2 examples in nats; log p(x) is too low for 1 (Pareto k̂ above 0.7))"
    )


@pytest.mark.parametrize("kind", [None, "posterior"])
def test_collapse_has_a_line_and_a_report(kind):
    remedies = () if kind is None else (Remedy("free bits", "a floor", "objective", {"class": "free_bits"}),)
    found = Collapse(kind, USE, 0.75, ("first", "second"), remedies)
    verdict = "no collapse" if kind is None else "posterior collapse"
    end = ")" if kind is None else "; 1 remedies)"
    assert repr(found) == f"Collapse({verdict}: I(x; z) is 1.25 nats, the code of another example costs 0.75 nats{end}"
    lines = str(found).splitlines()
    assert lines[:3] == [verdict, "  first", "  second"]
    assert lines[3:] == ([] if kind is None else ["  try free bits (a floor): objective={'class': 'free_bits'}"])


def test_memorisation_has_its_figures_and_no_tensors():
    neighbours = Neighbours(torch.zeros(2, 1), torch.zeros(2, 1))
    assert repr(Memorisation(0.5, 0.25, 0.01, 1.5, 2.0, neighbours)) == (
        "Memorisation(50.00% of the samples are nearer than 0.25, the 0.01 quantile of test examples; median distance "
        "1.5 of samples, 2 of test examples)"
    )
