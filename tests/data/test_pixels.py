"""Decoded pixels: what is kept, when it is decoded anew, and the fingerprints."""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from pyro_vae import data
from pyro_vae.data import Images, folders, pixels
from pyro_vae.data.folders import load_folder
from pyro_vae.data.reading import Reading
from pyro_vae.data.splits import Mapped
from tests.data.image_folders import SHARES, all_pixels, as_sorted, damage, error_of, level, names, same, write


@pytest.fixture
def keeping(monkeypatch):
    """Pixels of few images are kept too; the fixture counts the files that are decoded."""
    monkeypatch.setattr(folders, "_FEW_FILES", 0)
    decoded = []
    decode = pixels.decode

    def counted(path, *form):
        decoded.append(path)
        return decode(path, *form)

    monkeypatch.setattr(pixels, "decode", counted)
    return decoded


def test_images_are_decoded_once(tmp_path, root, load, keeping):
    path = write(tmp_path / "p", names("ab"))
    damage(path)
    (path / "b" / "link.png").unlink()
    first = load(path, skip_bad=True)
    assert len(keeping) == 43
    same(first, load(path, skip_bad=True))
    assert "3 of 43 files" in error_of(load, path)[1]
    assert len(keeping) == 43
    (kept,) = (root / "decoded").iterdir()
    assert np.load(kept).shape == (40, 3, 8, 6)
    load(path, skip_bad=True, channels=1)
    assert len(keeping) == 86
    assert len(list((root / "decoded").iterdir())) == 2


def test_changed_files_are_decoded_anew(tmp_path, root, load, keeping):
    path = write(tmp_path / "p", names("ab"))
    before = load(path)
    Image.fromarray(level("other", (8, 6, 3))).save(path / "a" / "000.png")
    after = load(path)
    assert (
        before.train.fingerprint() != after.train.fingerprint()
        or before.valid.fingerprint() != after.valid.fingerprint()
    )
    assert level("other", (8, 6, 3)).transpose(2, 0, 1).ravel().tolist() in as_sorted(after.everything)
    assert len(list((root / "decoded").iterdir())) == 1  # the older one is removed
    same(after, load(path))


def test_damaged_pixels_are_decoded_anew(tmp_path, root, load, keeping):
    path = write(tmp_path / "p", names("ab"))
    first = load(path)
    (kept,) = (root / "decoded").iterdir()
    whole = kept.read_bytes()
    for content in (b"", whole[:50], whole[:2000], whole[:-5], b"x" + whole[1:], whole.replace(b"several", b"sevarel")):
        kept.unlink()  # never written in place: this would change the pixels that were read
        kept.write_bytes(content)
        keeping.clear()
        same(first, load(path))
        assert len(keeping) == 40
        assert kept.read_bytes() == whole


def test_files_that_may_be_readable_later_are_not_remembered(tmp_path, root, load, keeping):
    path = write(tmp_path / "p", names("ab"))
    damage(path)
    load(path, skip_bad=True)
    assert list((root / "decoded").iterdir()) == []


def test_few_images_are_not_kept(tmp_path, root, load):
    load(write(tmp_path / "p", names("ab")))
    assert not root.exists()


def test_large_data_stay_on_disk(tmp_path, load, keeping, monkeypatch):
    path = write(tmp_path / "p", names("ab"))
    in_memory = load(path)
    monkeypatch.setattr(pixels, "_LARGE", 1000)
    on_disk = load(path)
    assert isinstance(on_disk.train.pixels, Mapped)
    same(in_memory, on_disk)
    fresh = data.load(path, tmp_path / "other", split=SHARES)
    same(in_memory, fresh)
    everything, other = fresh.everything, in_memory.everything
    np.testing.assert_array_equal(all_pixels(everything), all_pixels(other))


def test_a_root_that_cannot_be_written_keeps_nothing(tmp_path, root, load, keeping):
    path = write(tmp_path / "p", names("ab"))
    root.write_text("a file")
    same(load(path), load(path))
    assert len(keeping) == 80


def test_an_error_leaves_nothing_behind(tmp_path, root, load, keeping):
    path = write(tmp_path / "p", names("ab"))
    write(path, ["b/x.png"], (3, 3, 3))
    error_of(load, path)
    assert list((root / "decoded").iterdir()) == []


