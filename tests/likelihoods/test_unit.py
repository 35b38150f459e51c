"""Values that likelihoods of numbers between 0 and 1 refuse."""

from __future__ import annotations

import pytest
import torch

from pyro_vae import likelihoods, nets
from pyro_vae.data_checks import check_support
from tests.likelihoods.cases import CASES, CODES


@pytest.mark.parametrize("name", ["beta", "logit_normal_learned"])
@pytest.mark.parametrize("end", [0.0, 1.0])
def test_the_ends_are_refused_where_the_density_is_none(name, end):
    p, x = CASES[name].with_mlp(), CASES[name].x()
    check_support(p, p(CODES), x)
    x[2, 1, 1] = end
    message = (
        rf"^likelihood {type(p).__name__} needs x in \(0, 1\); got values in \[.*\]. Its density is 0 or infinite at 0 "
        r"and 1: give pixels as dequantised reals \(dequantize=True in pyro_vae.data\), or use "
        r"likelihoods.ContinuousBernoulli, which takes the ends"
    )
    with pytest.raises(ValueError, match=message):
        check_support(p, p(CODES), x)


def test_a_continuous_bernoulli_takes_the_ends_and_no_more():
    p, x = CASES["continuous_bernoulli"].with_mlp(), CASES["continuous_bernoulli"].x()
    x[0, 0, 0], x[0, 0, 1] = 0.0, 1.0
    check_support(p, p(CODES), x)
    x[0, 0, 0] = 1.01
    with pytest.raises(
        ValueError, match=r"needs x in \[0, 1\]; got values in \[.*, 1.01\]. Scale the data to \[0, 1\]"
    ):
        check_support(p, p(CODES), x)


def test_beta_needs_two_parameters_an_element():
    p = likelihoods.Beta(nets.MLP(2, (), 6))
    with pytest.raises(
        ValueError, match=r"Beta needs a net whose output is \(batch, 2, \*shape of x\), raw conc.*\(1, 6\)"
    ):
        p(torch.zeros(1, 2))
