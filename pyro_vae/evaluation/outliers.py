"""How strange an example is to a VAE, by several scores, and how well each tells two sets of examples apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pyro_vae.argument_checks import at_least_one
from pyro_vae.evaluation.estimates import blocks, check_density, log_joint, running
from pyro_vae.evaluation.gaps import inference_gaps
from pyro_vae.evaluation.weights import log_mean
from pyro_vae.model_guide import ModelGuide
from pyro_vae.seeds import derive, seeded

__all__ = ["outlier_scores", "separation"]

_ROWS = 1024  # draws × examples that are decoded at a time


def outlier_scores(
    vae: Any,
    x: Tensor | None = None,
    *context: Tensor,
    num_particles: int = 1000,
    reference: Tensor | None = None,
    regret: bool = False,
    steps: int = 1000,
    seed: int = 0,
    **named: Any,
) -> dict[str, Tensor]:
    """How strange each example is to the VAE, in nats; the higher, the stranger.

    - ``log_prob``: −log p(x), by importance sampling from q. Simple data, such as images of one colour, may have a
      higher likelihood than those that the VAE was trained on (Nalisnick et al. 2018, arXiv 1810.09136); the others
      are there because of that.
    - ``kl``: E_q[log q(z|x) − log p(z)], the rate.
    - ``recon``: −E_q[log p(x|z)], the distortion. The two sum to −ELBO, which is not below ``log_prob``.
    - ``typicality``, with ``reference``: |log p(x) − mean of reference|, high for what is too likely too (Nalisnick et
      al. 2019, arXiv 1906.02994, with one example in the place of a batch).
    - ``regret``, if asked for: what the best q of each example has more of the ELBO than the encoder's (the likelihood
      regret of Xiao, Yan and Amit 2020, arXiv 2003.02977; there over the encoder's weights, here over the parameters of
      q). It is :attr:`pyro_vae.evaluation.gaps.InferenceGaps.amortisation`.

    Which of them works depends on the data: see :func:`separation`.

    Args:
        vae: see :func:`pyro_vae.evaluation.importance_sampling`; for ``regret`` a :class:`pyro_vae.VAE`.
        x: data ``(batch, *event_shape)``.
        context: tensors ``(batch, ...)``.
        num_particles: of z, an example.
        reference: log p(x) of examples like those of the training but not among them, ``(n,)``: minus their
            ``log_prob`` from as many draws.
        regret: whether to work out the regret, which takes a search for each example.
        steps: of that search.
        seed: of the draws.
        named: see :func:`pyro_vae.evaluation.importance_sampling`.

    Returns:
        The scores by name, each ``(batch,)``.

    Raises:
        ValueError: where a number is out of range, ``reference`` is no vector of finite numbers, or q is a point;
            with ``regret`` as :func:`pyro_vae.evaluation.gaps.inference_gaps`.

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
        if not torch.isfinite(reference).all():
            raise ValueError(
                f"reference must be finite; got {int((~torch.isfinite(reference)).sum())} values that are not. Leave "
                "out the examples that the VAE holds to be impossible"
            )
    with running(vae, x, context, named, seed) as pair:
        found = [_scores(part, num_particles, derive(seed, number)) for number, part in blocks(pair)]
    scores = {name: torch.cat([part[name] for part in found]) for name in found[0]}
    if reference is not None:
        expected = reference.double().mean().to(scores["log_prob"])
        scores["typicality"] = (scores["log_prob"] + expected).abs()
    if regret:
        gaps = inference_gaps(vae, x, *context, steps=steps, importance_particles=num_particles, seed=seed, **named)
        scores["regret"] = gaps.amortisation
    return scores


def _scores(pair: ModelGuide, num_particles: int, seed: int) -> dict[str, Tensor]:
    posterior = check_density(pair.posterior(), "outlier_scores")
    with seeded(seed):
        z = posterior((num_particles,))
    log_q = pair.log_posterior(z, posterior)  # at once: a flow may remember where the draw came from
    likelihood, prior = log_joint(pair, z, _ROWS)
    log_prob, _, _ = log_mean(likelihood + prior - log_q)
    return {"log_prob": -log_prob, "kl": (log_q - prior).mean(0), "recon": -likelihood.mean(0)}


def separation(inside: Mapping[str, Tensor], outside: Mapping[str, Tensor]) -> dict[str, float]:
    """The area under the ROC curve of each score: the chance that one outside is stranger than one inside.

    1 tells all apart, 0.5 none; below 0.5, those outside are the less strange. Ties count half.

    Args:
        inside: scores of examples like those of the training, as :func:`outlier_scores` gives them, each ``(n,)``.
        outside: scores of others, with the same names, each ``(m,)``; infinite ones are as strange as can be.

    Raises:
        ValueError: where the two have not the same names, or a score is empty or NaN.

    Example:
        >>> import torch
        >>> separation({"kl": torch.tensor([1.0, 3.0])}, {"kl": torch.tensor([2.0, 4.0])})
        {'kl': 0.75}
    """
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
    # Only the order matters. scikit-learn takes no infinite numbers, which a score may be, but their ranks.
    ranks = values.unique(return_inverse=True)[1]
    strange = torch.arange(len(values)) >= len(inside)
    return float(roc_auc_score(strange.numpy(), ranks.numpy()))


def _check(name: str, values: Tensor) -> None:
    if values.dim() != 1 or not values.numel():
        raise ValueError(f"{name} must be (n,), one number an example; got shape {tuple(values.shape)}")
