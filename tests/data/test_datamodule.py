import gzip
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from PIL import Image
from pytorch_lightning import Trainer
from torchvision.datasets import MNIST, FakeData
from torchvision.transforms import Resize

from gan_lightning.config import compose
from gan_lightning.data.datamodule import ImageDataModule, alone
from gan_lightning.data.images import InMemoryImages
from gan_lightning.errors import InputError
from tests.helpers import ROOT, same, tiny_gan


def test_split_is_the_papers(mnist: ImageDataModule) -> None:
    official = MNIST(ROOT / "data", train=True)
    assert torch.equal(mnist.train.images[:, 0], official.data[:50_000])
    assert torch.equal(mnist.val.images[:, 0], official.data[50_000:])
    assert torch.equal(mnist.val.labels, official.targets[50_000:])
    assert torch.equal(mnist.test.images[:, 0], MNIST(ROOT / "data", train=False).data)


def test_images_are_kept_once_as_bytes(mnist: ImageDataModule) -> None:
    assert mnist.train.images.dtype == torch.uint8
    assert mnist.train.images.untyped_storage().data_ptr() == mnist.val.images.untyped_storage().data_ptr()


def test_batches_are_bytes_and_floats_only_on_the_device(mnist: ImageDataModule) -> None:
    batch = next(iter(mnist.train_dataloader()))
    assert batch[0].shape == (64, 1, 28, 28)
    assert batch[0].dtype == torch.uint8
    images, labels = mnist.on_after_batch_transfer(batch, 0)
    assert images.dtype == torch.float32
    assert (images.min(), images.max()) == (-1, 1)
    assert labels.shape == (64,)


def test_a_step_takes_all_its_minibatches(mnist: ImageDataModule) -> None:
    data = ImageDataModule(
        dataset=MNIST, root=mnist.root, batch_size=10, val_size=10_000, seed=0, minibatches_per_step=6
    )
    data.setup()
    images, _ = next(iter(data.train_dataloader()))
    assert len(images) == 60


def test_images_of_another_shape_are_refused(mnist: ImageDataModule) -> None:
    data = ImageDataModule(
        dataset=MNIST, root=mnist.root, batch_size=10, val_size=10_000, seed=0, image_shape=[1, 32, 32]
    )
    with pytest.raises(InputError, match=r"model\.image_shape=\[1, 32, 32\]: the data set's images have \[1, 28, 28\]"):
        data.setup()


def test_evaluation_sees_every_image_in_order(mnist: ImageDataModule) -> None:
    for loader, images in ((mnist.val_dataloader(), mnist.val), (mnist.test_dataloader(), mnist.test)):
        assert torch.equal(torch.cat([batch for batch, _ in loader]), images.images)


@pytest.mark.parametrize("images", [2001, 1999, 2000, 3])
def test_ranks_evaluate_as_many_batches_each(mnist: ImageDataModule, images: int) -> None:
    held = InMemoryImages(*mnist.test[:images])
    batches = []
    for rank in range(2):
        data = ImageDataModule(dataset=MNIST, root=mnist.root, batch_size=10, val_size=10_000, seed=0)
        data.trainer = SimpleNamespace(global_rank=rank, world_size=2)  # type: ignore[assignment]
        batches.append([len(batch) for batch, _ in data._in_order(held)])
    assert len(batches[0]) == len(batches[1])
    assert sum(batches[0]) + sum(batches[1]) == images
    assert max(batches[0]) <= data.eval_batch_size


def test_as_many_devices_must_go_on(mnist: ImageDataModule) -> None:
    data = ImageDataModule(dataset=MNIST, root=mnist.root, batch_size=10, val_size=10_000, seed=0)
    data.trainer = SimpleNamespace(global_step=7, world_size=4)  # type: ignore[assignment]
    state = data.state_dict()
    data.trainer.world_size = 8
    with pytest.raises(InputError, match=r"^trainer.devices: 8 in all; allowed: 4"):
        data.load_state_dict(state)


def test_transforms_are_heeded_in_memory(mnist: ImageDataModule) -> None:
    dataset = MNIST(mnist.root, train=False, transform=Resize(32))
    assert InMemoryImages.of(dataset).images.shape == (10_000, 1, 32, 32)


@pytest.mark.parametrize("name", ["fashion_mnist", "kmnist"])
def test_mnists_kin_are_a_yaml_each(name: str, tmp_path: Path) -> None:
    config = compose("train", [f"data={name}", f"data.root={tmp_path}", "data.val_size=2"])
    data = instantiate(config.data, _convert_="all")
    raw = tmp_path / data.dataset.func.__name__ / "raw"
    raw.mkdir(parents=True)
    for part, n in (("train", 8), ("t10k", 4)):
        shape = b"".join(size.to_bytes(4, "big") for size in (n, 28, 28))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + shape + bytes(n * 784))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + n.to_bytes(4, "big") + bytes(n))
    data.prepare_data()
    data.setup()
    assert [len(split) for split in (data.train, data.val, data.test)] == [6, 2, 4]


