"""The parts of a VAE, Prior, Likelihood and Posterior: their attributes, and which parts go together.

Each is a module whose ``forward`` returns a distribution. Bare functions, Zuko's flows and other modules work too:
:func:`as_prior`, :func:`as_likelihood` and :func:`as_posterior` wrap them in parts with default attributes.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Literal

from pyro.distributions import TorchDistribution
from pyro.distributions import constraints as pyro_constraints
from torch import Tensor, nn
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from pyro_vae.distributions.log_simplex import log_simplex
from pyro_vae.distributions.parameters import given_arguments
from pyro_vae.nets.shapes import Shape

__all__ = [
    "DataKind",
    "Likelihood",
    "MaskLikelihood",
    "Part",
    "Posterior",
    "Prior",
    "as_likelihood",
    "as_posterior",
    "as_prior",
    "check_same_codes",
    "child",
    "data_of",
    "known",
    "net_shape_of",
    "same_support",
    "words_for",
]

DataKind = Literal["binary", "continuous", "levels", "counts"]
"""The kind of numbers in the data of a likelihood."""

Part = Callable[..., TorchDistribution]
"""A part of a VAE, such as its prior: a module or function that returns a distribution."""


class _PartModule(nn.Module):
    # Not an ABC, though ``forward`` is abstract: Pyro's to_pyro_module_ mixes a module's class with PyroModule, whose
    # metaclass is another one. A class without a ``forward`` raises a NotImplementedError when it is called.

    @classmethod
    def net_shape(cls, *args: Any, **kwargs: Any) -> Any:
        """Return the shape that the part's net must give; by default one number per element.

        Args:
            args: ``latent_dim`` for a prior or posterior, ``event_shape`` for a likelihood.
            kwargs: the other arguments of the constructor.
        """
        return args[0]

    def extra_repr(self) -> str:
        """Return the numbers and words of the constructor that the part keeps; its modules are shown below them."""
        return given_arguments(self, {**vars(self), **self._buffers})


def _no_forward(part: _PartModule, takes: str, over: str) -> NotImplementedError:
    name = type(part).__name__
    return NotImplementedError(
        f"{name} has no forward. Define forward(self, {takes}) in {name}; it returns a distribution over {over}"
    )


class _OverCodes(_PartModule):
    support: Constraint | None = None
    """The support of z, such as ``constraints.real_vector``. None if it is unknown; then nothing is refused."""

    classes: int | None = None
    """The number of elements of z in each group, such as a one-hot vector; None for one group or no groups."""

    @property
    def log_codes(self) -> bool:
        """True if z holds logs of points of a simplex; the likelihood then takes the points."""
        return type(self.support) is type(log_simplex)


class Prior(_OverCodes):
    """p(z | c): a module that takes the context and returns a distribution over z.

    Example:
        >>> import torch, pyro.distributions as dist
        >>> from torch.distributions import constraints
        >>> class Logistic(Prior):
        ...     support = constraints.real_vector
        ...
        ...     def forward(self, *context):
        ...         return dist.Logistic(torch.zeros(5), 1.0).to_event(1)
        >>> Logistic()().event_shape
        torch.Size([5])
    """

    latent_dim: int | None = None
    """Dimensions of z, if they are known."""

    @abstractmethod
    def forward(self, *context: Tensor) -> TorchDistribution:
        """Return p(z | c), with batch shape ``()`` or ``(batch,)`` and event shape ``(latent_dim,)``."""
        raise _no_forward(self, "*context", "z")

    @classmethod
    def goes_with(cls, posterior: Posterior) -> bool:
        """Return True if priors of this class can be over the codes of a posterior; for advice."""
        return cls.support is not None and same_support(cls.support, posterior.support)

    def wanted_examples(self) -> int:
        """Return how many examples :func:`pyro_vae.fit` gives to :meth:`start_from` before training; 0 for none."""
        return 0

    def start_from(self, x: Tensor, *context: Tensor) -> None:
        """Start from examples of the training data; ``fit`` calls this if :meth:`wanted_examples` is above 0.

        Args:
            x: inputs of the posterior, ``(n, *event_shape)``.
            context: tensors ``(n, ...)``.
        """


class Likelihood(_PartModule):
    """p(x | z, c): a module that takes codes and context and returns a distribution over x."""

    data: DataKind = "continuous"
    """The kind of numbers in x: ``"levels"`` are equally spaced, such as grey values."""

    remedy: str | None = None
    """What to do if x lies outside the support: the last sentence of the error."""

    location_scale: bool = False
    """True if x may be shifted and scaled: its density is then of the same family."""

    elementwise: bool = True
    """True if p(x | z) is a product over the elements of x; missing elements can then be left out."""

    depends_on_batch: bool = False
    """True if the density of an example depends on the other examples in its batch, at least in training mode."""

    own_context: int = 0
    """How many tensors at the end of the context are for the likelihood alone: prior and posterior do not see them."""

    together: bool = False
    """True in a copy for k columns of a table, which are a dimension of its batch; its numbers are ``(k, 1)``."""

    @abstractmethod
    def forward(self, z: Tensor, *context: Tensor) -> TorchDistribution:
        """Return p(x | z, c), with the batch shape of z, ``(*batch,)``, and the event shape of x."""
        raise _no_forward(self, "z, *context", "x")

    def of_columns(self) -> list[Part]:
        """Return the likelihood of each column of a table; an empty list if the columns have none of their own."""
        return []


class MaskLikelihood(_PartModule):
    """p(s | x, c): a module that takes complete x and context and returns a distribution over the mask s.

    The mask is 1 where x is observed and 0 where it is missing.
    """

    @abstractmethod
    def forward(self, x: Tensor, *context: Tensor) -> TorchDistribution:
        """Return p(s | x, c), with batch shape ``(*batch,)`` and the event shape of x, over {0, 1}."""
        raise _no_forward(self, "x, *context", "the mask")

    def start_at(self, x: Tensor, observed: Tensor) -> None:
        """Start from training data; :func:`pyro_vae.fit` calls this once, before the training.

        Args:
            x: data ``(n, *event_shape)`` in the units that ``forward`` sees; what is not observed may be anything.
            observed: bools of the same shape.
        """


class Posterior(_OverCodes):
    """q(z | x, c): a module that takes data and context and returns a distribution over z."""

    is_point: bool = False
    """True if all the mass lies at one point; there is no density then."""

    has_mean: bool = True
    """True if the distribution has a mean in closed form."""

    @abstractmethod
    def forward(self, x: Tensor, *context: Tensor) -> TorchDistribution:
        """Return q(z | x, c), with batch shape ``(batch,)`` and event shape ``(latent_dim,)``."""
        raise _no_forward(self, "x, *context", "z")

    @property
    def is_discrete(self) -> bool:
        """True if z is discrete; no gradient flows through draws then."""
        return self.support is not None and self.support.is_discrete


# Functions and other modules in the place of a part.

_ATTRIBUTES = (
    *("support", "classes", "latent_dim", "start_from", "started", "components"),
    *("data", "remedy", "location_scale", "elementwise", "depends_on_batch", "own_context", "of_columns"),
    *("is_point", "has_mean"),
)


class _Wrapped(nn.Module):
    """A function or another module in the place of a part, with the attributes of a part that it has itself."""

    part: Part

    def __init__(self, part: Part) -> None:
        super().__init__()
        self.part = part
        for name in _ATTRIBUTES:
            if (value := getattr(part, name, None)) is not None:
                vars(self)[name] = value  # not by setattr, which refuses a parameter in the place of an attribute

    def forward(self, /, *inputs: Tensor) -> TorchDistribution:
        return self.part(*inputs)


class _WrappedPrior(_Wrapped, Prior):
    started: Tensor | bool = False
    components = 1

    def wanted_examples(self) -> int:
        return 0 if self.started or "start_from" not in vars(self) else self.components


class _WrappedLikelihood(_Wrapped, Likelihood): ...


class _WrappedPosterior(_Wrapped, Posterior): ...


def as_prior(part: Part) -> Prior:
    """Return a prior unchanged, and wrap a function or another module in one.

    The attributes of a module without our base class count if they have the same names (``support``, ``classes``, ...).

    Args:
        part: takes the context and returns a distribution over z.

    Example:
        >>> import torch, pyro.distributions as dist
        >>> as_prior(lambda: dist.Laplace(torch.zeros(8), 1.0).to_event(1)).support is None
        True
    """
    return part if isinstance(part, Prior) else _WrappedPrior(part)


def as_likelihood(part: Part) -> Likelihood:
    """Return a likelihood unchanged, and wrap a function or another module in one; see :func:`as_prior`.

    Args:
        part: takes codes and context and returns a distribution over x.
    """
    return part if isinstance(part, Likelihood) else _WrappedLikelihood(part)


def as_posterior(part: Part) -> Posterior:
    """Return a posterior unchanged, and wrap a function or another module in one; see :func:`as_prior`.

    Args:
        part: takes data and context and returns a distribution over z.
    """
    return part if isinstance(part, Posterior) else _WrappedPosterior(part)


def net_shape_of(owner: type, shape: Shape, **options: object) -> Any:
    """Return the shape that the net of a class must give, from its ``net_shape``; else one number per element.

    Args:
        owner: a class, of this library or not.
        shape: ``latent_dim`` or ``event_shape``.
        options: the other arguments of its constructor.
    """
    return owner.net_shape(shape, **options) if hasattr(owner, "net_shape") else shape


def data_of(likelihood: Part) -> DataKind:
    """Return the kind of numbers in the data of a likelihood; the default if it does not say.

    Args:
        likelihood: a likelihood, or the class of one.
    """
    return getattr(likelihood, "data", Likelihood.data)


def child(part: Part | nn.Module, name: str) -> Any:
    """Return the submodule or function that a part keeps under a name, such as ``net``; None if there is none."""
    return getattr(part, name, None)


# Which parts go together.

_WORDS = (
    (constraints.real_vector, "real vectors"),
    (constraints.simplex, "points of a simplex"),
    (constraints.one_hot, "one-hot vectors"),
    (pyro_constraints.sphere, "vectors of length 1"),
)


def words_for(support: Constraint) -> str:
    """Describe a support in plain words.

    Example:
        >>> words_for(constraints.real_vector)
        'real vectors'
    """
    return next((words for known, words in _WORDS if same_support(known, support)), repr(support))


def same_support(a: Constraint | None, b: Constraint | None) -> bool:
    """Return True if two supports of z hold the same vectors; points of a simplex and their logs count as the same.

    Example:
        >>> same_support(constraints.real, constraints.independent(constraints.real, 1))
        True
        >>> same_support(constraints.real_vector, constraints.simplex)
        False
    """
    if a is None or b is None:
        return a is b
    a, b = _over_vectors(a), _over_vectors(b)
    return type(a) is type(b) and repr(a) == repr(b)  # constraints have no ==; their repr has their numbers


def _over_vectors(support: Constraint) -> Constraint:
    if type(support) is type(log_simplex):
        return constraints.simplex
    return support if support.event_dim else constraints.independent(support, 1)


def check_same_codes(prior: Prior, posterior: Posterior, names: tuple[str, str]) -> None:
    """Raise a ValueError if prior and posterior are over different kinds of z; it names the parts that go together.

    Args:
        prior: of a VAE; see :func:`as_prior`.
        posterior: of the same VAE.
        names: of the two, for errors.
    """
    if prior.support is None or posterior.support is None:
        return
    if not same_support(prior.support, posterior.support):
        of_prior, of_posterior = words_for(prior.support), words_for(posterior.support)
        priors = [name for name, p in known(Prior).items() if p.goes_with(posterior)]
        posteriors = [name for name, q in known(Posterior).items() if same_support(q.support, prior.support)]
        raise ValueError(
            f"prior {names[0]} is over {of_prior} and posterior {names[1]} over {of_posterior}, so there is no KL "
            f"between them. This posterior goes with the priors {', '.join(priors) or f'over {of_posterior}'}; this "
            f"prior goes with the posteriors {', '.join(posteriors) or f'over {of_prior}'}"
        )
    size = prior.classes
    if size is None:
        return
    found = posterior.classes or prior.latent_dim or size
    if found != size:
        fixed = "classes" not in inspect.signature(type(prior)).parameters
        remedy = f"Give the posterior classes={size}" if fixed else "Give both the same classes"
        raise ValueError(f"prior {names[0]} has groups of {size} classes and posterior {names[1]} of {found}. {remedy}")


def known(base: type[_PartModule]) -> dict[str, Any]:
    """Return the priors, likelihoods or posteriors of this library by name, if they are imported.

    Args:
        base: :class:`Prior`, :class:`Likelihood`, :class:`MaskLikelihood` or :class:`Posterior`.

    Example:
        >>> from pyro_vae import priors
        >>> "StandardNormal" in known(Prior)
        True
    """
    found: list[Any] = base.__subclasses__()
    for cls in found:
        found += cls.__subclasses__()
    # Reversed, so that a class comes before the subclasses of the same name that torch.export makes of it.
    ours = {cls.__name__: cls for cls in reversed(found) if cls.__module__.startswith(f"{__package__}.")}
    # Not base classes, and not wrappers.
    return {n: ours[n] for n in sorted(ours) if not n.startswith("_") and ours[n].forward is not base.forward}
