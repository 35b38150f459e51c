"""Values that likelihoods of levels accept and refuse."""

from __future__ import annotations

import pytest
import torch

from pyro_vae import likelihoods, nets
from pyro_vae.data_checks import check_support

MAKE = {
    "Categorical": lambda **o: likelihoods.Categorical(nets.MLP(2, (), (o.get("levels", 256), 3)), **o),
    "DiscretizedLogistic": lambda **o: likelihoods.DiscretizedLogistic(nets.MLP(2, (), 3), **o),
    "DiscretizedLogisticMixture": lambda **o: likelihoods.DiscretizedLogisticMixture(nets.MLP(2, (), (15, 3)), **o),
}


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize(
    ("options", "x", "text"),
    [
        ({}, [0.0, 0.3, 1.0], r"{0, 1/255, ..., 1}; got values in \[0, 1\], such as 0.3"),
        ({"levels": 17}, [0.0, 0.5, 1.0625], r"{0, 1/16, ..., 1}; got values in \[0, 1.062\]"),
        ({"levels": 4, "upper": 3}, [0.0, 1.5, 3.0], r"{0, 1, ..., 3}; got values in \[0, 3\], such as 1.5"),
        ({"levels": 2}, [0.0, 0.5, 1.0], r"{0, 1}; got values in \[0, 1\], such as 0.5"),
        ({"levels": 5, "upper": 2.0}, [-0.5, 0.5, 1.0], r"{0, 0.5, ..., 2}; got values in \[-0.5, 1\]"),
    ],
)
def test_values_off_the_levels_are_refused(name, options, x, text):
    p = MAKE[name](**options)
    with pytest.raises(ValueError, match=rf"^likelihood {name} needs x in {text}. Give the levels as they are"):
        check_support(p, p(torch.zeros(1, 2)), torch.tensor([x]))


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_grey_values_are_accepted_however_they_were_divided(name, dtype):
    p = MAKE[name]().to(dtype)
    grey = torch.arange(256).repeat(3, 1).T
    for x in (grey.to(dtype) / 255, (grey / 255).to(dtype), grey.to(dtype) * (1 / 255)):
        d = p(torch.zeros(256, 2, dtype=dtype))
        check_support(p, d, x)
        torch.testing.assert_close(d.log_prob(x), d.log_prob((grey.double() / 255).to(dtype)))


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": 1}, "levels must be an integer of at least 2; got 1"),
        ({"levels": 2.5}, "levels must be an integer of at least 2; got 2.5"),
        ({"upper": 0.0}, "upper must be a finite number above 0; got 0.0"),
    ],
)
def test_bad_grids_are_refused(name, options, message):
    make = getattr(likelihoods, name)
    with pytest.raises(ValueError, match=message):
        make(nets.MLP(2, (), 3), **options)


def test_bad_mixtures_are_refused():
    with pytest.raises(ValueError, match="components must be an integer of at least 1; got 0"):
        likelihoods.DiscretizedLogisticMixture(nets.MLP(2, (), 3), components=0)
    p = likelihoods.DiscretizedLogisticMixture(nets.MLP(2, (), (5, 3)))
    with pytest.raises(
        ValueError, match=r"\(batch, 15, \*shape of x\), logits, locations and raw scales of 5 comp.*\(1, 5, 3\)"
    ):
        p(torch.zeros(1, 2))


def test_categorical_needs_a_logit_a_level():
    p = likelihoods.Categorical(nets.MLP(2, (), (17, 3)))
    with pytest.raises(ValueError, match=r"\(batch, 256, \*shape of x\), logits of the levels; got \(1, 17, 3\)"):
        p(torch.zeros(1, 2))


def test_units_do_not_change_the_probabilities():
    """Location and scale are in units of ``upper``: grey values and their codes have the same likelihood."""
    net = nets.MLP(2, (), 3)
    grey, codes = likelihoods.DiscretizedLogistic(net, 16), likelihoods.DiscretizedLogistic(net, 16, upper=15)
    k = torch.tensor([[0.0, 7.0, 15.0]])
    z = torch.ones(1, 2)
    torch.testing.assert_close(grey(z).log_prob(k / 15), codes(z).log_prob(k))
    torch.testing.assert_close(grey(z).mean * 15, codes(z).mean)
