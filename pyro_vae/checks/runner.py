"""Runs all lines of a check in turn, and makes the report."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import pyro
import torch
from pyro.infer import ELBO, SVI
from pyro.infer.elbo import ELBOModule
from pyro.optim import PyroOptim
from torch import Tensor

from pyro_vae.argument_checks import at_least, finite_number
from pyro_vae.checks import behaviour, bounds, calibration, clamps, densities, gradients, parameters, sites
from pyro_vae.checks import objective as objective_lines
from pyro_vae.checks.inputs import Check, Inputs, Loss, describe_error, in_mode
from pyro_vae.checks.progress import progress_bar
from pyro_vae.checks.report import STOPPED, UNSUPPORTED, Finding, Line, Report
from pyro_vae.data.arrays import Array, as_tensor, module_dtype_and_device
from pyro_vae.data.batches import DataSource
from pyro_vae.data.gathering import gathered, is_supply
from pyro_vae.distributions import part_name
from pyro_vae.model_guide import ModelGuide, Target, kept_store
from pyro_vae.seeds import derive, seeded
from pyro_vae.vae import as_vae, suited, takes_context

__all__ = ["CHECKS", "check"]

CHECKS: tuple[Check, ...] = (
    *sites.CHECKS,
    *behaviour.CHECKS,
    *clamps.CHECKS,
    *parameters.CHECKS,
    *densities.CHECKS,
    *bounds.CHECKS,
    *gradients.CHECKS,
    *objective_lines.CHECKS,
    *calibration.CHECKS,
)
_EXAMPLES = 100  # of data that come a batch at a time
# All other lines need these.
_FIRST = ("sites", "shapes", "supports")


def check(
    vae: Target,
    x: DataSource,
    *context: Array,
    mask: Array | None = None,
    objective: Loss | None = None,
    importance_particles: int = 1,
    data_size: int | None = None,
    exact: bool = False,
    only: Sequence[str] | None = None,
    latent: str = "z",
    observed: str = "x",
    level: float = 1e-4,
    repeats: int | None = None,
    float64: bool = True,
    seed: int = 0,
    progress: bool | Callable[[str], None] | None = True,
) -> Report:
    """Check a model and a guide on a batch: whether they fit together, and whether all numbers and gradients are right.

    It takes a :class:`pyro_vae.VAE` or any Pyro model and guide with one latent and one observed site and independent
    examples. It computes numbers in two ways and compares them: to rounding if the noise can be the same, as a z-score
    if only the means agree. For that, it runs a copy of the modules in float64, if they can be copied, in evaluation
    mode. Modules, Pyro's parameter store and torch's generators are afterwards as before.

    Args:
        vae: a VAE, another object with a ``model`` and a ``guide``, or the pair of them.
        x: data, ``(batch, *event_shape)``; 32 to 100 examples are enough. Of a split, a Dataset or a DataLoader, the
            first 100 are taken, as the report says.
        context: tensors ``(batch, ...)`` that model and guide take after x.
        mask: True for each observed value of x, for a VAE with ``missing=True``.
        objective: the loss that you train with, to be checked too: a Pyro ELBO (``svi.loss`` is one), or a function of
            ``(x, *context)`` that returns the negative bound of the batch, in nats, summed over its examples.
        importance_particles: number of importance samples in the objective's bound: 1 for the ELBO, k for the bound of
            Burda et al. (2015).
        data_size: number of examples that a step's loss stands for, if the model's plate has that size.
        exact: True if q is meant to be the true posterior and not an approximation.
        only: names of the lines to check; all by default.
        latent: name of the latent site.
        observed: name of the observed site.
        level: probability, at most, that one run of a line that compares estimates fails by chance. The line fails only
            if a second run, with other draws, fails too.
        repeats: number of draws of each gradient; more find smaller mistakes. The default is 100, or fewer if the
            networks are so large that a line would take minutes; the report then says so.
        float64: True to compare on a copy in float64, which finds smaller mistakes; False to compare as given.
        seed: of all draws.
        progress: True to show a progress bar on stderr, on a terminal only; or a function to call with the name of each
            line before it is checked.

    Returns:
        A :class:`Report`: ``print`` it, ask whether it ``passed``, or write its ``to_json()``. If something is not
        supported, such as several latent sites, nothing is checked: no line fails, and ``passed`` is False.

    Raises:
        TypeError: if ``vae`` has no model and guide, x is no tensor, ``objective`` is no ELBO or function of x, or
            ``only`` is a string.
        ValueError: if ``only`` names an unknown line, or a number is out of range.

    Example:
        >>> import torch
        >>> from pyro_vae import build
        >>> report = check(build(6, 2, hidden=(8,)), torch.ones(8, 6), only=["shapes", "trace-elbo"])
        >>> report.passed, len(report)
        (True, 2)
    """
    _check_options(objective, importance_particles, data_size, level, repeats, seed, only)
    x, context, mask, taken = _first_examples(vae, x, context, mask)
    given = ModelGuide(vae, x, *context, latent=latent, observed=observed, mask=mask)
    objective = _unwrapped(objective, given)
    _check_arguments(objective, 1 + len(given.context))
    if not given.batch:
        raise ValueError(f"x must hold at least one example; got shape {tuple(given.x.shape)}")
    wanted = [line for line in CHECKS if only is None or line.name in (*only, *_FIRST)]
    lines: list[Line] = []
    with kept_store(), seeded(seed), in_mode(given.all_modules, False), progress_bar(progress, len(wanted)) as begins:
        samples = objective_lines.samples_of(objective, importance_particles)
        inputs = Inputs(
            given, given, objective, samples, data_size, exact, level, repeats or 0, seed, repeats is not None
        )
        stopped = ""
        for line in wanted:
            begins(line.name)
            finding = Finding("skipped", stopped) if stopped else _look(line, inputs)
            stopped = stopped or _stops(line, finding)
            if line.name == _FIRST[-1] and not stopped:
                inputs.exact = _in_float64(given) if float64 else given
                inputs.repeats = repeats or inputs.affordable_repeats()
            lines.append(Line(line.name, line.section, line.compared, line.why, finding, line.about))
    cut = tuple(inputs.cut.values())
    report = Report(tuple(lines), _subject(vae, given.x, taken), seed, level, inputs.ranks, inputs.rank_count, cut)
    if only is None or report.unsupported:
        return report
    return replace(report, lines=tuple(line for line in lines if line.name in only or line.verdict == "failed"))


def _stops(line: Check, finding: Finding) -> str:
    """Say why no later line can be checked; empty if they can."""
    if line.name in (*_FIRST, "examples") and finding.verdict == "failed":
        return f'{STOPPED}"{line.name}" failed'
    unsupported = finding.verdict == "skipped" and finding.detail.startswith(UNSUPPORTED)
    return finding.detail if line.name in _FIRST and unsupported else ""


def _look(line: Check, inputs: Inputs) -> Finding:
    """Run a line; an exception is a failure that names it."""
    try:
        with warnings.catch_warnings():
            # Pyro warns of what the lines report themselves, such as NaN in a loss.
            warnings.simplefilter("ignore", UserWarning)
            # Pyro's validation has its own line; later lines go to the edges of supports on purpose.
            with pyro.validation_enabled(line.name in _FIRST):
                found = _once(line, inputs)
                return _twice(found, line, inputs) if found.verdict == "failed" and found.p_value is not None else found
    except Exception as error:  # any error of the user's programs is the finding
        return Finding("failed", describe_error(error))


def _once(line: Check, inputs: Inputs) -> Finding:
    """Run a line with random numbers of its own, whatever ran before it."""
    with inputs.seeded(60, CHECKS.index(line)):
        return line.look(inputs)


def _twice(found: Finding, line: Check, inputs: Inputs) -> Finding:
    """Run a line again that failed: it fails only if independent draws fail too."""
    again = _once(line, inputs.with_new_draws())
    if again.verdict != "failed" or again.p_value is None:
        return again
    return replace(found, p_value=max(found.p_value or 0.0, again.p_value))


def _in_float64(given: ModelGuide) -> ModelGuide:
    """Return a copy in float64, or the programs themselves if a copy does not run."""
    copied = given.in_float64()
    try:
        copied.terms(copied.draw(1))
        copied.simulate()
        copied.prior()
    except (RuntimeError, TypeError, ValueError):  # for example, a tensor in float32 that is no parameter
        return given
    return copied


def _first_examples(
    vae: Target, x: DataSource, context: tuple[Array, ...], mask: Array | None
) -> tuple[DataSource, tuple[Array, ...], Array | None, str]:
    """Return the first examples of data that come a batch at a time, and in words that they are the first."""
    x = x if context else suited(x, vae)
    if not is_supply(x):
        return x, context, mask, ""
    of = as_vae(vae)
    dtype, device = (None, None) if of is None else module_dtype_and_device(of)
    x, *rest = gathered(x, *context, dtype=dtype, device=device, has_context=takes_context(vae), most=_EXAMPLES)
    return x, tuple(rest), None if mask is None else as_tensor("mask", mask)[: len(x)], "the first "


def _subject(vae: Target, x: Tensor, taken: str) -> str:
    """Say what is checked."""
    found = [getattr(vae, place, None) for place in ("prior", "likelihood", "posterior", "mask_likelihood")]
    parts = [part_name(part) for part in found if part is not None and not inspect.ismethod(part)]
    kind = f"the pair ({', '.join(map(part_name, vae))})" if isinstance(vae, tuple) else part_name(vae)
    made_of = f" of {', '.join(parts)}" if len(parts) >= 3 else ""
    examples = taken + ("1 example" if len(x) == 1 else f"{len(x)} examples")
    return f"{kind}{made_of}, on {examples} of shape {tuple(x.shape[1:])}"


def _check_options(
    objective: Loss | None,
    importance_particles: int,
    data_size: int | None,
    level: float,
    repeats: int | None,
    seed: int,
    only: Sequence[str] | None,
) -> None:
    if problem := _no_objective(objective):
        raise TypeError(f"objective must be a Pyro ELBO or a function of x that returns a loss; got {problem}")
    at_least("importance_particles", importance_particles, 1)
    if data_size is not None:
        at_least("data_size", data_size, 1, "the number of examples in the data")
    if repeats is not None:
        at_least("repeats", repeats, 20, "for a standard error")
    finite_number("level", level, above=0, below=1)
    derive(seed)  # refuses a wrong seed
    if isinstance(only, str):
        raise TypeError(f"only must be a list of names, such as [{only!r}]; got the string {only!r}")
    names = [line.name for line in CHECKS]
    unknown = [name for name in only or () if name not in names]
    if unknown:
        near = difflib.get_close_matches(unknown[0], names, n=1)
        meant = f". Did you mean {near[0]}?" if near else ""
        raise ValueError(f"only names the line {unknown[0]!r}; there are {', '.join(names)}{meant}")


# What people pass as objective.


def _no_objective(objective: object) -> str:
    """Say what came in place of a loss, and what to pass; empty for a loss."""
    if objective is None or isinstance(objective, ELBO):
        return ""
    of = getattr(objective, "__self__", None)
    if isinstance(objective, SVI) or (isinstance(of, SVI) and objective in (of.step, of.evaluate_loss)):
        svi = of if isinstance(of, SVI) else objective
        return f"an SVI, which takes steps. Pass its loss: {_loss_of_svi(svi)}"
    if isinstance(objective, (torch.optim.Optimizer, PyroOptim)):
        return f"the optimiser {type(objective).__name__}. Pass the loss that it minimises, such as Trace_ELBO()"
    if inspect.isclass(objective):
        return f"the class {objective.__name__}. Pass an instance: {objective.__name__}()"
    if isinstance(objective, str):
        return f"the string {objective!r}. Pass the loss itself, such as Trace_ELBO()"
    return "" if callable(objective) else type(objective).__name__


def _check_arguments(objective: Loss | None, count: int) -> None:
    """Raise a TypeError if a function does not take x and context, such as a loss of (recon_x, x, mu, logvar)."""
    if objective is None or isinstance(objective, ELBO):
        return
    called = objective.forward if isinstance(objective, torch.nn.Module) else objective
    try:
        takes = inspect.signature(called)
    except ValueError:  # a function in C may have no signature; the line objective reports what calling it does
        return
    try:
        takes.bind(*range(count))
    except TypeError:
        what = "x" if count == 1 else f"x and {count - 1} of context"
        raise TypeError(
            f"objective must take what model and guide take, {what}, and return a loss; it takes {takes}. Pass a "
            "function that also runs the encoder, draws z and runs the decoder"
        ) from None


def _loss_of_svi(svi: SVI) -> str:
    of = getattr(svi.loss, "__self__", None)
    if isinstance(of, ELBO):
        return f"{type(of).__name__}() or svi.loss"
    return "lambda x: svi.loss(model, guide, x)"


def _unwrapped(objective: Loss | None, given: ModelGuide) -> Loss | None:
    """Return the ELBO of which the objective is a method, or that was called with these very programs."""
    of = getattr(objective, "__self__", None)
    if isinstance(of, ELBO) and objective in (of.loss, getattr(of, "differentiable_loss", None)):
        return of
    if isinstance(objective, ELBOModule) and (objective.model, objective.guide) == (given.model, given.guide):
        return objective.elbo
    return objective
