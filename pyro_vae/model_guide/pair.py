"""A Pyro model and guide on a batch: their distributions and log-densities, example by example."""

from __future__ import annotations

import copy
import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import torch
from pyro import poutine
from pyro.distributions import TorchDistribution
from pyro.poutine import Trace
from pyro.poutine.runtime import Message
from torch import Tensor, nn

from pyro_vae.data.arrays import Array, as_tensor, repeat_rows
from pyro_vae.data.batches import DataSource
from pyro_vae.distributions import check_inverse, part_name
from pyro_vae.model_guide.conversion import ConvertsData, as_batch
from pyro_vae.model_guide.modules import modules_around
from pyro_vae.model_guide.parameter_store import rename_parameters
from pyro_vae.model_guide.sites import MoreRows, check_sites, per_example, plates_of_event, sites_marked
from pyro_vae.model_guide.target import Target, model_and_guide, owner_of
from pyro_vae.terms import FROM_MODEL, WITH_X, RunSites, Site, Terms

__all__ = ["ModelGuide"]

_Program: TypeAlias = Literal["model", "guide"]


class ModelGuide:
    """A Pyro model and guide with one latent and one observed site, on a batch of data.

    They are those of a :class:`pyro_vae.VAE` or any others: functions of ``(x, *context)`` whose examples are
    independent given their parameters. For many draws of z, the rows of x and the context are repeated, so the programs
    need no dimension to the left of the batch. The log-densities contain masks (``poutine.mask``), but no scales
    (``poutine.scale``, the subsampling of plates).

    A density of programs with another latent site, or without these two sites, is refused. A VAE with a model of the
    mask has two more sites, which do not count as such. The mask belongs to x, so its log-density is a part of
    log p(x | z). Each run of the model draws the missing values, so log p(x | z) is that of the observed values and of
    the mask given these draws: its exponential is right on average.

    Args:
        vae: a target: an object with a ``model`` and a ``guide``, or a pair of them. A ModelGuide passes on the names
            of its sites.
        x: data ``(batch, *event_shape)``: an array or table; or anything else that :func:`pyro_vae.data.batches`
            takes, whose examples all become one batch, with the context that a split brings.
        context: arrays ``(batch, ...)`` that the programs take after x.
        latent: the name of the latent site.
        observed: the name of the observed site.
        named: further tensors ``(batch, ...)`` that the programs take by name, such as ``mask``.

    Raises:
        TypeError: if ``vae`` has no model and guide, or x is no tensor with a batch.
        ValueError: by the methods, if the programs do not have one latent and one observed site with a log-density per
            example, or if a density at given values needs the inverse of a transform without one.

    Example:
        >>> import torch
        >>> from pyro_vae import build
        >>> pair = ModelGuide(build(4, 2, hidden=()), torch.ones(3, 4))
        >>> pair.terms(pair.draw(5)).weight.shape
        torch.Size([5, 3])
    """

    def __init__(
        self, vae: Target, x: DataSource, *context: Array, latent: str = "z", observed: str = "x", **named: Array | None
    ) -> None:
        if isinstance(vae, ModelGuide):
            latent = vae.latent if latent == "z" else latent
            observed = vae.observed if observed == "x" else observed
            vae = vae.vae
        self.model, self.guide = model_and_guide(vae)
        owner = owner_of(vae)
        self.vae: Any = vae if owner is None else owner
        tensors = as_batch(self._converter(), lambda: self.all_modules, x, *context)
        self.x, *rest = (t.detach() for t in tensors)  # nothing here trains x
        self.context = tuple(rest)
        self.latent: str = latent
        self.observed: str = observed
        given = {name: value for name, value in named.items() if value is not None}
        self.named = {name: as_tensor(name, v, device=self.x.device) for name, v in given.items()}
        self._strict = False
        self._missing: dict[str, Tensor] = {}  # the values of sites from the model, if they are held

    def check_event_shape(self) -> None:
        """Raise a ValueError if the programs are a VAE's and x has another event shape than its likelihood."""
        vae = self._converter()
        if vae is not None:
            vae.check_event_shape(self.x, *self.context, mask=self.named.get("mask"))

    def _converter(self) -> ConvertsData | None:
        return next((m for m in self.modules if isinstance(m, ConvertsData)), None)

    @property
    def batch(self) -> int:
        """The number of examples."""
        return self.x.shape[0]

    @property
    def modules(self) -> list[nn.Module]:
        """The modules that the programs are, or are methods of; empty for functions."""
        owners = [getattr(program, "__self__", program) for program in (self.model, self.guide)]
        candidates = [self.vae, *owners]
        return list({id(m): m for m in candidates if isinstance(m, nn.Module)}.values())

    @property
    def all_modules(self) -> list[nn.Module]:
        """The same, and those that functions refer to."""
        found = [*self.modules, *modules_around(model=self.model, guide=self.guide).values()]
        return list({id(m): m for m in found}.values())

    # The same programs, with something changed.

    def replace(
        self,
        vae: Target | None = None,
        x: Array | None = None,
        context: tuple[Array, ...] | None = None,
        **named: Array,
    ) -> ModelGuide:
        """Return a copy with other programs or data.

        Args:
            vae: other programs.
            x: other data.
            context: other context.
            named: tensors to add to those that the programs take by name, or to replace.
        """
        changed = ModelGuide(
            self.vae if vae is None else vae,
            self.x if x is None else x,
            *(self.context if context is None else context),
            latent=self.latent,
            observed=self.observed,
            **{**self.named, **named},
        )
        changed._strict = self._strict
        changed._missing = self._missing
        return changed

    def rows(self, start: int, stop: int) -> ModelGuide:
        """Return the same programs on the examples from ``start`` to ``stop``."""
        return self._map(lambda t: t[start:stop])

    def at(self, index: Tensor) -> ModelGuide:
        """Return the same programs on the examples of an index, which may repeat."""
        return self._map(lambda t: t[index])

    def _map(self, change: Callable[[Tensor], Tensor]) -> ModelGuide:
        named = {name: change(value) for name, value in self.named.items()}
        changed = self.replace(None, change(self.x), tuple(map(change, self.context)), **named)
        changed._missing = {name: change(value) for name, value in self._missing.items()}
        return changed

    def with_data(self, x: Tensor) -> ModelGuide:
        """Return the same programs on other data of the same shape.

        The data get the dtype of x if that changes no value: a model of counts may draw integers although x are floats.
        """
        if x.dtype != self.x.dtype and torch.equal(x.to(self.x.dtype).to(x.dtype), x):
            x = x.to(self.x.dtype)
        return self.replace(x=x)

    def strict(self) -> ModelGuide:
        """Return the same programs, which refuse a model with other observed sites.

        log p(x | z) is that of one observed site. A search for mistakes may ignore others, such as a ``pyro.factor``; a
        number that is called log p(x) may not.
        """
        changed = self.replace()
        changed._strict = True
        return changed

    @property
    def draws_missing(self) -> bool:
        """True if the model draws missing values of x, so that log p(x | z) is known on average only."""
        if self._missing:
            return False
        with torch.no_grad():  # the log-density of no values is 0
            return any(bool((site["fn"].log_prob(site["value"]) != 0).any()) for site in self._drawn_by_model())

    def holding_missing(self) -> ModelGuide:
        """Return the same programs with the missing values held at one draw, so that log p(x | z) has no noise."""
        with torch.no_grad():
            drawn = {site["name"]: site["value"] for site in self._drawn_by_model()}
        changed = self.replace()
        changed._missing = drawn
        return changed

    def _drawn_by_model(self) -> list[Message]:
        return sites_marked(self.trace_model(), FROM_MODEL)

    def with_guide(self, guide: Callable[..., object]) -> ModelGuide:
        """Return the same programs with another guide, such as this one with a handler around it."""
        return self.replace((self.model, guide))

    def copied(self) -> ModelGuide | None:
        """Return the same programs on a copy of their module; None if it cannot be copied, as with functions."""
        owners = self.modules
        methods = not isinstance(self.vae, tuple) or all(hasattr(p, "__self__") for p in self.vae)
        if len(owners) != 1 or not methods:
            return None
        try:
            owner: Any = copy.deepcopy(owners[0])
        except RuntimeError:  # for example, since it holds a computed tensor
            return None
        rename_parameters(owner)
        if isinstance(self.vae, nn.Module):
            return self.replace(owner)
        model, guide = (getattr(owner, program.__name__) for program in self.vae)
        return self.replace((model, guide))

    def in_float64(self) -> ModelGuide:
        """Return the same programs on a copy of their module in float64; unchanged if it cannot be copied."""
        copied = self.copied()
        if copied is None:
            return self
        copied.modules[0].double()
        return copied._map(lambda t: t.double() if t.is_floating_point() else t)

    # Runs and distributions.

    def trace_guide(self) -> Trace:
        """Run the guide."""
        return self._trace(self.guide)

    def trace_model(self, z: Tensor | None = None) -> Trace:
        """Run the model on x, with a given z ``(batch, *event_shape)`` or a draw from the prior."""
        model = self.model if z is None else poutine.condition(self.model, data={self.latent: z})
        return self._trace(model)

    def _trace(self, program: Callable[..., object]) -> Trace:
        if self._missing:
            program = poutine.condition(program, data=self._missing)
        try:
            with MoreRows():
                return poutine.trace(program).get_trace(self.x, *self.context, **self.named)
        except ValueError as error:
            said, dump, _ = str(error).partition("Trace Shapes:")  # a table that Pyro appends
            if not dump or type(error) is not ValueError:
                raise
            raise ValueError(said.strip()) from None

    def posterior(self) -> TorchDistribution:
        """Return q(z | x), with batch shape ``(batch,)``."""
        trace = self.trace_guide()
        check_sites("guide", trace, self.latent, self.observed)
        return per_example(trace.nodes[self.latent], "guide", self.batch)

    def prior(self) -> TorchDistribution:
        """Return p(z), with batch shape ``(batch,)``."""
        return per_example(self._model_nodes()[self.latent], "model", self.batch)

    def likelihood(self, z: Tensor) -> TorchDistribution:
        """Return p(x | z) for z ``(batch, *event_shape)``, with batch shape ``(batch,)``."""
        return per_example(self._model_nodes(z)[self.observed], "model", self.batch)

    def _model_nodes(self, z: Tensor | None = None) -> dict[str, Message]:
        trace = self.trace_model(z)
        check_sites("model", trace, self.latent, self.observed, self._strict)
        nodes: dict[str, Message] = trace.nodes
        return nodes

    def draw(self, num_particles: int) -> Tensor:
        """Draw z from q(z | x), ``(num_particles, batch, *event_shape)``; with gradient if q is reparametrised."""
        return self.posterior()((num_particles,))

    def draw_from(self, posterior: TorchDistribution, num_particles: int) -> tuple[Tensor, Tensor]:
        """Draw z from q(z | x), and return it with log q(z | x), ``(num_particles, batch)``.

        A flow may keep the inverse of its last draw alone, so the density is asked for at once.
        """
        z = posterior((num_particles,))
        return z, self.log_posterior(z, posterior)

    def simulate(self) -> tuple[Tensor, Tensor]:
        """Draw z from the prior and x from the likelihood, one per row of x, ``(batch, ...)``, without gradient."""
        nodes = self._simulated()
        return nodes[self.latent]["value"], nodes[self.observed]["value"]

    def simulate_with_gaps(self) -> tuple[Tensor, Tensor]:
        """Do the same as :meth:`simulate`, with NaN in x where a model of the mask draws a missing value."""
        nodes = self._simulated()
        z, x = nodes[self.latent]["value"], nodes[self.observed]["value"]
        for site in nodes.values():
            if site["type"] == "sample" and site["infer"].get(WITH_X):
                x = x.masked_fill(site["value"] == 0, torch.nan)
        return z, x

    def _simulated(self) -> Mapping[str, Message]:
        with torch.no_grad():
            trace = self._trace(poutine.uncondition(self.model))
        check_sites("model", trace, self.latent, self.observed, self._strict)
        for name in (self.latent, self.observed):
            per_example(trace.nodes[name], "model", self.batch)
        nodes: Mapping[str, Message] = trace.nodes
        return nodes

    # Log-densities at z of shape (num_particles, batch, *event_shape), each (num_particles, batch), in nats.

    def log_likelihood(self, z: Tensor) -> Tensor:
        """Return log p(x | z)."""
        return self.log_joint(z)[0]

    def log_prior(self, z: Tensor) -> Tensor:
        """Return log p(z)."""
        return self.log_density(self.prior(), z, self.latent, "model")

    def log_joint(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p(x | z) and log p(z)."""
        observed, latent = self._joint(z)
        return _sum(observed), latent.log_prob

    def log_posterior(self, z: Tensor, posterior: TorchDistribution | None = None) -> Tensor:
        """Return log q(z | x); runs the guide if q(z | x) is not given."""
        return self.log_density(posterior or self.posterior(), z, self.latent, "guide")

    def terms(self, z: Tensor, posterior: TorchDistribution | None = None) -> Terms:
        """Return all three; runs the guide if q(z | x) is not given.

        Of several particles, the result has no KL in closed form: the model runs on repeated rows, the guide does not.
        """
        observed, latent = self._joint(z)
        posterior = posterior or self.posterior()
        log_q = self.log_density(posterior, z, self.latent, "guide")
        return _terms(observed, latent, Site(self.latent, posterior, z, log_q))

    def draw_terms(self, num_particles: int) -> Terms:
        """Return all three at draws of z from q(z | x), with gradient as in :meth:`draw`."""
        posterior = self.posterior()
        return self.terms(posterior((num_particles,)), posterior)

    def run_terms(self) -> Terms:
        """Return all three of one run of guide and model, with the noise of Pyro's losses; ``(1, batch)``."""
        guide = self.trace_guide()
        model = self._trace(poutine.replay(self.model, guide))
        return _terms(
            self._observed_sites(model.nodes, 1),
            self._site(model.nodes[self.latent], "model", 1),
            self._site(guide.nodes[self.latent], "guide", 1),
        )

    def _joint(self, z: Tensor) -> tuple[list[Site], Site]:
        """Return the observed sites and the latent site of the model, run once with rows repeated for each particle."""
        num_particles = z.shape[0]
        repeated = self._map(lambda t: repeat_rows(t, num_particles))
        nodes = repeated._model_nodes(z.flatten(0, 1))
        latent = repeated._site(nodes[self.latent], "model", num_particles)
        return repeated._observed_sites(nodes, num_particles), latent

    def _observed_sites(self, nodes: Mapping[str, Message], num_particles: int) -> list[Site]:
        """Return the site of x and those that belong to x, such as the mask of its observed values."""
        found = [nodes[self.observed], *(s for s in nodes.values() if s["type"] == "sample" and s["infer"].get(WITH_X))]
        return [self._site(site, "model", num_particles) for site in found]

    def _site(self, site: Message, program: _Program, num_particles: int) -> Site:
        name, value = site["name"], site["value"]
        distribution = per_example(site, program, self.batch)
        log_prob = self.log_density(distribution, value, name, program).unflatten(0, (num_particles, -1))
        return Site(name, site["fn"], value, log_prob, 1.0, site["mask"], plates_of_event(site), num_particles)

    def log_density(self, distribution: TorchDistribution, value: Tensor, site: str, program: _Program) -> Tensor:
        """Return the log-density of a distribution at a value, which it may just have drawn.

        Args:
            distribution: of a site.
            value: of any shape that it takes.
            site: the name of the site.
            program: ``"model"`` or ``"guide"``.

        Raises:
            ValueError: if the density needs the inverse of a transform that has none.
        """
        role = {self.latent: "prior" if program == "model" else "posterior"}.get(site, "likelihood")
        part = getattr(self.vae, role, None)
        named = "" if part is None else f"{role} {part_name(part)}, "
        check_inverse(distribution, f"{named}site {site!r} of the {program}", value)
        log_prob: Tensor = distribution.log_prob(value)
        return log_prob


def _terms(observed: Sequence[Site], prior: Site, posterior: Site) -> Terms:
    run: RunSites = {
        "recon": {site.name: site for site in observed},
        "prior": {prior.name: prior},
        "posterior": {posterior.name: posterior},
    }
    return Terms(_sum(observed), prior.log_prob, posterior.log_prob, [run])


def _sum(sites: Sequence[Site]) -> Tensor:
    return functools.reduce(operator.add, (site.log_prob for site in sites))
