"""The check itself: every line in turn, and the report."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pyro
import torch
from pyro.infer import ELBO, SVI
from pyro.infer.elbo import ELBOModule
from pyro.optim import PyroOptim
from torch import Tensor

from pyro_vae.argument_checks import at_least, finite_number
from pyro_vae.checks import behaviour, bounds, calibration, clamps, densities, gradients, parameters, sites
from pyro_vae.checks import objective as objective_lines
from pyro_vae.checks.inputs import Check, Inputs, describe_error, in_mode
from pyro_vae.checks.progress import progress_bar
from pyro_vae.checks.report import STOPPED, UNSUPPORTED, Finding, Line, Report
from pyro_vae.distributions import part_name
from pyro_vae.model_guide import ModelGuide, kept_store
from pyro_vae.seeds import derive, seeded

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
# Without these nothing else can be looked at.
_FIRST = ("sites", "shapes", "supports")


def check(
    vae: Any,
    x: Tensor,
    *context: Tensor,
    mask: Tensor | None = None,
    objective: ELBO | Callable[..., Tensor] | None = None,
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
    """Checks a model and a guide on a batch: that they fit together, and that every number and gradient is the bound's.

    It works on a :class:`pyro_vae.VAE` and on any Pyro model and guide with one latent and one observed site whose
    examples are independent. What can be computed in two ways is: to rounding where the noise can be the same, as a
    z-score where only means agree. Modules are copied to float64 for that where they can be, run in evaluation mode,
    and left as they were; so are Pyro's parameter store and torch's generators.

    Args:
        vae: a VAE, anything else with a ``model`` and a ``guide``, or the pair of them.
        x: some data, ``(batch, *event_shape)``; 32 to 100 examples do.
        context: tensors ``(batch, ...)`` that model and guide take after x.
        mask: where x is observed, for a VAE with ``missing=True``.
        objective: the loss that you train with, to be checked too: a Pyro ELBO (``svi.loss`` is one), or a function of
            ``(x, *context)`` whose value is the negative bound of the batch, a sum over its examples in nats.
        importance_particles: how many the objective's bound has; 1 is the ELBO, k the bound of Burda et al. (2015).
        data_size: the number of examples that a step's loss stands for, where the model's plate has that size.
        exact: whether q is meant to be the true posterior, and not an approximation.
        only: names of the lines to look at; by default all.
        latent: the name of the latent site.
        observed: the name of the observed site.
        level: how often, at most, one look at a line that compares estimates may fail by chance; the line fails where
            a second look, with other draws, fails too.
        repeats: how many draws of each gradient there are; more find smaller mistakes. By default 100, or fewer where
            the networks are so large that a line would take minutes; the report says so.
        float64: compare on a copy in float64, which finds smaller mistakes; False compares as it is.
        seed: of all draws.
        progress: whether to show a bar, which only a terminal gets, on stderr; or a function that is called with the
            name of each line before it is looked at.

    Returns:
        A :class:`Report`; ``print`` it, ask whether it ``passed``, or write its ``to_json()``. Of what is not supported
        (several latent sites, say) nothing is checked: no line fails then, and ``passed`` is False.

    Raises:
        TypeError: where ``vae`` has no model and guide, x is no tensor, ``objective`` is no ELBO or function of x, or
            ``only`` is a text.
        ValueError: where ``only`` names a line that there is not, or a number is out of range.

    Example:
        >>> import torch
        >>> from pyro_vae import build
        >>> report = check(build(6, 2, hidden=(8,)), torch.ones(8, 6), only=["shapes", "trace-elbo"])
        >>> report.passed, len(report)
        (True, 2)
    """
    _check_options(objective, importance_particles, data_size, level, repeats, seed, only)
    given = ModelGuide(vae, x, *context, latent=latent, observed=observed, mask=mask)
    objective = _unwrapped(objective, given)
    _check_arguments(objective, 1 + len(context))
    if not len(x):
        raise ValueError(f"x must hold at least one example; got shape {tuple(x.shape)}")
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
    report = Report(tuple(lines), _subject(vae, x), seed, level, inputs.ranks, inputs.rank_count, cut)
    if only is None or report.unsupported:
        return report
    return replace(report, lines=tuple(line for line in lines if line.name in only or line.verdict == "failed"))


def _stops(line: Check, finding: Finding) -> str:
    """Why no later line can be looked at; empty where they can."""
    if line.name in (*_FIRST, "examples") and finding.verdict == "failed":
        return f"{STOPPED}{line.name} failed"
    unsupported = finding.verdict == "skipped" and finding.detail.startswith(UNSUPPORTED)
    return finding.detail if line.name in _FIRST and unsupported else ""


def _look(line: Check, inputs: Inputs) -> Finding:
    """What a line comes to; an exception on the way is a failure that names it."""
    try:
        with warnings.catch_warnings():
            # Pyro warns of what the lines themselves report, such as a NaN in a loss.
            warnings.simplefilter("ignore", UserWarning)
            # Pyro's validation has its own line; later ones go to the edge of supports on purpose.
            with pyro.validation_enabled(line.name in _FIRST):
                found = _once(line, inputs)
                return _twice(found, line, inputs) if found.verdict == "failed" and found.p_value is not None else found
    except Exception as error:  # whatever the user's programs raise is the finding
        return Finding("failed", describe_error(error))


def _once(line: Check, inputs: Inputs) -> Finding:
    """Each line has random numbers of its own, whatever was looked at before it."""
    with inputs.seeded(60, CHECKS.index(line)):
        return line.look(inputs)


def _twice(found: Finding, line: Check, inputs: Inputs) -> Finding:
    """What a line comes to that has failed with draws: it fails only where independent draws fail too."""
    again = _once(line, inputs.with_new_draws())
    if again.verdict != "failed" or again.p_value is None:
        return again
    return replace(found, p_value=max(found.p_value or 0.0, again.p_value))


def _in_float64(given: ModelGuide) -> ModelGuide:
    """A copy in float64, or the programs themselves where a copy does not run."""
    copied = given.in_float64()
    try:
        copied.terms(copied.draw(1))
        copied.simulate()
        copied.prior()
    except (RuntimeError, TypeError, ValueError):  # such as a tensor in float32 that is no parameter
        return given
    return copied


def _subject(vae: Any, x: Tensor) -> str:
    parts = [part_name(getattr(vae, place)) for place in ("prior", "likelihood", "posterior") if hasattr(vae, place)]
    kind = "a pair of functions" if isinstance(vae, tuple) else type(vae).__name__
    made_of = f" of {', '.join(parts)}" if len(parts) == 3 else ""
    examples = "1 example" if len(x) == 1 else f"{len(x)} examples"
    return f"{kind}{made_of}, on {examples} of shape {tuple(x.shape[1:])}"


def _check_options(
    objective: Any,
    importance_particles: int,
    data_size: int | None,
    level: float,
    repeats: int | None,
    seed: int,
    only: Sequence[str] | None,
) -> None:
    if problem := _no_objective(objective):
        raise TypeError(f"objective must be an ELBO of Pyro's or a function of x that returns a loss; got {problem}")
    at_least(1, "importance_particles", importance_particles)
    if data_size is not None:
        at_least(1, "data_size", data_size, "the number of examples in the data")
    if repeats is not None:
        at_least(20, "repeats", repeats, "so that there is a standard error")
    finite_number("level", level, above=0, below=1)
    derive(seed)  # refuses what is no seed
    if isinstance(only, str):
        raise TypeError(f"only must be a list of names, such as [{only!r}]; got the text {only!r}")
    names = [line.name for line in CHECKS]
    unknown = [name for name in only or () if name not in names]
    if unknown:
        near = difflib.get_close_matches(unknown[0], names, n=1)
        meant = f". Did you mean {near[0]}?" if near else ""
        raise ValueError(f"only names the line {unknown[0]!r}; there are {', '.join(names)}{meant}")


# What people hand over as objective.


def _no_objective(objective: Any) -> str:
    """What was given where a loss is meant, and what to give; empty for a loss."""
    if objective is None or isinstance(objective, ELBO):
        return ""
    of = getattr(objective, "__self__", None)
    if isinstance(objective, SVI) or (isinstance(of, SVI) and objective in (of.step, of.evaluate_loss)):
        svi = of if isinstance(of, SVI) else objective
        return f"an SVI, which takes steps. Pass the loss that it was made of: {_loss_of_svi(svi)}"
    if isinstance(objective, (torch.optim.Optimizer, PyroOptim)):
        return f"an optimiser, {type(objective).__name__}. Pass the loss that it makes smaller, such as Trace_ELBO()"
    if inspect.isclass(objective):
        return f"the class {objective.__name__}. Pass one of it: {objective.__name__}()"
    if isinstance(objective, str):
        return f"the text {objective!r}. Pass the loss itself, such as Trace_ELBO()"
    return "" if callable(objective) else type(objective).__name__


def _check_arguments(objective: Any, count: int) -> None:
    """A TypeError where a function does not take x and context, as a loss of (recon_x, x, mu, logvar) does not."""
    if objective is None or isinstance(objective, ELBO):
        return
    called = objective.forward if isinstance(objective, torch.nn.Module) else objective
    try:
        takes = inspect.signature(called)
    except ValueError:  # a function in C may have no signature; the line objective says what calling it comes to
        return
    try:
        takes.bind(*range(count))
    except TypeError:
        what = "x" if count == 1 else f"x and {count - 1} of context"
        raise TypeError(
            f"objective must take what model and guide take, {what}, and return a loss; it takes {takes}. Pass a "
            "function that runs encoder, draw and decoder too"
        ) from None


def _loss_of_svi(svi: SVI) -> str:
    of = getattr(svi.loss, "__self__", None)
    if isinstance(of, ELBO):
        return f"{type(of).__name__}() or svi.loss"
    return "lambda x: svi.loss(model, guide, x)"


def _unwrapped(objective: Any, given: ModelGuide) -> Any:
    """The ELBO of which ``svi.loss`` is a method, or that was called with these very programs."""
    of = getattr(objective, "__self__", None)
    if isinstance(of, ELBO) and objective in (of.loss, getattr(of, "differentiable_loss", None)):
        return of
    if isinstance(objective, ELBOModule) and (objective.model, objective.guide) == (given.model, given.guide):
        return objective.elbo
    return objective
