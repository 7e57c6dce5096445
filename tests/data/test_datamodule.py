import gzip
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets import KMNIST, MNIST, FakeData, FashionMNIST
from torchvision.transforms import Resize

from gan_lightning.data import workers
from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.data.folder import Folder
from gan_lightning.data.gaussian import Gaussian
from gan_lightning.data.images import InMemoryImages, StreamedImages
from gan_lightning.errors import InputError
from tests.helpers import ROOT, same


def make(**changes: Any) -> ImageDataModule:
    """Build a data module over MNIST."""
    arguments = {"dataset": MNIST, "root": str(ROOT / "data"), "batch_size": 10, "val_size": 10_000, "seed": 0}
    return ImageDataModule(**(arguments | changes))


def fake_data(root: str, train: bool, download: bool) -> FakeData:
    return FakeData(size=20, image_size=(1, 4, 4))


def attach(data: ImageDataModule, **trainer: Any) -> None:
    """Attach a trainer to a data module."""
    data.trainer = SimpleNamespace(**{"global_rank": 0, "world_size": 1, "num_devices": 1, "global_step": 0, **trainer})  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"batch_size": 0}, r"^batch_size=0: .* at least 1$"),
        ({"val_size": 0}, r"^val_size=0: .* at least 1$"),
        ({"num_workers": -1}, r"^num_workers=-1: .* at least 0$"),
        ({"minibatches_per_step": 0}, r"^minibatches_per_step=0: .* at least 1$"),
        ({"eval_batch_size": 0}, r"^eval_batch_size=0: .* at least 1$"),
        ({"device": "gpu"}, r"^device=gpu: .* auto or cpu$"),
        ({"on_error": "ignore"}, r"^on_error=ignore: must be raise or skip$"),
    ],
)
def test_arguments_are_validated(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        make(**changes)


# The split, the batches


def test_split_is_the_papers(mnist: ImageDataModule) -> None:
    official = MNIST(ROOT / "data", train=True)
    assert torch.equal(mnist.train.images[:, 0], official.data[:50_000])
    assert torch.equal(mnist.val.images[:, 0], official.data[50_000:])
    assert torch.equal(mnist.val.labels, official.targets[50_000:])
    assert torch.equal(mnist.test.images[:, 0], MNIST(ROOT / "data", train=False).data)


def test_images_are_held_once_as_bytes(mnist: ImageDataModule) -> None:
    assert mnist.train.images.dtype == torch.uint8
    assert mnist.train.images.untyped_storage().data_ptr() == mnist.val.images.untyped_storage().data_ptr()


def test_batches_are_bytes_until_they_are_on_the_device(mnist: ImageDataModule) -> None:
    batch = next(iter(mnist.train_dataloader()))
    assert batch[0].shape == (64, 1, 28, 28)
    assert batch[0].dtype == torch.uint8
    images, labels = mnist.on_after_batch_transfer(batch, 0)
    assert images.dtype == torch.float32
    assert (images.min(), images.max()) == (-1, 1)
    assert labels.shape == (64,)


def test_a_batch_holds_all_minibatches_of_a_step() -> None:
    data = make(minibatches_per_step=6)
    data.setup()
    images, _ = next(iter(data.train_dataloader()))
    assert len(images) == 60


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError, match=r"^model\.image_shape=\[1, 32, 32\]: must be \[1, 28, 28\]"):
        make(image_shape=[1, 32, 32]).setup()


def test_training_needs_an_image() -> None:
    with pytest.raises(InputError, match=r"^data\.val_size=60000: must leave at least 1 of 60000"):
        make(val_size=60_000).setup()


def test_a_step_larger_than_the_data_repeats_it() -> None:
    data = make(dataset=fake_data, batch_size=9, val_size=10, minibatches_per_step=2)
    data.setup()
    (batch,) = list(data.train_dataloader())
    assert len(batch[0]) == 18


def test_training_images_are_held_on_the_accelerator() -> None:
    for device, expected in (("auto", "meta"), ("cpu", "cpu")):
        data = make(device=device)
        attach(data, strategy=SimpleNamespace(root_device=torch.device("meta")))
        data.setup()
        images, _ = next(iter(data.train_dataloader()))
        assert images.device.type == expected
        assert data.val.images.device.type == "cpu"


def test_transforms_are_applied() -> None:
    dataset = MNIST(ROOT / "data", train=False, transform=Resize(32))
    assert InMemoryImages.of(dataset).images.shape == (10_000, 1, 32, 32)


# Validation and test batches, several devices