def test_archives_are_the_official_ones_and_need_no_network(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, _ in MNIST.resources:
        (raw / name).symlink_to(ROOT / "data" / "MNIST" / "raw" / name)
    data = ImageDataModule(dataset=MNIST, root=str(tmp_path), batch_size=64, val_size=10_000, seed=0)
    data.prepare_data()
    assert (raw / "train-images-idx3-ubyte").stat().st_size == 16 + 60_000 * 784


@pytest.mark.parametrize("folder", ["", "absent/as/yet"])
def test_runs_started_at_once_unpack_one_after_the_other(tmp_path: Path, folder: str) -> None:
    at_work: list[int] = []
    most = 0

    def dataset(root: str, **_: Any) -> None:
        nonlocal most
        at_work.append(1)
        Path(root).mkdir(parents=True, exist_ok=True)
        (Path(root) / "archive").touch()
        time.sleep(0.05)
        most = max(most, len(at_work))
        at_work.pop()

    module = ImageDataModule(dataset=dataset, root=str(tmp_path / folder), batch_size=1, val_size=1, seed=0)
    with ThreadPoolExecutor(3) as runs:
        list(runs.map(lambda i: [time.sleep(0.02 * i), module.prepare_data()], range(3)))
    assert most == 1


def test_what_was_made_to_be_locked_is_not_left(tmp_path: Path) -> None:
    with alone(str(tmp_path / "as" / "yet")):
        assert (tmp_path / "as" / "yet").is_dir()
    assert not any(tmp_path.iterdir())


def test_absent_data_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MNIST, "mirrors", [(tmp_path / "nowhere").as_uri() + "/"])
    data = ImageDataModule(dataset=MNIST, root=str(tmp_path / "empty"), batch_size=64, val_size=10_000, seed=0)
    with pytest.raises(InputError, match=r"^data.root=.*empty: MNIST is not there and could not be downloaded"):
        data.prepare_data()


def test_a_fault_in_a_data_set_of_ones_own_is_its_own(tmp_path: Path) -> None:
    def faulty(root: str, train: bool, download: bool) -> Any:
        raise RuntimeError("of one's own")

    with pytest.raises(RuntimeError, match=r"^of one's own$"):
        ImageDataModule(dataset=faulty, root=str(tmp_path), batch_size=2, val_size=1, seed=0).prepare_data()


def test_a_folder_without_classes_is_one_clear_line(tmp_path: Path) -> None:
    data = instantiate(compose("train", ["data=folder", f"data.root={tmp_path}"]).data, _convert_="all")
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match=rf"^data.root={tmp_path}: Couldn't find any class folder in"):
        data.prepare_data()


def test_a_damaged_archive_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MNIST, "mirrors", [(tmp_path / "nowhere").as_uri() + "/"])
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / MNIST.resources[0][0]).write_bytes(gzip.compress(b"not MNIST"))
    with pytest.raises(InputError):
        ImageDataModule(dataset=MNIST, root=str(tmp_path), batch_size=64, val_size=10_000, seed=0).prepare_data()


def test_minibatches_are_as_many_as_the_gan_takes() -> None:
    data = ImageDataModule(dataset=MNIST, root=str(ROOT / "data"), batch_size=9, val_size=10, seed=0)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False)
    with pytest.raises(InputError, match=r"^minibatches_per_step=1: allowed: the GAN's, 2$"):
        trainer.fit(tiny_gan(k=2), data)


def test_a_batch_larger_than_the_data_is_refused() -> None:
    def dataset(root: str, train: bool, download: bool) -> Any:
        return FakeData(size=20, image_size=(1, 4, 4))

    data = ImageDataModule(dataset=partial(dataset), root="", batch_size=9, val_size=10, seed=0, minibatches_per_step=2)
    data.setup()
    with pytest.raises(InputError, match=r"data.batch_size=9: .* data.val_size=10 leaves 10 .* at most 5"):
        data.train_dataloader()


def test_there_is_an_image_for_each_device() -> None:
    data = ImageDataModule(dataset=MNIST, root=str(ROOT / "data"), batch_size=9, val_size=1, seed=0)
    data.setup()
    data.trainer = SimpleNamespace(global_rank=0, world_size=2)  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"^1 images to validate \(data.val_size\) or test; allowed: 2 or more"):
        data.val_dataloader()
    assert len(data.test_dataloader()) == 5


def folder(root: Path) -> Path:
    """Write grey squares, light ones of class a and dark ones of class b, 30 x 32 pixels."""
    for part in ("train", "test"):
        for name, light in (("a", 200), ("b", 20)):
            (root / part / name).mkdir(parents=True)
            for i in range(20):
                Image.new("RGB", (30, 32), (light + i,) * 3).save(root / part / name / f"{i}.png")
    return root


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_folder_is_streamed_as_if_it_were_held(tmp_path: Path, num_workers: int) -> None:
    typed = ["data=folder", f"data.root={folder(tmp_path)}", "data.val_size=10", "data.batch_size=8"]

    def batches(*more: str) -> list[Any]:
        data = instantiate(compose("train", [*typed, *more]).data, _convert_="all")
        data.prepare_data()
        data.setup()
        assert set(data.val.labels.tolist()) == {0, 1}
        return list(data.train_dataloader())

    streamed = batches(f"data.num_workers={num_workers}")
    assert [images.shape for images, _ in streamed] == [(8, 1, 28, 28)] * 3
    assert same(streamed, batches("data.in_memory=true"))
    assert all(((images[:, 0, 0, 0] < 100) == labels.bool()).all() for images, labels in streamed)


def test_training_images_live_on_the_accelerator(mnist: ImageDataModule) -> None:
    strategy = SimpleNamespace(root_device=torch.device("meta"))
    ranks = {"global_rank": 0, "world_size": 1}
    trainer: Any = SimpleNamespace(strategy=strategy, global_step=0, lightning_module=tiny_gan(), **ranks)
    for device, where in (("auto", "meta"), ("cpu", "cpu")):
        data = ImageDataModule(dataset=MNIST, root=mnist.root, batch_size=64, val_size=10_000, seed=0, device=device)
        data.trainer = trainer
        data.setup()
        images, _ = next(iter(data.train_dataloader()))
        assert images.device.type == where
        assert data.val.images.device.type == "cpu"
