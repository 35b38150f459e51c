"""Files of run folders by themselves: what is read, what is written, and what is no YAML, JSON or history."""

from __future__ import annotations

import contextlib
import os

import pytest

from pyro_vae.cli import main
from pyro_vae.files import CheckpointError, folder_in, is_there, read_json, read_text, read_yaml, replacing
from pyro_vae.training import History


def test_replacing_begins_a_new_file_and_leaves_none_behind(tmp_path):
    target, victim = tmp_path / "a", tmp_path / "victim"
    victim.write_text("v")
    for spoil in (lambda p: p.symlink_to(victim), lambda p: os.link(victim, p), lambda p: os.mkfifo(p)):
        spoil(tmp_path / "a.partial")
        with replacing(target) as partial:
            partial.write_text("new")
        assert (target.read_text(), victim.read_text()) == ("new", "v")
    with contextlib.suppress(RuntimeError), replacing(target) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert (target.read_text(), os.path.lexists(tmp_path / "a.partial")) == ("new", False)
    (tmp_path / "a.partial").mkdir()
    with pytest.raises(FileExistsError, match="a.partial is a folder"), replacing(target):
        pass
    target.unlink()
    target.symlink_to(victim)
    (tmp_path / "a.partial").rmdir()
    with replacing(target) as partial:
        partial.write_text("new")
    assert (target.is_symlink(), target.read_text(), victim.read_text()) == (False, "new", "v")


def test_new_files_have_the_rights_that_all_new_files_have(tmp_path):
    (tmp_path / "plain").write_text("")
    with replacing(tmp_path / "a"):
        pass
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_reading(tmp_path):
    path = tmp_path / "a"
    assert not is_there(path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_text(path)
    path.write_text("text")
    assert read_text(path) == "text"
    with pytest.raises(CheckpointError, match="has more than 3 bytes"):
        read_text(path, most=3)
    path.write_bytes(b"a\xff")
    with pytest.raises(CheckpointError, match=r"not text in UTF-8 \(byte 1\)"):
        read_text(path)
    path.write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="it is not JSON"):
        read_json(path)
    with pytest.raises(CheckpointError, match="is a folder"):
        read_text(tmp_path)
    path.write_text("x")
    with pytest.raises(CheckpointError, match="is a file, into which nothing is written"):
        folder_in(tmp_path, "a")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x [1]\nb: *x", None),
        ("a: 2026-11-27\nb: 1e3", None),
        ("a: !!set {b, c}", "text, numbers, lists and mappings; got a set"),
        ("a: !!binary aGk=", "text, numbers, lists and mappings; got a bytes"),
        ("1: a", "text for the names of options"),
        ("? [a, b]\n: c", "not plain YAML"),
        ("a: !evil secret", "not plain YAML in line 1, column 4"),
        ("a: *nothing", "not plain YAML in line 1"),
        ("&x a: *x", None),
        ("a: &x [*x]", "more than 30 within each other"),
        ("a: " + "[" * 40 + "]" * 40, "more than 30 within each other"),
        ("a: " + "[" * 2_000, "not plain YAML"),
        (
            "a: &a [1,1,1,1,1,1,1,1,1]\n"
            + "\n".join(f"{y}: &{y} [{', '.join([f'*{x}'] * 9)}]" for x, y in zip("abcdefgh", "bcdefghi", strict=True)),
            "more than 100,000 values",
        ),
        ("a: " + "9" * 5000, "not plain YAML"),
        ("a" * 2**18 + ": 1", "more than 262,144 bytes"),
        ("- a", "must hold options as YAML; got list"),
        ("", "must hold options as YAML; got NoneType"),
    ],
)
def test_yaml_is_text_numbers_lists_and_mappings(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    if message is None:
        assert "a" in read_yaml(tmp_path / "a.yaml")
        return
    with pytest.raises(CheckpointError, match=message) as refused:
        read_yaml(tmp_path / "a.yaml")
    assert "secret" not in str(refused.value)


EPOCH = '{"epoch": 1, "loss": 1.0, "elbo": -1.0, "recon": -1.0, "kl": 0.0, "valid_elbo": null, "seconds": 1.0}'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (EPOCH.replace("1.0", '"1"', 1), "loss must be a number; got '1'"),
        (EPOCH.replace("null", "true"), "valid_elbo must be a number; got 'True'"),
        (EPOCH.replace('"epoch": 1', '"epoch": 1.5'), "epoch must be an integer of at least 1; got '1.5'"),
        (EPOCH.replace("}", ', "terms": [1]}'), "terms must be a mapping; got list"),
        (EPOCH.replace("}", ', "terms": {"beta": "b"}}'), "beta must be a number; got 'b'"),
        ("[]", "is not an epoch"),
        ("[" * 100_000, "is not an epoch"),
    ],
)
def test_a_history_of_other_things_is_one_clear_line(here, capsys, line, message):
    (here / "digits/history.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match=r"history.jsonl, line 1, is not an epoch.*") as refused:
        History.read(here / "digits/history.jsonl")
    assert message in str(refused.value)
    assert main(["compare", "digits"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", [["plot", "digits"], ["train", "--resume", "digits", "--epochs", "2"]])
def test_other_commands_refuse_such_a_history_too(here, capsys, command):
    (here / "digits/history.jsonl").write_text("[]\n")
    assert main(command) == 2
    assert "history.jsonl, line 1, is not an epoch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"elbo": {"elbo": "a"}}', "elbo.elbo must be a number; got 'a'"),
        ('{"codes": {"active_units": 1.5}}', "codes.active_units must be a number; got '1.5'"),
        ('{"bits_per_dim": [1]}', "bits_per_dim must be a number"),
        ("{", "it is not JSON"),
    ],
)
def test_an_evaluation_of_other_things_is_one_clear_line(here, capsys, text, message):
    (here / "digits/evaluation-test.json").write_text(text)
    assert main(["compare", "digits"]) == 1
    assert message in capsys.readouterr().err
