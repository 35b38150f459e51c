"""Small files of each kind for tests: what people have, with what is wrong in it."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from scipy import sparse

COLOURS = {"circle": (230, 40, 40), "square": (40, 200, 60), "triangle": (50, 80, 240)}
BAD = {"circle/cut.png": "image file is truncated", "square/empty.png": "empty", "triangle/notes.jpg": "damaged"}


def draw(kind, size, rng):
    """A shape in the colour of its kind on a background without colour that nothing covers."""
    image = Image.new("RGBA", size, (0, 0, 0, 0))
    pen, colour = ImageDraw.Draw(image), (*COLOURS[kind], 255)
    radius = rng.uniform(0.25, 0.4) * min(size)
    x, y = np.array(size) / 2 + rng.uniform(-2, 2, 2)
    box = (x - radius, y - radius, x + radius, y + radius)
    if kind == "circle":
        pen.ellipse(box, fill=colour)
    elif kind == "square":
        pen.rectangle(box, fill=colour)
    else:
        pen.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=colour)
    return image


def on(background, image):
    return Image.alpha_composite(Image.new("RGBA", image.size, background), image)


def write_shapes(folder, n=400):
    """Shapes in folders of classes: most 16 x 16 on black, a tenth 24 x 20, some grey, some on nothing; three bad files."""
    rng = np.random.default_rng(0)
    for i in range(n):
        kind = tuple(COLOURS)[i % 3]
        image = draw(kind, (16, 16) if i % 10 else (24, 20), rng)
        if i % 25 == 3:
            image = on("black", image).convert("L")
        elif i % 25 != 4:
            image = on("black", image).convert("RGB")
        (folder / kind).mkdir(parents=True, exist_ok=True)
        image.save(folder / kind / f"{i:03}.png")
    whole = io.BytesIO()
    image.save(whole, "PNG")
    (folder / "circle/cut.png").write_bytes(whole.getvalue()[:60])
    (folder / "square/empty.png").write_bytes(b"")
    (folder / "triangle/notes.jpg").write_text("not an image")


def make_table(n=400):
    """Heights and incomes that go together, and counts; a fifth of the values are missing."""
    rng = np.random.default_rng(1)
    z = rng.normal(size=n)
    table = pd.DataFrame(
        {
            "height": 170 + 9 * z + 3 * rng.normal(size=n),
            "income": 3000 + 900 * z + 300 * rng.normal(size=n),
            "visits": rng.poisson(3, n).astype(float),
        }
    )
    return table.mask(rng.random(table.shape) < 0.2)


WEIGHTS, NOISE = np.random.default_rng(2).normal(size=(2, 50)) * 3, 1.0


def make_floats(n=1000):
    """Rows of a normal distribution with two latent dimensions."""
    rng = np.random.default_rng(3)
    return (7 + rng.normal(size=(n, 2)) @ WEIGHTS + NOISE * rng.normal(size=(n, 50))).astype(np.float32)


def make_counts(n=400, columns=30):
    """Rows of two kinds, with library sizes from 20 to 200."""
    rng = np.random.default_rng(4)
    shares = rng.dirichlet(np.full(columns, 0.3), 2)[np.arange(n) % 2]
    return sparse.csr_matrix(rng.poisson(shares * rng.uniform(20, 200, (n, 1))).astype(np.float32))


FUNCTION = """
import torch


def make():
    y = torch.arange(400) % 2
    x = torch.randn(400, 3) * torch.tensor([1.0, 10.0, 100.0]) + torch.tensor([5.0, 50.0, 500.0])
    return x + 400 * y[:, None] * torch.tensor([0.0, 0.0, 1.0]), y
"""
