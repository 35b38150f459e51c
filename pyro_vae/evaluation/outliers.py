"""Outlier scores of a VAE, and how well each of them tells two sets of examples apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pyro_vae.argument_checks import at_least_one
from pyro_vae.data.arrays import Array
from pyro_vae.data.batches import DataSource
from pyro_vae.evaluation.estimates import Named, blocks, check_density, log_joint, running
from pyro_vae.evaluation.gaps import inference_gaps
from pyro_vae.evaluation.weights import log_mean
from pyro_vae.model_guide import ModelGuide, Target
from pyro_vae.seeds import derive, seeded
from pyro_vae.value_checks import check_all_finite, check_tensor

__all__ = ["outlier_scores", "separation"]

_ROWS = 1024  # rows (draws × examples) decoded at a time


def outlier_scores(
    vae: Target,
    x: DataSource | None = None,
    *context: Array,
    num_particles: int = 1000,
    reference: Tensor | None = None,
    regret: bool = False,
    steps: int = 1000,
    seed: int = 0,
    **named: Named,
) -> dict[str, Tensor]:
    """Return scores of how unusual each example is to the VAE, in nats; higher is more unusual.

    - ``log_prob``: −log p(x), by importance sampling from q. Simple data, such as images of one colour, may have a
      higher likelihood than the training data (Nalisnick et al. 2018, arXiv 1810.09136), hence the other scores.
    - ``kl``: E_q[log q(z|x) − log p(z)], the rate.
    - ``recon``: −E_q[log p(x|z)], the distortion. ``kl`` and ``recon`` sum to −ELBO, which is at least ``log_prob``.
    - ``typicality``, with ``reference``: |log p(x) − mean of reference|, which is also high for examples that are too
      likely (Nalisnick et al. 2019, arXiv 1906.02994, with one example in place of a batch).
    - ``regret``, if asked for: the ELBO of the best q of each example minus the ELBO of the encoder's q. It is the
      likelihood regret of Xiao, Yan and Amit 2020, arXiv 2003.02977, who optimise the encoder's weights; here the
      parameters of q are optimised. It equals :attr:`pyro_vae.evaluation.InferenceGaps.amortisation`.

    The best score depends on the data: see :func:`separation`.

    Args:
        vae: see :func:`pyro_vae.evaluation.importance_sampling`; for ``regret`` a :class:`pyro_vae.VAE`.
        x: data ``(batch, *event_shape)``.
        context: tensors ``(batch, ...)``.
        num_particles: draws of z per example.
        reference: log p(x) of held-out examples like the training data, ``(n,)``: minus their ``log_prob`` from the
            same number of particles.
        regret: if True, also search for the best q of each example.
        steps: steps of that search.
        seed: of the draws.
        named: see :func:`pyro_vae.evaluation.importance_sampling`.

    Returns:
        The scores by name, each ``(batch,)``.

    Raises:
        ValueError: if a number is out of range, ``reference`` is no vector of finite numbers, or q is a point; with
            ``regret`` also as :func:`pyro_vae.evaluation.inference_gaps` does.

    Example:
        >>> import torch
        >>> from pyro_vae import build
        >>> vae, x = build((1, 8, 8), 2), torch.ones(3, 1, 8, 8)
        >>> reference = -outlier_scores(vae, x)["log_prob"]
        >>> sorted(outlier_scores(vae, x, reference=reference))
        ['kl', 'log_prob', 'recon', 'typicality']
    """
    at_least_one(num_particles=num_particles, steps=steps)
    if reference is not None:
        _check("reference", reference)
        check_all_finite("reference", reference, "Leave out the examples with log p(x) = -inf")
    with running(vae, x, context, named, seed) as pair:
        found = [_scores(part, num_particles, derive(seed, number)) for number, part in blocks(pair)]
    scores = {name: torch.cat([part[name] for part in found]) for name in found[0]}
    if reference is not None:
        expected = reference.double().mean().to(scores["log_prob"])
        scores["typicality"] = (scores["log_prob"] + expected).abs()
    if regret:
        names: Any = named
        gaps = inference_gaps(vae, x, *context, steps=steps, importance_particles=num_particles, seed=seed, **names)
        scores["regret"] = gaps.amortisation
    return scores


def _scores(pair: ModelGuide, num_particles: int, seed: int) -> dict[str, Tensor]:
    posterior = check_density(pair.posterior(), "outlier_scores")
    with seeded(seed):
        z, log_q = pair.draw_from(posterior, num_particles)
    likelihood, prior = log_joint(pair, z, _ROWS)
    log_prob, _, _ = log_mean(likelihood + prior - log_q)
    return {"log_prob": -log_prob, "kl": (log_q - prior).mean(0), "recon": -likelihood.mean(0)}


def separation(inside: Mapping[str, Tensor], outside: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the area under the ROC curve of each score: the probability that an outlier scores above an inlier.

    1 is perfect separation, 0.5 is chance; below 0.5 the outliers have the lower scores. Ties count half.

    Args:
        inside: scores of examples like the training data, as :func:`outlier_scores` returns them, each ``(n,)``.
        outside: scores of outliers, with the same names, each ``(m,)``; infinite scores rank last.

    Raises:
        TypeError: if ``inside`` or ``outside`` is no dictionary of tensors.
        ValueError: if the names differ, or a score is empty or NaN.

    Example:
        >>> import torch
        >>> separation({"kl": torch.tensor([1.0, 3.0])}, {"kl": torch.tensor([2.0, 4.0])})
        {'kl': 0.75}
    """
    for place, scores in (("inside", inside), ("outside", outside)):
        if not isinstance(scores, Mapping):
            raise TypeError(
                f"{place} must be tensors (n,) by name, as outlier_scores returns; got {type(scores).__name__}"
            )
    if inside.keys() != outside.keys():
        raise ValueError(
            f"inside and outside must have scores of the same names; got {sorted(inside)} and {sorted(outside)}"
        )
    for place, scores in (("inside", inside), ("outside", outside)):
        for name, score in scores.items():
            _check(f"{place}[{name!r}]", score)
            if torch.isnan(score).any():
                raise ValueError(f"{place}[{name!r}] must be numbers; got {int(torch.isnan(score).sum())} NaN")
    return {name: _area(inside[name], outside[name]) for name in inside}


def _area(inside: Tensor, outside: Tensor) -> float:
    from sklearn.metrics import roc_auc_score  # takes seconds to import

    values = torch.cat([inside.detach().double().cpu(), outside.detach().double().cpu()])
    # Only the order matters. scikit-learn refuses infinite scores, so it gets ranks.
    ranks = values.unique(return_inverse=True)[1]
    strange = torch.arange(len(values)) >= len(inside)
    return float(roc_auc_score(strange.numpy(), ranks.numpy()))


def _check(name: str, values: Tensor) -> None:
    check_tensor(name, values, "(n,)")
    if values.dim() != 1 or not values.numel():
        raise ValueError(f"{name} must be (n,), one number per example; got shape {tuple(values.shape)}")
