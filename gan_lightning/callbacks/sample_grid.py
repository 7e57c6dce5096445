"""The images of fixed latents during training."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from gan_lightning import sampling, visualize
from gan_lightning.callbacks.pictures import log_picture
from gan_lightning.data.images import to_pixels
from gan_lightning.gan import GAN

NUM_POINTS = 2000
EARLY = (50, 100, 200, 400)


class SampleGrid(Callback):
    """Log the images of the fixed latents as ``samples``, and write them to ``samples.png``, which has the last ones.

    Points of the plane are drawn as a scatter plot: ``NUM_POINTS`` generated ones, as many of the training set, and D.

    Args:
        every_n_steps: Steps from one grid to the next. A run also begins and ends with one, and has more at ``EARLY``
            steps.

    Raises:
        ValueError: If that is below 1.
    """

    def __init__(self, *, every_n_steps: int) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps={every_n_steps}: must be at least 1")
        self.every_n_steps = every_n_steps
        self.last_step = -1  # of the last grid

    def on_train_start(self, trainer: Trainer, pl_module: GAN) -> None:
        """Log the images of the untrained generator."""
        if trainer.global_step == 0:
            self.log_grid(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log a grid every ``every_n_steps`` steps, and at ``EARLY`` ones."""
        if trainer.global_step % self.every_n_steps == 0 or trainer.global_step in EARLY:
            self.log_grid(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Log the last grid."""
        if self.last_step != trainer.global_step:
            self.log_grid(trainer, pl_module)

    @rank_zero_only
    def log_grid(self, trainer: Trainer, gan: GAN) -> None:
        """Log and write the current grid."""
        self.last_step = trainer.global_step
        picture, is_plot = draw(trainer, gan)
        log_picture(trainer, "samples", picture)
        visualize.save(picture, Path(trainer.default_root_dir) / "samples.png", scale=1 if is_plot else 2)


def draw(trainer: Trainer, gan: GAN) -> tuple[Tensor, bool]:
    """Return the current picture (3, H, W), uint8, and whether it is a scatter plot."""
    images = sampling.generate(gan, gan.fixed_latents, gan.fixed_labels)
    if visualize.are_points(images):
        points = torch.cat(list(sampling.sample(gan, NUM_POINTS, seed=gan.seed)))
        real = next(iter(trainer.datamodule.train.batches(NUM_POINTS)))
        heat, label = sampling.discriminator_map(gan)
        title = f"step {trainer.global_step:,}"
        return visualize.scatter(points, heat=heat, heat_label=label, real=real, title=title), True
    return fixed_grid(gan, images), False


def fixed_grid(gan: GAN, images: Tensor) -> Tensor:
    """Return a grid (3, H, W), uint8, of the images (N, C, H, W) of the fixed latents.

    It has a row per class, or several, if the GAN is conditional and does not have too many.
    """
    per_class = len(images) if gan.fixed_labels is None else len(images) // len(gan.fixed_labels.unique())
    columns = None if gan.fixed_labels is None else per_class if 1 < per_class <= 10 else 8
    return visualize.grid(to_pixels(images), columns)
