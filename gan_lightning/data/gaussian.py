"""The data of the paper's Figure 1: numbers in place of images."""

from typing import Any

import torch
from torchvision.transforms.functional import to_pil_image

from gan_lightning.data.images import to_pixels


class Gaussian:
    """A torchvision-style data set of one-pixel images sampled from a normal distribution.

    Args:
        root: Ignored, as no files are read.
        train: Whether to return the training images, or as many test images.
        download: Ignored.
        mean: Mean of the pixel, in [-1, 1].
        std: Standard deviation of the pixel, above 0.
        size: Number of images.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, root: str, *, train: bool, download: bool = False, mean: float, std: float, size: int) -> None:
        if not std > 0:
            raise ValueError(f"std={std}: must be above 0")
        if size < 1:
            raise ValueError(f"size={size}: must be at least 1")
        generator = torch.Generator().manual_seed(int(train))
        self.data = to_pixels(torch.randn(size, 1, 1, generator=generator) * std + mean)
        self.targets = torch.zeros(size, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return to_pil_image(self.data[index]), 0
