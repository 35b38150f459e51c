"""recon and kl of each step, read from the Pyro programs while any objective runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

__all__ = ["Terms"]


class Terms:
    """Watches a model and a guide, and gives recon and sampled kl of a step, a mean over examples and particles.

    Works under every objective, since it looks at the sample sites and not at the loss: observed sites make recon,
    log q − log p of the latent ones makes kl. Where ``TraceEnum_ELBO`` lays all values of z side by side, in a
    dimension in front, each counts with its probability q.
    """

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._sums: dict[str, Tensor | float] = {"likelihood": 0.0, "prior": 0.0, "posterior": 0.0}
        self._runs = {"model": 0, "guide": 0}
        self._q: Tensor | None = None

    def watch_model(self, model: Callable[..., Any]) -> Callable[..., Any]:
        """The model, with its sites counted when it runs."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            self._runs["model"] += 1
            with _Sites(self._add_model_site):
                return model(*args, **kwargs)

        return watched

    def watch_guide(self, guide: Callable[..., Any]) -> Callable[..., Any]:
        """The guide, with its sites counted when it runs."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            self._runs["guide"] += 1
            with _Sites(self._add_guide_site):
                return guide(*args, **kwargs)

        return watched

    def take(self) -> Tensor:
        """Recon and kl since the last call, ``(2,)``, and a fresh start."""
        models, guides = max(self._runs["model"], 1), max(self._runs["guide"], 1)  # an objective may run one more often
        recon = self._sums["likelihood"] / models
        kl = self._sums["posterior"] / guides - self._sums["prior"] / models
        self._clear()
        return torch.stack([torch.as_tensor(recon), torch.as_tensor(kl)])

    def _add_model_site(self, site: Any, log_prob: Tensor) -> None:
        name = "likelihood" if site["is_observed"] else "prior"
        self._sums[name] = self._sums[name] + self._mean(log_prob)

    def _add_guide_site(self, site: Any, log_prob: Tensor) -> None:
        self._q = log_prob.exp() if "_enumerate_dim" in site["infer"] else None
        self._sums["posterior"] = self._sums["posterior"] + self._mean(log_prob)

    def _mean(self, log_prob: Tensor) -> Tensor:
        return log_prob.mean() if self._q is None else (self._q * log_prob).sum(0).mean()


class _Sites(Messenger):
    def __init__(self, add: Callable[[Any, Tensor], None]) -> None:
        super().__init__()
        self._add = add

    def _pyro_post_sample(self, msg: Any) -> None:
        if not site_is_subsample(msg):
            with torch.no_grad():
                self._add(msg, msg["fn"].log_prob(msg["value"]))
