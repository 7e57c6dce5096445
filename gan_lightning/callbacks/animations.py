"""Animations of the images during training, and of interpolations after it."""

import math
import re
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from gan_lightning import sampling, visualize
from gan_lightning.callbacks.sample_grid import fixed_grid
from gan_lightning.data.images import to_pixels
from gan_lightning.gan import GAN

MAX_FRAMES = 60
MAX_SIDE = 480  # pixels of a frame; larger ones are scaled down, which keeps 60 frames of color below 2 MB
MILLISECONDS, LAST_MILLISECONDS = 100, 3000  # that each frame is shown, and the last one
CORNERS, STEPS_BETWEEN, PATHS = 4, 15, 16  # of closed paths in z
NUM_POINTS = 1000


class Animations(Callback):
    """Write ``training.webp``, the fixed grid over time, and ``walk.webp``, closed paths in z.

    The frames of the grid are kept as PNG files in the run's folder ``frames``, at the steps 1, 4, 9, 16, ...: many at
    first, when images change most; above ``MAX_FRAMES``, every other one is removed. Both animations are written when
    training ends or is stopped. A frame of points of the plane shows real points in black, generated ones in green, and
    D where it is above (red) or below (blue) its undecided value; points have no ``walk.webp``.

    Args:
        seed: Determines the corners of the paths.
    """

    def __init__(self, *, seed: int) -> None:
        self.seed = seed

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: GAN) -> None:
        """Add the untrained generator's frame, or remove frames of later steps than that of a resumed run."""
        frames(trainer).mkdir(parents=True, exist_ok=True)
        for path in frame_files(trainer):
            if trainer.global_step == 0 or int(path.stem) > trainer.global_step:
                path.unlink()
        if trainer.global_step == 0:
            add_frame(trainer, pl_module)

    @rank_zero_only
    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Add a frame at square numbers, as many as are kept: each at first, then each second, fourth, ... of them."""
        root = math.isqrt(trainer.global_step)
        if root**2 == trainer.global_step and root % spacing(root) == 0:
            add_frame(trainer, pl_module)

    @rank_zero_only
    def on_train_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Write both animations."""
        add_frame(trainer, pl_module)
        write_training(trainer)
        write_walk(trainer, pl_module, self.seed)

    @rank_zero_only
    def on_exception(self, trainer: Trainer, pl_module: GAN, exception: BaseException) -> None:
        """Write the training so far, and the paths if the run was stopped and has not failed."""
        with suppress(OSError):  # which would hide the exception, as when the disk is full
            write_training(trainer)
            if isinstance(exception, KeyboardInterrupt):
                write_walk(trainer, pl_module, self.seed)


def spacing(root: int) -> int:
    """Return how many square numbers there are from one frame to the next when the step is ``root ** 2``."""
    return 2 ** max(math.ceil(math.log2(max(root, 1) / MAX_FRAMES)), 0)


def frames(trainer: Trainer) -> Path:
    """Return the folder of a run's frames."""
    return Path(trainer.default_root_dir) / "frames"


def frame_files(trainer: Trainer) -> list[Path]:
    """Return a run's frames in their order, and no other file that is in their folder."""
    return sorted(path for path in frames(trainer).glob("*.png") if re.fullmatch(r"\d{8,}", path.stem, re.ASCII))


def add_frame(trainer: Trainer, gan: GAN) -> None:
    """Write the current frame, and remove those that are too many by now."""
    picture, path = draw(trainer, gan), frames(trainer) / f"{trainer.global_step:08d}.png"
    image = to_pil_image(picture.cpu())
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    image.save(unfinished := path.with_suffix(".unfinished"), format="png", compress_level=1)
    unfinished.replace(path)  # a run that is killed leaves no half of a picture
    every = spacing(math.isqrt(trainer.global_step))
    for other in frame_files(trainer):
        root = math.isqrt(int(other.stem))
        if other != path and (root**2 != int(other.stem) or root % every):
            other.unlink()


def draw(trainer: Trainer, gan: GAN) -> Tensor:
    """Return the current frame (3, H, W), uint8."""
    images = sampling.generate(gan, gan.fixed_latents, gan.fixed_labels)
    if visualize.are_points(images):
        points = torch.cat(list(sampling.sample(gan, NUM_POINTS, seed=gan.seed)))
        real = next(iter(trainer.datamodule.train.batches(NUM_POINTS)))
        heat, label = sampling.discriminator_map(gan)
        return visualize.point_map(points, real=real, heat=heat - 0.5 if label == "D(x)" else heat)
    return fixed_grid(gan, images)


def write_training(trainer: Trainer) -> None:
    """Write ``training.webp`` of the frames; nothing if there are none, as in a resumed run that fails at once."""
    images = []
    for path in frame_files(trainer):
        with Image.open(path) as frame:
            images.append(captioned(frame, f"step {int(path.stem):,}"))
    last = [MILLISECONDS] * (len(images) - 1) + [LAST_MILLISECONDS]
    write(images, Path(trainer.default_root_dir) / "training.webp", last)


def captioned(image: Image.Image, text: str) -> Image.Image:
    """Return a picture with a line of text below."""
    result = Image.new("RGB", (image.width, image.height + 14))
    result.paste(image)
    ImageDraw.Draw(result).text((3, image.height), text, fill="white")
    return result


def write_walk(trainer: Trainer, gan: GAN, seed: int) -> None:
    """Write ``walk.webp``: each image of a grid along lines between ``CORNERS`` noise vectors, and back to the first.

    The images of a conditional GAN keep their labels.
    """
    labels = sampling.repeat_labels(gan, PATHS)
    corners = gan.prior(CORNERS * PATHS, generator=torch.Generator().manual_seed(seed)).unflatten(0, (CORNERS, PATHS))
    shares = (torch.arange(STEPS_BETWEEN) / STEPS_BETWEEN).tolist()
    path = [torch.lerp(a, b, share) for a, b in pairwise([*corners, corners[0]]) for share in shares]
    images = []
    for z in path:
        generated = sampling.generate(gan, z, labels)
        if visualize.are_points(generated):
            return
        image = to_pil_image(visualize.grid(to_pixels(generated)).cpu())
        images.append(image.resize((2 * image.width, 2 * image.height), Image.Resampling.NEAREST))
        images[-1].thumbnail((MAX_SIDE, MAX_SIDE))
    write(images, Path(trainer.default_root_dir) / "walk.webp", MILLISECONDS)


def write(images: list[Image.Image], path: Path, duration: int | list[int]) -> None:
    """Write an animation that repeats, each frame shown for so many milliseconds."""
    if images:
        first, *others = images
        first.save(path, save_all=True, append_images=others, duration=duration, loop=0, quality=70, method=1)
