"""Data sets of scikit-learn, torchvision and Hugging Face, without a network."""

from __future__ import annotations

import contextlib
import pickle
import sys
import urllib.error

import numpy as np
import pytest
import sklearn.datasets
import torchvision.datasets
from PIL import Image
from scipy import sparse
from sklearn.utils import Bunch
from torchvision.datasets.utils import verify_str_arg

from pyro_vae import data
from pyro_vae.data import BadDataError, DamagedDataError, DownloadError, Images
from pyro_vae.data.elsewhere import _TOY
from pyro_vae.data.sources import whole_path
from tests.data.parts import parts_of
from tests.data.test_images import fake_mnist


def all_rows(dataset):
    """Each row with its label, of all splits, in order."""
    labels = [[-1] * len(split) if split.labels is None else split.labels.tolist() for split in parts_of(dataset)]
    values = [
        (split.pixels if isinstance(split, Images) else split.values).reshape(len(split), -1).tolist()
        for split in parts_of(dataset)
    ]
    return sorted((*row, label) for x, y in zip(values, labels, strict=True) for row, label in zip(x, y, strict=True))


# scikit-learn


@pytest.mark.parametrize("name", _TOY)
def test_each_toy_set_of_scikit_learn(name):
    bunch = getattr(sklearn.datasets, f"load_{name}")()
    shares = "0.5,0.25,0.25"  # linnerud has 20 rows
    found = data.load(f"sklearn:{name}", split=shares)
    classes = name not in ("diabetes", "linnerud")
    target = bunch.target if classes else np.full(len(bunch.data), -1)
    assert all_rows(found) == sorted(map(tuple, np.c_[bunch.data, target].tolist()))
    assert found.train.columns == tuple(bunch.feature_names)
    assert found.classes == (len(bunch.target_names) if classes else 0)
    assert bool(found.notes) == (not classes)


def test_names_of_classes_and_targets_that_are_none():
    assert data.load("sklearn:iris").train.class_names == ("setosa", "versicolor", "virginica")
    assert data.load("sklearn:digits").train.class_names == ()
    notes = data.load("sklearn:linnerud", split="0.5,0.25,0.25").notes
    assert notes == (
        "sklearn:linnerud: its targets (Weight, Waist, Pulse) are not classes, so they are no labels, and are left out",
    )


def test_faces_are_arrays_of_their_shape(monkeypatch):
    images = np.random.default_rng(0).random((80, 6, 5)).astype(np.float32)
    faces = Bunch(data=images.reshape(80, -1), images=images, target=np.arange(80) % 4)
    seen = {}
    monkeypatch.setattr(sklearn.datasets, "fetch_olivetti_faces", lambda **o: seen.update(o) or faces)
    found = data.load("sklearn:olivetti_faces", "somewhere")
    assert (found.event_shape, found.classes, seen) == ((1, 6, 5), 4, {"data_home": "somewhere"})


def test_words_of_news_are_counts(monkeypatch):
    x = sparse.csr_matrix(np.random.default_rng(0).poisson(1.0, (60, 9)))
    names = np.array([f"word {i}" for i in range(9)])
    seen = {}
    bunch = Bunch(data=x, target=np.arange(60) % 3, target_names=list("abc"), feature_names=names)
    monkeypatch.setattr(sklearn.datasets, "fetch_20newsgroups_vectorized", lambda **o: seen.update(o) or bunch)
    found = data.load("sklearn:20newsgroups_vectorized", "somewhere")
    assert seen == {"normalize": False, "data_home": "somewhere"}
    assert (found.train.class_names, sum(part.matrix.sum() for part in parts_of(found))) == (("a", "b", "c"), x.sum())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("sklearn:wines", "sklearn:wines: scikit-learn has no such data set. Did you mean sklearn:wine?"),
        ("sklearn:Iris", "Did you mean sklearn:iris?"),
        ("sklearn:load_wine", "Did you mean sklearn:wine?"),
        ("sklearn:zzz", "there are breast_cancer, diabetes, .*olivetti_faces"),
        ("sklearn:", "scikit-learn has no such data set"),
        ("torchvision:cifar10", "torchvision has no such data set. Did you mean torchvision:CIFAR10"),
        ("torchvision:zzz", "there are LSUN, "),
        ("torchvision:VisionDataset", "torchvision has no such data set"),
        ("torchvision:EMNIST", "torchvision:EMNIST needs split too. Write a function .*: file.py:function"),
        ("torchvision:CocoCaptions", "needs annFile too"),
        ("wine", "unknown data set 'wine'.*Did you mean 'sklearn:wine'?"),
        ("cifar10", "unknown data set 'cifar10'.*Did you mean 'torchvision:CIFAR10'?"),
    ],
)
def test_wrong_names(source, message):
    with pytest.raises(ValueError, match=message):
        data.load(source)


