"""A Pyro model and guide over a batch, taken apart into log p(x|z), log p(z) and log q(z|x), example by example."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from pyro_vae.data import as_tensor, check_array
from pyro_vae.distributions import check_inverse, part_name
from pyro_vae.model_guide.modules import modules_around
from pyro_vae.model_guide.owners import rename
from pyro_vae.model_guide.sites import MoreRows, check_sites, per_example
from pyro_vae.model_guide.target import Target, model_and_guide, uncompiled
from pyro_vae.vae import VAE, reference, repeat

__all__ = ["LogTerms", "ModelGuide"]


class LogTerms(NamedTuple):
    """The three log-densities at some z, in nats, each ``(draws, batch)``.

    Args:
        likelihood: log p(x | z).
        prior: log p(z).
        posterior: log q(z | x).
    """

    likelihood: Tensor
    prior: Tensor
    posterior: Tensor

    @property
    def weight(self) -> Tensor:
        """Log of p(x, z) / q(z | x), of which the mean over q is the ELBO, ``(draws, batch)``."""
        return self.likelihood + self.prior - self.posterior


def _as_tensor_of(x: Any) -> str:
    """How to make a batch of what is none; empty where that is not known."""
    if isinstance(x, (DataLoader, Dataset)):
        return ". Pass one batch of it"
    if hasattr(x, "to_numpy"):  # a table of pandas or polars
        return ". Pass torch.as_tensor(x.to_numpy())"
    return ". Pass torch.tensor(x)" if isinstance(x, (list, tuple)) else ""


class ModelGuide:
    """A Pyro model and guide with one latent and one observed site, on a batch of data.

    They may be those of a :class:`pyro_vae.VAE` or any others: functions of ``(x, *context)`` whose examples are
    independent given their parameters. Many draws of z are run by repeating the rows of x and the context, so that
    the programs need to know of no dimension in front of the batch. Scales (``poutine.scale``, the subsampling of
    plates) are left out, masks are not.

    ModelGuide with another latent site, or without these two, are refused where a density is asked for.

    Args:
        vae: what has a ``model`` and a ``guide``, or a pair of them.
        x: data ``(batch, *event_shape)``, a tensor or NumPy array.
        context: tensors or arrays ``(batch, ...)`` that the programs take after x.
        latent: the name of the latent site.
        observed: the name of the observed site.
        named: further tensors ``(batch, ...)`` that the programs take by name, such as ``mask``.

    Raises:
        TypeError: where ``vae`` has no model and guide, or x is no tensor with a batch.
        ValueError: in what runs the programs, where they have not one latent and one observed site with a log-density
            per example, and where a density at given values needs the inverse of a transform that has none.

    Example:
        >>> import torch
        >>> from pyro_vae import build
        >>> pair = ModelGuide(build(4, 2, hidden=()), torch.ones(3, 4))
        >>> pair.terms(pair.draw(5)).weight.shape
        torch.Size([5, 3])
    """

    def __init__(
        self, vae: Target, x: Any, *context: Any, latent: str = "z", observed: str = "x", **named: Any
    ) -> None:
        vae = uncompiled(vae)
        self.model, self.guide = model_and_guide(vae)
        if isinstance(x, Tensor) and x.is_nested:  # which has no shape to look at
            check_array("x", x)
        if not isinstance(x, (Tensor, np.ndarray)) or not len(x.shape):
            array = isinstance(x, (Tensor, np.ndarray))
            what = f"one of shape {tuple(x.shape)}" if array else f"a {type(x).__name__}"
            raise TypeError(f"x must be a tensor of shape (batch, *event_shape); got {what}{_as_tensor_of(x)}")
        self.vae: Any = vae
        self.x, *rest = (t.detach() for t in self._tensors(x, *context))  # nothing here trains x
        self.context = tuple(rest)
        self.latent = latent
        self.observed = observed
        given = {name: value for name, value in named.items() if value is not None}
        self.named = {name: as_tensor(name, v, device=self.x.device) for name, v in given.items()}
        self._alone = False

    def check_event_shape(self) -> None:
        """Raises a ValueError where x has another event shape than the likelihood of the VAE, if it is one."""
        vae = self._owner()
        if vae is not None:
            vae.check_event_shape(self.x, *self.context, mask=self.named.get("mask"))

    def _owner(self) -> VAE | None:
        return next((m for m in self.modules if isinstance(m, VAE)), None)

    def _tensors(self, *arrays: Any) -> tuple[Tensor, ...]:
        """X and context as tensors: in the dtype of the parameters, where a VAE is to see them or they are NumPy's."""
        vae = self._owner()
        if vae is not None:
            x, context = vae.tensors(*arrays)
            return x, *context
        names = ["x", *(f"context {i}" for i in range(len(arrays) - 1))]
        if all(isinstance(array, Tensor) for array in arrays):  # what a user's own programs make of a dtype is theirs
            return tuple(map(as_tensor, names, arrays))
        dtype, device = reference(nn.ModuleList(self.all_modules))
        dtype = dtype or torch.get_default_dtype()
        return tuple(
            as_tensor(name, a, None if isinstance(a, Tensor) else dtype, device)
            for name, a in zip(names, arrays, strict=True)
        )

    @property
    def batch(self) -> int:
        """How many examples there are."""
        return self.x.shape[0]

    @property
    def modules(self) -> list[nn.Module]:
        """The modules that the programs are methods of, or are; empty for functions."""
        owners = [getattr(program, "__self__", program) for program in (self.model, self.guide)]
        candidates = [self.vae, *owners]
        return list({id(m): m for m in candidates if isinstance(m, nn.Module)}.values())

    @property
    def all_modules(self) -> list[nn.Module]:
        """The same, and those that functions find around them."""
        found = [*self.modules, *modules_around(self.model, self.guide).values()]
        return list({id(m): m for m in found}.values())

    def rows(self, start: int, stop: int) -> ModelGuide:
        """The same programs on some of the examples."""
        return self._on(lambda t: t[start:stop])

    def at(self, index: Tensor) -> ModelGuide:
        """The same programs on the examples of that index, which may repeat."""
        return self._on(lambda t: t[index])

    def _on(self, change: Callable[[Tensor], Tensor], vae: Any = None) -> ModelGuide:
        named: Any = {name: change(value) for name, value in self.named.items()}
        x, *context = (change(t) for t in (self.x, *self.context))
        vae = self.vae if vae is None else vae
        changed = ModelGuide(vae, x, *context, latent=self.latent, observed=self.observed, **named)
        changed._alone = self._alone
        return changed

    def alone(self) -> ModelGuide:
        """The same programs, which are refused where the model observes anything else too.

        Log p(x | z) is that of one observed site. What looks for mistakes may leave others aside, such as a
        ``pyro.factor``; a number that claims to be log p(x) may not.
        """
        changed = self._on(lambda t: t)
        changed._alone = True
        return changed

    def with_guide(self, guide: Callable[..., Any]) -> ModelGuide:
        """The same programs with another guide, such as this one with a handler around it."""
        return self._on(lambda t: t, (self.model, guide))

    def copied(self) -> ModelGuide | None:
        """The same programs on a copy of their module; None where there is no copy, such as of functions."""
        owners = self.modules
        methods = not isinstance(self.vae, tuple) or all(hasattr(p, "__self__") for p in self.vae)
        if len(owners) != 1 or not methods:
            return None
        try:
            owner = copy.deepcopy(owners[0])
        except RuntimeError:  # it keeps a tensor that was computed, say
            return None
        rename(owner)
        vae = owner if isinstance(self.vae, nn.Module) else tuple(getattr(owner, p.__name__) for p in self.vae)
        return self._on(lambda t: t, vae)

    def in_float64(self) -> ModelGuide:
        """The same programs on a copy of their module in float64; themselves where they cannot be copied."""
        copied = self.copied()
        if copied is None:
            return self
        copied.modules[0].double()
        return copied._on(lambda t: t.double() if t.is_floating_point() else t)

    # Runs.

    def trace_guide(self) -> Any:
        """A run of the guide."""
        return self._trace(self.guide)

    def trace_model(self, z: Tensor | None = None) -> Any:
        """A run of the model on x, with z given, ``(batch, *event)``, or drawn."""
        model = self.model if z is None else poutine.condition(self.model, data={self.latent: z})
        return self._trace(model)

    def _trace(self, program: Callable[..., Any]) -> Any:
        with MoreRows():
            return poutine.trace(program).get_trace(self.x, *self.context, **self.named)

    def posterior(self) -> Any:
        """q(z | x), with batch shape ``(batch,)``."""
        trace = self.trace_guide()
        check_sites("guide", trace, self.latent, self.observed)
        return per_example(trace.nodes[self.latent], "guide", self.batch)

    def prior(self) -> Any:
        """p(z), with batch shape ``(batch,)``."""
        return per_example(self._model_nodes()[self.latent], "model", self.batch)

    def likelihood(self, z: Tensor) -> Any:
        """p(x | z) for z ``(batch, *event)``, with batch shape ``(batch,)``."""
        return per_example(self._model_nodes(z)[self.observed], "model", self.batch)

    def _model_nodes(self, z: Tensor | None = None) -> Any:
        trace = self.trace_model(z)
        check_sites("model", trace, self.latent, self.observed, self._alone)
        return trace.nodes

    def draw(self, num_particles: int) -> Tensor:
        """Z from q(z | x), ``(draws, batch, *event)``, with gradient where q can be reparametrised."""
        return self.posterior()((num_particles,))

    def simulate(self) -> tuple[Tensor, Tensor]:
        """Z from the prior and x from the likelihood, one per row of x, ``(batch, ...)`` each, without gradient."""
        with torch.no_grad():
            trace = self._trace(poutine.uncondition(self.model))
        check_sites("model", trace, self.latent, self.observed, self._alone)
        for name in (self.latent, self.observed):
            per_example(trace.nodes[name], "model", self.batch)
        return trace.nodes[self.latent]["value"], trace.nodes[self.observed]["value"]

    def of(self, x: Tensor) -> ModelGuide:
        """The same programs on other data, of the same shape.

        They get the dtype of x where that changes no value: a model of counts may draw integers where x are floats.
        """
        named: Any = self.named
        if x.dtype != self.x.dtype and torch.equal(x.to(self.x.dtype).to(x.dtype), x):
            x = x.to(self.x.dtype)
        changed = ModelGuide(self.vae, x, *self.context, latent=self.latent, observed=self.observed, **named)
        changed._alone = self._alone
        return changed

    # Log-densities at z of shape (draws, batch, *event), each (draws, batch), in nats.

    def log_likelihood(self, z: Tensor) -> Tensor:
        """Log p(x | z)."""
        return self.log_joint(z)[0]

    def log_joint(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Log p(x | z) and log p(z)."""
        num_particles = z.shape[0]
        repeated = self._on(lambda t: repeat(t, num_particles))
        nodes = repeated._model_nodes(z.flatten(0, 1))
        found = []
        for name in (self.observed, self.latent):
            distribution = per_example(nodes[name], "model", repeated.batch)
            log_prob = self.log_density(distribution, nodes[name]["value"], name, "model")
            found.append(log_prob.unflatten(0, (num_particles, -1)))
        return found[0], found[1]

    def log_prior(self, z: Tensor) -> Tensor:
        """Log p(z)."""
        return self.log_density(self.prior(), z, self.latent, "model")

    def log_posterior(self, z: Tensor, posterior: Any = None) -> Tensor:
        """Log q(z | x); q(z | x) is run again where it is not given."""
        return self.log_density(posterior or self.posterior(), z, self.latent, "guide")

    def terms(self, z: Tensor, posterior: Any = None) -> LogTerms:
        """All three; q(z | x) is run again where it is not given."""
        likelihood, prior = self.log_joint(z)
        return LogTerms(likelihood, prior, self.log_posterior(z, posterior))

    def draw_terms(self, num_particles: int) -> LogTerms:
        """All three at draws of z from q(z | x), with gradient as :meth:`draw` has it."""
        posterior = self.posterior()
        return self.terms(posterior((num_particles,)), posterior)

    def log_density(self, distribution: Any, value: Tensor, site: str, program: str) -> Tensor:
        """Its log-density at a value, which it may have drawn just now.

        Args:
            distribution: of a site.
            value: of any shape that it takes.
            site: its name.
            program: whose it is, ``"model"`` or ``"guide"``.

        Raises:
            ValueError: where that needs the inverse of a transform that has none.
        """
        role = {self.latent: "prior" if program == "model" else "posterior"}.get(site, "likelihood")
        part = getattr(self.vae, role, None)
        named = "" if part is None else f"{role} {part_name(part)}, "
        check_inverse(distribution, f"{named}site {site!r} of the {program}", value)
        return distribution.log_prob(value)
