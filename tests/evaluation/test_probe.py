"""The linear probe compared with scikit-learn, and on codes that tell everything or nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from pyro_vae.evaluation.probe import linear_probe


def overlapping(n, seed):
    """Return three classes of codes; the scales of their dimensions differ a thousandfold."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (n,), generator=generator)
    centres = torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    codes = centres[labels] + torch.randn(n, 3, generator=generator)
    return codes * torch.tensor([1.0, 1000.0, 0.001]), labels


def test_beside_scikit_learn():
    (codes, labels), (test_codes, test_labels) = overlapping(300, 0), overlapping(200, 1)
    found = linear_probe(codes, labels, test_codes, test_labels)
    scaler = StandardScaler().fit(codes.double().numpy())
    classifier = LogisticRegression(max_iter=10_000).fit(scaler.transform(codes.double().numpy()), labels.numpy())
    expected = classifier.score(scaler.transform(test_codes.double().numpy()), test_labels.numpy())
    assert found.accuracy == pytest.approx(expected, rel=1e-12)
    assert 0.5 < expected < 0.9
    share = (200 * expected + 2) / 204
    assert found.standard_error == pytest.approx(math.sqrt(share * (1 - share) / 204), rel=1e-12)
    commonest = np.bincount(labels.numpy()).argmax()
    assert found.majority == pytest.approx((test_labels == commonest).double().mean().item(), rel=1e-12)
    assert found == linear_probe(codes.double(), labels, test_codes.double(), test_labels)


def test_separable_codes():
    labels = torch.arange(40) % 2 + 5
    codes = labels.double().unsqueeze(1) * torch.tensor([[1.0, -3.0]])
    found = linear_probe(codes.requires_grad_(), labels, codes[:10], labels[:10])
    assert (found.accuracy, found.majority) == (1.0, 0.5)
    assert found.standard_error == pytest.approx(
        math.sqrt(12 / 14 * 2 / 14 / 14)
    )  # ten correct out of ten are not certainty


def test_codes_that_say_nothing():
    """Among 4,000 test examples of two classes, within 5 standard errors of one half: 6e-7, on a fixed seed."""
    generator = torch.Generator().manual_seed(3)
    codes = torch.randn(8000, 5, generator=generator)
    labels = torch.randint(2, (8000,), generator=generator)
    found = linear_probe(codes[:4000], labels[:4000], codes[4000:], labels[4000:])
    assert found.standard_error == pytest.approx(0.5 / math.sqrt(4000), rel=0.01)
    assert abs(found.accuracy - 0.5) < 5 * found.standard_error


def test_a_class_that_is_new_is_never_named():
    codes = torch.tensor([[0.0], [1.0]])
    found = linear_probe(codes, torch.tensor([0, 1]), torch.tensor([[0.0], [2.0]]), torch.tensor([0, 2]))
    assert found.accuracy == 0.5


def test_booleans_are_classes():
    codes = torch.tensor([[0.0], [1.0]])
    assert linear_probe(codes, torch.tensor([False, True]), codes, torch.tensor([False, True])).accuracy == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": torch.zeros(4)}, r"codes must be \(n, d\), one row per example; got shape \(4,\). Flatten them"),
        ({"codes": torch.zeros(0, 2)}, r"codes must be \(n, d\)"),
        ({"labels": torch.zeros(3).long()}, r"labels must be \(4,\), one for each of codes; got shape \(3,\)"),
        ({"labels": torch.zeros(4, 1).long()}, r"got shape \(4, 1\)"),
        ({"labels": torch.zeros(4)}, "labels must be integers, classes; got dtype torch.float32"),
        ({"labels": torch.full((4,), 3)}, "labels must be of at least two classes; got 3 alone"),
        ({"codes": torch.tensor([[0.0, torch.nan]] * 4)}, "codes must be finite; got 4 values that are not"),
        ({"test_codes": torch.zeros(4, 3)}, r"test_codes must be \(m, 2\), as codes are; got \(4, 3\)"),
        ({"test_codes": torch.full((4, 2), torch.inf)}, "test_codes must be finite; got 8 values"),
        ({"test_labels": torch.zeros(5).long()}, r"test_labels must be \(4,\), one for each of test_codes"),
    ],
)
def test_bad_input(change, message):
    labels = torch.tensor([0, 1, 0, 1])
    given = {"codes": torch.rand(4, 2), "labels": labels, "test_codes": torch.rand(4, 2), "test_labels": labels}
    with pytest.raises(ValueError, match=message):
        linear_probe(**{**given, **change})


def test_arguments_other_than_tensors_are_named():
    codes, labels = torch.ones(2, 1), torch.tensor([0, 1])
    with pytest.raises(TypeError, match="^codes must be a tensor, a NumPy array or a table of numbers; got list"):
        linear_probe([[1.0]], labels, codes, labels)
    with pytest.raises(TypeError, match="^test_labels must be a tensor, a NumPy array or a table of numbers; got list"):
        linear_probe(codes, labels, codes, [0, 1])
