"""Natural mistakes in Python: each has one message, which says what came and what to write instead."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from pyro_vae import average_elbo, build, check, data, evaluation, fit, suggest
from pyro_vae.config import make_objective

CONV = {"nets": "conv", "hidden": (8,)}


def make_vae(**options):
    return build(4, 2, hidden=(6,), **options)


def digits_vae():
    return build((1, 8, 8), 2, hidden=(6,))


def frame():
    x = np.random.default_rng(0).normal(size=(40, 3))
    return pd.DataFrame(x, columns=["height", "weight", "age"])


class Pictures(Dataset):
    """What torchvision's ImageFolder is without a transform."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return Image.new("L", (8, 8)), 0


MISTAKES = {
    "channels last at build": (
        lambda: build((28, 28, 3), **CONV),
        ValueError,
        "nets: conv is for images, (channels, height, width); (28, 28, 3) has the channels last. Give event_shape "
        "(3, 28, 28), and data as numpy.moveaxis(x, -1, 1)",
    ),
    "channels last at fit": (
        lambda: fit(digits_vae(), torch.zeros(5, 8, 8, 1)),
        ValueError,
        "got (5, 8, 8, 1). Its channels are last: put them first with numpy.moveaxis(x, -1, 1)",
    ),
    "channels last with conv": (
        lambda: fit(build((3, 16, 16), 2, **CONV), np.zeros((5, 16, 16, 3))),
        ValueError,
        "got (5, 16, 16, 3). Its channels are last: put them first with numpy.moveaxis(x, -1, 1)",
    ),
    "another size at encode": (
        lambda: digits_vae().encode(torch.zeros(5, 1, 28, 28)),
        ValueError,
        "MLP needs input of shape (batch, 1, 8, 8); got (5, 1, 28, 28). For images of another size: "
        "torchvision.transforms.v2.functional.resize(x, [8, 8])",
    ),
    "another number of columns": (
        lambda: make_vae().codes(torch.zeros(5, 3)),
        ValueError,
        "MLP needs input of shape (batch, 4); got (5, 3)",
    ),
    "a single example": (
        lambda: digits_vae().codes(torch.zeros(1, 8, 8)),
        ValueError,
        "This is a single example: give it a batch dimension with x[None]",
    ),
    "labels as strings": (
        lambda: make_vae(context_features=2).codes(torch.zeros(2, 4), np.array(["cat", "dog"])),
        TypeError,
        "context 0 must be a dense array of real numbers; got <U3. Code its values as numbers first: "
        "numpy.unique(x, return_inverse=True)[1] for labels",
    ),
    "a list of labels": (
        lambda: make_vae(context_features=2).codes(torch.zeros(2, 4), ["cat", "dog"]),
        TypeError,
        "got list: ['cat', 'dog']. Code classes as integers: numpy.unique(x, return_inverse=True)[1]",
    ),
    "a column of labels as strings": (
        lambda: make_vae(context_features=2).codes(torch.zeros(2, 4), pd.Series(["cat", "dog"])),
        ValueError,
        "context 0 must hold real numbers; got 'cat'. Write classes as codes 0, 1, 2, ...",
    ),
    "no labels from a split": (
        lambda: fit(build((1, 8, 8), 2, context_features=10), data.load("digits", binarize="dynamic").train),
        ValueError,
        "has_context=True, and data.load with labels=True",
    ),
    "a list of tensors": (
        lambda: fit(make_vae(), [torch.zeros(4) for _ in range(9)]),
        TypeError,
        "got list. Put its examples into one array with torch.stack(x); or, if it is x and its context, give a tuple",
    ),
    "a list of tensors at codes": (
        lambda: make_vae().codes([torch.zeros(4) for _ in range(9)]),
        TypeError,
        "got list. Put its examples into one array with torch.stack(x)",
    ),
    "the name of an optimizer": (
        lambda: fit(make_vae(), torch.zeros(5, 4), optimizer="adam"),
        TypeError,
        "got 'adam'. Give the class: torch.optim.Adam",
    ),
    "the name of an objective": (
        lambda: fit(make_vae(), torch.zeros(5, 4), objective="iwae"),
        TypeError,
        "got 'iwae'. Make it: pyro_vae.objectives.IWAE(), or pyro_vae.config.make_objective('iwae', vae)",
    ),
    "the name of an objective of Pyro": (
        lambda: fit(make_vae(), torch.zeros(5, 4), objective="TraceMeanField_ELBO"),
        TypeError,
        "Make it: pyro.infer.TraceMeanField_ELBO(), or pyro_vae.config.make_objective('TraceMeanField_ELBO', vae)",
    ),
    "a name that no objective has": (
        lambda: fit(make_vae(), torch.zeros(5, 4), objective="elbow"),
        TypeError,
        "got 'elbow'. The classes are in pyro_vae.objectives and pyro.infer",
    ),
    "a whole data set at fit": (
        lambda: fit(digits_vae(), data.load("digits")),
        TypeError,
        "train must be one split; got a DataSet, which has three. Give two of them: fit(vae, digits.train, "
        "valid=digits.valid) for a data set digits",
    ),
    "a whole data set at codes": (
        lambda: digits_vae().codes(data.load("digits")),
        TypeError,
        "got DataSet, which has three splits. Give one of them, such as its train or its test",
    ),
    "a whole data set at check": (
        lambda: check(digits_vae(), data.load("digits"), progress=False),
        TypeError,
        "got DataSet, which has three splits. Give one of them, such as its train or its test",
    ),
    "the name of a data set": (
        lambda: fit(digits_vae(), "digits"),
        TypeError,
        "got str. Load it first: data.load('digits').train",
    ),
    "a column of text": (
        lambda: fit(build(4, 2), frame().assign(city=["Oslo", "Rome"] * 20)),
        ValueError,
        "x must hold real numbers; got 'Oslo' in 'city'. Write classes as codes 0, 1, 2, ..., or leave them out, as data.table(df) does",
    ),
    "a column of dates": (
        lambda: fit(build(4, 2), frame().assign(born=pd.Timestamp("2020-01-01"))),
        ValueError,
        "x must hold real numbers; got Timestamp('2020-01-01 00:00:00') in 'born'",
    ),
    "a column of categories": (
        lambda: average_elbo(build(4, 2), frame().assign(city=pd.Categorical(["Oslo", "Rome"] * 20))),
        ValueError,
        "x must hold real numbers; got 'Oslo' in 'city'",
    ),
    "a column of NaN": (
        lambda: fit(build(4, 2, missing=True), frame().assign(income=np.nan)),
        ValueError,
        "column 'income' of x has no value in any example, only NaN. Leave it out",
    ),
    "a column of NaN for complete data": (
        lambda: fit(build(4, 2), frame().assign(income=np.nan)),
        ValueError,
        "column 'income' of x has no value in any example, only NaN. Leave it out",
    ),
    "an element of NaN": (
        lambda: fit(build(2, 2, missing=True), torch.tensor([[0.0, torch.nan]] * 5)),
        ValueError,
        "element (1,) of x has no value in any example, only NaN. Leave it out",
    ),
    "missing values for a VAE without": (
        lambda: fit(build(3, 2, likelihood="normal"), frame().mask(frame() > 1)),
        ValueError,
        "or build the VAE with missing=True for NaN",
    ),
    "two columns of one name": (
        lambda: fit(build(4, 2), pd.concat([frame(), frame()[["age"]]], axis=1)),
        ValueError,
        "x has two columns named 'age'. Rename one, or leave it out",
    ),
    "columns of valid in another order": (
        lambda: fit(build(3, 2, likelihood="normal"), frame(), valid=frame()[["age", "weight", "height"]]),
        ValueError,
        "valid must have the columns of train, in the same order: valid[list(train.columns)]",
    ),
    "pictures without a transform": (
        lambda: fit(digits_vae(), Pictures()),
        TypeError,
        "the Dataset gives images of PIL, not tensors. Make it with transform=torchvision.transforms.ToTensor()",
    ),
    "auto without data": (
        lambda: build(4, likelihood="auto"),
        ValueError,
        'likelihood auto looks at the data: build(..., likelihood="auto", data=x)',
    ),
    "neither shape nor data": (
        lambda: build(latent_dim=2),
        ValueError,
        "build needs the shape of one example, event_shape, or the data themselves: data=x",
    ),
    "another shape than the data": (
        lambda: build(5, data=torch.rand(9, 4)),
        ValueError,
        "event_shape must be that of the data, (4,); got (5,)",
    ),
    "one number per example": (
        lambda: build(data=torch.rand(9)),
        ValueError,
        "x must be (n, ...), an example per row; got one number per example. Give x[:, None]",
    ),
    "no data at suggest": (
        lambda: suggest("wine.csv"),
        TypeError,
        "got str",
    ),
    "no data at importance_sampling": (
        lambda: evaluation.importance_sampling(make_vae(), [[0.0] * 4]),
        TypeError,
        "x must be a tensor of shape (batch, *event_shape); got a list. Pass torch.tensor(x)",
    ),
    "a split at steps": (
        lambda: _steps(data.load("digits").train),
        TypeError,
        "batches must be batches; got Images, the data themselves. Give data.batches(x, 128, shuffle=True)",
    ),
}


