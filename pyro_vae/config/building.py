"""A VAE from names and numbers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import nn

from pyro_vae.argument_checks import at_least, finite_number, one_of, true_or_false
from pyro_vae.config.from_data import Inputs, coded, is_auto, look_at, usual_inputs
from pyro_vae.config.names import ROOMS, kind_of
from pyro_vae.data import DataSet, DataSource
from pyro_vae.data.schema import Schema
from pyro_vae.distributions import part_name
from pyro_vae.likelihoods import Standardized
from pyro_vae.nets.shapes import Shape, as_shape, as_widths, check_layout
from pyro_vae.parts import net_shape_of
from pyro_vae.registry import ClassOrFunction, Spec, allowing
from pyro_vae.resolver import Arguments, as_mapping, brief, build_from, translating_errors
from pyro_vae.suggestions import MISSING
from pyro_vae.suggestions.library import LOG1P
from pyro_vae.suggestions.units import encoding_of, in_units
from pyro_vae.vae import VAE

__all__ = ["Nets", "NoContextError", "build"]

Nets = Literal["mlp", "gated_mlp", "conv", "resnet"]
"""The kinds of networks that :func:`build` makes."""


class NoContextError(ValueError):
    """A part needs a context, and the VAE has none.

    Args:
        found: the part that needs it.
    """

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.found = found

    def __str__(self) -> str:
        """Return the message, with the argument that adds a context."""
        return f"{self.found}: build(..., context_features=...) adds one"


def build(
    event_shape: Shape | None = None,
    latent_dim: int = 20,
    *,
    data: DataSource | DataSet[Any] | None = None,
    hidden: Shape = (512, 512),
    activation: str = "SiLU",
    prior: Spec | ClassOrFunction = "StandardNormal",
    likelihood: Spec | ClassOrFunction | None = None,
    posterior: Spec | ClassOrFunction = "DiagonalNormal",
    nets: Nets = "mlp",
    inputs: Inputs = "auto",
    context_features: int = 0,
    missing: bool = False,
    fill: float = 0.0,
    schema: Schema | None = None,
    mask_likelihood: Spec | ClassOrFunction | None = None,
    allow: str | Sequence[str] | None = None,
) -> VAE:
    """Return a VAE whose three distributions are given by name.

    Prior, likelihood and posterior are classes of :mod:`pyro_vae.priors`, :mod:`pyro_vae.likelihoods` and
    :mod:`pyro_vae.posteriors`, by their names or by short ones such as ``"vamp"``, ``"normal"`` or ``"iaf"``; or your
    own classes and functions, themselves or by their dotted paths. Arguments of these classes go into a mapping:
    ``{"class": "Normal", "scale": 0.1}``. Those named ``latent_dim``, ``event_shape``, ``context_features``,
    ``posterior`` and ``net`` are filled in. The net has the right shapes and is of the kind ``nets`` unless the mapping
    names another: ``{"class": "Bernoulli", "net": {"class": "my_package.MyNet", "width": 64}}``.

    With ``data``, what they say need not be said again: their shape, whether values are missing, how many numbers their
    context has, and the likelihood that :func:`pyro_vae.suggest` names first.

    Args:
        event_shape: shape of one example of x; by default that of ``data``.
        latent_dim: dimensions of z.
        data: the data to train on: anything that :func:`pyro_vae.fit` takes, or a :class:`~pyro_vae.data.DataSet`.
        hidden: widths of the encoder's hidden layers; the decoder has them in reverse.
        activation: of the nets, by its name in :mod:`torch.nn`.
        prior: p(z | c).
        likelihood: p(x | z, c); ``"auto"`` looks at ``data``, and warns if they must be prepared for it. By default
            ``"auto"`` with data, and ``"Bernoulli"`` without.
        posterior: q(z | x, c).
        nets: ``"mlp"``, ``"gated_mlp"``, and for images ``"conv"`` or ``"resnet"``.
        inputs: what the encoder sees: ``"x"``, or for counts ``"log1p"``, which is log(1 + x). By default it is log1p
            if ``data`` are sparse counts and the likelihood is one of counts, and else x.
        context_features: number of features of the context, 0 for an unconditional VAE or the number that ``data``
            have. What the likelihood takes for itself alone, such as the library size of counts, is not among them.
        missing: True if x may have missing values; see :class:`VAE`. With ``data``, it is True if they have any
            (of a Dataset or DataLoader, among the first 4,000 examples).
        fill: the number that the posterior sees in place of a missing value.
        schema: what the columns of a table hold, as :func:`pyro_vae.suggest_schema` returns it or you write it; by
            default that of ``data``, if they are a table. What it leaves open, ``data`` say. Its columns of real
            numbers are standardised within the VAE, whose log-densities are in the units of the table.
        mask_likelihood: p(s | x, c), a class of :mod:`pyro_vae.mask_likelihoods` or your own, for values that are
            missing because of what they are; None if they are missing at random.
        allow: your own modules whose classes may be imported by dotted path. None allows every module: use it for
            paths that you wrote yourself. If the options come from a file that you did not write, give a list, which
            may be empty: ``build(**options, allow=[])``.

    Raises:
        NotAllowedError: for a dotted path into a module that ``allow`` leaves out.
        ValueError: for a name that is not found, an argument that a constructor does not have, and parts that do not
            fit together.

    Example:
        >>> vae = build((1, 8, 8), latent_dim=2, likelihood={"class": "Normal", "scale": 0.1})
        >>> vae.sample(3, seed=0).shape
        torch.Size([3, 1, 8, 8])
        >>> from pyro_vae import data
        >>> build(data=data.load("digits", binarize="dynamic"), latent_dim=2)
        VAE(
          prior=StandardNormal(latent_dim=2),
          likelihood=Bernoulli(net=MLP),
          posterior=DiagonalNormal(net=MLP),
          595,012 parameters
        )
    """
    with nullcontext() if allow is None else allowing(allow):
        if data is None:
            if event_shape is None:
                raise ValueError("build needs the shape of one example, event_shape, or the data themselves: data=x")
            if is_auto(likelihood):
                raise ValueError('likelihood auto looks at the data: build(..., likelihood="auto", data=x)')
            likelihood = "Bernoulli" if likelihood is None else likelihood
        else:
            data = data if schema is None else coded(schema, data)
            found = look_at(data, None if event_shape is None else as_shape("event_shape", event_shape))
            event_shape, missing = found.event_shape, missing or found.missing
            context_features = context_features or found.context_features
            schema = schema if found.table is None else found.schema(likelihood)
            if schema is not None:
                likelihood = in_units(likelihood, schema)
            elif likelihood is None or is_auto(likelihood):
                likelihood = found.likelihood(done=(MISSING,) if inputs == "x" else (MISSING, LOG1P))
        if inputs == "auto":
            inputs = usual_inputs(likelihood, data)
        return _build(
            as_shape("event_shape", event_shape),
            at_least("latent_dim", latent_dim, 1),
            hidden=hidden,
            activation=activation,
            prior=prior,
            likelihood=likelihood,
            posterior=posterior,
            nets=nets,
            inputs=inputs,
            context_features=at_least("context_features", context_features, 0),
            missing=missing,
            fill=fill,
            schema=schema,
            mask_likelihood=mask_likelihood,
        )


def _build(
    event_shape: tuple[int, ...],
    latent_dim: int,
    *,
    hidden: Shape,
    activation: str,
    prior: Spec | ClassOrFunction,
    likelihood: Spec | ClassOrFunction,
    posterior: Spec | ClassOrFunction,
    nets: str,
    inputs: str,
    context_features: int,
    missing: bool,
    fill: float,
    schema: Schema | None,
    mask_likelihood: Spec | ClassOrFunction | None,
) -> VAE:
    true_or_false("missing", missing)
    finite_number("fill", fill)
    one_of("inputs", inputs, *get_args(Inputs))
    hidden = as_widths("hidden", hidden)
    encoder, decoder = _nets(nets)
    if nets in ("conv", "resnet"):
        check_layout(nets, event_shape)
    if nets == "gated_mlp" and activation != "SiLU":
        raise ValueError(f"nets gated_mlp have gates instead of an activation; leave activation={activation!r} out")
    # With missing values the posterior sees the mask beside x.
    seen_shape = (2 * event_shape[0], *event_shape[1:]) if missing else event_shape
    common = {"activation": activation, "context_features": context_features}
    encoding = {"class": encoder, "in_shape": seen_shape, "hidden": hidden, "log1p": inputs == "log1p", **common}
    if schema is not None and inputs != "log1p":
        encoding["encoding"] = encoding_of(schema, missing)
    decoding = {"class": decoder, "in_shape": latent_dim, "hidden": hidden[::-1], **common}
    of_context = {"class": "MLP", "in_shape": context_features, "hidden": hidden[:1], "activation": activation}
    # A class of Zuko's, or of the user's own, may call the number of features ``context``.
    features = {"context_features": context_features, "context": context_features}
    known = {"latent_dim": latent_dim, "event_shape": event_shape, **features}
    q = _part("posterior", posterior, known, _Net(encoding, latent_dim))
    if inputs == "log1p":
        _check_log1p(q)
    p = _part("prior", prior, {**known, "event_shape": seen_shape, "posterior": q}, _Net(of_context, latent_dim))
    of_x = _part("likelihood", likelihood, known, _Net(decoding, event_shape))
    of_mask = None
    if mask_likelihood is not None:
        masking = {"class": "MLP", "in_shape": event_shape, "hidden": hidden[:1], **common}
        if schema is not None:
            masking["encoding"] = encoding_of(schema, missing=False)
        of_mask = _part("mask_likelihood", mask_likelihood, known, _Net(masking, event_shape))
    return VAE(p, of_x, q, missing=missing, fill=fill, mask_likelihood=of_mask, schema=schema)


@dataclass(frozen=True)
class _Net:
    """The net of a part, unless the part's spec names another.

    Args:
        arguments: its class and arguments, without ``out_shape``.
        over: the shape of the event of the part's distribution; the part derives the shape of the net's output.
    """

    arguments: Arguments
    over: Shape


# Specs that the class itself makes objects of, where these are others than its net and its columns.
_KEPT: Mapping[type, tuple[str, ...]] = {Standardized: ("net", "likelihood")}

# Examples of arguments that cannot be filled in, for errors.
_EXAMPLES = {"prior": '{"class": "mixture", "components": 5}', "columns": '{"age": "normal", "smokes": "bernoulli"}'}


def _nets(kind: str) -> tuple[str, str]:
    """Return the classes of encoder and decoder by the name of their kind."""
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


def _part(room: str, spec: Spec | ClassOrFunction, known: Mapping[str, Any], net: _Net | None = None) -> Any:
    """Return the prior, likelihood, posterior or net that a spec describes.

    Args:
        room: which of these.
        spec: its class and arguments.
        known: arguments that are filled in if its constructor asks for them.
        net: is filled in too; None for a part within another part.
    """

    def complete(found: type, arguments: Arguments) -> None:
        what, parameters = f"{room} {found.__name__}", inspect.signature(found).parameters
        examples = () if room == "net" else _EXAMPLES
        _check_needed(what, found, arguments, [n for n in examples if n in parameters and n not in known])
        for name, value in arguments.items():
            if name not in _KEPT.get(found, ("net", "columns")) and _is_spec(name, value):
                arguments[name] = _part(name, value, known) if name in ROOMS else _part("net", value, {})
        if "net" in parameters and not isinstance(arguments.get("net"), nn.Module):
            arguments["net"] = _net(what, found, arguments, net)

    return build_from(kind_of(room, spec), spec, known, complete)


def _check_log1p(posterior: object) -> None:
    """Raise a ValueError if no net of the posterior takes the logarithm of its input."""
    modules = posterior.modules() if isinstance(posterior, nn.Module) else ()
    if not any(getattr(module, "log1p", False) is True for module in modules):
        raise ValueError(
            "inputs log1p is for nets that have an argument log1p, mlp and gated_mlp; posterior "
            f"{part_name(posterior)} has no such net. Choose inputs x, or give the posterior a net of your own that "
            "takes the logarithm"
        )


def _is_spec(name: str, value: object) -> bool:
    """Return True if an argument is a spec: a mapping with a class or, for a prior, also a name alone."""
    return (isinstance(value, Mapping) and "class" in value) or (name == "prior" and isinstance(value, str))


def _check_needed(what: str, found: type, arguments: Arguments, needed: Sequence[str]) -> None:
    """Raise a ValueError with an example if an argument that cannot be filled in is missing or names no class."""
    for name in needed:
        if name not in arguments:
            raise ValueError(
                f'{what} needs its argument {name!r}: {{"class": "{found.__name__}", "{name}": {_EXAMPLES[name]}}}'
            )
    if isinstance(arguments.get("prior"), Mapping) and "class" not in arguments["prior"]:
        raise ValueError(
            f'{what} needs its prior with a class: {{"class": "{found.__name__}", "prior": {_EXAMPLES["prior"]}}}; '
            f"got {brief(arguments['prior'])}"
        )


def _net(what: str, owner: type, arguments: Arguments, usual: _Net | None) -> Any:
    """Return the net of a part: the usual one, changed as the part's arguments say, or another."""
    spec = arguments.get("net", {})
    if usual is None:
        return _part("net", spec, {})
    if usual.arguments["in_shape"] == 0:
        raise NoContextError(f"{what} depends on the context, and this VAE has none")
    others = {name: value for name, value in arguments.items() if name != "net"}
    with translating_errors(owner.__name__, others):
        out_shape = net_shape_of(owner, usual.over, **others)
    known = {**usual.arguments, "out_shape": out_shape}
    return _part("net", {"class": known.pop("class"), **as_mapping("net", spec)}, known)
