"""What tests from data to results share."""

from __future__ import annotations

import pytest

from pyro_vae import data
from tests.end_to_end.digits_as_files import in_bytes, loading_from, write_digits


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory):
    """The digits as PNG files: in ``bytes`` with 256 levels, in ``levels`` with the 17 levels as they are."""
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder / "bytes", in_bytes)
    write_digits(folder / "levels", lambda split: split)
    return folder


@pytest.fixture
def digits_from(request, monkeypatch):
    """The digits come from where the test says, ``embedded`` or ``folder``."""
    if request.param == "folder":
        monkeypatch.setattr(data, "load", loading_from(request.getfixturevalue("digits_folder")))
    return request.param
