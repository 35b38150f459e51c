"""Lines that check whether SVI trains what the loss depends on, and whether each example counts as it should."""

from __future__ import annotations

import torch
from pyro import poutine
from pyro.poutine.runtime import Message
from torch import Tensor

from pyro_vae.checks.inputs import Check, Inputs, named_leaves
from pyro_vae.checks.report import Finding
from pyro_vae.checks.statistics import equal
from pyro_vae.model_guide import ModelGuide, listed, scale_of

__all__ = ["CHECKS"]

_SECTION = "Model and guide"
_ROUNDING = 1e-6  # relative, of a scale that was computed in float32


def _parameters(inputs: Inputs) -> Finding:
    """Compare the parameters that Pyro is told of, those that the loss depends on, and those of the modules."""
    p = inputs.given
    declared = _declared(p)
    computed = {id(leaf): name for name, leaf in named_leaves(p)}
    owned = {id(q): name for module in p.modules for name, q in module.named_parameters() if q.requires_grad}
    if stale := [name for i, name in declared.items() if i not in computed]:
        return _stale(stale, [name for i, name in owned.items() if i in computed and i not in declared])
    if idle := [name for i, name in owned.items() if i not in computed]:
        words = f"the loss does not depend on {listed(idle)}: look for detach() and no_grad(), or remove it"
        return _failed(words, idle)
    if not declared and computed:
        return Finding(
            "noted",
            "Pyro is told of no parameters, so SVI would train nothing. Call pyro.module in model and guide, or train "
            "with a torch.optim optimiser",
        )
    if not declared:
        return Finding("passed", "there are no parameters")
    if untold := [name for i, name in computed.items() if i not in declared]:
        words = (
            f"the loss depends on {listed(untold)}, which Pyro is not told of, so SVI will not train them. Declare "
            "them with pyro.module in model and guide"
        )
        return _failed(words, untold)
    return Finding("passed", f"{len(declared)} tensors, all trained", 0.0)


def _declared(p: ModelGuide) -> dict[int, str]:
    """Return the names of the parameters that Pyro is told of in a run of both programs, by the tensor's id."""
    guide = p.trace_guide()
    model = poutine.trace(poutine.replay(p.model, guide)).get_trace(p.x, *p.context, **p.named)
    return {
        id(site["value"].unconstrained()): site["name"]
        for trace in (guide, model)
        for site in trace.nodes.values()
        if site["type"] == "param" and hasattr(site["value"], "unconstrained")
    }


def _stale(stale: list[str], in_their_place: list[str]) -> Finding:
    """Fail for parameters that Pyro is told of without use, as if the store had those of an older model."""
    words = f"Pyro is told to train {listed(stale)}, but the loss does not depend on them"
    if not in_their_place:
        return _failed(f"{words}: look for detach() and no_grad()", stale)
    return _failed(
        f"{words}. It depends on {listed(in_their_place)}, which Pyro is not told of: Pyro's parameter store holds "
        "older tensors under these names. Call pyro.clear_param_store() before you build another model",
        stale,
    )


def _failed(words: str, names: list[str]) -> Finding:
    return Finding("failed", words, float(len(names)))


def _plate(inputs: Inputs) -> Finding:
    """Compare the scales of the sites, and the loss of two halves of the batch with that of the whole."""
    p = inputs.exact
    with torch.no_grad():
        z = p.draw(1)[0].detach()
        scales = _scales(p, z)
        if problem := _wrong_scale(scales, p.batch, inputs.data_size):
            return problem
        half = p.batch // 2
        if half < 1:
            return Finding("skipped", "there is only one example")

        def loss(start: int, stop: int) -> Tensor:
            some = p.rows(start, stop)
            # A point has no density at any other z, even one that differs by rounding.
            return _scaled(some, some.draw(1)[0] if inputs.is_point else z[start:stop])

        whole, parts = loss(0, 2 * half), torch.stack([loss(0, half), loss(half, 2 * half)])
    # With a plate of fixed size each part estimates the whole; with a plate of the batch's size the parts add up.
    of_half = half * _scales(p.rows(0, half), z[:half])["p(x|z)"]
    fixed = abs(of_half - p.batch * scales["p(x|z)"]) <= _ROUNDING * abs(of_half)
    words = "the losses of two halves of the batch do not average, or add up, to the loss of the whole batch"
    return equal(parts.mean() if fixed else parts.sum(), whole, max(inputs.rounding, 1e-8), words)


def _wrong_scale(scales: dict[str, float], batch: int, data_size: int | None) -> Finding | None:
    """Return a failure if the sites' scales differ, or do not scale the batch to the size of the data."""
    if max(scales.values()) > (1 + _ROUNDING) * min(scales.values()):
        words = ", ".join(f"{name} by {scale:g}" for name, scale in scales.items())
        return Finding(
            "failed",
            f"log-densities are scaled differently: {words}. Their sum is then no bound on log p(x). Weight the KL in "
            "the objective, not at one site",
        )
    counted = scales["p(x|z)"] * batch
    if data_size is None or abs(counted / data_size - 1) <= _ROUNDING:
        return None
    return Finding(
        "failed",
        f"each of the {batch} examples counts {scales['p(x|z)']:g} times, so the loss stands for {counted:g} examples; "
        f"there are {data_size}. Make the plate as large as the data",
        counted,
    )


def _nodes(p: ModelGuide, z: Tensor) -> dict[str, Message]:
    """Return the sites of p(x|z), p(z) and q(z|x) at the same z."""
    guide = poutine.trace(poutine.condition(p.guide, data={p.latent: z}))
    model = p.trace_model(z).nodes
    q = guide.get_trace(p.x, *p.context, **p.named).nodes[p.latent]
    return {"p(x|z)": model[p.observed], "p(z)": model[p.latent], "q(z|x)": q}


def _scales(p: ModelGuide, z: Tensor) -> dict[str, float]:
    return {name: scale_of(site) for name, site in _nodes(p, z).items()}


def _scaled(p: ModelGuide, z: Tensor) -> Tensor:
    """Return the bound at z with the scales of all sites, summed over the batch."""
    sums = [(site["scale"] * site["fn"].log_prob(site["value"])).sum() for site in _nodes(p, z).values()]
    return sums[0] + sums[1] - sums[2]


CHECKS = [
    Check(
        "parameters",
        _SECTION,
        "the parameters that Pyro is told of against those of the loss and those of the modules",
        "SVI trains what Pyro is told of; the three must be the same.",
        _parameters,
        "whether all parameters are trained",
    ),
    Check(
        "plate",
        _SECTION,
        "the scales of the sites against each other, and the loss of halves of the batch against that of the whole",
        "Minibatches must estimate the bound of all data without bias, and give every term the same weight.",
        _plate,
        "whether each example counts as it should",
    ),
]
