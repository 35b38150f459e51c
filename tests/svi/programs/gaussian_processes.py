"""Gaussian processes."""

from __future__ import annotations

import pyro.contrib.gp as gp
import pyro.distributions as dist
import torch
from pyro.infer import TraceMeanField_ELBO
from pyro.nn import PyroSample

from tests.svi.programs.cases import Program, case
from tests.svi.programs.data import coins, normals


@case
def gaussian_process_regression():
    x = torch.linspace(0, 1, 10)
    model = gp.models.GPRegression(x, x.sin() + 0.1 * normals(10), gp.kernels.RBF(1), noise=torch.tensor(0.1))
    model.kernel.lengthscale = PyroSample(dist.LogNormal(0.0, 1.0))
    model.kernel.variance = PyroSample(dist.LogNormal(0.0, 1.0))
    model.kernel.autoguide("lengthscale", dist.Normal)
    return Program(model.model, model.guide, [()] * 5, modules=(model,))


@case(slow=True)
def gaussian_process_sparse():
    x = torch.linspace(0, 1, 12)
    model = gp.models.SparseGPRegression(
        x, x.sin() + 0.1 * normals(12), gp.kernels.Matern32(1), Xu=torch.linspace(0, 1, 4), approx="VFE", jitter=1e-4
    )
    return Program(model.model, model.guide, [()] * 5, modules=(model,))


@case(slow=True)
def gaussian_process_variational_sparse():
    x = normals(12, 2)
    model = gp.models.VariationalSparseGP(
        x, coins(12), gp.kernels.RBF(2), normals(4, 2, seed=3), gp.likelihoods.Binary(), whiten=True, jitter=1e-4
    )
    return Program(model.model, model.guide, [()] * 5, loss=TraceMeanField_ELBO(), modules=(model,))


@case(slow=True)
def gaussian_process_latent_variable_model():
    y = normals(3, 8)
    kernel = gp.kernels.Sum(gp.kernels.RBF(2, lengthscale=torch.ones(2)), gp.kernels.WhiteNoise(2))
    module = gp.models.SparseGPRegression(normals(8, 2, seed=1), y, kernel, normals(4, 2, seed=2), jitter=1e-4)
    module.X = PyroSample(dist.Normal(torch.zeros(8, 2), 0.1).to_event())
    module.autoguide("X", dist.Normal)
    return Program(module.model, module.guide, [()] * 5, modules=(module,))
