"""A folder of the user's own images."""

import random
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from gan_lightning.errors import InputError, third_party_errors


class Folder(ImageFolder):
    """The images in ``root/train`` or ``root/test``, with one folder per class, in an order that mixes the classes.

    Transparency is dropped, and 16-bit grayscale is reduced to 8 bits.

    Args:
        root: The folder that holds ``train`` and ``test``.
        size: Pixels that the shorter side is resized to; the longer side is then cropped to it, around the center.
        channels: 1 for grayscale, 3 for color.
        train: Whether to use ``train`` or ``test``.
        download: Ignored, as nothing can be downloaded.

    Raises:
        ValueError: If an argument is out of range.
        FileNotFoundError: If the folder is absent or has no images.
        InputError: If ``test`` has a class that ``train`` does not have.
    """

    def __init__(self, root: str, *, size: int, channels: int, train: bool, download: bool) -> None:
        if size < 1:
            raise ValueError(f"size={size}: must be at least 1")
        if channels not in (1, 3):
            raise ValueError(f"channels={channels}: must be 1 (grayscale) or 3 (color)")
        grayscale = [v2.Grayscale()] if channels == 1 else []
        self.train_folder = Path(root) / "train"
        super().__init__(
            str(Path(root) / ("train" if train else "test")),
            loader=read,
            allow_empty=not train,
            transform=v2.Compose([*grayscale, v2.Resize(size), v2.CenterCrop(size)]),
        )
        if not self.samples:
            raise FileNotFoundError(f"no images in {self.root}")
        random.Random(0).shuffle(self.samples)
        self.targets = [label for _, label in self.samples]

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        """Return the classes, and the label of each: those of ``train``, also for ``test``."""
        found, indices = super().find_classes(directory)
        if not self.train_folder.is_dir():
            return found, indices
        classes, indices = super().find_classes(str(self.train_folder))
        if unknown := sorted(set(found).difference(classes)):
            raise InputError(f"{Path(directory) / unknown[0]}: a class of which {self.train_folder} has no images")
        return classes, indices


def read(path: str) -> Image.Image:
    """Read an image as RGB.

    Raises:
        InputError: If it cannot be read.
    """
    with third_party_errors(f"{path}: cannot be read as an image"), Image.open(path) as image:
        if image.mode.startswith("I"):  # 16 bits, which Pillow would clip at 255
            return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert("RGB")
        return image.convert("RGB")
