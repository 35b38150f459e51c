"""Folders of images against torchvision's ImageFolder: classes, splits, and files that are no images."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from pyro_vae.data import BadDataError, DamagedDataError
from pyro_vae.data.splitting import assign
from tests.data.image_folders import SHARES, all_pixels, as_sorted, damage, error_of, level, names, write

# What a folder holds.


def test_images_and_labels_are_those_of_torchvision(tmp_path, load):
    path = tmp_path / "shapes"
    write(path, [f"{split}/{name}" for split in ("train", "val", "test") for name in names("bac", 7)])
    write(
        path, ["train/b/x-y/0.png", "train/b/x/0.png", "train/b/x/z/0.png", "train/b/.hidden/0.png", "train/b/.1.png"]
    )
    for ignored in ("Thumbs.db", ".DS_Store", "test/.DS_Store", "test/a/Thumbs.db", "__MACOSX/b.txt"):
        (path / ignored).parent.mkdir(exist_ok=True)
        (path / ignored).write_text("x")
    found = load(path, split=None)
    for name, split in (("train", found.train), ("val", found.valid), ("test", found.test)):
        shutil.rmtree(path / name / "b" / ".hidden", ignore_errors=True)
        (path / name / "b" / ".1.png").unlink(missing_ok=True)
        theirs = ImageFolder(str(path / name))
        assert split.class_names == tuple(theirs.classes) == ("a", "b", "c")
        assert split.labels.tolist() == [label for _, label in theirs]
        np.testing.assert_array_equal(all_pixels(split), [np.moveaxis(np.asarray(image), -1, 0) for image, _ in theirs])
    assert found.notes == ()
    assert repr(found.test) == f"Images({path}: 21 images; x (3, 8, 6), 256 colour levels in [0, 1]; 3 classes)"


def test_all_images_together_stand_in_the_order_of_torchvision(tmp_path, load):
    path = write(tmp_path / "p", names("ba"))
    theirs = [np.moveaxis(np.asarray(image), -1, 0) for image, _ in ImageFolder(str(path))]
    damage(path)
    everything = load(path, skip_bad=True).everything
    np.testing.assert_array_equal(all_pixels(everything), theirs)
    assert everything.labels.tolist() == [0] * 20 + [1] * 20


def test_without_sub_folders_there_are_no_labels(tmp_path, load):
    path = write(tmp_path / "p", [f"{i}.png" for i in range(30)])
    found = load(path)
    assert found.train.labels is None
    assert found.classes == 0
    assert as_sorted(found.everything) == sorted(
        level(f"{i}.png", (8, 6, 3)).transpose(2, 0, 1).ravel().tolist() for i in range(30)
    )
    with pytest.raises(ValueError, match="has no labels to give to the VAE"):
        load(path, labels=True)


def test_labels_are_context(tmp_path, load):
    found = load(write(tmp_path / "p", names("ab")), labels=True)
    (one_hot,) = found.train.context(slice(None), torch.float32)
    assert one_hot.argmax(1).tolist() == found.train.labels.tolist()


# Channels and sizes.


def test_grey_files_have_one_channel_whatever_their_mode(tmp_path, load):
    path = write(tmp_path / "p", names("a"), (8, 6))
    Image.fromarray(level("a/000.png")).convert("RGB").save(path / "a" / "000.png")
    Image.fromarray(level("a/001.png")).convert("RGBA").save(path / "a" / "001.png")
    found = load(path)
    assert found.event_shape == (1, 8, 6)
    assert as_sorted(found.everything) == sorted(level(name).ravel().tolist() for name in names("a"))


@pytest.mark.parametrize("coloured", [0, 19, 39])
def test_one_colour_gives_all_images_three_channels(tmp_path, load, coloured):
    path = write(tmp_path / "p", names("ab"), (8, 6))
    wanted = {name: np.broadcast_to(level(name), (3, 8, 6)) for name in names("ab")}
    one = names("ab")[coloured]
    Image.fromarray(level(one, (8, 6, 3))).save(path / one)
    wanted[one] = level(one, (8, 6, 3)).transpose(2, 0, 1)
    found = load(path)
    assert found.event_shape == (3, 8, 6)
    assert as_sorted(found.everything) == sorted(image.ravel().tolist() for image in wanted.values())
    grey = load(path, channels=1)
    assert grey.event_shape == (1, 8, 6)
    luma = [np.asarray(Image.open(path / name).convert("L")) for name in names("ab")]
    assert as_sorted(grey.everything) == sorted(image.ravel().tolist() for image in luma)


def test_three_channels_of_grey_files(tmp_path, load):
    found = load(write(tmp_path / "p", names("a"), (8, 6)), channels=3)
    assert found.event_shape == (3, 8, 6)
    assert (all_pixels(found.train) == all_pixels(found.train)[:, :1]).all()


def test_size_is_height_and_width(tmp_path, load):
    path = write(tmp_path / "p", names("a"))
    assert load(path, size="4x5").event_shape == (3, 4, 5)
    assert load(path, size=4).event_shape == (3, 4, 4)


def test_differing_sizes_need_a_size(tmp_path, load):
    path = write(tmp_path / "p", names("a"))
    write(path, ["a/x.png", "a/y.png"], (5, 7, 3))
    write(path, ["a/z.png"], (5, 8, 3))
    assert error_of(load, path) == (
        BadDataError,
        "PATH: the images differ in size (height x width): 20 of 8x6 and 2 of 5x7 (of 3 sizes). Make them "
        'equal: size="8x6" resizes each and cuts it around its centre',
    )
    assert load(path, size="8x6").event_shape == (3, 8, 6)
    (path / "a" / "damaged.png").write_bytes(b"no image")
    assert "1 of the files cannot be read, the first " in error_of(load, path)[1]
    assert error_of(load, path)[1].endswith("damaged.png: remove them, or leave them out with skip_bad=True")


@pytest.mark.parametrize("channels", [0, 2, 4, "1"])
def test_channels_are_one_or_three(tmp_path, load, channels):
    path = write(tmp_path / "p", names("a"))
    assert error_of(load, path, channels=channels)[1] == f"channels must be 1 (grey) or 3 (colour); got {channels!r}"


def test_options_of_other_data_are_refused(tmp_path, load):
    path = write(tmp_path / "p", names("a"))
    assert (
        error_of(load, path, label="x")[1]
        == "label is for tables; PATH is a folder of images, in which sub-folders are classes"
    )
    assert "size must be the height and width" in error_of(load, path, size="big")[1]


# Splits.


def test_an_image_stays_in_its_split_when_others_are_added(tmp_path, load):
    path = write(tmp_path / "p", names("ab"))
    before = load(path)
    write(path, names("0c", 5))
    after = load(path)
    for name in ("train", "valid", "test"):
        assert set(map(tuple, as_sorted(getattr(before, name)))) <= set(map(tuple, as_sorted(getattr(after, name))))
    assert after.train.class_names == ("0", "a", "b", "c")


def test_the_hash_is_of_the_path_within_the_folder(tmp_path, load):
    path = write(tmp_path / "p", names("ab"))
    places = assign([name.encode() for name in names("ab")], SHARES).tolist()
    wanted = [
        level(name, (8, 6, 3)).transpose(2, 0, 1) for name, at in zip(names("ab"), places, strict=True) if at == 1
    ]
    np.testing.assert_array_equal(all_pixels(load(path).valid), wanted)
    shutil.move(path, tmp_path / "elsewhere" / "train")
    np.testing.assert_array_equal(all_pixels(load(tmp_path / "elsewhere").valid), wanted)


def test_missing_splits_are_taken_from_train(tmp_path, load):
    path = write(
        tmp_path / "p", [f"Train/{name}" for name in names("ab", 100)] + [f"test/{name}" for name in names("ab", 3)]
    )
    found = load(path, split=(0.5, 0.3, 0.2))
    assert len(found.test) == 6
    assert len(found.train) + len(found.valid) == 200
    # Binomial: 0.3 / 0.8 of 200 is 75, with a standard deviation of 6.8. The hash is fixed, so it passes always or never.
    assert abs(len(found.valid) - 75) < 21
    test = [level(f"test/{name}", (8, 6, 3)).transpose(2, 0, 1) for name in names("ab", 3)]
    np.testing.assert_array_equal(all_pixels(found.test), test)


def test_split_is_refused_where_all_splits_are_given(tmp_path, load):
    path = write(tmp_path / "p", [f"{split}/{name}" for split in ("train", "valid", "test") for name in names("a", 2)])
    assert error_of(load, path)[1] == (
        "split is for data without splits of their own; PATH is a folder of images with its own splits, in which "
        "sub-folders are classes"
    )


def test_classes_may_be_called_as_splits_are(tmp_path, load):
    assert load(write(tmp_path / "p", names(["test", "control"]))).train.class_names == ("control", "test")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["test/a/0.png"], "PATH has a folder test/ and none to train on. Name that folder train/"),
        (
            ["train/a/0.png", "val/a/0.png", "valid/a/0.png"],
            "PATH has the folders val and valid for one split. Put them into one",
        ),
        (
            ["train/0.png", "bus/0.png"],
            "PATH has images in bus/, beside train/. If train/ is a split, put them into a split. If it is a class, put "
            "all classes into one folder within a folder train/",
        ),
        (["train/0.png", "0.png"], "PATH has images beside train/, such as 0.png. Put them into a split"),
        (["a/0.png", "b.JPG"], "PATH has images beside its folders of classes, such as b.JPG. Put them into a class"),
    ],
)
def test_unclear_folders(tmp_path, load, files, message):
    for name in files:
        (tmp_path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / "p" / name)
    assert error_of(load, tmp_path / "p") == (BadDataError, message)


def test_a_split_without_files(tmp_path, load):
    path = write(tmp_path / "p", [f"train/{name}" for name in names("a", 2)])
    (path / "test" / "a").mkdir(parents=True)
    assert error_of(load, path)[1] == f"PATH{os.sep}test holds no file. Put images into it, or remove it"


def test_what_is_left_out_is_noted(tmp_path, load):
    path = write(tmp_path / "p", [f"train/{name}" for name in names("ab", 30)])
    write(path, ["valid/a/0.png", "valid/c/0.png", "test/0.png"])
    (path / "README.md").write_text("x")
    (path / "masks").mkdir()
    found = load(path, split=None)
    assert found.classes == 0
    assert found.train.labels is None
    assert [note.replace(str(path), "PATH") for note in found.notes] == [
        "PATH: left out beside train/: masks, README.md",
        "test/ has no folders of classes, so the folders of the other splits are no labels",
    ]
    os.rename(path / "test" / "0.png", path / "0.png")
    (path / "test" / "a").mkdir()
    (path / "test" / "d").mkdir()
    os.rename(path / "0.png", path / "test" / "a" / "0.png")
    found = load(path, split=None)
    assert found.train.class_names == ("a", "b", "c")
    assert [note.replace(str(path), "PATH") for note in found.notes][1:] == [
        f"PATH{os.sep}test: no file in d",
        "PATH: no image to train on is of the class c",
    ]


def test_one_class_is_noted(tmp_path, load):
    path = write(tmp_path / "p", names("a"))
    note = f"{path} has one folder of images, so they are all of the class a"
    assert load(path).notes == (note,)
    write(path, ["a/train/0.png"])
    assert load(path).notes == (f"{note}. To make its folders the classes, give {path / 'a'}",)


# Damaged files.


def test_damaged_files_are_named(tmp_path, load):
    path = write(tmp_path / "p", names("ab"))
    damage(path)
    kind, message = error_of(load, path)
    assert kind is DamagedDataError
    start, _, end = message.partition(" cannot be read as images. ")
    assert start.startswith("PATH: 4 of 44 files (")
    for part in (
        "cut.png (image file is truncated",
        "empty.jpg (empty)",
        "notes.txt (damaged, or not PNG, JPEG, TIFF, BMP, GIF, WebP)",
        "link.png (a link to nothing)",
    ):
        assert part in start
    assert end == "Replace or remove them, or leave them out with skip_bad=True"
    found = load(path, skip_bad=True)
    assert len(found.everything) == 40
    assert found.notes == (f"{path}{start[4:]} cannot be read as images and are left out",)
    by_label = {
        label: [level(name, (8, 6, 3)).transpose(2, 0, 1).ravel().tolist() for name in names(label)] for label in "ab"
    }
    for code, label in enumerate("ab"):
        assert as_sorted(found.everything[found.everything.labels == code]) == sorted(by_label[label])


def test_the_first_ten_damaged_files_are_named(tmp_path, load):
    path = write(tmp_path / "p", names("a"))
    for i in range(1234):
        (path / "a" / f"bad{i:04}.png").write_bytes(b"")
    message = error_of(load, path, split=(1, 0, 0))[1]
    assert message.startswith(f"PATH: 1,234 of 1,254 files (a{os.sep}bad0000.png (empty), ")
    assert message.count("(empty)") == 10
    assert "bad0009.png (empty), ...)" in message


@pytest.mark.skipif(os.name == "nt", reason="needs names of any bytes")
def test_names_of_files_cannot_write_to_the_terminal(tmp_path, load):
    path = write(tmp_path / "p", names("a"))
    (path / "a" / "x\x1b[2J\ny.png").write_bytes(b"")
    Path(os.fsdecode(os.fsencode(path / "a") + b"/\xff.png")).write_bytes(b"")
    message = error_of(load, path)[1]
    assert message.isprintable()
    assert r"a/x\x1b[2J\ny.png (empty)" in message
    assert r"a/\udcff.png (empty)" in message


def test_a_class_of_damaged_files_is_noted(tmp_path, load):
    path = write(tmp_path / "p", names("ab"))
    (path / "c").mkdir()
    (path / "c" / "x.png").write_bytes(b"")
    found = load(path, skip_bad=True)
    assert found.train.class_names == ("a", "b")
    assert found.notes[-1] == f"{path}: no image of the class c can be read"


@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_folder_without_images(tmp_path, load, skip_bad):
    path = tmp_path / "p"
    path.mkdir()
    empty = "PATH holds no file. Put images into it (PNG, JPEG, TIFF, BMP, GIF, WebP), or into a sub-folder per class"
    assert error_of(load, path, skip_bad=skip_bad) == (BadDataError, empty)
    (path / "a").mkdir()
    assert error_of(load, path, skip_bad=skip_bad) == (BadDataError, empty)
    (path / "config.yaml").write_text("x: 1")
    assert error_of(load, path, skip_bad=skip_bad)[1] == (
        "PATH holds no image: 1 of 1 files (config.yaml (damaged, or not PNG, JPEG, TIFF, BMP, GIF, WebP)) cannot be read "
        "as images"
    )


def test_too_few_images_for_the_splits(tmp_path, load):
    message = error_of(load, write(tmp_path / "p", names("a", 1)))[1]
    assert "of 1 images, none is left for " in message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipes_are_not_waited_for_and_loops_end(tmp_path, load):
    path = write(tmp_path / "p", names("a"))
    os.mkfifo(path / "a" / "pipe.png")
    (path / "a" / "above").symlink_to(path / "a")
    (path / "a" / "b").mkdir()
    (path / "a" / "b" / "top").symlink_to(path)
    assert "1 of 21 files" in error_of(load, path)[1]
    assert "pipe.png (no file)" in error_of(load, path)[1]


def test_links_out_of_the_folder_are_followed(tmp_path, load):
    elsewhere = write(tmp_path / "elsewhere", names("ab"))
    (tmp_path / "p").mkdir()
    for label in "ab":
        (tmp_path / "p" / label).symlink_to(elsewhere / label)
    assert as_sorted(load(tmp_path / "p").everything) == as_sorted(load(elsewhere).everything)
