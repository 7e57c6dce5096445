import torch
from torchvision.datasets import FakeData

from gan_lightning.data.images import InMemoryImages, StreamedImages, normalize, to_pixels
from tests.helpers import same


def test_pixels_survive_normalization() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    images = normalize(pixels)
    assert images[0] == -1
    assert images[-1] == 1
    assert torch.equal(to_pixels(images), pixels)


def test_out_of_range_images_are_clamped() -> None:
    assert to_pixels(torch.tensor([-2.0, 2.0])).tolist() == [0, 255]


def test_any_torchvision_style_data_set() -> None:
    data = InMemoryImages.of(FakeData(size=5, image_size=(3, 8, 6), num_classes=4))
    assert data.images.shape == (5, 3, 8, 6)
    assert data.images.dtype == torch.uint8
    assert data.labels.dtype == torch.int64
    assert len(data) == 5


def test_one_index_or_several() -> None:
    data = InMemoryImages(torch.arange(12, dtype=torch.uint8).view(3, 1, 2, 2), torch.tensor([7, 8, 9]))
    image, label = data[1]
    assert image.shape == (1, 2, 2)
    assert label == 8
    images, labels = data[torch.tensor([2, 0])]
    assert images.shape == (2, 1, 2, 2)
    assert labels.tolist() == [9, 7]


def test_streamed_images_equal_those_in_memory() -> None:
    source = FakeData(size=25, image_size=(3, 8, 6), num_classes=4)
    in_memory, streamed = InMemoryImages.of(source), StreamedImages(source, range(20))
    assert len(streamed) == 20
    index = torch.tensor([19, 3, 3])
    assert same(in_memory[index], streamed[index])
    assert torch.equal(torch.cat(list(streamed.batches(7))), in_memory.images[:20])
    assert [len(batch) for batch in in_memory.batches(10)] == [10, 10, 5]


def test_images_on_a_device_are_indexed_on_it() -> None:
    data = InMemoryImages.of(FakeData(size=5, image_size=(3, 8, 6))).to(torch.device("meta"))
    images, labels = data[torch.tensor([1, 2])]
    assert (images.device.type, labels.device.type, images.shape) == ("meta", "meta", (2, 3, 8, 6))
