"""Finds the common mistake that explains a loss, its value and its gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pyro_vae.checks.inputs import Inputs
from pyro_vae.checks.statistics import mean_is_zero
from pyro_vae.checks.trials import Part, Trials

__all__ = ["Cause", "cause_of_gradient", "cause_of_loss"]

_RECON = {
    "recon": "log p(x|z)",
    "recon at the mean": "log p(x|z) at the mean of q(z|x) instead of a draw",
    "squared error": "the squared error",
    "sigmoid twice": "log p(x|z) with one sigmoid too many",
    "no log scale": "log p(x|z) without the - log scale of the normal",
}
_KL = {
    "kl": "KL",
    "kl of log-variance as log-scale": "KL with the log-variance taken for a log-scale",
    "kl of log-scale as log-variance": "KL with the log-scale taken for a log-variance",
    "reverse kl": "KL(p || q), the wrong way round",
    "kl to the standard normal": "KL to N(0, 1), which is not the model's p(z),",
}
_LEVEL = 1e-3  # how often the right cause is ruled out by chance
_MOST = 2.5  # mistakes at once
_FIT = 3e-4  # relative; explained by rounding in float32


@dataclass(frozen=True)
class Cause:
    """An explanation of a loss.

    Args:
        words: the sentence.
        mistakes: how many mistakes it needs.
        factor: the number, if the loss is the negative bound times a number; else None.
    """

    words: str
    mistakes: float
    factor: float | None = None


@dataclass(frozen=True)
class _Weight:
    value: float
    form: str  # its words, with {} for the weighted term
    mistakes: float = 1.0


def cause_of_loss(found: Trials) -> Cause | None:
    """Return the likeliest cause of a loss that is not the negative bound; None if no common one explains it.

    Args:
        found: runs of the loss.
    """
    if "bound" in found.parts:
        return _of_several_samples(found)
    parts = {name: part * found.scale for name, part in found.mistaken.items()}
    fits = sorted(_fits(found, parts), key=lambda cause: cause.mistakes)
    best = [cause for cause in fits if cause.mistakes == fits[0].mistakes]
    if not best or len(best) > 2:
        return None  # so many explanations are none
    return Cause(" or ".join(c.words for c in best), best[0].mistakes, best[0].factor if len(best) == 1 else None)


def _of_several_samples(found: Trials) -> Cause | None:
    k, batch = found.inputs.importance_particles, found.inputs.given.batch
    rest, elbo = found.loss + found.bound, found.parts["elbo"] * found.scale
    if _vanishes(Part(rest.values + found.scale * batch * math.log(k), rest.slopes), found.bound):
        return Cause(f"it is the negative bound without its - log {k} for each example", 1.0)
    if _vanishes(found.loss + elbo, elbo):
        return Cause(f"it is the mean of {k} log-weights, the ELBO, and not the log of the mean weight", 1.0)
    return _uniform(found)


def _uniform(found: Trials) -> Cause | None:
    for weight in _weights(found.inputs):
        if weight.value not in (0.0, 1.0) and _vanishes(
            found.loss + found.bound * weight.value, found.bound * weight.value
        ):
            return Cause(_divided(weight), 1.0, weight.value)
    return None


# Weighted sums of a recon and a KL.


def _fits(found: Trials, parts: dict[str, Part]) -> Iterator[Cause]:
    known = _weights(found.inputs, found.scale)
    for recon_name, recon_words in _RECON.items():
        for kl_name, kl_words in _KL.items():
            if recon_name not in parts or kl_name not in parts:
                continue
            others = (recon_name != "recon") + (kl_name != "kl")
            for u, v in _pairs(known, found.loss, parts[recon_name], parts[kl_name], plain=not others):
                mistakes = others + _mistakes(u, v)
                if mistakes > _MOST:
                    continue
                fit = parts[recon_name] * -u.value + parts[kl_name] * v.value
                if (constant := _constant(found.loss - fit, fit)) is None:
                    continue
                mistakes += 1.25 if constant else 0.0
                if 0 < mistakes <= _MOST:
                    words = _words(found.inputs, u, v, recon_words, kl_words, constant, found.scale)
                    uniform = u.value == v.value and u.value > 0 and not others
                    yield Cause(words, mistakes, u.value if uniform else None)


def _weights(inputs: Inputs, scale: float = 1.0) -> list[_Weight]:
    """Return the weights that recon, KL or both often get by mistake, relative to the plate's scale."""
    batch, elements, latents = inputs.given.batch, inputs.given.x[0].numel(), inputs.latents
    known = [
        _Weight(1.0, "{}", 0.0),
        _Weight(0.0, "0 {} (it is left out)"),
        _Weight(0.5, "{} / 2"),
        _Weight(2.0, "2 {} (a factor 1/2 is missing)"),
        _Weight(1 / batch, f"{{}} / {batch} (a mean over the batch)"),
        _Weight(1 / elements, f"{{}} / {elements} (a mean over the elements of x)"),
        _Weight(1 / latents, f"{{}} / {latents} (a mean over the latents)"),
        _Weight(1 / batch / elements, f"{{}} / {batch * elements} (a mean over batch and elements)"),
        _Weight(1 / batch / latents, f"{{}} / {batch * latents} (a mean over batch and latents)"),
        _Weight(1 / math.log(2), "{} / ln 2 (in bits)"),
    ]
    if scale != 1:
        known.append(_Weight(1 / scale, f"{{}} / {scale:.4g} (without the plate's scale)"))
    once = {w.value: w for w in reversed(known)}  # of two with the same value, the first
    return list(reversed(once.values()))


