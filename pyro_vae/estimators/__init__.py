"""VAEs as scikit-learn's estimators: for its pipelines, searches and cross-validation."""

from pyro_vae.estimators.imputer import VAEImputer
from pyro_vae.estimators.transformer import VAETransformer

__all__ = ["VAEImputer", "VAETransformer"]