def test_evaluation_reads_every_image_in_order(mnist: ImageDataModule) -> None:
    for loader, images in ((mnist.val_dataloader(), mnist.val), (mnist.test_dataloader(), mnist.test)):
        assert torch.equal(torch.cat([batch for batch, _ in loader]), images.images)


@pytest.mark.parametrize("size", [2001, 1999, 2000, 3])
def test_ranks_evaluate_the_same_number_of_batches(mnist: ImageDataModule, size: int) -> None:
    images = InMemoryImages(*mnist.test[:size])
    batches = []
    for rank in range(2):
        data = make()
        attach(data, global_rank=rank, world_size=2)
        batches.append([len(batch) for batch, _ in data._in_order(images)])
    assert len(batches[0]) == len(batches[1])
    assert sum(batches[0]) + sum(batches[1]) == size
    assert max(batches[0]) <= 1000


def test_each_device_needs_a_validation_image() -> None:
    data = make(val_size=1)
    data.setup()
    attach(data, world_size=2)
    with pytest.raises(InputError, match=r"^data\.val_size=1: .* at least 2"):
        data.val_dataloader()
    assert len(data.test_dataloader()) == 5


def test_a_run_resumes_with_as_many_images_per_minibatch() -> None:
    data, half = make(batch_size=64), make(batch_size=32)
    attach(data, global_step=7, world_size=4)
    state = data.state_dict()
    attach(half, world_size=8)
    half.load_state_dict(state)
    assert half.resumed_at == 7
    attach(data, world_size=8)
    with pytest.raises(InputError, match=r"^trainer\.devices: 8 with data\.batch_size=64 .* of 512; .* has 256"):
        data.load_state_dict(state)


@pytest.mark.parametrize("minibatches", [1, 3])
def test_ranks_share_each_minibatch(minibatches: int) -> None:
    """Images and mirroring are those of one process with the same global batch."""

    def batches(batch_size: int, **trainer: int) -> list[Tensor]:
        data = make(dataset=fake_data, batch_size=batch_size, val_size=2, minibatches_per_step=minibatches, flip=True)
        data.device = "cpu"
        attach(data, training=True, **trainer)
        data.setup()
        return [data.on_after_batch_transfer(batch, 0)[0] for batch in islice(data.train_dataloader(), 2)]

    ranks = [batches(2, global_rank=rank, world_size=2) for rank in range(2)]
    for whole, *parts in zip(batches(4), *ranks, strict=True):
        shared = [part.chunk(minibatches) for part in parts]
        assert torch.equal(whole, torch.cat([torch.cat(pair) for pair in zip(*shared, strict=True)]))


# Files


@pytest.mark.parametrize("dataset", [FashionMNIST, KMNIST])
def test_data_sets_in_mnists_format(dataset: Any, tmp_path: Path) -> None:
    data = make(dataset=dataset, root=str(tmp_path), val_size=2)
    raw = tmp_path / dataset.__name__ / "raw"
    raw.mkdir(parents=True)
    for part, n in (("train", 8), ("t10k", 4)):
        shape = b"".join(size.to_bytes(4, "big") for size in (n, 28, 28))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + shape + bytes(n * 784))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + n.to_bytes(4, "big") + bytes(n))
    data.prepare_data()
    data.setup()
    assert [len(split) for split in (data.train, data.val, data.test)] == [6, 2, 4]


def test_the_tracked_archives_are_unpacked_without_a_network(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, _ in MNIST.resources:
        (raw / name).symlink_to(ROOT / "data" / "MNIST" / "raw" / name)
    make(root=str(tmp_path)).prepare_data()
    assert (raw / "train-images-idx3-ubyte").stat().st_size == 16 + 60_000 * 784


def test_simultaneous_runs_unpack_one_after_another(tmp_path: Path) -> None:
    active: list[int] = []
    most = 0

    def dataset(root: str, **_: Any) -> None:
        nonlocal most
        active.append(1)
        time.sleep(0.05)
        most = max(most, len(active))
        active.pop()

    root = tmp_path / "absent"
    with ThreadPoolExecutor(3) as runs:
        list(runs.map(lambda _: make(dataset=dataset, root=str(root)).prepare_data(), range(3)))
    assert most == 1
    assert not root.exists()  # the lock is outside the data folder


def test_absent_data_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MNIST, "mirrors", [(tmp_path / "nowhere").as_uri() + "/"])
    with pytest.raises(InputError, match=r"^data\.root=.*empty: cannot be read as MNIST: .*downloading"):
        make(root=str(tmp_path / "empty")).prepare_data()


def test_a_damaged_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MNIST, "mirrors", [(tmp_path / "nowhere").as_uri() + "/"])
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / MNIST.resources[0][0]).write_bytes(gzip.compress(b"not MNIST"))
    with pytest.raises(InputError):
        make(root=str(tmp_path)).prepare_data()


