"""What a VAE is made of: Prior, Likelihood and Posterior, what each says of itself, and what goes together.

Each is a module whose ``forward`` returns a distribution. Bare functions, zuko's flows and other modules do as well:
:func:`as_prior`, :func:`as_likelihood` and :func:`as_posterior` see them as parts that say nothing of themselves.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Literal

from pyro.distributions import constraints as pyro_constraints
from torch import Tensor, nn
from torch.distributions import Distribution, constraints
from torch.distributions.constraints import Constraint

from pyro_vae.distributions.log_simplex import log_simplex

__all__ = [
    "Data",
    "Likelihood",
    "NoContextError",
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

Data = Literal["binary", "continuous", "levels", "counts"]
"""Kinds of numbers that a likelihood is over."""


class NoContextError(ValueError):
    """A part needs a context, and the VAE has none.

    Args:
        found: the part that needs it.
    """

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.found = found

    def __str__(self) -> str:
        """Return what was found and the argument that adds a context."""
        return f"{self.found}: build(..., context_features=...) adds one"


class _Part(nn.Module):
    # No ABC, though ``forward`` is abstract: Pyro's to_pyro_module_ mixes a module's class with PyroModule, whose
    # metaclass is another. Without a ``forward`` of its own, torch raises a NotImplementedError.

    @classmethod
    def net_shape(cls, *args: Any, **kwargs: Any) -> Any:
        """The shape that the part's net must give; by default one number for each element.

        Args:
            args: ``latent_dim`` for a prior or posterior, ``event_shape`` for a likelihood.
            kwargs: the other arguments of the constructor.
        """
        return args[0]


class _OverCodes(_Part):
    support: Constraint | None = None
    """What z is: ``constraints.real_vector``, say. None: not known, so nothing is refused."""

    classes: int | None = None
    """How many elements of z make one group, such as a one-hot vector; None for one group, or none."""

    @property
    def log_codes(self) -> bool:
        """Whether z are the logs of points of a simplex; the likelihood then sees the points."""
        return type(self.support) is type(log_simplex)


class Prior(_OverCodes):
    """p(z | c): a module that takes the context and returns a distribution over z.

    Example:
        >>> import torch, pyro.distributions as dist
        >>> class Logistic(Prior):
        ...     support = constraints.real_vector
        ...
        ...     def forward(self, *context):
        ...         return dist.Logistic(torch.zeros(5), 1.0).to_event(1)
        >>> Logistic()().event_shape
        torch.Size([5])
    """

    latent_dim: int | None = None
    """Dimensions of z, where they are known."""

    @abstractmethod
    def forward(self, *context: Tensor) -> Distribution:
        """p(z | c), with batch shape ``()`` or ``(batch,)`` and event shape ``(latent_dim,)``."""
        raise NotImplementedError

    @classmethod
    def goes_with(cls, posterior: Posterior) -> bool:
        """Whether priors of this class can be over the codes of a posterior; for advice."""
        return cls.support is not None and same_support(cls.support, posterior.support)

    def wanted_examples(self) -> int:
        """How many examples :func:`pyro_vae.fit` should give to :meth:`start_from` before it trains; 0 for none."""
        return 0

    def start_from(self, x: Tensor, *context: Tensor) -> None:
        """Starts from examples of the training data; called where :meth:`wanted_examples` is above 0.

        Args:
            x: inputs of the posterior, ``(n, *event_shape)``.
            context: tensors ``(n, ...)``.
        """


class Likelihood(_Part):
    """p(x | z, c): a module that takes codes and context and returns a distribution over x."""

    data: Data = "continuous"
    """Which numbers it is over: ``"levels"`` are equally spaced, such as grey values."""

    remedy: str | None = None
    """What to do where x lies outside its support; the last sentence of the error."""

    elementwise: bool = True
    """Whether p(x | z) is a product over the elements of x, so that missing ones can be left out."""

    depends_on_batch: bool = False
    """Whether the density of an example depends on the batch that it is in."""

    @abstractmethod
    def forward(self, z: Tensor, *context: Tensor) -> Distribution:
        """p(x | z, c), with the batch shape of z, ``(*batch,)``, and the event shape of x."""
        raise NotImplementedError

    def of_columns(self) -> list[Callable[..., Any]]:
        """The likelihood of each column of a table, where each has its own; else an empty list."""
        return []


class Posterior(_OverCodes):
    """q(z | x, c): a module that takes data and context and returns a distribution over z."""

    points: bool = False
    """Whether all the mass lies at one point, so that there is no density."""

    has_mean: bool = True
    """Whether the distribution knows its mean."""

    @abstractmethod
    def forward(self, x: Tensor, *context: Tensor) -> Distribution:
        """q(z | x, c), with batch shape ``(batch,)`` and event shape ``(latent_dim,)``."""
        raise NotImplementedError

    @property
    def is_discrete(self) -> bool:
        """Whether z is discrete, so that no gradient flows through draws."""
        return self.support is not None and self.support.is_discrete


# Whatever else is given in the place of a part.

_ATTRIBUTES = (
    *("support", "classes", "latent_dim", "start_from", "started", "components"),
    *("data", "remedy", "elementwise", "depends_on_batch", "of_columns", "points", "has_mean"),
)


def _take_over(seen: _OtherPrior | _OtherLikelihood | _OtherPosterior, part: Callable[..., Any]) -> None:
    """Lets what is seen as a part call the part, and say what that says of itself under the same names."""
    seen.part = part
    for name in _ATTRIBUTES:
        if (value := getattr(part, name, None)) is not None:
            vars(seen)[name] = value  # not by setattr, which refuses a parameter in the place of an attribute


class _OtherPrior(Prior):
    part: Callable[..., Any]
    started: Tensor | bool = False
    components = 1

    def __init__(self, part: Callable[..., Any]) -> None:
        super().__init__()
        _take_over(self, part)

    def forward(self, *context: Tensor) -> Distribution:
        return self.part(*context)

    def wanted_examples(self) -> int:
        return 0 if self.started or "start_from" not in vars(self) else self.components


class _OtherLikelihood(Likelihood):
    part: Callable[..., Any]

    def __init__(self, part: Callable[..., Any]) -> None:
        super().__init__()
        _take_over(self, part)

    def forward(self, z: Tensor, *context: Tensor) -> Distribution:
        return self.part(z, *context)


class _OtherPosterior(Posterior):
    part: Callable[..., Any]

    def __init__(self, part: Callable[..., Any]) -> None:
        super().__init__()
        _take_over(self, part)

    def forward(self, x: Tensor, *context: Tensor) -> Distribution:
        return self.part(x, *context)


def as_prior(part: Callable[..., Any]) -> Prior:
    """A prior as it is; a function or another module seen as one.

    What a module without our base class says of itself under the same names (``support``, ``classes``, ...) counts.

    Args:
        part: called with the context, returns a distribution over z.

    Example:
        >>> import torch, pyro.distributions as dist
        >>> as_prior(lambda: dist.Laplace(torch.zeros(8), 1.0).to_event(1)).support is None
        True
    """
    return part if isinstance(part, Prior) else _OtherPrior(part)


def as_likelihood(part: Callable[..., Any]) -> Likelihood:
    """A likelihood as it is; a function or another module seen as one, as :func:`as_prior` does.

    Args:
        part: called with codes and context, returns a distribution over x.
    """
    return part if isinstance(part, Likelihood) else _OtherLikelihood(part)


def as_posterior(part: Callable[..., Any]) -> Posterior:
    """A posterior as it is; a function or another module seen as one, as :func:`as_prior` does.

    Args:
        part: called with data and context, returns a distribution over z.
    """
    return part if isinstance(part, Posterior) else _OtherPosterior(part)


def net_shape_of(owner: type, shape: Any, **options: Any) -> Any:
    """The shape that the net of a class must give: what the class says, else one number for each element.

    Args:
        owner: a class, ours or not.
        shape: ``latent_dim`` or ``event_shape``.
        options: the other arguments of its constructor.
    """
    return owner.net_shape(shape, **options) if hasattr(owner, "net_shape") else shape


def data_of(likelihood: Callable[..., Any]) -> Data:
    """Which numbers a likelihood is over; also of a class or a function of the user's own, which may not say.

    Args:
        likelihood: a likelihood, or the class of one.
    """
    return getattr(likelihood, "data", Likelihood.data)


def child(part: Callable[..., Any] | nn.Module, name: str) -> Any:
    """The submodule or function that a part keeps under a name, such as ``net``; None where it has none."""
    return getattr(part, name, None)


# What goes together.

_WORDS = (
    (constraints.real_vector, "real vectors"),
    (constraints.simplex, "points of a simplex"),
    (constraints.one_hot, "one-hot vectors"),
    (pyro_constraints.sphere, "vectors of length 1"),
)


def words_for(support: Constraint) -> str:
    """What is in a support, in plain words.

    Example:
        >>> words_for(constraints.real_vector)
        'real vectors'
    """
    return next((words for known, words in _WORDS if same_support(known, support)), repr(support))


def same_support(a: Constraint | None, b: Constraint | None) -> bool:
    """Whether two supports of z hold the same vectors; points of a simplex and their logs count as the same.

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
    """Raises a ValueError where a prior and a posterior are over different kinds of z, and names what goes together.

    Args:
        prior: of a VAE; see :func:`as_prior`.
        posterior: of the same VAE.
        names: what errors call the two.
    """
    if prior.support is None or posterior.support is None:
        return
    if not same_support(prior.support, posterior.support):
        of_prior, of_posterior = words_for(prior.support), words_for(posterior.support)
        priors = [name for name, p in known(Prior).items() if p.goes_with(posterior)]
        posteriors = [name for name, q in known(Posterior).items() if same_support(q.support, prior.support)]
        raise ValueError(
            f"prior {names[0]} is over {of_prior} and posterior {names[1]} over {of_posterior}, so there is no KL "
            f"between them. With this posterior go the priors {', '.join(priors) or f'over {of_posterior}'}; with this "
            f"prior go the posteriors {', '.join(posteriors) or f'over {of_prior}'}"
        )
    size = prior.classes
    if size is None:
        return
    found = posterior.classes or prior.latent_dim or size
    if found != size:
        fixed = "classes" not in inspect.signature(type(prior)).parameters
        remedy = f"Give the posterior classes={size}" if fixed else "Give both the same classes"
        raise ValueError(f"prior {names[0]} has groups of {size} classes and posterior {names[1]} of {found}. {remedy}")


def known(base: type[_Part]) -> dict[str, Any]:
    """The priors, likelihoods or posteriors of this library by name, as far as they are imported.

    Args:
        base: :class:`Prior`, :class:`Likelihood` or :class:`Posterior`.

    Example:
        >>> from pyro_vae import priors
        >>> "StandardNormal" in known(Prior)
        True
    """
    found: list[Any] = base.__subclasses__()
    for cls in found:
        found += cls.__subclasses__()
    ours = {cls.__name__: cls for cls in found if cls.__module__.startswith(f"{__package__}.")}
    # Without those that others extend, or that stand for a function.
    return {n: ours[n] for n in sorted(ours) if not n.startswith("_") and ours[n].forward is not base.forward}
