"""Numbers in place of images: the data of the paper's Figure 1."""

from typing import Any

import torch
from torchvision.transforms.functional import to_pil_image

from gan_lightning.data.images import to_pixels


class Gaussian:
    """A torchvision-style data set of images of one pixel, drawn from a normal distribution.

    Args:
        root: Not used, as there are no files.
        train: The training images, or as many others to test on.
        download: Not used.
        mean: Of the pixel, in [-1, 1].
        std: Of the pixel.
        size: How many.
    """

    def __init__(self, root: str, *, train: bool, download: bool = False, mean: float, std: float, size: int) -> None:
        generator = torch.Generator().manual_seed(int(train))
        self.data = to_pixels(torch.randn(size, 1, 1, generator=generator) * std + mean)
        self.targets = torch.zeros(size, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return to_pil_image(self.data[index]), 0
