"""Likelihoods of one kind, evaluated together: as one likelihood with the numbers of all of them side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pyro_vae.parts import as_likelihood

__all__ = ["alike", "side_by_side"]

_OF_ALL_MODULES = frozenset(vars(nn.Module()))
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def alike(parts: Sequence[nn.Module]) -> list[list[int]]:
    """Return the places of parts that can be evaluated together; each of the others is alone in its list.

    Parts go together if they differ in nothing but their parameters and buffers, all of which are single numbers. They
    must be classes of this library, without hooks, and independent of the rest of the batch. Arguments
    ``initial_<name>`` may differ, because parameters start from them and nothing else reads them.

    Args:
        parts: likelihoods of single columns.
    """
    kinds: list[tuple[object, list[int]]] = []
    for place, part in enumerate(parts):
        kind = _kind(part)
        found = next((places for other, places in kinds if kind is not None and other == kind), None)
        if found is None:
            kinds.append((kind, [place]))
        else:
            found.append(place)
    return [places for _, places in kinds]


def side_by_side(parts: Sequence[nn.Module]) -> nn.Module:
    """Return a copy of parts of one kind that evaluates them together, where it treats the columns as a batch.

    Its parameters and buffers are those of the k parts, ``(k, 1)``, so its net's input is ``(*batch, k, features)``
    and its distributions have batch shape ``(*batch, k)``. Gradients flow to the parts.

    Args:
        parts: of one kind, as :func:`alike` finds them.
    """
    # Not torch.func.functional_call, which changes the part itself while it runs, so that other threads would see it.
    first = parts[0]
    new = object.__new__(type(first))
    vars(new).update(vars(first), together=True)
    for group in ("_parameters", "_buffers"):
        of_parts = [vars(part)[group] for part in parts]
        vars(new)[group] = {name: _column([own[name] for own in of_parts]) for name in of_parts[0]}
    children = {name: [part.get_submodule(name) for part in parts] for name in first._modules}
    vars(new)["_modules"] = {name: side_by_side(modules) for name, modules in children.items()}
    return new


def _column(tensors: list[Tensor | None]) -> Tensor | None:
    given = [tensor for tensor in tensors if tensor is not None]
    return torch.stack(given).reshape(-1, 1) if given else None


def _kind(part: nn.Module) -> object:
    """Return what parts that go together have in common; None if this part goes with no other."""
    if as_likelihood(part).depends_on_batch:
        return None
    kind = [_kind_of_module(name, module) for name, module in part.named_modules()]
    return None if None in kind else kind


def _kind_of_module(name: str, module: nn.Module) -> object:
    cls = type(module)
    ours = cls is nn.Unflatten or cls.__module__.startswith("pyro_vae.")
    if not ours or any(vars(module)[hooks] for hooks in _HOOKS):
        return None
    kept = {k: v for k, v in vars(module).items() if k not in _OF_ALL_MODULES and not k.startswith("initial_")}
    tensors = [*module._parameters.items(), *module._buffers.items()]
    if not all(map(_is_plain, kept.values())) or any(t is not None and t.numel() != 1 for _, t in tensors):
        return None
    return name, cls, kept, [(k, None if t is None else (t.shape, t.dtype, t.device)) for k, t in tensors]


def _is_plain(value: object) -> bool:
    """Return True if ``==`` compares a value as a whole."""
    if isinstance(value, dict):
        return all(_is_plain(v) for v in value.values())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (int, float, str, type))
