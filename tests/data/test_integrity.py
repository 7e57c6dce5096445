"""Archives and unpacked files that are damaged."""

import hashlib
import math
import random
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.datasets import CIFAR10, KMNIST, MNIST, QMNIST, FashionMNIST

from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.data.emnist import EMNIST
from gan_lightning.data.integrity import check_files
from gan_lightning.errors import InputError
from tests.helpers import ROOT, SMALL, command

RAW = ROOT / "data" / "MNIST" / "raw"
SMALLEST = "t10k-labels-idx1-ubyte.gz"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A copy of the archives."""
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for archive in RAW.glob("*.gz"):
        shutil.copy(archive, raw)
    return raw


def alter(path: Path, chance: random.Random) -> None:
    """Truncate a file or flip one of its bits."""
    content = bytearray(path.read_bytes())
    at = chance.randrange(len(content))
    if chance.random() < 0.5:
        del content[at:]
    else:
        content[at] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def test_intact_archives_are_accepted(raw: Path) -> None:
    check_files(MNIST, raw.parents[1], remove=False)


def test_other_data_sets_check_themselves(tmp_path: Path) -> None:
    check_files(CIFAR10, tmp_path, remove=False)


def test_altered_archives_are_refused(raw: Path) -> None:
    chance = random.Random(0)
    for i in range(20):
        archive = sorted(raw.glob("*.gz"))[i % 4]
        original = archive.read_bytes()
        if i < 16:
            alter(archive, chance)
        else:
            archive.write_bytes(b"")
        with pytest.raises(InputError, match=rf"^{archive}: the file is damaged .*MD5.*; delete it, and"):
            check_files(MNIST, raw.parents[1], remove=True)
        archive.write_bytes(original)


@pytest.mark.parametrize("content", [None, b""])
def test_a_damaged_unpacked_file_is_unpacked_again(raw: Path, content: bytes | None) -> None:
    unpacked = raw / SMALLEST.removesuffix(".gz")
    MNIST(raw.parents[1], train=False, download=True)
    intact = unpacked.read_bytes()
    unpacked.write_bytes(intact[:5000] + b"\xff" + intact[5001:] if content is None else content)
    with pytest.raises(InputError, match=rf"^{unpacked}: the file is damaged; delete it"):
        check_files(MNIST, raw.parents[1], remove=False)
    check_files(MNIST, raw.parents[1], remove=True)
    assert not unpacked.exists()
    MNIST(raw.parents[1], train=False, download=True)
    assert unpacked.read_bytes() == intact


UNPACKED = {MNIST: "t10k", FashionMNIST: "t10k", KMNIST: "t10k", QMNIST: "qmnist-test", EMNIST: "emnist-digits-test"}


def idx(kind: int, *shape: int) -> bytes:
    """Return a file in MNIST's format, of bytes (kind 8) or of 32-bit numbers (kind 12), all 0."""
    header = b"".join(size.to_bytes(4, "big") for size in shape)
    return bytes([0, 0, kind, len(shape)]) + header + bytes(math.prod(shape) * (4 if kind == 12 else 1))


def unpacked(root: Path, dataset: Any) -> tuple[Path, Path]:
    """Write small unpacked files of a data set, without archives; return those of its test images and labels."""
    raw = root / dataset.__name__ / "raw"
    raw.mkdir(parents=True)
    test = UNPACKED[dataset]
    for part in (test.replace("test", "train").replace("t10k", "train"), test):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(8, 6, 28, 28))
        if dataset is QMNIST:
            (raw / f"{part}-labels-idx2-int").write_bytes(idx(12, 6, 8))
        else:
            (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(8, 6))
    images, labels = sorted(raw.glob(f"{test}*"))
    return images, labels


def set_up(root: Path, dataset: Any) -> ImageDataModule:
    kind = partial(dataset, split="digits") if dataset is EMNIST else dataset
    data = ImageDataModule(dataset=kind, root=str(root), batch_size=4, val_size=2, seed=0)
    data.prepare_data()
    data.setup()
    return data


