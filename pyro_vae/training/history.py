"""The history of a training, as objects and as JSON lines."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from statistics import fmean, stdev

from pyro_vae.argument_checks import is_integer
from pyro_vae.files import is_there, read_text, write_text

__all__ = ["Epoch", "History"]

_HEADER = ["epoch", "elbo", "recon", "kl", "valid elbo"]


@dataclass(frozen=True)
class Epoch:
    """One pass over the training data; means over its examples, in nats.

    Args:
        epoch: its number, from 1.
        loss: the loss per example, with the scales of the model; −elbo under ``Trace_ELBO``.
        elbo: recon − kl, during the epoch, in which the weights change.
        recon: E_q[log p(x|z)].
        kl: log q(z|x) − log p(z), sampled.
        valid_elbo: the bound on the validation data after the epoch; None without them.
        seconds: how long the epoch took, validation included.
        terms: other terms of the objective at the last step of the epoch: ``beta``, ``bound``, ...
    """

    epoch: int
    loss: float
    elbo: float
    recon: float
    kl: float
    valid_elbo: float | None
    seconds: float
    terms: dict[str, float] = field(default_factory=dict, hash=False)

    @property
    def score(self) -> float:
        """The number that epochs are compared by: the validation elbo, or the training elbo if there is none."""
        return self.elbo if self.valid_elbo is None else self.valid_elbo


class History(list[Epoch]):
    """The epochs of a training, in order.

    Example:
        >>> first = Epoch(1, loss=100.0, elbo=-100.0, recon=-90.0, kl=10.0, valid_elbo=-101.0, seconds=0.5)
        >>> second = Epoch(2, loss=95.0, elbo=-95.0, recon=-85.0, kl=10.0, valid_elbo=-99.0, seconds=0.5)
        >>> history = History([first, second])
        >>> history.best.epoch
        2
    """

    def __repr__(self) -> str:
        """Return a table of the epochs, without those in the middle if there are more than 12, and the best epoch."""
        rows = [_HEADER, *(_cells(epoch) for epoch in self)]
        if len(rows) > 13:
            rows[7:-6] = [["..."] * len(_HEADER)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join([*lines, f"best: epoch {self.best.epoch}"] if self else ["History(no epoch was finished)"])

    def _repr_html_(self) -> str:
        """Return a table of all epochs, as a notebook shows it."""
        head = "".join(f"<th>{name}</th>" for name in _HEADER)
        rows = ("".join(f"<td>{cell}</td>" for cell in _cells(epoch)) for epoch in self)
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    @property
    def best(self) -> Epoch:
        """The epoch with the highest validation elbo, or training elbo if there are no validation data."""
        if not self:
            raise ValueError("the history is empty: no epoch was finished")
        return max(self, key=lambda epoch: epoch.score)

    @property
    def fall_after_best(self) -> float | None:
        """How far the validation elbo fell until the end, if the best epoch is in the first half; None if it did not.

        It is the best of a few noisy ones, so means over a tenth of the epochs are compared: around the best epoch, and
        at the end. A fall within the noise of the last ones counts as none.
        """
        found = [epoch.valid_elbo for epoch in self if epoch.valid_elbo is not None]
        width, place = len(self) // 10, self.index(self.best) if self else 0
        if width < 2 or len(found) < len(self) or 2 * place > len(self):
            return None
        start, last = max(0, place - width // 2), found[-width:]
        fall = fmean(found[start : start + width]) - fmean(last)
        return fall if fall > stdev(last) else None

    def write(self, path: Path) -> None:
        """Write the epochs as JSON, one per line."""
        write_text(path, "".join(json.dumps(asdict(epoch)) + "\n" for epoch in self))

    @classmethod
    def read(cls, path: Path) -> History:
        """Read what :meth:`write` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if a line is not an epoch, or the path is no regular file.
        """
        needed = [f.name for f in fields(Epoch) if f.default_factory is MISSING]
        if not is_there(path):
            raise FileNotFoundError(f"there is no history at {path}; a run folder has it in history.jsonl")
        history = cls()
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            try:
                values = json.loads(line)
                record = Epoch(**{name: values[name] for name in needed}, terms=values.get("terms", {}))
                _check(record)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise ValueError(f"{path}, line {number}, is not an epoch: {error}") from error
            history.append(record)
        return history


def _cells(epoch: Epoch) -> list[str]:
    """Return an epoch as the cells of a table."""
    valid = "-" if epoch.valid_elbo is None else f"{epoch.valid_elbo:.2f}"
    return [str(epoch.epoch), *(f"{value:.2f}" for value in (epoch.elbo, epoch.recon, epoch.kl)), valid]


def _check(record: Epoch) -> None:
    """Raise a TypeError if a value of an epoch is no number."""
    if not is_integer(record.epoch, 1):
        raise TypeError(f"epoch must be an integer of at least 1; got {str(record.epoch)[:100]!r}")
    if not isinstance(record.terms, dict):
        raise TypeError(f"terms must be a mapping; got {type(record.terms).__name__}")
    numbers = {f.name: getattr(record, f.name) for f in fields(record) if f.name not in ("epoch", "terms")}
    if record.valid_elbo is None:
        numbers.pop("valid_elbo")
    for name, value in {**numbers, **record.terms}.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{name} must be a number; got {str(value)[:100]!r}")
