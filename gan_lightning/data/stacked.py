"""Stacked MNIST: three digits as the color channels of one image, so that there are 1,000 classes."""

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchvision.datasets import MNIST

from gan_lightning.data.images import InMemoryImages

TEST_SIZE = 10_000
CHANNELS = 3


class StackedMNIST:
    """Color images whose channels are digits of MNIST, drawn at random; labels 100 a + 10 b + c.

    Metz et al., Unrolled Generative Adversarial Networks, 2017, section 3.3; in PacGAN (Lin et al., 2018) there are
    128,000 training images. Only the digits, and their indices in each image, are held in memory.

    Args:
        root: The folder that holds MNIST.
        train: Whether to stack the official training images or the test images.
        download: Whether MNIST may be downloaded.
        size: Number of training images; there are ``TEST_SIZE`` test images.

    Raises:
        ValueError: If the size is less than 1.
    """

    source: ClassVar[Any] = MNIST  # whose archives are checked

    def __init__(self, root: str, *, train: bool, download: bool = False, size: int) -> None:
        if size < 1:
            raise ValueError(f"size={size}: must be at least 1")
        digits = MNIST(root, train=train, download=download)
        generator = torch.Generator().manual_seed(int(train))
        stacks = torch.randint(len(digits), (size if train else TEST_SIZE, CHANNELS), generator=generator)
        self.images = StackedImages(digits.data, digits.targets, stacks)
        self.targets = self.images.labels

    def labeled_images(self) -> "StackedImages":
        """Return the stacked images, with their labels."""
        return self.images

    def __len__(self) -> int:
        return len(self.images)


class StackedImages(InMemoryImages):
    """Images that are composed when they are indexed.

    Args:
        digits: The images (M, H, W), uint8, that are stacked.
        classes: Their classes (M,), 0 to 9.
        stacks: Indices (N, C) of the digits that are the channels of each image.
    """

    def __init__(self, digits: Tensor, classes: Tensor, stacks: Tensor) -> None:
        self.digits, self.classes, self.stacks = digits, classes, stacks
        self.places = 10 ** torch.arange(stacks.shape[1] - 1, -1, -1, device=stacks.device)  # 100, 10, 1

    def __len__(self) -> int:
        return len(self.stacks)

    def __getitem__(self, index: int | Tensor | slice) -> tuple[Tensor, Tensor]:
        chosen = self.stacks[index.to(self.stacks.device) if isinstance(index, Tensor) else index]  # (B, C) or (C,)
        return self.digits.index_select(0, chosen.flatten()).unflatten(0, chosen.shape), self.label(chosen)

    def label(self, stacks: Tensor) -> Tensor:
        """Return the labels (...) of stacks (..., C): the number that its digits form."""
        return (self.classes[stacks] * self.places).sum(-1)

    @property
    def images(self) -> Tensor:  # type: ignore[override]
        """All images (N, C, H, W), composed: for few of them."""
        return self[:][0]

    @property
    def labels(self) -> Tensor:  # type: ignore[override]
        """All labels (N,)."""
        return self.label(self.stacks)

    def first(self, number: int) -> "StackedImages":
        """Return the first images."""
        return StackedImages(self.digits, self.classes, self.stacks[:number])

    def to(self, device: torch.device) -> "StackedImages":
        """Return a copy on a device."""
        return StackedImages(self.digits.to(device), self.classes.to(device), self.stacks.to(device))

    def batches(self, size: int | None = None) -> Iterator[Tensor]:
        """Yield all images in order, (size, C, H, W) at a time, 1,000 for None."""
        yield from (self[chosen][0] for chosen in torch.arange(len(self)).split(size or 1000))