def _steps(source):
    import pyro

    from pyro_vae import CompiledSVI

    vae = digits_vae()
    return CompiledSVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), pyro.infer.Trace_ELBO()).steps(source)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_message_says_what_to_write_instead(mistake):
    make, error, message = MISTAKES[mistake]
    with pytest.raises(error, match=re.escape(message)) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_what_the_messages_say_works():
    x = np.zeros((5, 8, 8, 1))
    assert digits_vae().codes(np.moveaxis(x, -1, 1)).shape == (5, 2)
    assert digits_vae().codes(torch.as_tensor(x).permute(0, 3, 1, 2)).shape == (5, 2)
    labels = np.unique(["cat", "dog"], return_inverse=True)[1]
    assert make_vae(context_features=2).codes(torch.zeros(2, 4), labels).shape == (2, 2)
    assert make_vae(context_features=2).codes(torch.zeros(2, 4), pd.Series(labels)).shape == (2, 2)
    vae = make_vae()
    for options in ({"objective": make_objective("iwae", vae)}, {"optimizer": torch.optim.Adam}):
        fit(vae, torch.stack([torch.zeros(4) for _ in range(9)]), epochs=1, progress=False, **options)


@pytest.mark.parametrize("shape", [(16, 8, 8), (3, 28, 28), (1, 8, 8)])
def test_images_with_channels_first_are_taken(shape):
    assert build(shape, 2, **CONV).sample(2, seed=0).shape == (2, *shape)
