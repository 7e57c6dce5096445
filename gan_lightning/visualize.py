"""Pictures from tensors."""

from collections.abc import Iterable
from io import BytesIO
from math import ceil, sqrt
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor, to_pil_image
from torchvision.utils import make_grid

from gan_lightning.metrics.neighbors import squared_distances


def grid(pixels: Tensor, columns: int | None = None) -> Tensor:
    """Return a picture (3, H', W') of images (N, C, H, W) in rows, all uint8; by default nearly a square."""
    return make_grid(pixels, nrow=columns or ceil(sqrt(len(pixels))), padding=2)


def nearest_images(pixels: Tensor, train: Iterable[Tensor]) -> Tensor:
    """Return the nearest training image of each image (N, C, H, W), all uint8.

    Args:
        pixels: Generated images (N, C, H, W).
        train: Batches of training images (M, C, H, W).
    """
    images = pixels.flatten(1).float()
    best = torch.full((len(pixels),), torch.inf, device=pixels.device)
    nearest = pixels.clone()
    for batch in train:
        distances, indices = squared_distances(images, batch.flatten(1).to(images)).min(1)
        closer = distances < best
        best[closer] = distances[closer]
        nearest[closer] = batch.to(pixels.device)[indices[closer]]
    return nearest


def nearest_pairs(pixels: Tensor, train: Iterable[Tensor], pairs: int = 4) -> Tensor:
    """Return a picture of each image with the nearest training image on its right (the paper's Figure 2).

    Args:
        pixels: Generated images (N, C, H, W), uint8.
        train: Batches of training images (M, C, H, W), uint8.
        pairs: Number of pairs in a row.

    Returns:
        A picture (3, H', W'), uint8, with white lines between the pairs.
    """
    return make_grid(torch.cat([pixels, nearest_images(pixels, train)], 3), nrow=pairs, padding=2, pad_value=255)


def are_points(images: Tensor) -> bool:
    """Return whether images (N, C, H, W) are points of the plane: two channels of one pixel each."""
    return images.shape[1:] == (2, 1, 1)


def scatter(points: Tensor, *, heat: Tensor, heat_label: str, real: Tensor | None = None, title: str = "") -> Tensor:
    """Return a picture (3, H', W'), uint8, of generated and real points over a heat map of the discriminator.

    Args:
        points: Generated points (N, 2, 1, 1) in [-1, 1].
        heat: D's values (R, R) on the square [-1, 1], by y and x; see :func:`gan_lightning.sampling.discriminator_map`.
        heat_label: What they are: "D(x)" is drawn from 0 to 1, all else symmetrically around 0.
        real: Real points (M, 2, 1, 1), drawn below the generated ones.
        title: Printed above.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.6, 5.6), layout="constrained")
    axes = figure.subplots()
    low, high = (0.0, 1.0) if heat_label == "D(x)" else (-(bound := max(float(heat.abs().max()), 1e-6)), bound)
    image = axes.imshow(
        heat.cpu().float(), extent=(-1, 1, -1, 1), origin="lower", cmap="coolwarm", vmin=low, vmax=high, alpha=0.6
    )
    figure.colorbar(image, label=heat_label, shrink=0.9)
    for kind, shown, color in (("real", real, "black"), ("generated", points, "limegreen")):
        if shown is not None:
            x, y = shown.flatten(1).cpu().float().unbind(1)
            axes.scatter(x, y, s=4, color=color, linewidths=0, alpha=0.6, label=f"{kind} ({len(shown):,})")
    axes.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal", xlabel="$x_1$", ylabel="$x_2$", title=title)
    figure.legend(loc="outside lower center", ncols=2, markerscale=3, frameon=False)
    figure.savefig(file := BytesIO(), dpi=100)
    with Image.open(file) as picture:
        return pil_to_tensor(picture.convert("RGB"))


def point_map(points: Tensor, *, real: Tensor, heat: Tensor) -> Tensor:
    """Return a small picture (3, H', W'), uint8, of points of the plane; quick to draw, for animations.

    Args:
        points: Generated points (N, 2, 1, 1) in [-1, 1], green.
        real: Real points (M, 2, 1, 1), black.
        heat: The discriminator's values (R, R), by y and x: red above 0, blue below, the darker the larger.
    """
    size = 4 * len(heat)
    values = heat.cpu().float() / heat.abs().max().cpu().clamp(min=1e-6)
    colors = torch.stack([1 + values.clamp(max=0), 1 - values.abs(), 1 - values.clamp(min=0)]).mul(0.4).add(0.6)
    picture = colors.repeat_interleave(4, 1).repeat_interleave(4, 2)
    for shown, color in ((real, (0.0, 0.0, 0.0)), (points, (0.0, 0.6, 0.1))):
        x, y = ((shown.flatten(1).cpu().float() + 1) / 2 * size).long().clamp(0, size - 2).unbind(1)
        for across, down in ((0, 0), (0, 1), (1, 0), (1, 1)):  # a point is 2 x 2 pixels
            picture[:, y + down, x + across] = torch.tensor(color).unsqueeze(1)
    return picture.flip(1).mul(255).to(torch.uint8)  # y points upwards


def save(pixels: Tensor, path: Path | str, scale: int = 1) -> None:
    """Write a picture (C, H, W), uint8, with every pixel ``scale`` pixels wide."""
    picture = to_pil_image(pixels.cpu())
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(path)


def by_row(pixels: Tensor, rows: int) -> tuple[Tensor, int]:
    """Return images (N, C, H, W) in the order of a grid whose rows they fill in turn, and its number of columns.

    The first ``rows`` images are the first column, and so on; black images complete the last column.
    """
    columns = ceil(len(pixels) / rows)
    padded = torch.cat([pixels, pixels.new_zeros(rows * columns - len(pixels), *pixels.shape[1:])])
    return padded.unflatten(0, (columns, rows)).transpose(0, 1).flatten(0, 1), columns


def write_images(batches: Iterable[Tensor], out: Path, *, rows: int = 0) -> None:
    """Write batches of images (N, C, H, W), uint8, as a grid (.png), an array ``arr_0`` (.npz) or a folder.

    The array is (N, H, W, C), or (N, 2) of points of the plane, which are floats; a folder gets a PNG file per image. A
    grid has ``rows`` rows, which the images fill in turn, if that is 2 to 32, and is nearly a square otherwise.
    """
    if out.suffix == ".png":
        images = torch.cat(list(batches))
        save(grid(*by_row(images, rows)) if 2 <= rows <= min(32, len(images)) else grid(images), out)
    elif out.suffix == ".npz":
        images = torch.cat(list(batches))
        np.savez_compressed(out, (images.flatten(1) if are_points(images) else images.permute(0, 2, 3, 1)).numpy())
    else:
        out.mkdir(exist_ok=True)
        for i, image in enumerate(image for batch in batches for image in batch):
            to_pil_image(image).save(out / f"{i:06d}.png")
