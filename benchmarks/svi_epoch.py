"""Time a whole epoch of MNIST, data included: pyro_vae.fit beside the training scripts that people start from.

    python benchmarks/svi_epoch.py

Each peer has its own network, batch size and data loading. Ours runs with the network and batch size of each:

- Pyro's example: 784-400-50 with softplus, batch 256, torchvision's MNIST with ToTensor in a DataLoader, SVI.step.
- pytorch/examples: 784-400-20 with ReLU, batch 128, the same loader, the loss by hand.
- pythae: its default MLPs of 512 units with ReLU, latent 16, batch 64, its dataset and its BaseTrainer.

All train on the 60,000 images with Adam, lr 1e-3 (ours with fit's AdamW), without validation. The peers take grey
values; ours draws binary pixels anew in each epoch. Each has its own process, and epochs take turns. The first epoch
of each, in which ours compiles, is reported beside the others. Reads MNIST from $PYRO_VAE_DATA.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from svi.machine import machine  # noqa: E402
from svi.workers import FailedError, Pause, Worker, limit_threads  # noqa: E402

# Peer, and the options of ours that give its network and batch.
PAIRS = {
    "Pyro's example": ("pyro_example", {"hidden": 400, "latent": 50, "activation": "Softplus", "batch": 256}),
    "pytorch/examples": ("pytorch_example", {"hidden": 400, "latent": 20, "activation": "ReLU", "batch": 128}),
    "pythae": ("pythae_trainer", {"hidden": 512, "latent": 16, "activation": "ReLU", "batch": 64}),
}


class Clock:
    """Called after each epoch: hands over its seconds and loss, and sleeps until the next shall begin."""

    def __init__(self, pause: Pause) -> None:
        self.pause = pause
        pause("ready")
        self.start = time.perf_counter()

    def __call__(self, loss: float) -> None:  # noqa: D102
        self.pause((time.perf_counter() - self.start, loss))
        self.start = time.perf_counter()


def ours(pause: Pause, epochs: int, hidden: int, latent: int, activation: str, batch: int) -> None:
    import torch

    from pyro_vae import build, data, fit

    mnist = data.load("mnist", binarize="dynamic")
    both = (mnist.train, mnist.valid)
    pixels, labels = torch.cat([split.pixels for split in both]), torch.cat([split.labels for split in both])
    images = dataclasses.replace(mnist.train, pixels=pixels, labels=labels)
    vae = build((1, 28, 28), latent, hidden=(hidden,), activation=activation)
    options: dict[str, Any] = {"lr": 1e-3, "schedule": "constant", "batch_size": batch}
    if "engine" in inspect.signature(fit).parameters:
        options["engine"] = "compiled"  # which fit would choose by itself for a training of the usual length
    clock = Clock(pause)
    fit(vae, images, epochs=epochs, on_epoch=lambda epoch: clock(epoch.loss), **options)


def _loader(batch: int) -> Any:
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    from pyro_vae.data import folder

    images = datasets.MNIST(folder(), train=True, transform=transforms.ToTensor())
    return DataLoader(images, batch_size=batch, shuffle=True)


def pyro_example(pause: Pause, epochs: int) -> None:
    import pyro
    import pyro.distributions as dist
    import torch
    from pyro.infer import SVI, Trace_ELBO
    from torch import nn

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Sequential(nn.Linear(784, 400), nn.Softplus())
            self.loc, self.log_scale = nn.Linear(400, 50), nn.Linear(400, 50)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            h = self.hidden(x.reshape(-1, 784))
            return self.loc(h), self.log_scale(h).exp()

    encoder = Encoder()
    decoder = nn.Sequential(nn.Linear(50, 400), nn.Softplus(), nn.Linear(400, 784), nn.Sigmoid())

    def model(x: torch.Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", x.shape[0]):
            loc, scale = torch.zeros(x.shape[0], 50), torch.ones(x.shape[0], 50)
            z = pyro.sample("latent", dist.Normal(loc, scale).to_event(1))
            pixels = dist.Bernoulli(decoder(z), validate_args=False).to_event(1)  # grey values
            pyro.sample("obs", pixels, obs=x.reshape(-1, 784))

    def guide(x: torch.Tensor) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("latent", dist.Normal(*encoder(x)).to_event(1))

    svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), loss=Trace_ELBO())
    loader = _loader(256)
    clock = Clock(pause)
    for _ in range(epochs):
        clock(sum(svi.step(x) for x, _ in loader) / len(loader.dataset))


def pytorch_example(pause: Pause, epochs: int) -> None:
    import torch
    from torch import nn
    from torch.nn import functional as F

    encoder, decoder = (
        nn.ModuleDict({"hidden": nn.Linear(784, 400), "loc": nn.Linear(400, 20), "log_var": nn.Linear(400, 20)}),
        nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784), nn.Sigmoid()),
    )
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)

    def step(x: torch.Tensor) -> float:
        x = x.view(-1, 784)
        optimizer.zero_grad()
        h = F.relu(encoder["hidden"](x))
        loc, log_var = encoder["loc"](h), encoder["log_var"](h)
        scale = torch.exp(0.5 * log_var)
        recon = F.binary_cross_entropy(decoder(loc + torch.randn_like(scale) * scale), x, reduction="sum")
        loss = recon - 0.5 * torch.sum(1 + log_var - loc.pow(2) - log_var.exp())
        loss.backward()
        optimizer.step()
        return loss.item()

    loader = _loader(128)
    clock = Clock(pause)
    for _ in range(epochs):
        clock(sum(step(x) for x, _ in loader) / len(loader.dataset))


def pythae_trainer(pause: Pause, epochs: int) -> None:
    import torch
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback
    from torchvision import datasets

    from pyro_vae.data import folder

    pixels = datasets.MNIST(folder(), train=True).data.unsqueeze(1) / 255
    vae = VAE(VAEConfig(input_dim=(1, 28, 28), latent_dim=16, reconstruction_loss="bce"))
    # Its default rate is 1e-4.
    options = BaseTrainerConfig(tempfile.mkdtemp(), num_epochs=epochs, learning_rate=1e-3, no_cuda=True)

    class Ticks(TrainingCallback):
        def on_log(self, training_config: Any, logs: dict[str, float], **_: Any) -> None:
            clock(logs["train_epoch_loss"])

    data = BaseDataset(pixels, torch.zeros(len(pixels)))
    trainer = BaseTrainer(vae, data, training_config=options, callbacks=[Ticks()])
    clock = Clock(pause)
    trainer.train()


def measure(workers: dict[str, Worker], epochs: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds and loss of each epoch of each; the others sleep meanwhile."""
    for worker in workers.values():
        worker.result()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in workers}
    for epoch in range(epochs):
        order = list(workers) if epoch % 2 else list(workers)[::-1]
        for name in order:
            found[name].append(workers[name].ask("go"))
    for worker in workers.values():
        worker.stop()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5, help="after the first, which is not counted")
    parser.add_argument("--peers", nargs="+", choices=list(PAIRS), default=list(PAIRS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "svi_epoch.md")
    options = parser.parse_args()

    limit_threads(options.threads)
    command = " ".join(["python", "benchmarks/svi_epoch.py", *sys.argv[1:]])
    lines = ["# An epoch of MNIST, data included", "", f"`{command}`", "", f"{machine(options.threads)}.", ""]
    lines += [f"Medians over {options.epochs} epochs after the first; 60,000 images.", ""]
    lines += ["| | first epoch, s | an epoch, s | range | times ours | range | loss at the end, nats |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for peer in options.peers:
        function, like = PAIRS[peer]
        epochs = options.epochs + 2  # one more than are asked for: after the last, a trainer says farewell
        workers = {
            f"ours, as {peer}": Worker("svi_epoch:ours", epochs, *like.values()),
            peer: Worker(f"svi_epoch:{function}", epochs),
        }
        try:
            found = measure(workers, options.epochs + 1)
        except FailedError as error:
            print(f"{peer} is left out: {error}", file=sys.stderr)
            continue
        seconds = {name: np.array([s for s, _ in epochs]) for name, epochs in found.items()}
        base = next(iter(seconds.values()))[1:]
        for name, (first, *rest) in seconds.items():
            ratio = np.divide(rest, base)
            spread, of_ratio = (f"{np.min(v):.2f}-{np.max(v):.2f}" for v in (rest, ratio))
            figures = [f"{first:.2f}", f"{np.median(rest):.2f}", spread, f"{np.median(ratio):.2f}", of_ratio]
            lines.append(f"| {name} | {' | '.join(figures)} | {found[name][-1][1]:.1f} |")
            print(lines[-1], flush=True)
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
