"""A VAE from names and numbers: what config.yaml holds."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from types import ModuleType, SimpleNamespace
from typing import Any, Literal

import pyro.infer
from torch import nn

from pyro_vae import likelihoods, objectives, posteriors, priors
from pyro_vae import nets as networks
from pyro_vae.argument_checks import at_least, finite_number
from pyro_vae.compatibility import usual_objective
from pyro_vae.distributions import import_zuko
from pyro_vae.nets.shapes import Shape, as_shape
from pyro_vae.objectives import schedules
from pyro_vae.parts import NoContextError, net_shape_of
from pyro_vae.registry import TORCH_NN, TORCH_NN_PATHS, NotAllowedError, allowing, find_part
from pyro_vae.vae import VAE

__all__ = ["ROOMS", "SHORT_NAMES", "Spec", "build", "find", "make_objective"]

Spec = str | Mapping[str, Any]
"""A class by name or dotted path, or a mapping with its name under ``class`` and its arguments beside it."""

Nets = Literal["mlp", "gated_mlp", "conv", "resnet"]
"""The kinds of networks that :func:`build` makes."""

ROOMS: dict[str, ModuleType] = {"prior": priors, "likelihood": likelihoods, "posterior": posteriors, "net": networks}
"""The modules whose ``__all__`` names the classes of each kind."""

# Zuko's flows over vectors, which are parts as they are: zuko.flows.NSF.
_ZUKO_FLOWS = ("MAF", "NSF", "NICE", "RealNVP", "NAF", "UNAF", "BPF", "SOSPF", "GF", "CNF", "NCSF", "GMM")

# Pyro's objectives.
_PYROS = {
    name: getattr(pyro.infer, name)
    for name in pyro.infer.__all__
    if name.endswith("ELBO") and not name.startswith("Jit") and name != "ELBO"
}

# Short names, beside those of the classes in any case, with or without underscores.
SHORT_NAMES = {
    "prior": {"vamp": "VampPrior", "mixture": "MixtureOfNormals", "sphere": "UniformOnSphere"},
    "posterior": {
        "normal": "DiagonalNormal",
        "full": "FullNormal",
        "lowrank": "LowRankNormal",
        "iaf": "InverseAutoregressiveFlow",
    },
    "objective": {
        "beta": "BetaELBO",
        "capacity": "CapacityELBO",
        "info": "InfoVAE",
        "stl": "StickingTheLanding",
        "tc": "BetaTCVAE",
    },
}


def build(
    event_shape: Shape,
    latent_dim: int = 20,
    *,
    hidden: Shape = (512, 512),
    activation: str = "SiLU",
    prior: Spec | Callable[..., Any] = "StandardNormal",
    likelihood: Spec | Callable[..., Any] = "Bernoulli",
    posterior: Spec | Callable[..., Any] = "DiagonalNormal",
    nets: Nets = "mlp",
    context_features: int = 0,
    missing: bool = False,
    fill: float = 0.0,
    allow: str | Sequence[str] | None = None,
) -> VAE:
    """A VAE for data of a shape, its three distributions given by name.

    Each of the three is a class of its room, by its name or a short one such as
    ``"vamp"``, ``"normal"`` or ``"iaf"``, or your own class or function, itself or by its dotted path. Arguments named
    ``latent_dim``, ``event_shape``, ``context_features``, ``posterior`` and ``net`` are filled in: the net has the
    right shapes and is of the kind that ``nets`` says, unless the mapping says another, such as
    ``{"class": "Bernoulli", "net": {"class": "my_package.MyNet", "width": 64}}``.

    Args:
        event_shape: shape of one example of x.
        latent_dim: dimensions of z.
        hidden: widths of the encoder's hidden layers; the decoder has them in reverse.
        activation: of the networks, by its name in :mod:`torch.nn`.
        prior: p(z | c).
        likelihood: p(x | z, c).
        posterior: q(z | x, c).
        nets: ``"mlp"``, ``"gated_mlp"``, and for images ``"conv"`` or ``"resnet"``.
        context_features: number of features of the context, 0 for an unconditional VAE.
        missing: whether x may have missing values; see :class:`VAE`.
        fill: what the posterior sees in their place.
        allow: modules of your own whose classes may be imported by dotted path. None allows every module: use it for
            paths that you wrote yourself. Where options come from a file that you did not write, give a list, which
            may be empty: ``build(**options, allow=[])``.

    Raises:
        NotAllowedError: for a dotted path into a module that ``allow`` leaves out.
        ValueError: for a name that is not found, an argument that its constructor does not have, and parts that do not
            go together.

    Example:
        >>> vae = build((1, 8, 8), latent_dim=2, likelihood={"class": "Normal", "scale": 0.1})
        >>> vae.sample(3, seed=0).shape
        torch.Size([3, 1, 8, 8])
    """
    with nullcontext() if allow is None else allowing(allow):
        return _build(
            as_shape("event_shape", event_shape),
            at_least(1, "latent_dim", latent_dim),
            hidden=hidden,
            activation=activation,
            prior=prior,
            likelihood=likelihood,
            posterior=posterior,
            nets=nets,
            context_features=at_least(0, "context_features", context_features),
            missing=missing,
            fill=fill,
        )


def _build(
    event_shape: tuple[int, ...],
    latent_dim: int,
    *,
    hidden: Shape,
    activation: str,
    prior: Spec | Callable[..., Any],
    likelihood: Spec | Callable[..., Any],
    posterior: Spec | Callable[..., Any],
    nets: str,
    context_features: int,
    missing: bool,
    fill: float,
) -> VAE:
    if not isinstance(missing, bool):
        raise ValueError(f"missing must be True or False; got {missing!r}")
    finite_number("fill", fill)
    hidden = as_shape("hidden", hidden) if hidden not in ((), []) else ()
    encoder_net, decoder_net = _nets(nets)
    if nets == "gated_mlp" and activation != "SiLU":
        raise ValueError(
            f"nets gated_mlp have gates in the place of an activation; leave activation={activation!r} out"
        )
    # With missing values the posterior sees the mask beside x.
    seen_shape = (2 * event_shape[0], *event_shape[1:]) if missing else event_shape
    common = {"activation": activation, "context_features": context_features}
    encoder = {"class": encoder_net, "in_shape": seen_shape, "hidden": hidden, **common}
    decoder = {"class": decoder_net, "in_shape": latent_dim, "hidden": hidden[::-1], **common}
    of_context = {"class": "MLP", "in_shape": context_features, "hidden": hidden[:1], "activation": activation}
    # A class of Zuko's, or of the user's own, may call the number of features ``context``.
    features = {"context_features": context_features, "context": context_features}
    known = {"latent_dim": latent_dim, "event_shape": event_shape, **features}
    q = _make("posterior", posterior, known, encoder, latent_dim)
    p = _make("prior", prior, {**known, "event_shape": seen_shape, "posterior": q}, of_context, latent_dim)
    return VAE(p, _make("likelihood", likelihood, known, decoder, event_shape), q, missing=missing, fill=fill)


# What the arguments look like that cannot be filled in.
_EXAMPLES = {"prior": '{"class": "mixture", "components": 5}', "columns": '{"age": "normal", "smokes": "bernoulli"}'}


def _nets(kind: str) -> tuple[str, str]:
    kinds = {
        "mlp": ("MLP", "MLP"),
        "gated_mlp": ("GatedMLP", "GatedMLP"),
        "conv": ("ConvEncoder", "ConvDecoder"),
        "resnet": ("ResNetEncoder", "ResNetDecoder"),
    }
    if not isinstance(kind, str) or kind not in kinds:
        raise ValueError(
            f"nets must be one of {', '.join(kinds)}; got {kind!r}. A net of your own goes into the posterior and the "
            'likelihood: {"class": "Bernoulli", "net": {"class": "my_package.MyNet"}}'
        )
    return kinds[kind]


def _make(room: str, spec: Any, known: dict[str, Any], net: dict[str, Any] | None = None, for_shape: Any = None) -> Any:
    """The object that ``spec`` describes, with what is ``known`` filled in where its constructor asks for it."""
    arguments = _described(room, spec)
    if "class" not in arguments:
        raise ValueError(f"{room} must name its class under 'class'; got {_brief(arguments)}")
    found = find(room, arguments.pop("class"))
    if not isinstance(found, type):
        if arguments:
            raise ValueError(
                f"{room} {found.__name__} is a function and takes no arguments here; got {_brief(arguments)}"
            )
        return found
    parameters = inspect.signature(found).parameters
    _rename(arguments, parameters)
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    unknown = [] if takes_any else [name for name in arguments if name not in parameters]
    if unknown:
        raise ValueError(
            f"{room} {found.__name__} has no argument {unknown[0]!r}; it has {', '.join(parameters) or 'none'}"
        )
    for name in ("prior", "columns"):
        if name in parameters and name not in arguments and name not in known:
            raise ValueError(
                f'{room} {found.__name__} needs its argument {name!r}: {{"class": "{found.__name__}", '
                f'"{name}": {_EXAMPLES[name]}}}'
            )
    if isinstance(arguments.get("prior"), Mapping) and "class" not in arguments["prior"]:
        raise ValueError(
            f'{room} {found.__name__} needs its prior with a class: {{"class": "{found.__name__}", "prior": '
            f"{_EXAMPLES['prior']}}}; got {_brief(arguments['prior'])}"
        )
    for name, value in arguments.items():
        described = isinstance(value, Mapping) and "class" in value
        if name not in ("net", "columns") and (described or (name == "prior" and isinstance(value, str))):
            arguments[name] = _make(name if name in ROOMS else "net", value, known if name in ROOMS else {})
    if "net" in parameters and not isinstance(arguments.get("net"), nn.Module):
        arguments["net"] = _make_net(room, found, arguments, net, for_shape)
    filled = {name: value for name, value in known.items() if name in parameters}
    try:
        return found(**{**filled, **arguments})
    except _WRONG_ARGUMENTS as error:
        raise ValueError(f"{room} {found.__name__} cannot be made from {_brief(arguments)}: {error}") from error


# Arguments as run folders written by older versions call them, and as they are called now.
_OLD_NAMES = {"particles": "num_particles", "context": "context_features", "analytic_kl": "kl"}


def _rename(arguments: dict[str, Any], parameters: Mapping[str, inspect.Parameter]) -> None:
    """Gives the arguments of an old run folder their present names."""
    for old, new in _OLD_NAMES.items():
        if old in arguments and old not in parameters and new in parameters:
            value = arguments.pop(old)
            arguments[new] = ("analytic" if value else "sampled") if new == "kl" else value


# What constructors raise for arguments of another kind than they take.
_WRONG_ARGUMENTS = (TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError)


def _described(what: str, spec: Any) -> dict[str, Any]:
    """A spec as a mapping."""
    if isinstance(spec, Mapping):
        return dict(spec)
    if isinstance(spec, (str, type)) or inspect.isfunction(spec):
        return {"class": spec}
    made = ". A part that is made already goes into VAE(...) itself" if isinstance(spec, nn.Module) else ""
    raise ValueError(f"{what} must be a name, or a mapping with a name under 'class'; got {_brief(spec)}{made}")


def _brief(value: Any) -> str:
    """What came, cut short where it is long."""
    short = reprlib.Repr()
    short.maxdict = short.maxlist = short.maxtuple = 20
    short.maxstring = short.maxother = 200
    return short.repr(value)


def _make_net(room: str, owner: type, arguments: dict[str, Any], usual: dict[str, Any] | None, for_shape: Any) -> Any:
    """The net that goes into ``owner``: the usual one, or the one that its arguments describe."""
    spec = arguments.get("net", {})
    if usual is None:
        return _make("net", spec, {})
    if usual["in_shape"] == 0:
        raise NoContextError(f"{room} {owner.__name__} depends on the context, and this VAE has none")
    described = _described("net", spec)
    known = {**usual, "out_shape": _net_shape(owner, for_shape, arguments)}
    return _make("net", {"class": known.pop("class"), **described}, known)


def _net_shape(owner: type, for_shape: Any, arguments: dict[str, Any]) -> Any:
    """What the owner's net must give; a class of the user's that does not say gets one parameter an element."""
    others = {name: value for name, value in arguments.items() if name != "net"}
    try:
        return net_shape_of(owner, for_shape, **others)
    except _WRONG_ARGUMENTS as error:
        raise ValueError(f"{owner.__name__} cannot be made from {_brief(others)}: {error}") from error


def find(room: str, name: Any) -> Any:
    """The class or function of this name in a room, or on a list, or at this dotted path.

    Args:
        room: prior, likelihood, posterior, net or objective.
        name: the name or dotted path; in Python also the class or function itself.

    Raises:
        NotAllowedError: for a dotted path into a module that may not be imported; see
            :func:`pyro_vae.registry.allowing`.
        ValueError: where there is none; names what there is.
    """
    if room == "objective":
        return _find_objective(name)
    home = ROOMS[room]
    listed = {f"{home.__name__}.{n}": getattr(home, n) for n in home.__all__ if isinstance(getattr(home, n), type)}
    if room == "net":
        listed |= {**TORCH_NN, **TORCH_NN_PATHS}
    if isinstance(name, str) and name.startswith("zuko."):
        listed |= _zuko_flows()
    return find_part(room, home, name, SHORT_NAMES.get(room, {}), listed=listed)


def _zuko_flows() -> dict[str, Any]:
    """The listed flows of Zuko, by the name in zuko.flows and by that of the module each was defined in."""
    flows = import_zuko().flows
    there = {name: getattr(flows, name) for name in _ZUKO_FLOWS if hasattr(flows, name)}
    return {path: c for name, c in there.items() for path in (f"zuko.flows.{name}", f"{c.__module__}.{name}")}


def make_objective(spec: Spec, vae: VAE) -> Any:
    """An objective by name, such as ``"iwae"`` or ``{"class": "Trace_ELBO", "num_particles": 5}``.

    Args:
        spec: the name of one of :mod:`pyro_vae.objectives` or of Pyro's ELBOs, or a dotted path to your own, which is
            imported as :func:`build` imports one; ``"auto"`` for the usual one: ``TraceEnum_ELBO`` for discrete codes,
            else ``Trace_ELBO``. A schedule goes in the place of a weight as a mapping:
            ``{"class": "beta", "beta": {"class": "linear", "steps": 5000}}``.
        vae: the VAE to train.

    Raises:
        ValueError: where there is no such objective, or it does not take the arguments.

    Example:
        >>> make_objective({"class": "iwae", "num_particles": 5}, build(4, 2)).num_particles
        5
    """
    arguments = _described("objective", spec)
    name = arguments.pop("class", "auto")
    name = usual_objective(vae) if name == "auto" else name
    if name == "TraceEnum_ELBO":
        arguments.setdefault("max_plate_nesting", 1)  # the plate "data"; without it Pyro runs the model once to see
    found = find("objective", name)
    _rename(arguments, inspect.signature(found).parameters)
    for argument, value in arguments.items():
        if isinstance(value, Mapping) and "class" in value:
            arguments[argument] = _make_schedule(argument, value)
    try:
        return found(**arguments)
    except _WRONG_ARGUMENTS as error:
        taken = ", ".join(n for n in inspect.signature(found).parameters if n != "options")
        called = name if isinstance(name, str) else found.__name__
        raise ValueError(f"objective {called} takes {taken}; got {_brief(arguments)}: {error}") from error


def _find_objective(name: Any) -> Any:
    room = SimpleNamespace(__all__=objectives.OBJECTIVES, **{n: getattr(objectives, n) for n in objectives.OBJECTIVES})
    listed = {**_PYROS, **{f"pyro.infer.{n}": found for n, found in _PYROS.items()}}
    listed |= {f"{objectives.__name__}.{n}": getattr(objectives, n) for n in objectives.OBJECTIVES}
    try:
        found = find_part("objective", room, name, SHORT_NAMES["objective"], listed=listed, legal=_is_objective)
    except NotAllowedError:
        raise
    except ValueError as error:
        raise ValueError(f"{error} Pyro's are {', '.join(_PYROS)}.") from error
    if not _is_objective(found):
        raise ValueError(f"objective {name!r} must be a subclass of pyro.infer.ELBO; got {found!r}")
    return found


def _is_objective(found: Any) -> bool:
    return (
        isinstance(found, type)
        and issubclass(found, pyro.infer.ELBO)
        and found not in (pyro.infer.ELBO, objectives.Objective)
    )


def _make_schedule(argument: str, spec: Mapping[str, Any]) -> Any:
    arguments = dict(spec)
    listed = {f"{objectives.__name__}.{n}": getattr(objectives, n) for n in objectives.SCHEDULES}
    found = find_part(f"schedule of {argument}", schedules, arguments.pop("class"), listed=listed, legal=_is_schedule)
    if not isinstance(found, type):
        if arguments:
            raise ValueError(
                f"schedule {found.__name__} of {argument} is a function and takes no arguments here; got "
                f"{_brief(arguments)}"
            )
        return found
    try:
        return found(**arguments)
    except _WRONG_ARGUMENTS as error:
        raise ValueError(
            f"schedule {found.__name__} of {argument} cannot be made from {_brief(arguments)}: {error}"
        ) from error


def _is_schedule(found: Any) -> bool:
    """A function, or a class whose objects can be called; they are called with the number of the step."""
    return inspect.isfunction(found) or (
        isinstance(found, type) and any("__call__" in vars(cls) for cls in found.__mro__)
    )
