"""A file or folder with the name of a data set."""

from __future__ import annotations

from pyro_vae import data


def test_a_data_set_with_a_name_says_that_a_folder_here_has_it_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert data.load("digits").notes == ()
    (tmp_path / "digits").mkdir()
    assert data.load("digits").notes == ("digits is the data set of that name; yours here is ./digits",)
