"""Images as bytes, in memory or read from their source, and their conversion to floats."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gan_lightning.data.conversion import CANNOT_READ, Conversion
from gan_lightning.errors import third_party_errors

UNCHANGED = Conversion()
BATCH_VALUES = 2**22  # of a batch outside of training: 16 MB as floats


def normalize(pixels: Tensor) -> Tensor:
    """Convert bytes 0..255 to floats in [-1, 1], any shape; floats, which are in [-1, 1] already, stay as they are."""
    return pixels if pixels.is_floating_point() else pixels.float().div_(127.5).sub_(1)


def to_pixels(images: Tensor) -> Tensor:
    """Convert floats in [-1, 1] to the nearest bytes 0..255, any shape; the inverse of :func:`normalize`."""
    return images.add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def fitting_batch_size(shape: torch.Size) -> int:
    """Return how many images of a shape (C, H, W) are a batch of bounded memory, outside of training: at most 1,000."""
    return min(max(BATCH_VALUES // shape.numel(), 1), 1000)


def image_shape(images: "InMemoryImages | StreamedImages") -> torch.Size:
    """Return the shape (C, H, W) of an image, by reading the first."""
    return images[torch.arange(1)][0].shape[1:]


class InMemoryImages(Dataset[tuple[Tensor, Tensor]]):
    """Labeled images held on any device, indexed by one number or by a tensor of several.

    Args:
        images: (N, C, H, W), uint8, or floats in [-1, 1].
        labels: (N,), int64.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    @classmethod
    def of(cls, dataset: Any, conversion: Conversion = UNCHANGED) -> "InMemoryImages":
        """Read a whole torchvision-style data set: PIL images with integer labels.

        A data set that holds its images itself may return them in this form by a method ``labeled_images()``.
        """
        if hasattr(dataset, "labeled_images"):
            return dataset.labeled_images()
        untransformed = getattr(dataset, "transform", None) is None
        # MNIST and the data sets in its format already hold all images in one tensor.
        if untransformed and isinstance(getattr(dataset, "data", None), Tensor) and dataset.data.ndim == 3:
            images = dataset.data.unsqueeze(1)
            if conversion.keeps(images.shape[1:]) and dataset.targets.ndim == 1:
                return cls(images, dataset.targets)
        return cls(*StreamedImages(dataset, conversion=conversion)[torch.arange(len(dataset))])

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

    def split(self, number: int) -> tuple["InMemoryImages", "InMemoryImages"]:
        """Return the first images, and the others."""
        return self.first(number), InMemoryImages(*self[number:])

    def to(self, device: torch.device) -> "InMemoryImages":
        """Return a copy on a device, or this data set if the copy would take more than half of a GPU's free memory."""
        if device.type == "cuda" and self.images.nbytes > torch.cuda.mem_get_info(device)[0] / 2:
            return self
        return InMemoryImages(self.images.to(device), self.labels.to(device))

    def batches(self, size: int | None = None) -> Iterator[Tensor]:
        """Yield all images in order, (size, C, H, W) at a time; see :func:`fitting_batch_size` for None."""
        yield from self.images.split(size or fitting_batch_size(self.images.shape[1:]))


class StreamedImages(Dataset[tuple[Tensor, Tensor]]):
    """Labeled images read from their source each time, indexed by a tensor; for more images than memory can hold.

    Args:
        dataset: A torchvision-style data set: PIL images with integer labels.
        indices: The images to use; None: all.
        conversion: Converts an image to bytes (C, H, W).
    """

    def __init__(self, dataset: Any, indices: range | None = None, conversion: Conversion = UNCHANGED) -> None:
        self.dataset, self.conversion = dataset, conversion
        self.indices = range(len(dataset)) if indices is None else indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor]:
        pixels, labels = zip(*(self.read(self.indices[i]) for i in index.tolist()), strict=True)
        with third_party_errors(
            f"data.dataset: {self.name} must have images of one size; set data.image_size and data.channels"
        ):
            return torch.stack(pixels), torch.tensor(labels)

    @property
    def name(self) -> str:
        """Name of the data set's class."""
        return type(self.dataset).__name__

    @property
    def labels(self) -> Tensor:
        """All labels (N,)."""
        known = torch.as_tensor(getattr(self.dataset, "targets", ()))
        if len(known) and known.ndim == 1:  # QMNIST's have more about each image
            return known[self.indices.start : self.indices.stop]
        return torch.cat([self[index][1] for index in torch.arange(len(self)).split(1000)])

    def read(self, index: int) -> tuple[Tensor, int]:
        """Return the bytes (C, H, W) and the label of an image of the data set.

        Raises:
            InputError: If it cannot be read; it has the file's name, if Pillow knows it.
        """
        with third_party_errors(f"data.dataset: {self.name} must have PIL images and labels"):
            image, label = self.dataset[index]
            label = int(label)
        with third_party_errors(f"{getattr(image, 'filename', '') or f'image {index} of {self.name}'}: {CANNOT_READ}"):
            return self.conversion(image), label

    def first(self, number: int) -> "StreamedImages":
        """Return the first images."""
        return StreamedImages(self.dataset, self.indices[:number], self.conversion)

    def split(self, number: int) -> tuple["StreamedImages", "StreamedImages"]:
        """Return the first images, and the others."""
        rest = StreamedImages(self.dataset, self.indices[number:], self.conversion)
        return self.first(number), rest

    def to(self, device: torch.device) -> "StreamedImages":
        """Return this data set, whose images are always on the CPU."""
        return self

    def batches(self, size: int | None = None) -> Iterator[Tensor]:
        """Yield all images in order, (size, C, H, W) at a time; see :func:`fitting_batch_size` for None."""
        size = size or fitting_batch_size(image_shape(self))
        yield from (self[index][0] for index in torch.arange(len(self)).split(size))