def _pairs(known: list[_Weight], loss: Part, recon: Part, kl: Part, plain: bool) -> Iterator[tuple[_Weight, _Weight]]:
    """Yield the weights to try: known ones, and those that fit the gradient best."""
    for u in known:
        for v in known:
            yield u, v
            if 1.0 in (u.value, v.value) or u.value == v.value:
                for sign_u, sign_v in ((1, -1), (-1, 1), (-1, -1)):
                    yield _signed(u, sign_u), _signed(v, sign_v)
    if not plain:
        return
    for u in known:
        if u.value and (v_value := _least_squares(loss + recon * u.value, kl)) is not None:
            yield u, _Weight(v_value, f"{v_value:.3g} {{}}", 1.25)
    if (u_value := _least_squares(kl - loss, recon)) is not None:
        yield _Weight(u_value, f"{u_value:.3g} {{}}", 1.25), known[0]


def _signed(weight: _Weight, sign: int) -> _Weight:
    return weight if sign > 0 or not weight.value else _Weight(-weight.value, weight.form, weight.mistakes)


def _least_squares(of: Part, by: Part) -> float | None:
    """Return the weight of one part's gradient that fits another's best, with each direction weighted by its noise."""
    noise = of.slopes.var(0) + by.slopes.var(0)
    share = 1 / (noise + 1e-6 * noise.mean() + 1e-12 * by.slopes.square().mean() + 1e-30)
    target, along = of.slopes.mean(0), by.slopes.mean(0)
    length = (share * along * along).sum()
    return float((share * target * along).sum() / length) if length > 0 else None


def _mistakes(u: _Weight, v: _Weight) -> float:
    """Count mistakes: equal weights count once, a mean over the batch in both counts half less, a sign one more."""
    flipped = (u.value < 0) + (v.value < 0)
    if u.value == v.value:
        return u.mistakes + (flipped > 0)
    shared = all("over batch and" in w.form or "over the batch" in w.form for w in (u, v))
    return u.mistakes + v.mistakes + flipped - (0.5 if shared else 0.0)


def _constant(rest: Part, fit: Part) -> float | None:
    """Return 0 if a fit explains the loss, the missing constant if it explains the gradient only, else None."""
    if not _slopes_vanish(rest.slopes, fit.slopes):
        return None
    if _values_vanish(rest.values, fit.values):
        return 0.0
    return rest.values.mean().item()


def _vanishes(rest: Part, reference: Part) -> bool:
    return _values_vanish(rest.values, reference.values) and _slopes_vanish(rest.slopes, reference.slopes)


def _values_vanish(rest: Tensor, reference: Tensor) -> bool:
    slack = _FIT * reference.abs().mean()
    if rest.mean().abs() > slack + 6 * rest.std() / math.sqrt(len(rest)):
        return False
    return mean_is_zero(rest, _LEVEL, slack=slack).verdict == "passed"


def _slopes_vanish(rest: Tensor, reference: Tensor) -> bool:
    if not rest.numel():
        return True
    slack = _FIT * reference.abs().mean(0) + 1e-5 * reference.abs().max()
    far = rest.mean(0).abs() > slack + 12 * rest.std(0) / math.sqrt(len(rest))
    return not far.any() and mean_is_zero(rest, _LEVEL, slack=slack).verdict == "passed"


# In words.


def _divided(weight: _Weight) -> str:
    whole = weight.form.format("the negative bound")
    return "it is twice the negative bound" if weight.value == 2.0 else f"it is {whole}"


