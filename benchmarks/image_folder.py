"""Measure what a folder of images costs: decoding it, starting again, and its batches in a training.

    python benchmarks/image_folder.py --n 50000

It writes JPEG files of 80 × 96 pixels in ten folders of classes, which become 64 × 64 × 3. The other is one epoch of a
DataLoader with two workers over torchvision's ImageFolder, with the same resize. Each measurement has a process of its
own, and they take turns; imports do not count. The resident memory is the peak of the process, imports included, less
the pixels.
"""

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from pyro_vae import build, data, fit

SIDE = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=5000, help="images")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, root = Path(place, "images"), Path(place, "root")
        write_images(folder, options.n)
        seconds: dict[str, list[float]] = {name: [] for name in ("DataLoader", "first start", "second start")}
        for number in range(options.rounds):
            fresh = root / str(number)
            seconds["DataLoader"].append(in_a_process(epoch_of_loader, folder))
            first, beside = in_a_process(start, folder, fresh)
            seconds["first start"].append(first)
            seconds["second start"].append(in_a_process(start, folder, fresh)[0])
        batches, step = in_a_process(train, folder, fresh)
        report(options, seconds, beside, batches, step)


def report(
    options: argparse.Namespace, seconds: dict[str, list[float]], beside: float, batches: float, step: float
) -> None:
    print(f"{options.n:,} images, torch {torch.__version__}, {options.rounds} rounds in turns")
    for name, what in (
        ("DataLoader", "DataLoader, two workers, one epoch"),
        ("first start", "data.load, first start, with the fingerprint"),
        ("second start", "data.load, second start, with the fingerprint"),
    ):
        values = seconds[name]
        print(f"{what:46} median {statistics.median(values):7.2f} s   min {min(values):7.2f}   max {max(values):7.2f}")
    ratios = [a / b for a, b in zip(seconds["DataLoader"], seconds["first start"], strict=True)]
    print(f"the first start is {statistics.median(ratios):.2f} times as fast as the DataLoader (median of the rounds)")
    print(f"most resident beside the pixels, imports included: {beside / 1e6:.0f} MB")
    share = batches / step
    print(f"batches, of a training with nets=conv: {share:.2%}, {1e6 * batches:.1f} of {1e6 * step:.0f} µs per image")


def write_images(folder: Path, n: int) -> None:
    """Write images that are smooth, with noise, as photographs are."""

    def write(i: int) -> None:
        rng = np.random.default_rng(i)
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((96, 80), Image.Resampling.BICUBIC)).astype(float)
        noisy = np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"class{i % 10}" / f"{i:06}.jpg", quality=90)

    for label in range(10):
        (folder / f"class{label}").mkdir(parents=True)
    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(n)))


def in_a_process(measure: Callable[..., Any], *arguments: Path) -> Any:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def epoch_of_loader(folder: Path) -> float:
    """Return the seconds of an epoch."""
    form = transforms.Compose([transforms.Resize(SIDE), transforms.CenterCrop(SIDE), transforms.ToTensor()])
    start = time.perf_counter()
    for _ in DataLoader(ImageFolder(str(folder), form), 128, num_workers=2, multiprocessing_context="fork"):
        pass
    return time.perf_counter() - start


def start(folder: Path, root: Path) -> tuple[float, float]:
    """Return the seconds until the data and their fingerprint are there, and the bytes beside the pixels."""
    begin = time.perf_counter()
    found = data.load(folder, root, size=SIDE)
    found.train.fingerprint()
    seconds = time.perf_counter() - begin
    pixels = sum(len(split) for split in (found.train, found.valid, found.test)) * 3 * SIDE**2
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - pixels


def train(folder: Path, root: Path) -> tuple[float, float]:
    """Return the seconds per image of batches alone, and of a training."""
    found = data.load(folder, root, size=SIDE).train
    supply = data.batches(found, 128, shuffle=True)
    sum(len(x) for (x,) in supply.epoch(0))  # the first epoch also reads the file that keeps the pixels
    begin = time.perf_counter()
    sum(len(x) for (x,) in supply.epoch(1))
    batches = (time.perf_counter() - begin) / len(found)
    some = found[:1280]
    vae = build(found.event_shape, 16, nets="conv", hidden=(64,), likelihood="discretized_logistic")
    history = fit(vae, some, epochs=3, progress=False)  # the first compiles
    return batches, min(record.seconds for record in history) / len(some)


if __name__ == "__main__":
    main()
