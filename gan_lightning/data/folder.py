"""A folder of one's own images."""

import random
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from gan_lightning.errors import InputError


class Folder(ImageFolder):
    """The images below ``root/train`` or ``root/test``, a folder a class, in an order that mixes the classes.

    What is transparent becomes opaque; 16 bits of grey become 8.

    Args:
        root: The folder of both.
        size: What the shorter side is resized to; the longer is cut to it, in the middle.
        channels: 1: grey, 3: colour.
        train: Which of the two.
        download: Not used; there is nowhere to get them from.

    Raises:
        FileNotFoundError: If there is no such folder, or no image in it.
    """

    def __init__(self, root: str, *, size: int, channels: int, train: bool, download: bool) -> None:
        changes = [v2.Grayscale(channels)] if channels == 1 else []
        super().__init__(
            str(Path(root) / ("train" if train else "test")),
            loader=read,
            transform=v2.Compose([*changes, v2.Resize(size), v2.CenterCrop(size)]),
        )
        random.Random(0).shuffle(self.samples)


def read(path: str) -> Image.Image:
    """Read an image as RGB.

    Raises:
        InputError: If it cannot be read.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
                return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert("RGB")
            return image.convert("RGB")
    except OSError as error:
        raise InputError(f"{path}: not an image that can be read, or a part of one") from error