def test_a_full_disk_is_named(tmp_path, load, monkeypatch):
    class Full(io.BytesIO):
        name = 0  # of no file

        def write(self, content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = write(tmp_path / "p", names("ab"))
    monkeypatch.setattr(pixels, "_new_file", lambda kept: Full())
    message = "decoded pixels cannot be written: No space left on device. Make space, or name a folder with space"
    with pytest.raises(OSError, match=message):
        load(path)


def test_what_killed_processes_left_is_removed_after_a_day(tmp_path, root, load, keeping):
    path = write(tmp_path / "p", names("ab"))
    load(path)
    (kept,) = (root / "decoded").iterdir()
    old, new, other = (
        kept.with_name(name) for name in (f"{kept.stem}old.partial", f"{kept.stem}new.partial", "x-y.npy")
    )
    for file in (old, new, other):
        file.write_bytes(b"x")
    os.utime(old, (0, 0))
    os.utime(path / "a" / "000.png", (0, 0))
    load(path)
    assert sorted(file.suffix for file in (root / "decoded").iterdir()) == [".npy", ".npy", ".partial"]
    assert not old.exists()
    assert not kept.exists()
    assert new.exists()
    assert other.exists()


def test_a_terminal_shows_the_progress(tmp_path, load, monkeypatch, capsys):
    path = write(tmp_path / "p", names("ab"))
    load(path)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(pixels, "_MANY", 10)
    monkeypatch.setenv("FORCE_COLOR", "1")
    load(path)
    assert "decoding 40 images" in capsys.readouterr().err


def test_processes_side_by_side_write_the_same(tmp_path, root, load, keeping):
    path = write(tmp_path / "p", names("ab"))
    found = []
    threads = [threading.Thread(target=lambda: found.append(load(path))) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    for other in found:
        same(found[0], other)
    assert len(list((root / "decoded").iterdir())) == 1


# Fingerprints.


def test_a_known_fingerprint_is_that_of_the_values(tmp_path, load, keeping):
    path = write(tmp_path / "p", names("ab"))
    load(path)
    split = load(path, binarize="threshold", labels=True).train
    assert split.known is not None
    assert split.fingerprint() == replace(split, known=None).fingerprint()
    changed = [split[1:], split[torch.arange(len(split)).flip(0)], split.followed_by(split), split.to("cpu")[:0]]
    changed += [replace(split, pixels=255 - split.pixels), replace(split, labels=None)]
    for other in changed:
        assert other.fingerprint() == replace(other, known=None).fingerprint() != split.fingerprint()
    before = split.fingerprint()
    split.pixels[0, 0, 0, 0] += 1
    assert split.fingerprint() != before
    assert load(path).train.fingerprint() == before  # a change stays in the process


def test_splits_are_views_of_one_array(tmp_path, load):
    found = load(write(tmp_path / "p", names("ab")))
    storages = {split.pixels.untyped_storage().data_ptr() for split in (found.train, found.valid, found.test)}
    assert len(storages) == 1


def test_reader_by_itself(tmp_path, root):
    found = load_folder(write(tmp_path / "p", names("ab")), Reading(split=SHARES), root)
    assert isinstance(found.train, Images)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """So many files that processes decode them; every hundredth is damaged."""
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    for number in range(1100):
        path = folder / f"{number:04}.png"
        Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)).save(path)
        if number % 100 == 7:
            path.write_bytes(path.read_bytes()[:40])
    return folder


def as_in(found):
    """Return the pixels of all images in the order of the files."""
    splits = zip(found.positions, (found.train, found.valid, found.test), strict=True)
    placed = {int(at): image for places, split in splits for at, image in zip(places, split.pixels, strict=True)}
    return [placed[at] for at in sorted(placed)]


def test_processes_decode_many_files_as_one_does(many, root):
    found = data.load(many, root, skip_bad=True)
    each = [pixels.decode(path, None, None) for path in sorted(many.iterdir())]
    assert [found.pixels.tolist() for found in each if not isinstance(found, pixels.Unreadable)] == [
        image.tolist() for image in as_in(found)
    ]
    assert sum(isinstance(found, pixels.Unreadable) for found in each) == 11


def test_a_process_that_may_have_no_children_decodes_by_itself(many, root, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(multiprocessing.current_process()._config, "daemon", True)
        alone = data.load(many, root / "alone", skip_bad=True)
    assert all(map(torch.equal, as_in(alone), as_in(data.load(many, root / "processes", skip_bad=True))))


def test_a_killed_process_is_named(many, root, monkeypatch):
    monkeypatch.setattr(pixels, "decode", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(RuntimeError, match="a process that decodes images was killed, perhaps for lack of memory"):
        data.load(many, root)
    assert not list((root / "decoded").glob("*"))
