"""Training: fit(), and the history it returns."""

from pyro_vae.training.fitting import TrainingInterrupted, fit
from pyro_vae.training.history import Epoch, History
from pyro_vae.training.run import TrainingDivergedError

__all__ = ["Epoch", "History", "TrainingDivergedError", "TrainingInterrupted", "fit"]
