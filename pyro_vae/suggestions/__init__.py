"""Which likelihoods fit the data, and why."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyro_vae.suggestions.library import as_counts, judge_counts
from pyro_vae.suggestions.rules import MISSING, Step, Suggestion, judge
from pyro_vae.suggestions.tables import judge_table
from pyro_vae.suggestions.values import Data, read
from pyro_vae.suggestions.whole_tables import as_table, suggest_schema, suggest_table

__all__ = ["MISSING", "Suggestion", "suggest", "suggest_schema"]


def suggest(data: Data, names: Sequence[str] | None = None) -> list[Suggestion]:
    """Suggest likelihoods that fit the data, best first, each with the reason.

    All values decide which likelihoods are possible. Dispersion, zeros and tails are judged within each element of x,
    from at most 4,000 evenly spaced rows. A table with 2 to 100 columns of different kinds gets ``Mixed``. A VAE learns
    p(x | z), which is narrower than the data: the latent may explain dispersion, zeros and tails. So the simpler
    likelihood always stands beside the richer one.

    Args:
        data: anything that :func:`pyro_vae.fit` takes, as a VAE would get it, or a data set: of images its training
            split, of rows all splits. NaN is a missing value. Of a Dataset or a DataLoader, at most 4,000 evenly spaced
            examples are judged; of a stream, the first 4,000. :class:`Counts` and sparse matrices of counts are judged
            given the total of each row, by likelihoods with ``library=True``.
        names: the names of the columns of a table ``(n, columns)``.

    Raises:
        ValueError: if there is nothing to judge: no values, infinite values, a single constant, or no numbers.
        TypeError: if ``data`` is something else.

    Example:
        >>> import torch
        >>> from pyro_vae import data
        >>> print(suggest(data.load("digits", binarize="threshold"))[0])
        Bernoulli: 0 and 1 are the only values.
        >>> print(suggest(torch.tensor([[0.5, 0.0], [0.2, 1.0], [0.7, 0.0], [0.31, 0.0]]), ["share", "smokes"])[0])
        Mixed(Beta for share; Bernoulli for smokes): columns of different kinds, such as share (reals from 0.2 to 0.7, \
inside (0, 1)) and smokes (0 and 1 are the only values).
    """
    table = None if names is not None else as_table(data)
    if table is not None:
        return suggest_table(*table)[1]
    counts = as_counts(data)
    if counts is not None:
        return judge_counts(counts)
    values = read(data, names)
    found = judge_table(values) if len(values.names) > 1 else judge(values)
    if not np.isnan(values.x).any():
        return found
    return [s.with_steps((*s.todo, Step(MISSING))) for s in found]
