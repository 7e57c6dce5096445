"""Pictures from tensors."""

from math import ceil, sqrt
from pathlib import Path

from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid


def grid(pixels: Tensor) -> Tensor:
    """Lay images (N, C, H, W), uint8, out as near a square as they go: (3, H', W'), uint8."""
    return make_grid(pixels, nrow=ceil(sqrt(len(pixels))), padding=2)


def save(pixels: Tensor, path: Path | str, scale: int = 1) -> None:
    """Write one picture (C, H, W), uint8, each pixel drawn ``scale`` pixels wide."""
    picture = to_pil_image(pixels.cpu())
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(path)
