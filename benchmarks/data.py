"""Measure what an epoch of batches costs: MNIST's 60,000 images, shuffled, dynamically binarised, in batches of 128.

    PYRO_VAE_DATA=... python benchmarks/data.py

Ours indexes images on the device. The other is a DataLoader over torchvision's MNIST with ToTensor. They take turns in
one run.
"""

import argparse
import statistics
import time

import torch
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from pyro_vae import data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="folder with MNIST; by default $PYRO_VAE_DATA")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    mnist = data.load("mnist", options.root, binarize="dynamic")
    pixels = torch.cat([mnist.train.pixels, mnist.valid.pixels])
    labels = torch.cat([mnist.train.labels, mnist.valid.labels])
    ours = data.batches(data.Images(pixels, labels, 10, binarize="dynamic"), 128, shuffle=True)
    binarise = transforms.Compose([transforms.ToTensor(), torch.bernoulli])
    loader = DataLoader(datasets.MNIST(options.root or data.folder(), transform=binarise), batch_size=128, shuffle=True)

    seconds: dict[str, list[float]] = {"pyro_vae.data.batches": [], "DataLoader with ToTensor": []}
    for number in range(options.rounds + 1):
        for name, supply in zip(seconds, (ours.epoch(number), iter(loader)), strict=True):
            start = time.perf_counter()
            n = sum(len(batch[0]) for batch in supply)
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
            assert n == 60_000
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {options.rounds} rounds in turns")
    for name, values in seconds.items():
        print(f"{name:26} median {statistics.median(values):6.2f} s   min {min(values):6.2f}   max {max(values):6.2f}")


if __name__ == "__main__":
    main()
