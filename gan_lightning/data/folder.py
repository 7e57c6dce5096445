"""A folder of one's own images."""

import random
from pathlib import Path

from torchvision.datasets import ImageFolder
from torchvision.transforms import v2


class Folder(ImageFolder):
    """The images below ``root/train`` or ``root/test``, a folder a class, in an order that mixes the classes.

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
            transform=v2.Compose([*changes, v2.Resize(size), v2.CenterCrop(size)]),
        )
        random.Random(0).shuffle(self.samples)
