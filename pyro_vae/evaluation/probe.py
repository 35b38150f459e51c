"""Linear probes: how well a linear classifier predicts labels from codes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pyro_vae.data.arrays import Array, as_tensor
from pyro_vae.value_checks import check_all_finite

__all__ = ["Probe", "linear_probe"]


@dataclass(frozen=True)
class Probe:
    """How well a linear classifier predicts labels from codes, on test examples.

    Args:
        accuracy: the share of correct predictions.
        standard_error: of the accuracy, from the number of test examples alone, with two correct and two wrong ones
            added (Agresti and Coull 1998): it is not 0 if all or none are correct.
        majority: the accuracy of always predicting the most frequent label of the training examples.
    """

    accuracy: float
    standard_error: float
    majority: float


def linear_probe(codes: Array, labels: Array, test_codes: Array, test_labels: Array) -> Probe:
    """Fit a linear classifier to codes and measure its accuracy: scikit-learn's logistic regression, standardised.

    See Alain and Bengio 2016, arXiv 1610.01644. To see how much the codes help, probe the data as well:
    ``linear_probe(x.flatten(1), ...)``.

    Args:
        codes: codes of the training examples, such as ``vae.codes(x)``, ``(n, d)``.
        labels: integers ``(n,)``, of at least two classes.
        test_codes: codes of the test examples, ``(m, d)``.
        test_labels: integers ``(m,)``; labels that ``labels`` lacks are never predicted.

    Raises:
        TypeError: if an argument is no tensor, array or table of numbers.
        ValueError: if shapes do not fit, a code is not finite, a label is no integer or all labels are the same.

    Example:
        >>> codes = torch.tensor([[-1.0], [-2.0], [1.0], [2.0], [3.0]])
        >>> labels, test_codes = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([[-3.0], [5.0]])
        >>> found = linear_probe(codes, labels, test_codes, torch.tensor([0, 1]))
        >>> found.accuracy, round(found.standard_error, 2), found.majority
        (1.0, 0.19, 0.5)
    """
    codes, labels = _checked("codes", codes, "labels", labels)
    test_codes, test_labels = _checked("test_codes", test_codes, "test_labels", test_labels)
    if test_codes.shape[1] != codes.shape[1]:
        raise ValueError(f"test_codes must be (m, {codes.shape[1]}), as codes are; got {tuple(test_codes.shape)}")
    classes, counts = labels.unique(return_counts=True)
    if len(classes) < 2:
        raise ValueError(f"labels must be of at least two classes; got {classes.item()} alone")
    right = _predicted(codes, labels, test_codes) == test_labels.cpu()
    accuracy, share = right.double().mean().item(), (right.sum().item() + 2) / (len(right) + 4)
    return Probe(
        accuracy=accuracy,
        standard_error=math.sqrt(share * (1 - share) / (len(right) + 4)),
        majority=(test_labels == classes[counts.argmax()].item()).double().mean().item(),
    )


def _predicted(codes: Tensor, labels: Tensor, test_codes: Tensor) -> Tensor:
    # scikit-learn takes seconds to import.
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=10_000))
    classifier.fit(_numbers(codes), labels.cpu().numpy())
    return torch.as_tensor(classifier.predict(_numbers(test_codes)))


def _numbers(codes: Tensor) -> np.ndarray:
    return codes.detach().double().cpu().numpy()


def _checked(name: str, codes: Array, of_labels: str, labels: Array) -> tuple[Tensor, Tensor]:
    codes, labels = as_tensor(name, codes), as_tensor(of_labels, labels)
    if codes.dim() != 2 or not codes.numel():
        raise ValueError(f"{name} must be (n, d), one row per example; got shape {tuple(codes.shape)}. Flatten them")
    if labels.shape != codes.shape[:1]:
        raise ValueError(
            f"{of_labels} must be ({len(codes)},), one for each of {name}; got shape {tuple(labels.shape)}"
        )
    if labels.is_floating_point():
        raise ValueError(f"{of_labels} must be integers, classes; got dtype {labels.dtype}")
    check_all_finite(name, codes)
    return codes, labels
