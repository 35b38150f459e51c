"""Whether a clamp changes a value on the way to a density."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pyro_vae.checks.case import Case, Check, loss_of
from pyro_vae.checks.report import Finding

__all__ = ["CHECKS"]

_SECTION = "Model and guide"
_PROBS = "torch's clamp of probs=; give logits= instead"


class _Clamps(TorchFunctionMode):
    """Watches for clamps that change a value, and remembers where."""

    _NAMES = ("clamp", "clamp_", "clip", "clip_", "clamp_min", "clamp_min_", "clamp_max", "clamp_max_", "nan_to_num")

    def __init__(self) -> None:
        super().__init__()
        self.active: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        watched = name in self._NAMES and args and isinstance(args[0], Tensor)
        before = args[0].detach().clone() if watched else None
        out = func(*args, **(kwargs or {}))
        if before is not None:
            changed = int((out.detach() != before).sum())
            where = _line_of_user() if changed else ""
            if where:
                self.active.append(f"{name} changed {changed:,} of {before.numel():,} values ({where})")
        return out


def _line_of_user() -> str:
    """The line of the user's code that clamps; empty where a library does so for reasons of its own.

    torch's clamp of ``probs=`` is no such reason: it changes what the user asked for.
    """
    frame: Any = sys._getframe(2)
    by_probs = False
    while frame is not None:
        module, function = frame.f_globals.get("__name__", ""), frame.f_code.co_name
        if module.startswith("pyro_vae.programs"):
            return _PROBS if by_probs else ""
        if module.split(".")[0] not in ("torch", "pyro", "pyro_vae"):
            return _PROBS if by_probs else f"{frame.f_code.co_filename}:{frame.f_lineno}"
        by_probs = by_probs or function == "probs_to_logits"
        if not by_probs and function != "clamp_probs" and module.startswith(("torch.distributions", "pyro")):
            return ""
        frame = frame.f_back
    return ""


def _clamps(case: Case) -> Finding:
    p = case.given
    with torch.no_grad(), _Clamps() as clamps:
        p.terms(p.draw(1))
        if case.objective is not None:
            loss_of(case)
    if not clamps.active:
        return Finding("passed", difference=0.0)
    return Finding(
        "failed",
        f"{clamps.active[0]}: there the bound is that of another model, and the gradient is zero. Work with logits, "
        "and with softplus for scales",
        float(len(clamps.active)),
    )


CHECKS = [
    Check(
        "clamps",
        _SECTION,
        "values before and after each clamp in model, guide and objective",
        "Where a clamp is active the bound is that of another model, and no gradient leads back.",
        _clamps,
    ),
]
