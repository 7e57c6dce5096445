from functools import partial
from pathlib import Path

import pytest
import torch
from torchvision.datasets import MNIST

from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.data.images import normalize
from gan_lightning.data.stacked import TEST_SIZE, StackedImages, StackedMNIST
from gan_lightning.metrics.features import FOLDER, load_features
from tests.helpers import ROOT, same

DATA = str(ROOT / "data")


@pytest.fixture(scope="module")
def stacked() -> StackedMNIST:
    return StackedMNIST(DATA, train=True, size=500)


def test_channels_are_digits_and_the_label_is_their_number(stacked: StackedMNIST) -> None:
    mnist = MNIST(DATA, train=True)
    images, labels = stacked.labeled_images()[torch.tensor([3, 499])]
    assert (images.shape, images.dtype) == ((2, 3, 28, 28), torch.uint8)
    for row, index in enumerate((3, 499)):
        a, b, c = stacked.images.stacks[index].tolist()
        assert torch.equal(images[row], torch.stack([mnist.data[a], mnist.data[b], mnist.data[c]]))
        assert labels[row] == 100 * mnist.targets[a] + 10 * mnist.targets[b] + mnist.targets[c]


def test_images_are_composed_when_they_are_indexed() -> None:
    many = StackedMNIST(DATA, train=True, size=10**6).labeled_images()  # composed, 2.4 GB
    assert sum(tensor.nbytes for tensor in vars(many).values()) < 75e6
    assert len(many) == 10**6
    assert many[10**6 - 1][0].shape == (3, 28, 28)


def test_every_way_to_read_them_gives_the_same(stacked: StackedMNIST) -> None:
    images = stacked.labeled_images()
    whole = images[torch.arange(500)]
    assert same(images[:], whole)
    assert same((images.images, images.labels), whole)
    assert same(images[7], (whole[0][7], whole[1][7]))
    assert [len(batch) for batch in images.batches(200)] == [200, 200, 100]
    assert torch.equal(torch.cat(list(images.batches(200))), whole[0])
    assert same(images.first(50)[:], (whole[0][:50], whole[1][:50]))
    assert images.to(torch.device("meta"))[torch.arange(2)][0].device.type == "meta"


def test_the_data_module_splits_them() -> None:
    dataset = partial(StackedMNIST, size=500)
    module = ImageDataModule(dataset=dataset, root=DATA, batch_size=64, val_size=100, seed=0, image_shape=[3, 28, 28])
    module.prepare_data()
    module.setup()
    whole = dataset(DATA, train=True).labeled_images()[:]
    assert isinstance(module.train, StackedImages)
    assert torch.equal(torch.cat([module.train.images, module.val.images]), whole[0])
    assert torch.equal(torch.cat([module.train.labels, module.val.labels]), whole[1])
    images, labels = next(iter(module.train_dataloader()))
    assert (images.shape, labels.shape) == ((64, 3, 28, 28), (64,))
    assert sum(len(batch) for _, batch in module.test_dataloader()) == TEST_SIZE
    assert len({tuple(stack) for stack in module.test.stacks.tolist()}) == TEST_SIZE  # type: ignore[attr-defined]


def test_a_damaged_archive_of_mnist_is_found(tmp_path: Path) -> None:
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz").write_bytes(b"damaged")
    module = ImageDataModule(
        dataset=partial(StackedMNIST, size=5), root=str(tmp_path), batch_size=1, val_size=1, seed=0
    )
    module.download = False
    with pytest.raises(Exception, match="the file is damaged"):
        module.prepare_data()


def test_each_channel_is_classified_by_itself(stacked: StackedMNIST) -> None:
    sha256 = "6b11afcb1f479ddec873d4586ed292a9a96ed4947b26e53410cce9954bf621c0"
    three, one = (load_features(weights=str(FOLDER / "mnist.safetensors"), sha256=sha256, stacked=n) for n in (3, 1))
    images, labels = stacked.labeled_images()[:200]
    images = normalize(images)
    assert (three.num_features, three.num_classes) == (96, 1000)
    channels = [images[:, i : i + 1] for i in range(3)]
    torch.testing.assert_close(three(images), torch.cat([one(channel) for channel in channels], 1))
    a, b, c = (one.classify(channel) for channel in channels)
    assert torch.equal(three.classify(images), 100 * a + 10 * b + c)
    assert (three.classify(images) == labels).float().mean() > 0.96


def test_sizes_are_validated() -> None:
    with pytest.raises(ValueError, match=r"^size=0: .* at least 1"):
        StackedMNIST(DATA, train=True, size=0)
