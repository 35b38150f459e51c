"""What the first layer of an encoder sees of the rows of a table: standardised numbers, one-hot vectors, embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pyro_vae.argument_checks import at_least, finite_number, near_miss, one_of, true_or_false

__all__ = ["TableEncoding", "log_of_counts"]

Column = Mapping[str, Any]
"""How one column is encoded; see :class:`TableEncoding`."""

_OPTIONS = {"number": ("loc", "scale", "log"), "one_hot": ("values",), "embedding": ("values", "width")}
# Standardised units below 0 where a logarithm is continued to numbers that have none. Further down, the gradient of a
# pseudo-input at 0 would be so large that a step by it undoes all others.
_FAR = 10.0


class TableEncoding(nn.Module):
    """The encoding of the rows of a table, column by column, as features for a network.

    Numbers are standardised, after a logarithm if wanted. Codes of categories, 0, 1, 2, ..., become one-hot vectors or
    rows of a learned table, an embedding. The features stand in this order: numbers, one-hot vectors, embeddings.

    The rows may also be the pseudo-inputs of a prior (:class:`pyro_vae.priors.VampPrior`), which are any real numbers,
    and which need gradients. So between two codes the encoding is linear, and outside of the codes it is that of the
    nearest one. ``log1p`` leaves numbers below 0 as they are. ``log`` goes on below x₀ = exp(loc − 10 scale) as
    2 log x₀ − log(2 x₀ − x), without a kink. Whether data are in their range is for the likelihood to say.

    Args:
        columns: one mapping for each column of x, as in a YAML file:

            - ``{"as": "number", "loc": 3.0, "scale": 2.0}``: (x − loc) / scale; by default, loc is 0 and scale 1.
              With ``"log": "log"`` or ``"log": "log1p"``, the logarithm of x, or of 1 + x, is taken first.
            - ``{"as": "one_hot", "values": 5}``: the codes 0 to 4.
            - ``{"as": "embedding", "values": 200, "width": 8}``: the codes 0 to 199, as vectors of 8 numbers.
        missing: True if the mask stands beside x, as a VAE with ``missing=True`` gives it to its posterior: 1 where a
            value is observed, else 0. The features of missing values are then 0, whatever fills the gaps, and the mask
            follows the other features.

    Attributes:
        inputs: the length of what the encoding takes: d columns, or 2 d with a mask.
        features: the length of what it gives.

    Raises:
        ValueError: if there is no column, or one is not as above.

    Example:
        >>> columns = [{"as": "number", "loc": 3.0, "scale": 2.0}, {"as": "one_hot", "values": 3}]
        >>> TableEncoding(columns)(torch.tensor([[7.0, 1.0], [3.0, 2.0]]))
        tensor([[2., 0., 1., 0.],
                [0., 0., 0., 1.]])
        >>> TableEncoding(columns, missing=True)(torch.tensor([[7.0, 0.0, 1.0, 0.0]]))
        tensor([[2., 0., 0., 0., 1., 0.]])
    """

    owners: Tensor

    def __init__(self, columns: Sequence[Column], missing: bool = False) -> None:
        super().__init__()
        self.columns = _checked(columns)
        self.missing = true_or_false("missing", missing)
        by_kind: dict[tuple[str, int], list[int]] = {}
        for place, column in enumerate(self.columns):
            by_kind.setdefault((column["as"], column.get("width", 0)), []).append(place)
        ordered = sorted(by_kind.items(), key=lambda found: (list(_OPTIONS).index(found[0][0]), found[0][1]))
        self.kinds = nn.ModuleList(
            _KINDS[kind](places, [self.columns[place] for place in places]) for (kind, _), places in ordered
        )
        self.register_buffer("owners", torch.cat([kind.get_buffer("owners") for kind in self.kinds]), persistent=False)
        self.inputs = len(self.columns) * (2 if missing else 1)
        self.features = len(self.owners) + (len(self.columns) if missing else 0)

    def forward(self, x: Tensor) -> Tensor:
        """Map rows ``(*batch, inputs)`` to ``(*batch, features)``."""
        if x.shape[-1] != self.inputs:
            beside = f": {len(self.columns)} values and their mask" if self.missing else ""
            raise ValueError(f"TableEncoding needs rows of {self.inputs} numbers{beside}; got {tuple(x.shape)}")
        if not self.missing:
            return self._encode(x)
        values, mask = x.split(len(self.columns), dim=-1)
        encoded = self._encode(torch.where(mask != 0, values, 0.0))
        # A product, because the masks of pseudo-inputs are real numbers too. 0 where missing, not 0 times the feature.
        of_feature = mask.index_select(-1, self.owners)
        return torch.cat([torch.where(of_feature != 0, encoded, 0.0) * of_feature, mask], dim=-1)

    def _encode(self, values: Tensor) -> Tensor:
        return torch.cat([kind(values) for kind in self.kinds], dim=-1)

    def extra_repr(self) -> str:
        """Return the number of columns and features."""
        return f"{len(self.columns)} columns, {self.features} features{', missing=True' if self.missing else ''}"


def log_of_counts(x: Tensor) -> Tensor:
    """Return log(1 + x), and x itself below 0, where there are no counts but the pseudo-inputs of a prior may be.

    Example:
        >>> log_of_counts(torch.tensor([0.0, 1.0, -0.5]))
        tensor([ 0.0000,  0.6931, -0.5000])
    """
    return torch.where(x > 0, x.clamp_min(0).log1p(), x)


class _Numbers(nn.Module):
    """Standardised numbers: first those as they are, then logarithms, then logarithms of 1 + x."""

    owners: Tensor
    loc: Tensor
    scale: Tensor

    def __init__(self, places: Sequence[int], columns: Sequence[Column]) -> None:
        super().__init__()
        logs = (None, "log", "log1p")
        order = sorted(range(len(places)), key=lambda i: logs.index(columns[i].get("log")))
        self.sizes = [sum(column.get("log") == log for column in columns) for log in logs]
        self.register_buffer("owners", torch.tensor([places[i] for i in order]), persistent=False)
        self.register_buffer("loc", torch.tensor([float(columns[i].get("loc", 0.0)) for i in order]))
        self.register_buffer("scale", torch.tensor([float(columns[i].get("scale", 1.0)) for i in order]))

    def forward(self, x: Tensor) -> Tensor:
        plain, log, log1p = x.index_select(-1, self.owners).split(self.sizes, dim=-1)
        if log.shape[-1]:
            of_logs = slice(self.sizes[0], self.sizes[0] + self.sizes[1])
            log = _log(log, self.loc[of_logs] - _FAR * self.scale[of_logs])
        return (torch.cat([plain, log, log_of_counts(log1p)], dim=-1) - self.loc) / self.scale


def _log(x: Tensor, log_least: Tensor) -> Tensor:
    """Return log x down to the least number, and below that the same curve mirrored in its point there."""
    least = log_least.exp().clamp_min(torch.finfo(x.dtype).tiny)
    there = x > least
    log = torch.where(there, x, 2 * least - x).log()
    return torch.where(there, log, 2 * least.log() - log)


class _OneHot(nn.Module):
    """One-hot vectors of several columns, side by side."""

    owners: Tensor
    codes: Tensor
    last: Tensor

    def __init__(self, places: Sequence[int], columns: Sequence[Column]) -> None:
        super().__init__()
        sizes = [column["values"] for column in columns]
        self.register_buffer("owners", torch.tensor(places).repeat_interleave(torch.tensor(sizes)), persistent=False)
        self.register_buffer("codes", torch.cat([torch.arange(size) for size in sizes]), persistent=False)
        self.register_buffer("last", torch.tensor([size - 1 for size in sizes for _ in range(size)]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        code = x.index_select(-1, self.owners).clamp_min(0).minimum(self.last.to(x.dtype))
        return (1 - (code - self.codes).abs()).clamp_min(0)


class _Embedded(nn.Module):
    """Embeddings of one width: the tables of several columns, one below the other."""

    owners: Tensor
    places: Tensor
    first: Tensor
    last: Tensor

    def __init__(self, places: Sequence[int], columns: Sequence[Column]) -> None:
        super().__init__()
        sizes, width = torch.tensor([column["values"] for column in columns]), columns[0]["width"]
        self.table = nn.Embedding(int(sizes.sum()), width)
        self.register_buffer("places", torch.tensor(places), persistent=False)
        self.register_buffer("first", sizes.cumsum(0) - sizes, persistent=False)
        self.register_buffer("last", sizes - 1, persistent=False)
        self.register_buffer("owners", torch.tensor(places).repeat_interleave(width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        code = x.index_select(-1, self.places).clamp_min(0).minimum(self.last.to(x.dtype))
        below = code.detach().nan_to_num(0.0).floor().long()
        above = torch.minimum(below + 1, self.last)
        part = (code - below).unsqueeze(-1)
        start, end = self.table(self.first + below), self.table(self.first + above)
        return (start + part * (end - start)).flatten(-2)


_KINDS: Mapping[str, Callable[[Sequence[int], Sequence[Column]], nn.Module]] = {
    "number": _Numbers,
    "one_hot": _OneHot,
    "embedding": _Embedded,
}


def _checked(columns: Sequence[Column]) -> list[dict[str, Any]]:
    if isinstance(columns, (str, Mapping)) or not isinstance(columns, Sequence) or not columns:
        raise ValueError(
            'columns must be a list with one mapping for each column, such as [{"as": "number"}, {"as": "one_hot", '
            f'"values": 5}}]; got {columns!r}'
        )
    for place, column in enumerate(columns):
        _check_column(f"columns[{place}]", column)
    return [dict(column) for column in columns]


def _check_column(name: str, column: Column) -> None:
    if not isinstance(column, Mapping) or "as" not in column:
        raise ValueError(f"{name} must be a mapping that says what it is encoded as, in 'as'; got {column!r}")
    kind = column["as"]
    one_of(f"{name}: as", kind, *_OPTIONS)
    for option in column:
        if option != "as" and option not in _OPTIONS[kind]:
            there = ", ".join(_OPTIONS[kind])
            raise ValueError(f"{name}: {kind} has no {option!r}; it has {there}{near_miss(option, _OPTIONS[kind])}")
    if kind == "number":
        finite_number(f"{name}: loc", column.get("loc", 0.0))
        finite_number(f"{name}: scale", column.get("scale", 1.0), above=0)
        if column.get("log") is not None:
            one_of(f"{name}: log", column["log"], "log", "log1p")
        return
    for option in _OPTIONS[kind]:
        if option not in column:
            raise ValueError(f"{name}: {kind} needs {option!r}; got {dict(column)!r}")
        at_least(f"{name}: {option}", column[option], 1)