@pytest.mark.parametrize("option", [{"size": 8}, {"label": "alcohol"}, {"group": "alcohol"}, {"delimiter": ","}])
def test_options_that_do_not_apply(option):
    with pytest.raises(ValueError, match="is for .*; sklearn:wine holds arrays"):
        data.load("sklearn:wine", **option)


def test_without_a_network_scikit_learn_says_so(monkeypatch, tmp_path):
    def fetch(data_home):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(sklearn.datasets, "fetch_covtype", fetch)
    with pytest.raises(DownloadError, match=r"sklearn:covtype is not in .* could not be downloaded \(.*no network"):
        data.load("sklearn:covtype", tmp_path)


# torchvision


def fake_cifar(root, monkeypatch, n=20):
    """CIFAR10 in its own files, with n images in each of six."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (6, n, 3 * 32 * 32), np.uint8)
    labels = np.arange(6 * n).reshape(6, n) % 10
    for i, name in enumerate([f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]):
        (folder / name).write_bytes(pickle.dumps({"data": pixels[i], "labels": labels[i].tolist()}))
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    return pixels, labels, tuple(names)


def test_cifar_is_as_torchvision_has_it(tmp_path, monkeypatch):
    pixels, labels, names = fake_cifar(tmp_path, monkeypatch)
    found = data.load("torchvision:CIFAR10", tmp_path)
    assert (found.event_shape, found.classes, found.train.class_names) == ((3, 32, 32), 10, names)
    assert all_rows(found) == sorted(map(tuple, np.c_[pixels.reshape(120, -1), labels.reshape(-1)].tolist()))
    assert np.array_equal(found.test.pixels.reshape(20, -1), pixels[5])
    assert found.notes == ("torchvision:CIFAR10 has no split for valid: a hash draws it from those for training",)
    assert len(data.load("torchvision:CIFAR10", tmp_path, split="0.5,0.5,0").valid) > len(found.valid)
    assert data.load("torchvision:CIFAR10", tmp_path, size=8, channels=1).event_shape == (1, 8, 8)


def test_mnist_is_that_of_its_own_name(tmp_path):
    fake_mnist(tmp_path, n_train=5100)
    found = data.load("torchvision:MNIST", tmp_path)
    assert all_rows(found) == all_rows(data.load("mnist", tmp_path))
    assert found.train.class_names[:2] == ("0 - zero", "1 - one")


def write_pictures(folder, sizes=((6, 6),), n=40):
    for i in range(n):
        path = folder / f"class{i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", sizes[i % len(sizes)], (i, 0, 255)).save(path)


def test_own_splits_of_torchvision_and_several_sizes(tmp_path):
    for i, split in enumerate(("train", "valid", "test")):
        write_pictures(tmp_path / "country211" / split, ((6, 6), (9, 7)), n=10 + i)
    for path in (tmp_path / "country211").rglob("*.png"):
        path.rename(path.with_suffix(".jpg"))
    with pytest.raises(BadDataError, match="Country211: train has pictures of several sizes: 6 x 6, and 7 x 9"):
        data.load("torchvision:Country211", tmp_path)
    found = data.load("torchvision:Country211", tmp_path, size="8x4")
    assert ([len(part) for part in parts_of(found)], found.event_shape) == ([10, 11, 12], (3, 8, 4))
    assert (found.train.class_names, found.notes) == (("class0", "class1"), ())
    with pytest.raises(ValueError, match="split is for data without splits of their own; torchvision:Country211"):
        data.load("torchvision:Country211", tmp_path, size=8, split="0.5,0.25,0.25")


def test_a_set_of_torchvision_without_splits(tmp_path):
    write_pictures(tmp_path / "eurosat" / "2750")
    found = data.load("torchvision:EuroSAT", tmp_path)
    assert sum(map(len, parts_of(found))) == 40
    assert (found.event_shape, found.classes, found.notes) == ((3, 6, 6), 2, ())


class Fake(torchvision.datasets.VisionDataset):
    """A data set as torchvision writes them, which downloads a file."""

    splits = ("train-standard", "test")
    target = staticmethod(lambda split, i: i % 2)
    download_raises = None

    def __init__(self, root, split="train-standard", download=False):
        super().__init__(root)
        self.split = verify_str_arg(split, "split", self.splits)
        self.file = self.root + "/fake"
        if download:
            if self.download_raises:
                raise self.download_raises
            open(self.file, "w").close()
        try:
            open(self.file).close()
        except FileNotFoundError as error:
            raise RuntimeError("Dataset not found. You can use download=True to download it") from error

    def __len__(self):
        return 30

    def __getitem__(self, i):
        return Image.new("L", (3, 3), i), self.target(self.split, i)


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(torchvision.datasets, "Fake", Fake, raising=False)
    monkeypatch.setattr(torchvision.datasets, "__all__", (*torchvision.datasets.__all__, "Fake"))
    return monkeypatch


def test_what_is_missing_is_downloaded_into_root(fake, tmp_path):
    found = data.load("torchvision:Fake", tmp_path)
    assert (tmp_path / "fake").exists()
    assert [len(found.train) + len(found.valid), len(found.test), found.classes] == [30, 30, 2]


def test_labels_that_a_split_lacks_are_left_out_of_all(fake, tmp_path):
    fake.setattr(Fake, "target", staticmethod(lambda split, i: None if split == "test" else i))
    found = data.load("torchvision:Fake", tmp_path)
    assert found.classes == 0
    assert "torchvision:Fake has no labels for test; those of the others are left out" in found.notes


@pytest.mark.parametrize(
    ("raises", "error", "message"),
    [
        (
            urllib.error.URLError("no network"),
            DownloadError,
            r"Fake is not in .* could not be downloaded \(.*no network",
        ),
        (RuntimeError("gone"), DownloadError, "gone"),
        (ImportError("needs gdown"), DownloadError, "needs gdown"),
    ],
)
def test_what_cannot_be_downloaded(fake, tmp_path, raises, error, message):
    fake.setattr(Fake, "download_raises", raises)
    with pytest.raises(error, match=message):
        data.load("torchvision:Fake", tmp_path)


def test_damaged_files_and_files_that_torchvision_does_not_download(tmp_path, monkeypatch):
    fake_cifar(tmp_path, monkeypatch)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"\x80")
    with pytest.raises(DamagedDataError, match="the files of CIFAR10 in .* cannot be read"):
        data.load("torchvision:CIFAR10", tmp_path)
    with pytest.raises(DownloadError, match="torchvision:FER2013 is not in .*, and torchvision does not download it"):
        data.load("torchvision:FER2013", tmp_path)


# Hugging Face


def write_hugging_face(folder, tables):
    """A folder in the form of Hugging Face, with one Parquet file per split."""
    for split, table in tables.items():
        folder.mkdir(parents=True, exist_ok=True)
        table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return f"hf:{folder}"


@pytest.fixture(scope="module")
def hugging_face():
    return pytest.importorskip("datasets")


def table_of(hugging_face, n=60, start=0, label=lambda i: i % 3):
    columns = {
        "length": [float(i) for i in range(start, start + n)],
        "count": [None if i == start else i for i in range(start, start + n)],
        "name": [f"row {i}" for i in range(n)],
        "kind": [label(i) for i in range(n)],
    }
    kinds = {
        "length": hugging_face.Value("float32"),
        "count": hugging_face.Value("int64"),
        "name": hugging_face.Value("string"),
        "kind": hugging_face.ClassLabel(names=["a", "b", "c", "d"]),
    }
    return hugging_face.Dataset.from_dict(columns, features=hugging_face.Features(kinds))


def test_a_table_of_hugging_face(hugging_face, tmp_path):
    source = write_hugging_face(tmp_path / "set", {"train": table_of(hugging_face)})
    found = data.load(source, tmp_path / "cache")
    assert (found.train.columns, found.classes, found.train.class_names) == (("length", "count"), 4, tuple("abcd"))
    rows = [
        (x, y) for part in parts_of(found) for (x, _), y in zip(part.values.tolist(), part.labels.tolist(), strict=True)
    ]
    assert sorted(rows) == [(float(i), i % 3) for i in range(60)]
    assert found.has_missing
    assert found.notes == (f"{source}: the columns name (string) are left out",)


def test_splits_of_hugging_face(hugging_face, tmp_path):
    sizes = {"train": 40, "validation": 10, "test": 12, "unlabeled": 5}
    tables = {split: table_of(hugging_face, n, 100 * n) for split, n in sizes.items()}
    source = write_hugging_face(tmp_path / "set", {k: v for k, v in tables.items() if k != "unlabeled"})
    found = data.load(source, tmp_path / "cache")
    assert [len(part) for part in parts_of(found)] == [40, 10, 12]
    assert found.valid.values[:, 0].tolist() == [1000.0 + i for i in range(10)]
    with pytest.raises(ValueError, match="split is for data without splits of their own"):
        data.load(source, tmp_path / "cache", split="0.8,0.1,0.1")


def test_other_splits_and_labels_that_are_not_known(hugging_face, monkeypatch):
    tables = {"train": table_of(hugging_face), "dev": table_of(hugging_face, label=lambda i: -1), "extra": None}
    monkeypatch.setattr(hugging_face, "load_dataset", lambda *a, **o: tables)
    found = data.load("hf:user/name")
    assert len(found.valid) == 60
    assert found.classes == 0
    assert "hf:user/name: its splits extra are left out" in found.notes
    assert "hf:user/name: 60 examples have no label, so the labels are left out" in found.notes
    assert "hf:user/name has no labels for valid; those of the others are left out" in found.notes
    tables = {"one": table_of(hugging_face)}
    assert data.load("hf:user/name").classes == 4
    tables = {"one": None, "two": None}
    with pytest.raises(BadDataError, match="hf:user/name must have a split train; it has one, two"):
        data.load("hf:user/name")


def test_pictures_of_hugging_face_are_those_of_the_folder(hugging_face, tmp_path):
    write_pictures(tmp_path / "pictures")
    found = data.load(f"hf:{tmp_path}/pictures", tmp_path / "cache")
    assert (found.event_shape, found.train.class_names, found.notes) == ((3, 6, 6), ("class0", "class1"), ())
    assert all_rows(found) == all_rows(data.load(tmp_path / "pictures"))
    assert data.load(f"hf:{tmp_path}/pictures", tmp_path / "cache", size=3, channels=1).event_shape == (1, 3, 3)


def test_a_folder_of_hugging_face_is_found_from_any_folder(tmp_path, monkeypatch):
    (tmp_path / "pictures").mkdir()
    monkeypatch.chdir(tmp_path)
    assert whole_path("hf:pictures") == f"hf:{tmp_path}/pictures"
    assert whole_path("hf:user/name") == "hf:user/name"


def features(hugging_face, **kinds):
    return hugging_face.Dataset.from_dict({name: [] for name in kinds}, features=hugging_face.Features(kinds))


def test_what_a_table_of_hugging_face_must_have(hugging_face, monkeypatch):
    value, image, label = hugging_face.Value, hugging_face.Image(), hugging_face.ClassLabel(names=["a"])
    for table, options, error, message in (
        (features(hugging_face, text=value("string")), {}, BadDataError, r"columns of numbers; it has text \(string\)"),
        (features(hugging_face, a=image, b=image), {}, BadDataError, r"one column of pictures.*a \(.*\), b"),
        (features(hugging_face, kind=label), {}, BadDataError, "columns of numbers"),
        (table_of(hugging_face), {"label": "kinds"}, ValueError, "has no column 'kinds'; it has .*Did you mean kind?"),
        (table_of(hugging_face), {"size": 3}, ValueError, "size is for images; hf:user/name holds a table"),
        (table_of(hugging_face), {"group": "kind"}, ValueError, "group is for tables; hf:user/name holds"),
    ):
        monkeypatch.setattr(hugging_face, "load_dataset", lambda *a, table=table, **o: {"train": table})
        with pytest.raises(error, match=message):
            data.load("hf:user/name", **options)


def test_several_columns_of_classes_need_a_choice(hugging_face, monkeypatch):
    table = table_of(hugging_face).add_column("other", [i % 2 for i in range(60)])
    table = table.cast_column("other", hugging_face.ClassLabel(names=["x", "y"]))
    monkeypatch.setattr(hugging_face, "load_dataset", lambda *a, **o: {"train": table})
    assert data.load("hf:user/name").classes == 0
    assert data.load("hf:user/name", label="other").train.class_names == ("x", "y")
    assert data.load("hf:user/name", label="name", split="0.5,0.3,0.2").classes == 60


def test_names_that_hugging_face_does_not_have(hugging_face, monkeypatch):
    import huggingface_hub

    seen = []

    def load(path, config, cache_dir):
        seen.append((path, config, cache_dir))
        raise raised

    monkeypatch.setattr(hugging_face, "load_dataset", load)
    raised = hugging_face.exceptions.DatasetNotFoundError("not there")
    found = [type("Found", (), {"id": "user/names"})]
    monkeypatch.setattr(huggingface_hub, "list_datasets", lambda search, limit: found)
    with pytest.raises(ValueError, match="has no public data set 'user/name'.*Did you mean user/names?"):
        data.load("hf:user/name")
    monkeypatch.setattr(huggingface_hub, "list_datasets", lambda **_: 1 / 0)
    with pytest.raises(
        ValueError, match="has no public data set 'user/name'. The name is that of its page: user/name$"
    ):
        data.load("hf:user/name:small", "somewhere")
    assert seen == [("user/name", None, None), ("user/name", "small", "somewhere/huggingface")]
    raised = ConnectionError("Couldn't reach\nthe Hub")
    with pytest.raises(DownloadError, match=r"could not be downloaded \(Couldn't reach the Hub\)"):
        data.load("hf:user/name")
    raised = RuntimeError("Dataset scripts are no longer supported, but found name.py")
    with pytest.raises(BadDataError, match="hf:user/name cannot be read: Dataset scripts are no longer supported"):
        data.load("hf:user/name")


def test_code_in_a_data_set_is_not_run(hugging_face, tmp_path):
    write_hugging_face(tmp_path / "set", {"train": table_of(hugging_face)})
    (tmp_path / "set" / "set.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w').close()\n")
    with contextlib.suppress(BadDataError):
        data.load(f"hf:{tmp_path}/set", tmp_path / "cache")
    assert not (tmp_path / "run").exists()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        ImportError, match=r"hf:user/name needs the package datasets: pip install 'pyro-vae\[datasets\]'"
    ):
        data.load("hf:user/name")
