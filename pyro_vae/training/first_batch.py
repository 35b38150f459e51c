"""Checks of the first batch before a training: BatchNorms that need two examples, and data of another scale."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints
from torch.nn.modules.batchnorm import _BatchNorm

from pyro_vae.bound import elbo_terms
from pyro_vae.distributions import (
    Standardized,
    TorchToPyro,
    base_constraint,
    innermost,
    part_name,
    without_independent,
)
from pyro_vae.distributions.columns import Columns
from pyro_vae.parts import Part, as_likelihood
from pyro_vae.suggestions import suggest
from pyro_vae.training.trainee import Trainee
from pyro_vae.vae import VAE, evaluating

__all__ = ["needs_two", "warn_of_scale"]

# Mean |x - location| in units of the scale, or of 1 if the scale is smaller. At the start of a training it is at most
# about 1 for data in [0, 1] and standardised data, some tens for grey values up to 255, and hundreds for raw columns.
_FAR = 20.0
_FAR_MEANS = 1000.0  # Networks learn counts and positive numbers of some hundreds: the mean rises from 1 to them.
_NAMED = 100  # a table with more columns is looked at as a whole
_SHOWN = 3


def needs_two(trainee: Trainee, x: Tensor, *context: Tensor) -> str:
    """Return why a batch must have two examples, in words; empty if one is enough.

    A BatchNorm cannot be trained on one number per channel. Over images it has one number per pixel.

    Args:
        trainee: what is trained.
        x: data ``(batch, *event_shape)``; only the first example is used.
        context: tensors ``(batch, ...)``.
    """
    found: list[str] = []

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if inputs[0].numel() == inputs[0].shape[1]:
                found.append(f"{type(module).__name__} in {name} cannot be trained on one")

        return look

    trained = trainee.trained_modules()
    modules = ((name, m) for prefix, of in trained.items() for name, m in of.named_modules(prefix=prefix))
    norms = [(name, module) for name, module in modules if isinstance(module, _BatchNorm)]
    hooks = [module.register_forward_pre_hook(note(name)) for name, module in norms]
    try:
        if hooks:
            with evaluating(trainee.module), trainee.scope():
                trainee.run(x[:1], *(c[:1] for c in context))
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else ""


def warn_of_scale(vae: VAE, x: Tensor, *context: Tensor) -> None:
    """Warn if x is so far from what the decoder gives that the training will learn little but the scale.

    Args:
        vae: the VAE.
        x: data ``(batch, *event_shape)``.
        context: tensors ``(batch, ...)``.
    """
    x, context = vae.tensors(x, *context)
    columns = x if x.dim() == 2 else x.reshape(-1, 1)
    if not (columns.float().abs().nanmean(0) > _FAR).any():
        return
    with evaluating(vae):
        # At the codes of x, a trained decoder knows the scale of x. A new decoder is looked at on draws from the prior
        # too: there it does not see x, while the codes of one raw column may move the location of all columns far off.
        prior = vae.prior_of(*context).expand((len(x),))
        drawn, codes = prior.sample(), vae.encode(x, *context).sample()
        likelihoods = [vae.decode(z, *context) for z in (drawn, codes)]
        far = _far(vae.likelihood, likelihoods, x)
        if not far:
            if _standardises(likelihoods[0]):
                _warn_of_codes(vae, codes, drawn)
            return
        elbo = elbo_terms(vae, x, *context, kl="sampled").elbo.mean().item()
    more = f" and {len(far) - _SHOWN} more" if len(far) > _SHOWN else ""
    warnings.warn(
        f"the scale of the training data is not that of likelihood {part_name(vae.likelihood)}: "
        f"{'; '.join(far[:_SHOWN])}{more}. The training starts at an ELBO of {elbo:.1e} nats per example and will "
        f"mostly learn the scale. {_remedy(x, likelihoods[0])}",
        stacklevel=4,
    )


def _standardises(likelihood: TorchDistribution) -> bool:
    """Return True if x, or a column of it, is standardised by the likelihood."""
    columns = likelihood.columns if isinstance(likelihood, Columns) else [likelihood]
    return any(isinstance(without_independent(column), Standardized) for column in columns)


def _warn_of_codes(vae: VAE, codes: Tensor, drawn: Tensor) -> None:
    """Warn if the codes of x are far beyond the draws of the prior: its encoder sees x as it is."""
    found, usual = codes.abs().mean().item(), max(1.0, drawn.abs().max().item())
    if found > _FAR * usual:
        warnings.warn(
            f"likelihood {part_name(vae.likelihood)} standardises x, posterior {part_name(vae.posterior)} does not: "
            f"its codes start at {found:.1e}, and those of the prior are within {usual:.1g}. Give its net an encoding: "
            '{"class": "MLP", "encoding": {"class": "TableEncoding", "columns": [{"as": "number", "loc": ...}, ...]}}',
            stacklevel=5,
        )


def _far(part: Part, likelihoods: list[TorchDistribution], x: Tensor) -> list[str]:
    """Return the columns that are far from p(x | z), in words; x as a whole if it is not a table."""
    likelihoods = [p.base if isinstance(p, TorchToPyro) else p for p in likelihoods]
    first = likelihoods[0]
    if isinstance(first, Columns):
        parts = as_likelihood(part).of_columns() or [part] * len(first.names)
        found: dict[int, str] = {}
        for i, group in enumerate(first.groups):
            of_group = [p.groups[i].distribution for p in likelihoods]
            names = [repr(first.names[number]) for number in group.numbers]
            far = _far_values(parts[group.numbers[0]], of_group, group.values(x), names)
            found |= {group.numbers[j]: words for j, words in far.items()}
        return [found[number] for number in sorted(found)]
    table = x.dim() == 2 and x.shape[1] <= _NAMED
    names = [f"column {j}" for j in range(x.shape[1])] if table else ["its values"]
    return list(_far_values(part, likelihoods, x, names).values())


def _far_values(part: Part, likelihoods: list[TorchDistribution], x: Tensor, names: list[str]) -> dict[int, str]:
    """Return those of the named columns of x that are far from p(x | z), in words, by number."""
    first = without_independent(likelihoods[0])
    if isinstance(first, Standardized):  # its scale is judged in the units of y
        x, names = first.standardize(x), [f"{name}, standardised," for name in names]
        likelihoods = [_of_y(p) for p in likelihoods]
    columns = x.reshape(len(x), len(names), -1)
    distances, scales = [], []
    for likelihood in likelihoods:
        found = _location_and_scale(part, likelihood)
        if found is None:
            return {}
        loc, scale = (t.expand(x.shape).reshape(columns.shape) for t in found)
        distances.append(((columns - loc).abs() / scale.clamp_min(1.0)).nanmean((0, 2)))  # NaN is a missing value
        scales.append(scale.mean((0, 2)))
    limit = _FAR if base_constraint(likelihoods[0].support) is constraints.real else _FAR_MEANS
    return {
        j: f"{name}{_range(columns[:, j])}, but p(x | z) starts with a scale of {scales[0][j].item():.2g}"
        for j, name in enumerate(names)
        if all(distance[j] > limit for distance in distances)
    }


def _of_y(likelihood: TorchDistribution) -> TorchDistribution:
    y = without_independent(likelihood).base_dist
    dims = len(likelihood.event_shape) - len(y.event_shape)
    return y.to_event(dims) if dims else y


def _range(values: Tensor) -> str:
    some = values[~values.isnan()]
    return f" from {some.min().item():.4g} to {some.max().item():.4g}"


def _location_and_scale(part: Part, likelihood: TorchDistribution) -> tuple[Tensor, Tensor] | None:
    """Return those of p(x | z), if it is over reals, positive numbers or counts and its scale does not follow x."""
    if as_likelihood(part).depends_on_batch:  # its scale is that of the data
        return None
    try:
        support = base_constraint(likelihood.support)
        inner = innermost(likelihood)
        if support is constraints.real and hasattr(inner, "loc") and hasattr(inner, "scale"):
            return inner.loc, inner.scale  # heavy tails have no standard deviation
        over = (constraints.real, constraints.positive, constraints.nonnegative, constraints.nonnegative_integer)
        return (likelihood.mean, likelihood.stddev) if any(support is known for known in over) else None
    except NotImplementedError:
        return None


def _remedy(x: Tensor, likelihood: TorchDistribution) -> str:
    """Return what to do instead, from :func:`pyro_vae.suggest`."""
    names = likelihood.names if isinstance(likelihood, Columns) else None
    try:
        return f"pyro_vae.suggest(x) says: {suggest(x, names)[0]}"
    except ValueError:  # too little to judge by, such as a single value
        return "Standardise the data, or use a likelihood over such values"
