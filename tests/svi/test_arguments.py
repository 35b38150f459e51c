"""Arguments of a step taken apart: what changes from step to step, and what makes another graph."""

from __future__ import annotations

import enum
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pyro_vae.svi import CannotCaptureError
from pyro_vae.svi.arguments import take_apart


def key(*args, **kwargs):
    return take_apart(args, kwargs).key


X = torch.zeros(8, 3)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (((X,), {}), ((X + 1,), {})),
        (((X,), {}), ((torch.zeros(5, 3),), {})),
        (((X, X + 1), {}), ((torch.zeros(5, 3), torch.zeros(6, 3)), {})),
        (((X, X), {}), ((X + 1,) * 2, {})),
        (((X,), {"beta": 0.5}), ((X,), {"beta": 0.7})),
        (((X, 0.5), {}), ((X, -1.0), {})),
        (((X, np.float64(0.5)), {}), ((X, 0.7), {})),
        (((X,), {"a": 1, "b": None}), ((X,), {"a": 1, "b": None})),
        (([X], {}), ([torch.zeros(5, 3)], {})),
        ((({"x": X, "n": "name"},), {}), (({"x": X + 1, "n": "name"},), {})),
        (((X,), {"mask": X > 0}), ((X,), {"mask": X < 0})),
    ],
)
def test_what_shares_a_graph(a, b):
    assert key(*a[0], **a[1]) == key(*b[0], **b[1])
    assert hash(key(*a[0], **a[1])) == hash(key(*b[0], **b[1]))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (((X,), {}), ((X.double(),), {})),
        (((X,), {}), ((X[:, :2],), {})),
        (((X,), {}), ((X[:1],), {})),
        (((X,), {}), ((X[:0],), {})),
        (((X[:1],), {}), ((X[:0],), {})),
        (((X,), {}), ((X[0],), {})),
        (((X[0],), {}), ((X[0, 0],), {})),
        (((X,), {}), ((X, X), {})),
        (((X, X), {}), ((X, X + 1), {})),
        (((X, [X, X + 1]), {}), ((X, [X + 1, X]), {})),
        (((X,), {}), ((X, None), {})),
        (((X, None), {}), ((X, X), {})),
        (((X, 1), {}), ((X, 2), {})),
        (((X, 1), {}), ((X, 1.0), {})),
        (((X, 1), {}), ((X, "1"), {})),
        (((X, "a"), {}), ((X, "b"), {})),
        (((X, True), {}), ((X, False), {})),
        (((X,), {"a": X}), ((X,), {"b": X})),
        (((X,), {"a": X}), ((X, X), {})),
        ((([X, X],), {}), (((X, X),), {})),
        ((([X, X],), {}), ((X, X), {})),
        (((X, torch.Size([3])), {}), ((X, torch.Size([4])), {})),
        (((X.int(),), {}), ((X.bool(),), {})),
        (((X, np.int64(1)), {}), ((X, np.int64(2)), {})),
        (((X, torch.float32), {}), ((X, torch.float64), {})),
    ],
)
def test_what_needs_another_graph(a, b):
    assert key(*a[0], **a[1]) != key(*b[0], **b[1])


def test_put_together_again():
    args, kwargs = (X, [0.5, None, (X + 1, "name")]), {"mask": X > 0, "n": 3, "beta": 2.0}
    found = take_apart(args, kwargs)
    assert len(found.tensors) == 5
    others = [t + 1 if t.dtype != torch.bool else ~t for t in found.tensors]
    (x, (half, nothing, (x1, name))), options = found.together(others)
    assert torch.equal(x, X + 1)
    assert torch.equal(x1, X + 2)
    assert half.item() == 1.5
    assert half.shape == ()
    assert half.dtype == torch.float64
    assert nothing is None
    assert name == "name"
    assert torch.equal(options["mask"], X <= 0)
    assert options["n"] == 3
    assert options["beta"].item() == 3.0
    args, kwargs = take_apart((X, X + 1), {}).together([X, X + 2])
    assert torch.equal(args[0], X)
    assert torch.equal(args[1], X + 2)
    assert kwargs == {}


def test_a_float_becomes_a_tensor_of_all_its_bits():
    found = take_apart((X, 0.1), {"beta": [np.float64(1 / 3)]})
    (_, *floats) = found.tensors
    assert [(beta.dtype, beta.item()) for beta in floats] == [(torch.float64, 0.1), (torch.float64, 1 / 3)]
    assert found.examples()[0] is found.tensors[0]
    assert found.examples()[1:] == [0.1, 1 / 3]
    assert found.together([X, 0.5, "other"]) == ((X, 0.5), {"beta": ["other"]})


@pytest.mark.parametrize("args", [(np.zeros(3),), (X, np.zeros(3)), (X, [np.zeros(3)]), ({"x": np.zeros((2, 3))},)])
def test_numpy_arrays_are_refused(args):
    with pytest.raises(
        CannotCaptureError, match="an argument is a NumPy array, whose changes a graph would not see; pass a tensor"
    ):
        take_apart(args, {})
    with pytest.raises(CannotCaptureError, match="NumPy array"):
        take_apart((X,), {"x": args})


@pytest.mark.parametrize("make", [np.float32, np.float16, complex, lambda v: np.int32(int(v))])
def test_numbers_of_other_kinds_are_told_apart_by_their_values(make):
    """Not by their address in memory, which the next one may get."""
    try:
        found = take_apart((X, make(0.0)), {})
    except CannotCaptureError:
        return  # as good
    if len(found.tensors) == 2:
        assert take_apart((X, make(3.0)), {}).tensors[1].item() == 3
        return
    assert len({key(X, make(float(i))) for i in range(20)}) == 20


@pytest.mark.parametrize(
    "thing", [object(), SimpleNamespace(x=X), {1, 2}, bytearray(2)], ids=lambda thing: type(thing).__name__
)
def test_objects_whose_contents_may_change_are_refused(thing):
    with pytest.raises(CannotCaptureError, match=f"an argument is a {type(thing).__name__}, whose contents"):
        key(X, thing)


@pytest.mark.parametrize("layout", ["sparse_coo", "sparse_csr", "jagged"])
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_tensors_of_other_layouts_are_refused(layout):
    make = {
        "sparse_coo": X.to_sparse,
        "sparse_csr": X.to_sparse_csr,
        "jagged": lambda: torch.nested.nested_tensor([X, X[:2]], layout=torch.jagged),
    }
    for args in ((make[layout](),), (X, [make[layout]()])):
        with pytest.raises(CannotCaptureError, match=f"an argument is a tensor of layout {layout}"):
            key(*args)


class Colour(enum.Enum):
    RED, BLUE = 1, 2


@pytest.mark.parametrize(
    ("a", "b"), [(Colour.RED, Colour.BLUE), (torch.relu, torch.tanh), (torch.nn.Tanh(), torch.nn.Tanh())]
)
def test_what_has_no_contents_is_told_apart(a, b):
    assert key(X, a) == key(X, a)
    assert key(X, a) != key(X, b)
