"""Pictures from tensors."""

from collections.abc import Iterable
from math import ceil, sqrt
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from gan_lightning.metrics.neighbors import squared_distances


def grid(pixels: Tensor, columns: int | None = None) -> Tensor:
    """Return a picture (3, H', W') of images (N, C, H, W) in rows, all uint8; by default nearly a square."""
    return make_grid(pixels, nrow=columns or ceil(sqrt(len(pixels))), padding=2)


def nearest_pairs(pixels: Tensor, train: Iterable[Tensor], pairs: int = 4) -> Tensor:
    """Return a picture of each image with the nearest training image on its right (the paper's Figure 2).

    Args:
        pixels: Generated images (N, C, H, W), uint8.
        train: Batches of training images (M, C, H, W), uint8.
        pairs: Number of pairs in a row.

    Returns:
        A picture (3, H', W'), uint8, with white lines between the pairs.
    """
    images = pixels.flatten(1).float()
    best = torch.full((len(pixels),), torch.inf, device=pixels.device)
    nearest = pixels.clone()
    for batch in train:
        distances, indices = squared_distances(images, batch.flatten(1).to(images)).min(1)
        closer = distances < best
        best[closer] = distances[closer]
        nearest[closer] = batch.to(pixels.device)[indices[closer]]
    return make_grid(torch.cat([pixels, nearest], 3), nrow=pairs, padding=2, pad_value=255)


def save(pixels: Tensor, path: Path | str, scale: int = 1) -> None:
    """Write a picture (C, H, W), uint8, with every pixel ``scale`` pixels wide."""
    picture = to_pil_image(pixels.cpu())
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(path)


def write_images(batches: Iterable[Tensor], out: Path, *, columns: int = 0) -> None:
    """Write batches of images (N, C, H, W), uint8, as a grid (.png), an array ``arr_0`` (.npz) or a folder.

    The array is (N, H, W, C); a folder gets a PNG file per image. A grid has that many columns if that is 2 to 32, and
    is nearly a square otherwise.
    """
    if out.suffix == ".png":
        save(grid(torch.cat(list(batches)), columns if 2 <= columns <= 32 else None), out)
    elif out.suffix == ".npz":
        np.savez_compressed(out, torch.cat(list(batches)).permute(0, 2, 3, 1).numpy())
    else:
        out.mkdir(exist_ok=True)
        for i, image in enumerate(image for batch in batches for image in batch):
            to_pil_image(image).save(out / f"{i:06d}.png")
