"""Draw images: ``python -m gan_lightning.sample checkpoint=PATH num_images=N seed=S out=FILE``."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from gan_lightning.doors import door
from gan_lightning.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from gan_lightning.gan import GAN


@door("sample")
def main(config: DictConfig) -> None:
    """Load, draw, write."""
    out = Path(config.out)
    if out.suffix not in ("", ".png", ".npz"):
        raise InputError(f"out={out}: must end in .png (a grid) or .npz (an array), or have no ending (a folder)")

    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"out={out}: the folder is not empty")
    if out.suffix == "" and out.is_file():
        raise InputError(f"out={out}: a file; a name without an ending stands for a folder")
    if config.show != "samples" and out.suffix != ".png":
        raise InputError(f"out={out}: show={config.show} makes one picture, so it must end in .png")

    from gan_lightning.checkpoint import load, pick_device
    from gan_lightning.data.images import to_pixels
    from gan_lightning.sampling import draw

    gan = load(config.checkpoint).to(pick_device(config.device))
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    if config.show == "samples":
        write((to_pixels(images).cpu() for images in draw(gan, config.num_images, seed=config.seed)), out)
        print(f"{config.num_images} images: {out}")
    else:
        figures_of_the_paper(config, gan, out)
        print(out)


def figures_of_the_paper(config: DictConfig, gan: "GAN", out: Path) -> None:
    """Draw samples beside their nearest training images (Figure 2), or walks along lines in z (Figure 3)."""
    import torch

    from gan_lightning import figures
    from gan_lightning.checkpoint import load_data
    from gan_lightning.data.images import to_pixels
    from gan_lightning.sampling import WALK, draw, walk

    if config.show == "nearest":
        data = load_data(config.checkpoint, root=config.data.root)
        data.prepare_data()
        data.setup()
        samples = torch.cat([to_pixels(images).cpu() for images in draw(gan, config.num_images, seed=config.seed)])
        picture = figures.beside_nearest(samples, data.train.parts())
    else:
        picture = figures.grid(to_pixels(walk(gan, config.num_images, seed=config.seed)), WALK)
    figures.save(picture, out)


def write(batches: Iterator["Tensor"], out: Path) -> None:
    """Write batches of images (N, C, H, W), uint8, in the form that the ending of ``out`` asks for."""
    import numpy as np
    import torch
    from torchvision.transforms.functional import to_pil_image

    from gan_lightning import figures

    if out.suffix == ".png":
        figures.save(figures.grid(torch.cat(list(batches))), out)
    elif out.suffix == ".npz":
        np.savez_compressed(out, torch.cat(list(batches)).permute(0, 2, 3, 1).numpy())
    else:
        out.mkdir(exist_ok=True)
        i = 0
        for batch in batches:
            for image in batch:
                to_pil_image(image).save(out / f"{i:06d}.png")
                i += 1


if __name__ == "__main__":
    main()
