"""The one door for arrays: what is taken, what it becomes, and what is said of the rest."""

from __future__ import annotations

import warnings

import numpy as np
import pyarrow
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from pyro_vae.data import as_tensor, batches
from pyro_vae.suggestions import suggest

DTYPES = ["f2", "f4", "f8", "g", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", ">f4", ">f8", ">i8"]


def test_what_is_right_already_is_given_back_itself():
    x = torch.ones(2, 3)
    assert as_tensor("x", x, torch.float32, x.device) is x


@given(
    x=st.sampled_from(DTYPES).flatmap(lambda d: arrays.arrays(d, (3, 4), elements=st.integers(0, 1))),
    flip=st.booleans(),
    step=st.integers(1, 2),
)
def test_numpy_arrays_of_any_kind_have_the_same_numbers(x, flip, step):
    view = x[:: -step if flip else step].T
    view.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch would warn of an array that cannot be written to
        found = as_tensor("x", view, torch.float64, integers=True)
    assert found.dtype == torch.float64
    assert found.tolist() == view.astype(float).tolist()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64, torch.uint16, torch.uint32, torch.bool])
def test_integers_of_torch(dtype):
    x = torch.tensor([[0, 1]]).to(dtype)
    kept = as_tensor("x", x, torch.float32)
    assert not kept.is_floating_point()
    assert kept.tolist() == x.tolist()
    assert torch.equal(as_tensor("x", x, torch.float32, integers=True), torch.tensor([[0.0, 1.0]]))


def test_rounding_is_taken_and_nan_and_infinity_stay():
    x = torch.tensor([0.1, torch.nan, torch.inf], dtype=torch.float64)
    assert torch.equal(as_tensor("x", x, torch.float32).nan_to_num(7.0), x.float().nan_to_num(7.0))


@pytest.mark.parametrize(
    ("x", "dtype", "text"),
    [
        (np.array([1e39, 1.0]), torch.float32, r"x has values as large as 1e\+39, which float32 turns into infinity"),
        (torch.tensor([7e4]), torch.float16, r"x has values as large as 7e\+04, which float16 turns into infinity"),
        (torch.tensor([2**24 + 1]), torch.float32, "integers that float32 rounds to others, such as 16777217 to"),
        (np.array([257]), torch.bfloat16, "integers that bfloat16 rounds to others, such as 257 to 256"),
        (np.array([2**53 + 1]), torch.float64, "integers that float64 rounds to others, such as 9007199254740993"),
        (np.array([2**64 - 1], "u8"), torch.float64, "x has integers above 9223372036854775807"),
    ],
)
def test_numbers_that_would_become_others_are_refused(x, dtype, text):
    with pytest.raises(ValueError, match=text):
        as_tensor("x", x, dtype, integers=True)


@pytest.mark.parametrize("n", [2**24, 2**24 + 2, 2**30])
def test_large_integers_that_survive_are_taken(n):
    assert as_tensor("x", torch.tensor([n]), torch.float32, integers=True).item() == n


REFUSED = {
    "sparse_coo": (lambda: torch.eye(3).to_sparse(), r"a sparse tensor \(sparse_coo\). Give x.to_dense\(\)"),
    "sparse_csr": (lambda: torch.eye(3).to_sparse_csr(), r"a sparse tensor \(sparse_csr\). Give x.to_dense\(\)"),
    "nested": (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "a nested tensor. Give x.to_padded"),
    "complex": (lambda: torch.ones(3, 3, dtype=torch.complex64), "torch.complex64. Give torch.view_as_real"),
    "complex of NumPy": (lambda: np.ones((3, 3), complex), "complex128. Give numpy.stack"),
    "masked": (lambda: np.ma.masked_array([[1.0, 2.0]], [[False, True]]), "a masked array, .* x.filled"),
    "objects": (lambda: np.array([["a", 1.0]], dtype=object), "an array of objects. Convert it"),
    "words": (lambda: np.array([["a"]]), "<U1. Code its values as numbers"),
    "dates": (lambda: np.array(["2020-01-01"], "M8[D]"), r"datetime64\[D\]. Code its values"),
    "structured": (lambda: np.zeros(3, [("age", "f4"), ("n", "i4")]), "a structured array of age, n. Give a plain"),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning", "ignore:.*nested tensors:UserWarning")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_dense_array_of_real_numbers_is_refused_in_one_line(kind):
    make, text = REFUSED[kind]
    for take in (lambda x: as_tensor("x", x, torch.float32), batches):
        with pytest.raises(TypeError, match=f"^x must be a dense array of real numbers; got {text}") as caught:
            take(make())
        assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning", "ignore:.*nested tensors:UserWarning")
@pytest.mark.parametrize("kind", ["sparse_coo", "sparse_csr", "nested", "complex", "masked", "structured"])
def test_suggest_refuses_the_same(kind):
    make, text = REFUSED[kind]
    with pytest.raises(TypeError, match=f"^data must be a dense array of real numbers; got {text}"):
        suggest(make())


@pytest.mark.parametrize(
    ("x", "text"),
    [
        ([[1.0]], r"got list: \[\[1.0\]\]. Give torch.tensor\(x\)$"),
        (None, "got NoneType: None$"),
        (
            [torch.ones(2)] * 9,
            r"got list. Put its examples into one array with torch.stack\(x\); or, if it is x and its",
        ),
        ([np.ones(2)] * 9, r"got list. Put its examples into one array with numpy.stack\(x\); or, if it is x and its"),
        (["cat"] * 9, r"got list. Code classes as integers: numpy.unique\(x, return_inverse=True\)\[1\]$"),
        ({"x": 1}, r"got dict: \{'x': 1\}. Give x itself, or a tuple \(x, \*context\)$"),
        (pyarrow.table({"a": [1.0]}), r"got Table. Give its to_pandas\(\)$"),
        (Image.new("L", (2, 2)), r"got Image. Give numpy.asarray\(x\)$"),
    ],
)
def test_what_is_no_array_is_refused(x, text):
    with pytest.raises(TypeError, match=f"^x must be a tensor, a NumPy array or a table of numbers; {text}"):
        as_tensor("x", x)


@pytest.mark.parametrize("x", [torch.tensor(1.0), np.array(2)])
def test_a_single_number_is_no_batch(x):
    with pytest.raises(ValueError, match="x must have a first dimension that counts the examples"):
        as_tensor("x", x)
