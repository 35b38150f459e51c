"""What fit trains: a VAE, or any model and guide with the modules and parameters that they use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pyro
import torch
from pyro import poutine
from pyro.params.param_store import StateDict, module_from_param_with_module_name
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from pyro_vae.model_guide import Target, check_observed, model_and_guide, modules_around, run_pair
from pyro_vae.seeds import seeded
from pyro_vae.terms import read_terms
from pyro_vae.vae import VAE, as_vae

__all__ = ["Trainee"]


class Trainee:
    """A model and a guide, with all that their training changes: parameters, buffers, and the modes of modules.

    For a VAE these are known at once. For other programs, :meth:`run_once` finds them. The programs run in a parameter
    store of their own (:meth:`scope`), so two trainings never share a parameter by its name.

    Args:
        target: a VAE, another object with a ``model`` and a ``guide``, or the pair of them.

    Attributes:
        target: the same.
        model: its model.
        guide: its guide.
        vae: the VAE, or None for programs of the user's own.
        modules: the modules that the programs use, by name.
        parameters: those that SVI trains.
        loose: those of them that are in no module, such as those of ``pyro.param``, by name.
        enumerates: True if the guide marks a site for enumeration.
        max_plate_nesting: how many dimensions the plates of the programs take.

    Raises:
        TypeError: if the target has no model and guide.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.model, self.guide = model_and_guide(target)
        self.vae = as_vae(target)
        self.modules = modules_around(model=self.model, guide=self.guide)
        self.parameters: list[Tensor] = []
        if self.vae is not None:
            self.parameters = [p for p in self.vae.parameters() if p.requires_grad]
        self.loose: dict[str, Tensor] = {}
        self.enumerates = False
        self.max_plate_nesting = 1
        self._terms_and_rows = 1, 1
        self._store: StateDict = {"params": {}, "constraints": {}}

    @property
    def name(self) -> str:
        """The name of the target in messages."""
        return "the pair (model, guide)" if self.vae is None else "the VAE"

    @property
    def module(self) -> nn.Module:
        """All modules as one."""
        return nn.ModuleList(self.modules.values())

    def tensors(self) -> list[Tensor]:
        """Return all parameters and buffers, including those that a state dictionary leaves out."""
        return [*self.module.parameters(), *self.module.buffers(), *self.loose.values()]

    def to(self, device: torch.device | str | None) -> None:
        """Move the modules to a device.

        Raises:
            ValueError: if the target is a pair; the user moves its modules.
        """
        if device is None:
            return
        if not isinstance(self.target, nn.Module) and self.vae is None:
            raise ValueError(
                f"device moves a VAE. Move the modules and tensors of {self.name} yourself, and leave device out"
            )
        for module in self.modules.values():
            module.to(device)

    def state_dict(self) -> dict[str, Tensor]:
        """Return parameters and buffers by name."""
        state = dict(self.loose)
        for name, module in self.modules.items():
            state |= module.state_dict(prefix=name and f"{name}.")
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Copy the values of :meth:`state_dict` into the parameters and buffers."""
        for name, module in self.modules.items():
            prefix = name and f"{name}."
            own = {key: state[prefix + key] for key in module.state_dict()}
            module.load_state_dict(own)
        with torch.no_grad():
            for name, tensor in self.loose.items():
                tensor.copy_(state[name])

    def trained_modules(self) -> dict[str, nn.Module]:
        """Return the modules with a parameter that is trained, or with no parameter at all, by name."""
        trained = {id(p) for p in self.parameters}
        own = {name: {id(p) for p in module.parameters()} for name, module in self.modules.items()}
        return {name: self.modules[name] for name, ids in own.items() if not ids or trained & ids}

    def train(self) -> None:
        """Put modules into training mode; frozen ones keep their mode."""
        for module in self.trained_modules().values():
            module.train()

    @contextlib.contextmanager
    def tensors_kept(self) -> Iterator[None]:
        """Run the block, then put back the values of all parameters and buffers."""
        kept = [(t, t.detach().clone()) for t in (*self.module.parameters(), *self.loose.values())]
        buffers = [buffer for module in self.module.modules() for buffer in _buffers_of(module)]
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, before in kept:
                    tensor.copy_(before)
            _put_back(buffers)

    @contextlib.contextmanager
    def modes_kept(self) -> Iterator[None]:
        """Run the block, then put each module back into its mode."""
        modes = [(module, module.training) for module in self.module.modules()]
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Run the block with the parameter store of this training instead of Pyro's.

        Raises:
            ValueError: if the programs make a parameter after their first run, which no optimiser has.
        """
        if self.vae is not None:  # its parameters are in modules alone
            with pyro.get_param_store().scope():
                yield
            return
        before = set(self._store["params"])
        with pyro.get_param_store().scope(self._store):
            yield
        new = [name for name in self._store["params"] if name not in before]
        if new:
            raise ValueError(
                f"the model and guide made the parameter {new[0]!r} after their first run, so it is not trained. "
                "Make all parameters in each run"
            )

    def publish(self) -> None:
        """Put the parameters of ``pyro.param`` into Pyro's parameter store, where they stay."""
        params, constraints = self._store["params"], self._store["constraints"]
        mine = [name for name in params if name in self.loose]
        pyro.get_param_store().set_state(
            {"params": {n: params[n] for n in mine}, "constraints": {n: constraints[n] for n in mine}}
        )

    def run(self, *batch: Tensor) -> tuple[Trace, Trace]:
        """Run the model at a draw from the guide, and return the traces of both, with log-densities."""
        traces = run_pair(self.model, self.guide, *batch)
        for trace in traces:
            trace.compute_log_prob()
        return traces

    def run_once(self, *batch: Tensor) -> None:
        """Run model and guide, and note what their training changes. For a VAE, only check parts that are no modules.

        Args:
            batch: x ``(batch, *event_shape)`` and its context, ``(batch, ...)`` each.

        Raises:
            ValueError: if the programs use a parameter that SVI does not train, if names do not tell parameters apart,
                or if the model observes nothing.
        """
        if self.vae is not None:
            self._check_parts(self.vae, *batch)
            return
        store = pyro.get_param_store()
        outside = store.get_state()
        batch = tuple(t.detach() for t in batch)
        with (
            store.scope() as inside,
            _FromStore(outside),
            poutine.trace(param_only=True) as declared,
            _modules_called(self.module) as called,
            torch.enable_grad(),
        ):
            model, guide = self.run(*batch)
            check_observed(model, guide)
            named = {name: site["value"].unconstrained() for name, site in declared.trace.nodes.items()}
        self._store = inside
        self.parameters = [p for p in {id(p): p for p in named.values()}.values() if p.requires_grad]
        self._add_called(called)
        self._check_all_declared(model.log_prob_sum(), guide.log_prob_sum())
        self._leave_out_unused(called)
        in_modules = {id(p) for p in self.module.parameters()}
        self.loose = {name: p for name, p in named.items() if id(p) not in in_modules}
        self._check_names({name: p for name, p in named.items() if name not in self.loose}, outside["params"])
        terms = read_terms([(model, guide)])
        self._terms_and_rows = terms.recon.numel(), len(batch[0])
        sites = [*model.nodes.values(), *guide.nodes.values()]
        dims = [frame.dim for site in sites if site["type"] == "sample" for frame in site["cond_indep_stack"]]
        self.max_plate_nesting = max((-dim for dim in dims if dim is not None), default=0)
        self.enumerates = any("enumerate" in site["infer"] for site in guide.nodes.values() if "infer" in site)

    def terms_per_example(self, rows: int) -> float:
        """Return how many numbers each of :class:`pyro_vae.terms.Terms` has per example of a batch; 1 for a VAE.

        There are more if all sites are in a second plate. If a latent site is outside the examples' plate, the whole
        batch has one.
        """
        numbers, first_rows = self._terms_and_rows
        return numbers / (rows if numbers % first_rows else first_rows)

    def _add_called(self, called: list[nn.Module]) -> None:
        """Add the modules that were called and are not found around the programs."""
        known = {id(m) for m in self.module.modules()}
        others = [module for module in called if id(module) not in known]
        inner = {id(m) for module in others for m in module.modules() if m is not module}
        roots = [module for module in others if id(module) not in inner]
        self.modules |= {f"called_{i}": module for i, module in enumerate(roots)}

    def _leave_out_unused(self, called: list[nn.Module]) -> None:
        """Leave out the modules around the programs that they do not use."""
        used = {id(m) for m in called} | {id(p) for p in self.parameters}
        parts = {name: (*module.modules(), *module.parameters()) for name, module in self.modules.items()}
        self.modules = {name: self.modules[name] for name, of in parts.items() if any(id(part) in used for part in of)}

    def _check_parts(self, vae: VAE, *batch: Tensor) -> None:
        """Raise a ValueError if a part that is no module uses parameters, which no optimiser would have."""
        names = ("prior", "likelihood", "posterior", "mask_likelihood")
        parts = {name: part for name in names if (part := getattr(vae, name)) is not None}
        others = [name for name, part in parts.items() if not isinstance(part, nn.Module)]
        if not others:
            return
        with self.scope(), self.modes_kept(), _modules_called(vae), seeded(0), torch.enable_grad():
            model, guide = self.run(*batch)
        mine = {id(p) for p in vae.parameters()}
        leaves = _leaves(model.log_prob_sum(), guide.log_prob_sum())
        shapes = [tuple(leaf.shape) for leaf in leaves if id(leaf) not in mine]
        if shapes:
            raise ValueError(
                f"{' or '.join(others)}, which is no module, uses a parameter of shape {shapes[0]} that would not be "
                "trained. Make the part an nn.Module that has its networks as attributes, or freeze the parameter with "
                ".requires_grad_(False)"
            )

    def _check_all_declared(self, *log_probs: Tensor | float) -> None:
        """Raise a ValueError if a gradient reaches a parameter that SVI does not train."""
        trained = {id(p) for p in self.parameters}
        for leaf in _leaves(*log_probs):
            if id(leaf) in trained:
                continue
            names = (n for name, m in self.modules.items() for n, p in m.named_parameters(name) if p is leaf)
            what = next((f"the parameter {name}" for name in names), f"a tensor of shape {tuple(leaf.shape)}")
            raise ValueError(
                f"the model and guide use {what}, which requires a gradient, and SVI does not train it. Declare its "
                'module in the model or guide, as pyro.module("decoder", decoder) does, under a name that no other '
                "module has; or freeze it with .requires_grad_(False)"
            )

    def _check_names(self, of_modules: dict[str, Tensor], outside: dict[str, Tensor]) -> None:
        """Raise a ValueError if a parameter of a module has a name that another parameter has."""
        for name, parameter in of_modules.items():
            if outside.get(name, parameter) is not parameter:
                raise ValueError(
                    f"Pyro's parameter store holds another tensor than the module's under the name {name!r}, which SVI "
                    f"would train instead. Remove it with del pyro.get_param_store()[{name!r}], or all of them with "
                    "pyro.clear_param_store()"
                )
        modules = self.modules.items()
        in_modules = {key for name, module in modules for key in module.state_dict(prefix=name and f"{name}.")}
        for name in self.loose:
            if name in in_modules:
                raise ValueError(f"pyro.param has the name {name!r}, which a tensor of a module has too. Rename one")


