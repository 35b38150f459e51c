"""VAEImputer: missing values filled in by a VAE, for scikit-learn."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from pyro_vae.argument_checks import true_or_false
from pyro_vae.data.frames import is_data_frame
from pyro_vae.data.reading import import_optional
from pyro_vae.data.schema import Schema
from pyro_vae.estimators.fitting import seed_from, trained
from pyro_vae.estimators.forms import Table, as_array, frame_of, is_nan
from pyro_vae.estimators.run_folders import Saved, load_run
from pyro_vae.nets.shapes import Shape
from pyro_vae.registry import ClassOrFunction, Spec

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["VAEImputer"]


class VAEImputer(OneToOneFeatureMixin, TransformerMixin, Saved):
    """A VAE that fills in missing values, as scikit-learn's ``IterativeImputer`` does.

    A missing number becomes its mean given the observed values of its row, and a missing category the most probable one
    (Mattei and Frellsen 2019, arXiv 1812.02633). X is a DataFrame with columns of any kind, or an array of numbers, and
    so is the result. The VAE takes each column as its schema says (:func:`pyro_vae.suggest_schema`) and standardises
    numbers itself, so a scaler is not needed. It needs ``pip install 'pyro-vae[tables]'``.

    Args:
        latent_dim: dimensions of z.
        missing_values: what stands for a missing value: NaN, for which None and pandas' NA count too, or a number or a
            text. In a DataFrame, NaN is always missing.
        sample_posterior: for multiple imputation, draw missing values from p(missing | observed) instead of taking the
            mean. Each call draws other values, unless ``random_state`` is an integer.
        add_indicator: add a column for each one that had missing values in ``fit``: True where a value was missing.
        num_particles: draws of z per row.
        hidden: widths of the encoder's hidden layers; the decoder has them in reverse.
        prior: p(z), by its name or with its arguments, as for :func:`pyro_vae.build`. A part of your own goes in as
            the class or the function itself.
        likelihood: p(x | z), likewise; ``"auto"`` for that of the schema.
        posterior: q(z | x), likewise.
        mask_likelihood: p(mask | x), for values that are missing because of what they are; see
            :mod:`pyro_vae.mask_likelihoods`. None if they are missing at random.
        schema: what the columns hold; None to look at X. The columns of an array are named ``x0``, ``x1``, ...
        epochs: passes over the rows; by default as for :func:`pyro_vae.fit`.
        batch_size: rows per step.
        lr: the highest learning rate.
        validation_fraction: the share of the rows on which the bound is validated after each epoch; the weights are
            those of the best epoch. With 0 they are the last ones.
        patience: stop after this many epochs without a better bound on the validation rows; None never does.
        device: where to train, such as ``"cuda"``; None for the CPU.
        verbose: show the progress.
        random_state: of the weights, the training and all draws: an integer, a RandomState, or None for NumPy's own.

    Attributes:
        vae_: the :class:`pyro_vae.VAE`.
        history_: the epochs of its training.
        n_features_in_: columns of X.
        feature_names_in_: their names, if X was a DataFrame.

    Example:
        >>> import pandas as pd
        >>> people = pd.DataFrame({"height": [1.71, 1.62, None, 1.58] * 20, "sex": ["m", "f", "m", None] * 20})
        >>> imputer = VAEImputer(latent_dim=2, hidden=(16,), epochs=2, random_state=0)
        >>> int(imputer.fit_transform(people).isna().sum().sum())
        0
    """

    def __init__(
        self,
        latent_dim: int = 20,
        *,
        missing_values: Any = np.nan,
        sample_posterior: bool = False,
        add_indicator: bool = False,
        num_particles: int = 1000,
        hidden: Shape = (256,),
        prior: Spec | ClassOrFunction = "StandardNormal",
        likelihood: Spec | ClassOrFunction = "auto",
        posterior: Spec | ClassOrFunction = "DiagonalNormal",
        mask_likelihood: Spec | ClassOrFunction | None = None,
        schema: Schema | None = None,
        epochs: int | None = None,
        batch_size: int = 128,
        lr: float = 3e-3,
        validation_fraction: float = 0.0,
        patience: int | None = None,
        device: torch.device | str | None = None,
        verbose: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.latent_dim = latent_dim
        self.missing_values = missing_values
        self.sample_posterior = sample_posterior
        self.add_indicator = add_indicator
        self.num_particles = num_particles
        self.hidden = hidden
        self.prior = prior
        self.likelihood = likelihood
        self.posterior = posterior
        self.mask_likelihood = mask_likelihood
        self.schema = schema
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X: Table, y: object = None) -> Self:  # noqa: N803
        """Train a VAE on X, with its missing values.

        Args:
            X: a DataFrame, or an array ``(n, columns)``.
            y: is not used.

        Raises:
            ValueError: for X that no VAE can take, and parameters out of range.
            TypeError: if X is sparse.
        """
        true_or_false("add_indicator", self.add_indicator)
        true_or_false("sample_posterior", self.sample_posterior)
        self.__dict__.pop("vae_", None)  # if this fit fails, no VAE of another X is left
        frame, self._form = frame_of(self, X, None, self.missing_values)
        self._seed = seed_from(self.random_state)
        parameters = {**self.get_params(deep=False), "missing": True}
        self.vae_, self.history_, self._files = trained(parameters, frame, self._form, self._seed)
        return self

    def transform(self, X: Table) -> Any:  # noqa: N803
        """Return X with its missing values filled in.

        Columns that the schema leaves out, such as people's names, stay as they are. If one has missing values, there
        is a warning.

        Args:
            X: see :meth:`fit`.

        Returns:
            A DataFrame or an array ``(n, columns)``, whichever :meth:`fit` got, in the dtypes of this X; with
            ``add_indicator``, more columns. Integers stay integers if ``missing_values`` is an integer.
        """
        check_is_fitted(self)
        mean = not true_or_false("sample_posterior", self.sample_posterior)
        frame, form = frame_of(self, X, self._form, self.missing_values)
        seed = self._seed if mean else seed_from(self.random_state)
        filled = self.vae_.impute(frame, num_particles=self.num_particles, mean=mean, seed=seed)
        marks = frame.isna().iloc[:, list(self._form.with_gaps)].set_axis(self._mark_names(), axis=1)
        if self._form.dtype is not None:
            found = as_array(filled, form.dtype or "float64")
            return np.hstack([found, marks]) if self.add_indicator else found
        filled = filled.set_axis(list(self._form.labels), axis=1)
        found = _of_types(filled, X.dtypes) if is_data_frame(X) else filled
        return import_optional("pandas", "tables").concat([found, marks], axis=1) if self.add_indicator else found

    def get_feature_names_out(self, input_features: Sequence[str] | NDArray[Any] | None = None) -> NDArray[Any]:
        """Return the names of the columns, and of those of ``add_indicator``.

        Args:
            input_features: the names of the columns of X; by default those of ``fit``, or ``x0``, ``x1``, ...
        """
        check_is_fitted(self)
        names = super().get_feature_names_out(input_features)
        return np.concatenate([names, self._mark_names()]) if self.add_indicator else names

    def _mark_names(self) -> NDArray[Any]:
        names = self._form.names
        return np.array([f"missingindicator_{names[i]}" for i in self._form.with_gaps], dtype=object)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Return the fitted imputer of a run folder.

        Args:
            folder: that :meth:`save` wrote, or another run on a table with missing values.

        Raises:
            FileNotFoundError: if there is no such run folder.
            ValueError: if its files are damaged, or its run was on no table or one without missing values.
        """
        found = load_run(cls, folder)
        if not found.vae_.missing:
            raise ValueError(f"the VAE of {folder} takes no missing values: train it with missing=True")
        return found

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = is_nan(self.missing_values)
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _of_types(filled: pd.DataFrame, dtypes: pd.Series) -> pd.DataFrame:
    """Return a DataFrame whose columns have these types, where the types can hold the values."""
    types = dict(zip(filled.columns, dtypes, strict=True))
    held = {name: dtype for name, dtype in types.items() if filled[name].dtype != dtype and _holds(dtype, filled[name])}
    return filled.astype(held) if held else filled


def _holds(dtype: Any, values: pd.Series) -> bool:
    """Return True if a type of pandas can hold all values of a Series unchanged."""
    try:
        return bool((values.astype(dtype) == values).all())
    except (TypeError, ValueError):
        return False
