"""How well a classifier tells synthetic rows from real ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyro_vae.evaluation.synthetic_rows.tables import Table
from pyro_vae.evaluation.synthetic_rows.trees import classifier, fitted, with_few_labels
from pyro_vae.seeds import derive

__all__ = ["Measured", "area", "discriminator"]

_PARTS = 5
_DRAWING, _DEALING, _FITTING = range(3)  # independent streams of random numbers


@dataclass(frozen=True)
class Measured:
    """A measured number with its standard error.

    Args:
        value: the number.
        standard_error: of it.
    """

    value: float
    standard_error: float

    def __repr__(self) -> str:
        return f"{self.value:.3f} ± {self.standard_error:.3f}"


def discriminator(synthetic: Table, real: Table, most: int, seed: int) -> Measured:
    """Return the area under the ROC curve of a classifier that tells synthetic from real rows, out of fold.

    The area is the chance that the classifier gives a synthetic row a higher score than a real one. Boosted trees are
    fitted to four fifths of the rows and judge the fifth that they have not seen. The result is the mean over the five
    fifths; its expectation is exactly 0.5 if both kinds of rows have one distribution (Lopez-Paz and Oquab 2017, arXiv
    1610.06545). It is below 0.5 if synthetic rows are near copies of ``real``: the trees have seen the original.

    The standard error is that of a fifth, DeLong's, with the correction of Nadeau and Bengio 2003 for the rows that the
    five fits share. If both kinds of rows have one distribution, it is right within a tenth; otherwise it is too
    large, by up to a half.

    Args:
        synthetic: synthetic rows.
        real: real rows, best such that the generator was not trained on. As many of each kind are used.
        most: the most rows of a kind that are used, drawn at random.
        seed: of the draws and of the fits.
    """
    from sklearn.model_selection import StratifiedKFold

    n = min(len(synthetic), len(real), most)
    drawn = [t.some(n, derive(seed, _DRAWING, i)) for i, t in enumerate((real, synthetic))]
    values = with_few_labels(real.columns, np.concatenate([t.values for t in drawn]))
    is_synthetic = np.repeat([0, 1], n)
    parts = StratifiedKFold(_PARTS, shuffle=True, random_state=derive(seed, _DEALING))
    found = []
    for number, (seen, judged) in enumerate(parts.split(values, is_synthetic)):
        model = classifier(real.columns, len(seen), derive(seed, _FITTING, number))
        fitted(model, values[seen], is_synthetic[seen])
        scores, kinds = model.decision_function(values[judged]), is_synthetic[judged]
        found.append(area(scores[kinds == 1], scores[kinds == 0]))
    variance = (1 / _PARTS + 1 / (_PARTS - 1)) * np.mean([part.standard_error**2 for part in found])
    return Measured(float(np.mean([part.value for part in found])), float(np.sqrt(variance)))


def area(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> Measured:
    """Return the chance that a positive score exceeds a negative one, ties counted half.

    The standard error is from both numbers of scores (DeLong, DeLong and Clarke-Pearson 1988).
    """
    from scipy.stats import rankdata

    m, n = len(positive), len(negative)
    ranks = rankdata(np.concatenate([positive, negative]))
    above = (ranks[:m] - rankdata(positive)) / n  # the share of negative scores below each positive one
    below = 1 - (ranks[m:] - rankdata(negative)) / m  # the share of positive scores above each negative one
    return Measured(float(above.mean()), float(np.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n)))