def _words(inputs: Inputs, u: _Weight, v: _Weight, recon: str, kl: str, constant: float, scale: float) -> str:
    if u.value == v.value == 1.0 and (recon, kl) == (_RECON["recon"], _KL["kl"]):
        said = "it is the negative bound"
    elif u.value == v.value and u.value > 0 and (recon, kl) == (_RECON["recon"], _KL["kl"]):
        said = _divided(u)
    elif u.value == v.value and u.value < 0:
        said = f"it fits {u.form.format(recon)} - {v.form.format(kl)}: the sign is wrong"
    else:
        squared = recon == _RECON["squared error"]  # already a loss
        minus, between = "-" if v.value < 0 else "", "-" if (u.value > 0) != squared else "+"
        said = f"it fits {minus}{v.form.format(kl)} {between} {u.form.format(recon)}"
        flipped = [name for name, w in ((recon if squared else "log p(x|z)", u), ("the KL", v)) if w.value < 0]
        said += f": the sign of {flipped[0]} is wrong" if flipped else ""
    if not v.mistakes.is_integer() and u.value:
        said += f": relative to log p(x|z), the KL counts {v.value / u.value:.3g} times"
    if recon == _RECON["squared error"] and u.value > 0 and v.value > 0:
        said += f", as if p(x|z) were a normal of scale {math.sqrt(v.value / (2 * u.value)):.3g}"
    return said + (_of_constant(inputs, constant / scale) if constant else "")


def _of_constant(inputs: Inputs, constant: float) -> str:
    p = inputs.given
    per_element, per_latent = constant / p.x.numel(), constant / p.batch / inputs.latents
    said = f", except for a constant of {constant:.4g} nats, {abs(per_element):.4g} per element of x"
    if math.isclose(abs(per_element), 0.5 * math.log(2 * math.pi), rel_tol=1e-3):
        return f"{said}: the 1/2 log 2 pi of the normal is missing"
    if math.isclose(abs(per_latent), 0.5, rel_tol=1e-3):
        return f"{said} and 1/2 per latent: the 1 in 1 + log variance - mean² - variance is missing"
    return f"{said}: is a normalising constant missing?"


# Gradients of a loss whose value is right.


_NO_RECON = {
    "recon, draws cut": "no gradient goes through the draws of z (sample() in place of rsample(), or z.detach())",
    "recon, scale cut": "the draws of z give no gradient to the scale of q(z|x) (its scale is detached there)",
    "recon, mean cut": "the draws of z give no gradient to the mean of q(z|x) (its mean is detached there)",
    "": "log p(x|z) gives no gradient (detach() or no_grad())",
}
_NO_KL = {
    "": "the KL gives no gradient (detach() or no_grad(), perhaps meant for logging only)",
    "kl, scale cut": "the KL gives no gradient to the scale of q(z|x)",
    "kl, mean cut": "the KL gives no gradient to the mean of q(z|x)",
}


def cause_of_gradient(found: Trials, columns: np.ndarray) -> str:
    """Say which gradient is cut in a loss of the right value, or which term is off in one tensor; empty if unknown.

    Args:
        found: runs of the loss.
        columns: those of the tensor's slopes.
    """
    if "recon" not in found.parts:
        return ""
    parts = {name: part * found.scale for name, part in found.cut.items()}
    parts[""] = parts["recon"] * 0.0
    recon, kl = parts["recon"], parts["kl"]
    fits = [(kl - parts[name], words) for name, words in _NO_RECON.items() if name in parts]
    fits += [(parts[name] - recon, words) for name, words in _NO_KL.items() if name in parts]
    for fit, words in fits:
        if _slopes_vanish(found.loss.slopes - fit.slopes, fit.slopes):
            return words
    return _in_which_term(found.loss.slopes[:, columns], recon.slopes[:, columns], kl.slopes[:, columns])


def _in_which_term(loss: Tensor, recon: Tensor, kl: Tensor) -> str:
    """Fit how often recon and KL count in the gradient of one tensor, by least squares over its directions."""
    if not loss.any():
        return ""  # without any gradient there is nothing to fit
    basis = torch.stack([-recon.mean(0), kl.mean(0)], 1)
    noise = (loss.var(0) + recon.var(0) + kl.var(0)).sqrt() + 1e-6 * basis.abs().max() + 1e-30
    weights = torch.linalg.lstsq(basis / noise[:, None], (loss.mean(0) / noise)[:, None]).solution.flatten()
    rest = loss - weights[0] * -recon - weights[1] * kl
    if len(noise) < 3 or not _slopes_vanish(rest, basis.T):
        return ""
    u, v = (round(w, 3) + 0.0 for w in weights.tolist())  # 0 and not -0
    said = f"there log p(x|z) counts {u:.3g} times and the KL {v:.3g} times"
    if abs(v - 1) < 0.02:
        return f"{said}: the mistake is in log p(x|z)"
    return f"{said}: the mistake is in the KL" if abs(u - 1) < 0.02 else said
