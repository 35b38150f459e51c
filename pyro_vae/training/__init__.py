"""Training: fit(), and the history it returns."""

from pyro_vae.training.fit import TrainingDivergedError, TrainingInterrupted, fit
from pyro_vae.training.history import Epoch, History

__all__ = ["Epoch", "History", "TrainingDivergedError", "TrainingInterrupted", "fit"]
