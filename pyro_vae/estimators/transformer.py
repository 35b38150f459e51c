"""VAETransformer: codes of a VAE for scikit-learn."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_array, check_is_fitted

from pyro_vae.data.frames import is_data_frame
from pyro_vae.data.schema import Schema
from pyro_vae.data.table_frames import as_frame, within_bounds
from pyro_vae.estimators.fitting import seed_from, trained
from pyro_vae.estimators.forms import Table, frame_of
from pyro_vae.estimators.run_folders import Saved, load_run
from pyro_vae.evaluation import importance_sampling
from pyro_vae.nets.shapes import Shape
from pyro_vae.registry import ClassOrFunction, Spec
from pyro_vae.vae.calls import evaluating
from pyro_vae.vae.point_values import most_probable

__all__ = ["VAETransformer"]


class VAETransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Saved):
    """A VAE as a transformer of scikit-learn: rows to codes, and back.

    X is a DataFrame with columns of any kind, or an array of numbers; a missing value is NaN. The VAE takes each column
    as its schema says (:func:`pyro_vae.suggest_schema`): it standardises numbers itself, so a scaler is not needed, and
    log p(x) is in the units of X. It needs ``pip install 'pyro-vae[tables]'``.

    Args:
        latent_dim: dimensions of z.
        hidden: widths of the encoder's hidden layers; the decoder has them in reverse.
        prior: p(z), by its name or with its arguments, as for :func:`pyro_vae.build`. A part of your own goes in as
            the class or the function itself.
        likelihood: p(x | z), likewise; ``"auto"`` for that of the schema.
        posterior: q(z | x), likewise.
        schema: what the columns hold; None to look at X. The columns of an array are named ``x0``, ``x1``, ...
        missing: True if later rows may have missing values. If the X of ``fit`` has some, later rows may have them too.
        epochs: passes over the rows; by default as for :func:`pyro_vae.fit`.
        batch_size: rows per step.
        lr: the highest learning rate.
        validation_fraction: the share of the rows on which the bound is validated after each epoch; the weights are
            those of the best epoch. With 0 they are the last ones.
        patience: stop after this many epochs without a better bound on the validation rows; None never does.
        num_particles: draws of z per row, for :meth:`score_samples`.
        device: where to train, such as ``"cuda"``; None for the CPU.
        verbose: show the progress.
        random_state: of the weights, the training and all draws: an integer, a RandomState, or None for NumPy's own.

    Attributes:
        vae_: the :class:`pyro_vae.VAE`.
        history_: the epochs of its training.
        n_features_in_: columns of X.
        feature_names_in_: their names, if X was a DataFrame.

    Example:
        >>> from sklearn.datasets import load_wine
        >>> X = load_wine(as_frame=True).data
        >>> codes = VAETransformer(latent_dim=2, hidden=(16,), epochs=2, random_state=0).fit_transform(X)
        >>> codes.shape
        (178, 2)
    """

    def __init__(
        self,
        latent_dim: int = 20,
        *,
        hidden: Shape = (512, 512),
        prior: Spec | ClassOrFunction = "StandardNormal",
        likelihood: Spec | ClassOrFunction = "auto",
        posterior: Spec | ClassOrFunction = "DiagonalNormal",
        schema: Schema | None = None,
        missing: bool = False,
        epochs: int | None = None,
        batch_size: int = 128,
        lr: float = 3e-3,
        validation_fraction: float = 0.0,
        patience: int | None = None,
        num_particles: int = 1000,
        device: torch.device | str | None = None,
        verbose: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.latent_dim = latent_dim
        self.hidden = hidden
        self.prior = prior
        self.likelihood = likelihood
        self.posterior = posterior
        self.schema = schema
        self.missing = missing
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.num_particles = num_particles
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X: Table, y: object = None) -> Self:  # noqa: N803
        """Train a VAE on X.

        Args:
            X: a DataFrame, or an array ``(n, columns)``; NaN where a value is missing.
            y: is not used.

        Raises:
            ValueError: for X that no VAE can take, and parameters out of range.
            TypeError: if X is sparse.
        """
        self.__dict__.pop("vae_", None)  # if this fit fails, no VAE of another X is left
        frame, self._form = frame_of(self, X, None)
        self._seed = seed_from(self.random_state)
        training = trained(self.get_params(deep=False), frame, self._form, self._seed)
        self.vae_, self.history_, self._files = training
        return self

    def transform(self, X: Table) -> NDArray[Any]:  # noqa: N803
        """Return the codes of X, which are the means of q(z | x).

        Codes that are directions or categories come as modes, and points of a simplex as their logs; see
        :meth:`pyro_vae.VAE.codes`.

        Args:
            X: see :meth:`fit`.

        Returns:
            ``(n, latent_dim)``, float32 if X is an array of float32, else float64.
        """
        check_is_fitted(self)
        frame, form = frame_of(self, X, self._form)
        codes: NDArray[Any] = self.vae_.codes(frame, seed=self._seed).cpu().numpy()
        return codes.astype(np.float32 if form.dtype == "float32" else np.float64)

    def inverse_transform(self, Z: Table) -> Any:  # noqa: N803
        """Return the means of p(x | z); of a category, the most probable value.

        Args:
            Z: codes ``(n, latent_dim)``, as :meth:`transform` gives them.

        Returns:
            A DataFrame or an array, whichever :meth:`fit` got. A DataFrame lacks the columns that the schema leaves
            out, and in an array they are NaN; constant columns are there all the same.
        """
        check_is_fitted(self)
        z = check_array(Z, input_name="Z", dtype=[np.float64, np.float32])
        if z.shape[1] != self._n_features_out:
            raise ValueError(f"Z must have {self._n_features_out} columns, as transform gives them; got {z.shape[1]}")
        schema: Any = self.vae_.schema
        with evaluating(self.vae_):
            x = most_probable(schema, self.vae_.decode(z))
        return self._form.back(as_frame(schema, within_bounds(schema, x)), Z.index if is_data_frame(Z) else None)

    def score_samples(self, X: Table) -> NDArray[np.float64]:  # noqa: N803
        """Return estimates of log p(x) by importance sampling, in nats per row and in the units of X.

        Of a row with missing values, it is log p of the observed ones. The estimates are a little low, by half the
        squared standard error, and depend on ``random_state``; see :func:`pyro_vae.evaluation.importance_sampling`.

        Args:
            X: see :meth:`fit`.

        Returns:
            ``(n,)``.
        """
        check_is_fitted(self)
        frame, _ = frame_of(self, X, self._form)
        found = importance_sampling(self.vae_, frame, num_particles=self.num_particles, seed=self._seed)
        return found.log_prob.double().cpu().numpy()

    def score(self, X: Table, y: object = None) -> float:  # noqa: N803
        """Return the mean of :meth:`score_samples`: the higher, the better.

        Args:
            X: see :meth:`fit`.
            y: is not used.
        """
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, random_state: int | np.random.RandomState | None = None) -> Any:
        """Draw rows from the model.

        Args:
            n_samples: how many.
            random_state: of the draws; by default that of the estimator.

        Returns:
            A DataFrame or an array, whichever :meth:`fit` got; see :meth:`inverse_transform`.
        """
        check_is_fitted(self)
        seed = seed_from(self.random_state if random_state is None else random_state)
        return self._form.back(self.vae_.sample(n_samples, seed=seed))

    def get_feature_names_out(self, input_features: Sequence[str] | NDArray[Any] | None = None) -> NDArray[Any]:
        """Return the names of the codes: ``vae0``, ``vae1``, ...

        Args:
            input_features: the names of the columns of X, which are checked, or None.
        """
        check_is_fitted(self)
        super().get_feature_names_out(input_features)
        return np.array([f"vae{i}" for i in range(self._n_features_out)], dtype=object)

    @property
    def _n_features_out(self) -> int:
        return int(self.vae_.prior_of().event_shape[-1])

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Return the fitted transformer of a run folder.

        Args:
            folder: that :meth:`save` wrote, or another run on a table.

        Raises:
            FileNotFoundError: if there is no such run folder.
            ValueError: if its files are damaged, or its run was on no table.
        """
        return load_run(cls, folder)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
