"""Recon and kl of each training step, under any objective."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ParamSpec, TypeVar

import torch
from pyro import poutine
from pyro.infer import ELBO
from pyro.poutine import Trace
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from pyro_vae.objectives import Objective
from pyro_vae.terms import Terms, read_terms

__all__ = ["StepTerms"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class StepTerms:
    """Collects recon and sampled kl of a step, means over examples and particles.

    An objective of this library hands over the terms that it reads anyway. Pyro's ELBOs keep their traces to
    themselves, so the programs are traced here too while such an ELBO runs them. An uncompiled step then works out each
    density twice, the second time without gradient. Compiling a step merges equal operations, so a compiled step does
    not.

    If ``TraceEnum_ELBO`` evaluates all values of z side by side, in a dimension to the left of the plates, each value
    counts with its probability under q.
    """

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._recon: Tensor | float = 0.0
        self._kl: Tensor | float = 0.0
        self._runs = 0
        self._guide: Trace | None = None

    def watch(
        self, model: Callable[_P, _R], guide: Callable[_P, _R], objective: ELBO
    ) -> tuple[Callable[_P, _R], Callable[_P, _R]]:
        """Return the programs for SVI to run, so that steps with this objective are collected."""
        if isinstance(objective, Objective):
            objective.on_terms = self._add
            return model, guide

        def watched_guide(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            self._guide, value = _traced(guide, *args, **kwargs)
            return value

        def watched_model(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            trace, value = _traced(model, *args, **kwargs)
            if self._guide is not None:  # the run of the guide that this run of the model follows
                self._add(read_terms([(trace, self._guide)]), _enumerated(self._guide))
            return value

        return watched_model, watched_guide

    def take(self) -> Tensor:
        """Return recon and kl since the last call, ``(2,)``, and start again."""
        runs = max(self._runs, 1)
        recon, kl = self._recon / runs, self._kl / runs
        self._clear()
        return torch.stack([torch.as_tensor(recon), torch.as_tensor(kl)])

    def _add(self, terms: Terms, enumerated: Mapping[str, int] = MappingProxyType({})) -> None:
        with torch.no_grad():
            if enumerated:
                log_q = sum((terms.runs[0]["posterior"][name].log_prob for name in enumerated), torch.zeros(()))
                dims = list(enumerated.values())
                recon, prior, posterior = ((log_q.exp() * t).sum(dims).mean() for t in terms.totals)
            else:
                recon, prior, posterior = (t.mean() for t in terms.totals)
            self._recon = self._recon + recon
            self._kl = self._kl + (posterior - prior)
            self._runs += 1


def _traced(program: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> tuple[Trace, _R]:
    """Run a program; return its trace, with log-densities without gradient, and its value."""
    trace = poutine.trace(program).get_trace(*args, **kwargs)
    value: _R = trace.nodes["_RETURN"]["value"]
    trace = prune_subsample_sites(trace)
    with torch.no_grad():
        trace.compute_log_prob()
    return trace, value


def _enumerated(guide: Trace) -> dict[str, int]:
    """Return the sites whose values are all evaluated, with the dimension of the values."""
    dims = {name: site["infer"].get("_enumerate_dim") for name, site in guide.nodes.items() if site["type"] == "sample"}
    return {name: dim for name, dim in dims.items() if dim is not None}