class _FromStore(Messenger):
    """Takes parameters of ``pyro.param`` from Pyro's store if it has them, and those of modules from the modules."""

    def __init__(self, outside: StateDict) -> None:
        super().__init__()
        self.outside = outside

    def _pyro_param(self, msg: Message) -> None:
        name, store = str(msg["name"]), pyro.get_param_store()
        of_module = module_from_param_with_module_name(name) != name
        if name in self.outside["params"] and name not in store and not of_module:
            params, constraints = self.outside["params"], self.outside["constraints"]
            store.set_state({"params": {name: params[name]}, "constraints": {name: constraints[name]}})


_Buffer = tuple[nn.Module, str, Tensor, Tensor]  # its module and name, the buffer, and its value


def _buffers_of(module: nn.Module) -> list[_Buffer]:
    return [(module, name, buffer, buffer.clone()) for name, buffer in module.named_buffers(recurse=False)]


def _put_back(buffers: list[_Buffer]) -> None:
    with torch.no_grad():
        for module, name, buffer, before in buffers:
            if getattr(module, name) is not buffer:  # a run may have put another in its place
                setattr(module, name, buffer)
            buffer.copy_(before)


@contextlib.contextmanager
def _modules_called(known: nn.Module) -> Iterator[list[nn.Module]]:
    """List the modules that are called in the block, and put back their buffers and those of ``known`` afterwards."""
    called: dict[int, nn.Module] = {}
    seen: set[int] = set()
    buffers: list[_Buffer] = []

    def keep(module: nn.Module) -> None:
        if id(module) not in seen:
            seen.add(id(module))
            buffers.extend(_buffers_of(module))

    def note(module: nn.Module, _: object) -> None:
        called[id(module)] = module
        keep(module)

    for module in known.modules():
        keep(module)

    found: list[nn.Module] = []
    hook = register_module_forward_pre_hook(note)
    try:
        yield found
    finally:
        hook.remove()
        found += called.values()
        _put_back(buffers)


def _leaves(*outputs: Tensor | float) -> Iterator[Tensor]:
    """Yield the tensors that a gradient of the outputs reaches."""
    ahead = [t.grad_fn for t in outputs if isinstance(t, Tensor) and t.grad_fn is not None]
    seen = set(ahead)
    while ahead:
        node = ahead.pop()
        if node.name() == "torch::autograd::AccumulateGrad":
            yield node.variable  # type: ignore[attr-defined]
        new = {n for n, _ in node.next_functions if n is not None} - seen
        seen |= new
        ahead += new
