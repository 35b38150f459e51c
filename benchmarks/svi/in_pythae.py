"""pythae's trainer, with our encoder and decoder."""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from pythae.data.datasets import BaseDataset, DatasetOutput
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import CallbackHandler, TrainingCallback
from torch import Tensor

from svi.serving import Contender
from svi.sizes import LR, Size


class Encoder(BaseEncoder):
    """Our network; its raw scales serve as the log variances that pythae expects."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.layers, self.latent_dim = size.vae().posterior.net.layers, size.latent

    def forward(self, x: Tensor) -> ModelOutput:
        """Means and log variances."""
        loc, raw = self.layers(x).chunk(2, dim=-1)
        return ModelOutput(embedding=loc, log_covariance=raw)


class Decoder(BaseDecoder):
    """Our network; pythae expects probabilities."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.layers = size.vae().likelihood.net.layers

    def forward(self, z: Tensor) -> ModelOutput:
        """Probabilities."""
        return ModelOutput(reconstruction=self.layers(z).sigmoid())


class Batches(list):
    """Replaces a DataLoader: the batches are in memory."""

    dataset = range(0)


def trainer(size: Size) -> Contender:
    """Call ``BaseTrainer.train_step`` for each pass over the batches, without loader and progress bar."""
    xs = [torch.from_numpy(x) for x in size.batches()]
    config = VAEConfig(input_dim=size.event_shape, latent_dim=size.latent, reconstruction_loss="bce")
    options = BaseTrainerConfig(output_dir=tempfile.mkdtemp(), learning_rate=LR, no_cuda=True)
    data = BaseDataset(xs[0], torch.zeros(size.batch))
    trainer = BaseTrainer(VAE(config, Encoder(size), Decoder(size)), data, training_config=options)
    trainer.prepare_training()
    trainer.callback_handler = CallbackHandler(callbacks=[TrainingCallback()], model=trainer.model)
    batches = [DatasetOutput(data=x) for x in xs]

    def run(n: int) -> list[Any]:
        trainer.train_loader = Batches(batches[:n])
        return [trainer.train_step(1)]

    return Contender(run)
