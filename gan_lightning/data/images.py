"""Images as bytes, in memory or read from their source, and their conversion to floats."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.functional import pil_to_tensor

from gan_lightning.errors import third_party_errors


def normalize(pixels: Tensor) -> Tensor:
    """Convert bytes 0..255 to floats in [-1, 1], any shape; floats, which are in [-1, 1] already, stay as they are."""
    return pixels if pixels.is_floating_point() else pixels.float().div_(127.5).sub_(1)


def to_pixels(images: Tensor) -> Tensor:
    """Convert floats in [-1, 1] to the nearest bytes 0..255, any shape; the inverse of :func:`normalize`."""
    return images.add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


class InMemoryImages(Dataset[tuple[Tensor, Tensor]]):
    """Labeled images held on any device, indexed by one number or by a tensor of several.

    Args:
        images: (N, C, H, W), uint8, or floats in [-1, 1].
        labels: (N,), int64.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    @classmethod
    def of(cls, dataset: Any) -> "InMemoryImages":
        """Read a whole torchvision-style data set: PIL images of one size, with integer labels.

        A data set that holds its images itself may return them in this form by a method ``labeled_images()``.
        """
        if hasattr(dataset, "labeled_images"):
            return dataset.labeled_images()
        untransformed = getattr(dataset, "transform", None) is None
        # MNIST and the data sets in its format already hold all images in one tensor.
        if untransformed and isinstance(getattr(dataset, "data", None), Tensor) and dataset.data.ndim == 3:
            return cls(dataset.data.unsqueeze(1), dataset.targets)
        return cls(*StreamedImages(dataset, len(dataset))[torch.arange(len(dataset))])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int | Tensor | slice) -> tuple[Tensor, Tensor]:
        if isinstance(index, Tensor):  # index_select copies whole rows, three times as fast as indexing
            index = index.to(self.images.device, non_blocking=True)
            return self.images.index_select(0, index), self.labels.index_select(0, index)
        return self.images[index], self.labels[index]

    def first(self, number: int) -> "InMemoryImages":
        """Return a view of the first images."""
        return InMemoryImages(self.images[:number], self.labels[:number])

    def to(self, device: torch.device) -> "InMemoryImages":
        """Return a copy on a device, or this data set if the copy would take more than half of a GPU's free memory."""
        if device.type == "cuda" and self.images.nbytes > torch.cuda.mem_get_info(device)[0] / 2:
            return self
        return InMemoryImages(self.images.to(device), self.labels.to(device))

    def batches(self, size: int = 1000) -> Iterator[Tensor]:
        """Yield all images in order, (size, C, H, W) at a time."""
        yield from self.images.split(size)


class StreamedImages(Dataset[tuple[Tensor, Tensor]]):
    """Labeled images read from their source each time, indexed by a tensor; for more images than memory can hold.

    Args:
        dataset: A torchvision-style data set: PIL images of one size, with integer labels.
        size: Number of images to use, starting with the first.
    """

    def __init__(self, dataset: Any, size: int) -> None:
        self.dataset, self.size = dataset, size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor]:
        with third_party_errors(
            f"data.dataset: {type(self.dataset).__name__} must have PIL images of one size and labels"
        ):
            images, labels = zip(*(self.dataset[i] for i in index.tolist()), strict=True)
            return torch.stack([pil_to_tensor(image) for image in images]), torch.tensor(labels)

    def batches(self, size: int = 1000) -> Iterator[Tensor]:
        """Yield all images in order, (size, C, H, W) at a time."""
        yield from (self[index][0] for index in torch.arange(self.size).split(size))
