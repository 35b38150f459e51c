"""What tests of folders share."""

from __future__ import annotations

import pytest

from pyro_vae import data
from tests.data.image_folders import SHARES


@pytest.fixture
def root(tmp_path):
    """The folder in which decoded images are kept."""
    return tmp_path / "root"


@pytest.fixture
def load(root):
    def load(path, split=SHARES, **options):
        return data.load(path, root, split=split, **options)

    return load
