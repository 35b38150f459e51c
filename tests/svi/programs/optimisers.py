"""Optimisers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.optim
import torch
from pyro.infer.autoguide import AutoDiagonalNormal

from tests.svi.programs.cases import Program, case, register
from tests.svi.programs.data import regression
from tests.svi.programs.regression import linear


def optimised(optim: pyro.optim.PyroOptim, after: Callable[[Any], None] | None = None) -> Program:
    return Program(linear, AutoDiagonalNormal(linear), regression(), optim=optim, after=after)


def stepped(scheduler) -> Program:
    return optimised(scheduler, lambda loss: scheduler.step())


register("optim_adam_amsgrad", lambda: optimised(pyro.optim.Adam({"lr": 0.05, "amsgrad": True})), slow=True)
register("optim_adam_w", lambda: optimised(pyro.optim.AdamW({"lr": 0.05, "weight_decay": 0.1})), slow=True)
register("optim_adam_clipped_norm", lambda: optimised(pyro.optim.Adam({"lr": 0.05}, clip_args={"clip_norm": 0.1})))
register("optim_adam_clipped_value", lambda: optimised(pyro.optim.Adam({"lr": 0.05}, {"clip_value": 0.1})), slow=True)
register("optim_clipped_adam", lambda: optimised(pyro.optim.ClippedAdam({"lr": 0.05, "clip_norm": 1.0, "lrd": 0.9})))
register("optim_adagrad_rmsprop", lambda: optimised(pyro.optim.AdagradRMSProp({"eta": 0.1})), slow=True)
register("optim_dct_adam", lambda: optimised(pyro.optim.DCTAdam({"lr": 0.05})), slow=True)
register(
    "optim_sgd_momentum", lambda: optimised(pyro.optim.SGD({"lr": 1e-3, "momentum": 0.9, "nesterov": True})), slow=True
)
register("optim_rmsprop", lambda: optimised(pyro.optim.RMSprop({"lr": 0.01, "centered": True})), slow=True)
register("optim_adagrad", lambda: optimised(pyro.optim.Adagrad({"lr": 0.1})), slow=True)
register(
    "optim_pyro_optim_of_torch", lambda: optimised(pyro.optim.PyroOptim(torch.optim.NAdam, {"lr": 0.02})), slow=True
)
register(
    "optim_options_by_parameter",
    lambda: optimised(
        pyro.optim.Adam(lambda name: {"lr": 0.1 if name.endswith("loc") else 0.001, "betas": (0.95, 0.999)})
    ),
)
register(
    "optim_exponential_lr",
    lambda: stepped(pyro.optim.ExponentialLR({"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "gamma": 0.5})),
)
register(
    "optim_multi_step_lr",
    lambda: stepped(
        pyro.optim.MultiStepLR(
            {"optimizer": torch.optim.SGD, "optim_args": {"lr": 1e-3}, "milestones": [2, 3], "gamma": 0.2}
        )
    ),
    slow=True,
)
register(
    "optim_cosine_with_clipping",
    lambda: stepped(
        pyro.optim.CosineAnnealingLR(
            {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "T_max": 4}, {"clip_norm": 1.0}
        )
    ),
    slow=True,
)


@case(slow=True)
def optim_reduce_on_plateau():
    scheduler = pyro.optim.ReduceLROnPlateau(
        {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.05}, "patience": 0, "factor": 0.5}
    )
    return optimised(scheduler, lambda loss: scheduler.step(float(loss)))
