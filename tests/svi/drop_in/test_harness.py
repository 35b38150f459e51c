"""The comparison itself fails where it must."""

from __future__ import annotations

import warnings

import pyro
import pytest
import torch
from pyro.infer import SVI

from pyro_vae.svi import CannotCaptureError
from tests.svi.drop_in.harness import Case, Program, difference, plain, verdict
from tests.svi.drop_in.tiny import data, guide, model, times


def program() -> Program:
    return Program(model, guide, times(data()))


class Otherwise(SVI):
    """Stock's SVI that claims a graph and does something else in its third step."""

    refused, captures, taken = None, 1, 0

    def step(self, *args):
        loss = super().step(*args)
        self.taken += 1
        return self.third(loss) if self.taken == 3 else loss

    def third(self, loss):
        return loss


class Bit(Otherwise):
    def third(self, loss):
        return loss * (1 + 2**-52)


class TensorLoss(Otherwise):
    def third(self, loss):
        return torch.tensor(loss, dtype=torch.float64)


class Parameter(Otherwise):
    def third(self, loss):
        pyro.param("loc").data += 1e-6
        return loss


class Draws(Otherwise):
    def third(self, loss):
        torch.rand(())
        return loss


class Silent(Otherwise):
    def third(self, loss):
        self.refused = "no reason"
        return loss


class Twice(Otherwise):
    def third(self, loss):
        self.refused = "a reason"
        warnings.warn("a reason, at length", stacklevel=2)
        warnings.warn("a reason once more", stacklevel=2)
        return loss


class Once(Otherwise):
    def third(self, loss):
        self.refused = "a reason"
        warnings.warn("a reason, at length", stacklevel=2)
        return loss


class Raises(Otherwise):
    def third(self, loss):
        raise self.error("in the third step")

    error = ValueError


class Refuses(Raises):
    error = CannotCaptureError


def case(wants: str) -> Case:
    return Case("program", "kind", program, wants)


@pytest.mark.parametrize("make_svi", [Bit, TensorLoss, Parameter, Draws, Silent, Twice, Raises])
@pytest.mark.parametrize("wants", ["graph", "either"])
def test_another_number_or_no_word_fails(make_svi, wants):
    with pytest.raises(AssertionError):
        verdict(case(wants), make_svi)


@pytest.mark.parametrize("make_svi", [Once, Refuses])
def test_a_warning_or_an_error_will_do_where_no_graph_is_wanted(make_svi):
    verdict(case("either"), make_svi)
    with pytest.raises(AssertionError, match="no graph holds it"):
        verdict(case("graph"), make_svi)


def test_the_same_will_do():
    verdict(case("graph"), Otherwise)


def test_tolerances():
    expected = plain({"loss": 1.0, "tensor": torch.ones(2), "count": 3})
    apart = plain({"loss": 1.0 + 1e-7, "tensor": torch.ones(2) + 1e-6, "count": 3})
    assert difference(apart, expected) is not None
    assert difference(apart, expected, rtol=1e-5) is None
    assert difference(apart | {"count": 4}, expected, rtol=1.0) is not None


def test_what_a_tensor_is_counts_too():
    one = torch.ones(1)
    others = (one.double(), one.requires_grad_(), torch.ones(()), 1.0)
    assert all(difference(plain(other), plain(torch.ones(1)), rtol=1e-5) is not None for other in others)


def test_of_other_objects_nothing_is_assumed():
    with pytest.raises(TypeError, match="it is not known what is to be compared"):
        plain(object())