@pytest.mark.parametrize("dataset", UNPACKED)
def test_data_sets_in_mnists_format(tmp_path: Path, dataset: Any) -> None:
    unpacked(tmp_path, dataset)
    data = set_up(tmp_path, dataset)
    assert (len(data.train), len(data.val), len(data.test)) == (4, 2, 6)
    images, labels = next(iter(data.train_dataloader()))
    assert (images.shape, labels.shape) == ((4, 1, 28, 28), (4,))
    assert torch.equal(data.test.labels, torch.zeros(6, dtype=torch.int64))


@pytest.mark.parametrize("how", ["empty", "one byte", "short", "long", "text", "another number", "another type"])
@pytest.mark.parametrize("dataset", UNPACKED)
def test_a_damaged_unpacked_file_without_an_archive_is_named(tmp_path: Path, dataset: Any, how: str) -> None:
    for path in unpacked(tmp_path, dataset):
        intact = path.read_bytes()
        damaged = {
            "empty": b"",
            "one byte": intact[:1],
            "short": intact[:-3],
            "long": intact + b"0",
            "text": b"<html>not found</html>",
            "another number": intact[:4] + b"\xff" + intact[5:],
            "another type": intact[:2] + b"\7" + intact[3:],
        }
        path.write_bytes(damaged[how])
        with pytest.raises(InputError) as refused:
            set_up(tmp_path, dataset)
        assert str(refused.value) == (
            f"{path}: the file is damaged; delete it, and the next run unpacks or downloads it again"
        )
        path.write_bytes(intact)


@pytest.mark.parametrize("dataset", UNPACKED)
def test_labels_of_other_images_are_refused(tmp_path: Path, dataset: Any) -> None:
    _, labels = unpacked(tmp_path, dataset)
    labels.write_bytes(idx(12, 5, 8) if dataset is QMNIST else idx(8, 5))
    with pytest.raises(InputError, match=rf"^{labels}: the file has 5 labels for 6 images; delete both files, and"):
        set_up(tmp_path, dataset)


def test_a_damaged_archive_of_qmnist_is_refused(tmp_path: Path) -> None:
    unpacked(tmp_path, QMNIST)
    archive = tmp_path / "QMNIST" / "raw" / "qmnist-train-images-idx3-ubyte.gz"
    archive.write_bytes(b"damaged")
    with pytest.raises(InputError, match=rf"^{archive}: the file is damaged"):
        set_up(tmp_path, QMNIST)


@pytest.mark.parametrize("verified", [True, False])
def test_a_damaged_file_of_another_data_set_is_one_line(
    tmp_path: Path, verified: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CIFAR10, "url", (tmp_path / "nowhere").as_uri())
    monkeypatch.setattr(CIFAR10, "train_list", [("data_batch_1", hashlib.md5(b"damaged").hexdigest())] * verified)
    monkeypatch.setattr(CIFAR10, "test_list", [("test_batch", hashlib.md5(b"intact").hexdigest())] * (not verified))
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(b"damaged")
    (folder / "batches.meta").write_bytes(b"damaged")
    with pytest.raises(InputError, match=rf"^data\.root={tmp_path}: cannot be read as CIFAR10: .+") as refused:
        set_up(tmp_path, CIFAR10)
    assert "\n" not in str(refused.value)


def test_a_run_on_a_damaged_archive_ends_in_one_line(raw: Path, tmp_path: Path) -> None:
    (raw / SMALLEST).write_bytes((raw / SMALLEST).read_bytes()[:-100])
    done = command("train", *SMALL, "data.root=data", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 1
    assert "the file is damaged" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_run_on_a_damaged_unpacked_file_ends_in_one_line(tmp_path: Path) -> None:
    images, _ = unpacked(tmp_path, FashionMNIST)
    images.write_bytes(b"")
    done = command("train", *SMALL, "data=fashion_mnist", "data.root=.", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{images.relative_to(tmp_path)}: the file is damaged; delete it, and")
    assert done.stderr.count("\n") == 1