class Faulty(FakeData):
    """A user's data set, which fails when it is made, or when an image is read."""

    def __init__(self, root: str, *, train: bool, download: bool, error: type[Exception] | None = None) -> None:
        if error:
            raise error("a bug")
        super().__init__(size=30, image_size=(1, 4, 4))

    def __getitem__(self, index: int) -> Any:
        if index == 3:
            raise KeyError("a bug")
        return super().__getitem__(index)


@pytest.mark.parametrize("error", [RuntimeError, AssertionError, EOFError, ValueError, TypeError])
def test_an_error_of_a_data_set_is_one_line(tmp_path: Path, error: type[Exception]) -> None:
    data = make(dataset=partial(Faulty, error=error), root=str(tmp_path))
    for read in (data.prepare_data, data.setup):
        with pytest.raises(InputError, match=rf"^data\.root={tmp_path}: cannot be read as Faulty: a bug$") as caught:
            read()
        assert isinstance(caught.value.__cause__, error)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_error_of_an_image_is_one_line(tmp_path: Path, num_workers: int) -> None:
    data = make(dataset=Faulty, root=str(tmp_path), val_size=10, in_memory=False, num_workers=num_workers)
    data.test = InMemoryImages(torch.zeros(0), torch.zeros(0))  # set up already
    data.train = StreamedImages(data.open(train=True), range(20))
    with pytest.raises(InputError, match=r"^data\.dataset: Faulty .*: KeyError: 'a bug'$"):
        list(data.train_dataloader())


def test_arguments_that_a_data_set_rejects_are_one_line() -> None:
    with pytest.raises(InputError, match=r"^data\.dataset\.std=-1: .* above 0"):
        make(dataset=partial(Gaussian, mean=0, std=-1, size=5)).prepare_data()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_streamed_folder_gives_the_same_batches_as_one_in_memory(tmp_path: Path, num_workers: int) -> None:
    for part in ("train", "test"):
        for name, gray in (("a", 200), ("b", 20)):  # light squares of class a, dark ones of class b
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(20):
                Image.new("RGB", (30, 32), (gray + i,) * 3).save(tmp_path / part / name / f"{i}.png")

    def batches(**changes: Any) -> list[Any]:
        options: dict[str, Any] = {"image_size": 28, "channels": 1, "batch_size": 8, "val_size": 10}
        data = make(dataset=Folder, root=str(tmp_path), **options | changes)
        data.prepare_data()
        data.setup()
        assert set(data.val.labels.tolist()) == {0, 1}
        return list(data.train_dataloader())

    streamed = batches(in_memory=False, num_workers=num_workers)
    assert [images.shape for images, _ in streamed] == [(8, 1, 28, 28)] * 3
    assert same(streamed, batches(in_memory=True))
    assert all(((images[:, 0, 0, 0] < 100) == labels.bool()).all() for images, labels in streamed)


class Split:
    """A data set of two gray levels, whose constructor takes a split, as some of torchvision's do."""

    def __init__(self, root: str, *, split: str = "train", download: bool = False) -> None:
        self.images = [Image.new("L", (6, 6), 200 if split == "test" else i % 2) for i in range(20)]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return self.images[index], index % 2


class Whole(Split):
    """A data set without a test set."""

    def __init__(self, root: str) -> None:
        super().__init__(root)


@pytest.mark.parametrize("in_memory", [True, False, None])
def test_a_data_set_may_take_a_split(in_memory: bool | None) -> None:
    data = make(dataset=Split, val_size=None, in_memory=in_memory)
    data.prepare_data()
    data.setup()
    assert (len(data.train), len(data.val), len(data.test)) == (18, 2, 20)
    assert data.train[torch.arange(2)][0].amax() <= 1
    assert data.test[torch.arange(20)][0].amin() == 200


def test_training_images_are_never_test_images() -> None:
    data = make(dataset=Whole, val_size=None)
    with pytest.raises(InputError, match=r"^data\.dataset: Whole takes neither train nor split, and has no test_set"):
        data.setup()


@pytest.mark.parametrize(("free", "enough"), [(10**9, True), (1000, False)])
def test_shared_memory_must_hold_what_workers_prepare(monkeypatch: pytest.MonkeyPatch, free: int, enough: bool) -> None:
    monkeypatch.setattr(workers.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    data = make(in_memory=False, num_workers=2, batch_size=64)
    data.setup()
    if enough:
        data.train_dataloader()
    else:
        with pytest.raises(
            InputError, match=r"^data\.num_workers=2: needs .* of shared memory.*; use data\.num_workers=0"
        ):
            data.train_dataloader()
