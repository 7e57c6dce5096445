"""Pictures from tensors."""

from collections.abc import Iterable
from math import ceil, sqrt
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from gan_lightning.metrics.neighbours import squared_distances


def grid(pixels: Tensor, columns: int | None = None) -> Tensor:
    """Lay images (N, C, H, W), uint8, out in rows, as near a square as they go by default: (3, H', W'), uint8."""
    return make_grid(pixels, nrow=columns or ceil(sqrt(len(pixels))), padding=2)


def beside_nearest(pixels: Tensor, train: Iterable[Tensor], pairs: int = 4) -> Tensor:
    """Draw each image with, close on its right, the training image nearest to it (the paper's Figure 2).

    Args:
        pixels: Generated images (N, C, H, W), uint8.
        train: Training images, (M, C, H, W) at a time, uint8.
        pairs: In a row.

    Returns:
        A picture (3, H', W'), uint8, with white lines between the pairs.
    """
    images = pixels.flatten(1).float()
    best = torch.full((len(pixels),), torch.inf, device=pixels.device)
    nearest = pixels.clone()
    for part in train:
        squares, which = squared_distances(images, part.flatten(1).to(images)).min(1)
        closer = squares < best
        best[closer] = squares[closer]
        nearest[closer] = part.to(pixels.device)[which[closer]]
    return make_grid(torch.cat([pixels, nearest], 3), nrow=pairs, padding=2, pad_value=255)


def save(pixels: Tensor, path: Path | str, scale: int = 1) -> None:
    """Write one picture (C, H, W), uint8, each pixel drawn ``scale`` pixels wide."""
    picture = to_pil_image(pixels.cpu())
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(path)
