"""The paper's Figures 2 and 3."""

from pathlib import Path

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.utilities import rank_zero_only

from gan_lightning import sampling, visualize
from gan_lightning.callbacks.pictures import log_picture
from gan_lightning.data.images import InMemoryImages, to_pixels
from gan_lightning.gan import GAN


class PaperFigures(Callback):
    """Show samples next to their nearest training images, and interpolations along lines in z.

    In the run's folder they are ``figure2.png`` and ``figure3.png``, for loggers ``samples/nearest`` and
    ``samples/interpolation``. They are made at each validation and at the end; Figure 2 only at the end if the training
    images are not in memory.

    Args:
        seed: Determines the end points of the lines.
    """

    def __init__(self, *, seed: int) -> None:
        self.seed = seed
        self.last_step = -1  # of the last figures

    @rank_zero_only
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Write and log the figures."""
        if trainer.sanity_checking:
            return
        self.last_step = trainer.global_step
        if isinstance(trainer.datamodule.train, InMemoryImages):
            write_nearest(trainer, pl_module)
        write_lines(trainer, pl_module, self.seed)

    @rank_zero_only
    def on_train_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Write and log the figures of the last step."""
        is_new = self.last_step != trainer.global_step
        if is_new or not isinstance(trainer.datamodule.train, InMemoryImages):
            write_nearest(trainer, pl_module)
        if is_new:
            write_lines(trainer, pl_module, self.seed)


def write_nearest(trainer: Trainer, gan: GAN) -> None:
    """Write and log Figure 2, of at most 32 of the fixed latents."""
    latents, labels = gan.fixed_latents, gan.fixed_labels
    count = min(32, len(latents))
    chosen = torch.arange(count) * len(latents) // count  # of all classes
    samples = to_pixels(sampling.generate(gan, latents[chosen], None if labels is None else labels[chosen]))
    write(
        trainer, "figure2.png", "samples/nearest", visualize.nearest_pairs(samples, trainer.datamodule.train.batches())
    )


def write_lines(trainer: Trainer, gan: GAN, seed: int) -> None:
    """Write and log Figure 3, of 8 lines, or one for each class up to 16."""
    lines = to_pixels(sampling.interpolate(gan, min(max(8, gan.num_classes), 16), seed=seed))
    write(trainer, "figure3.png", "samples/interpolation", visualize.grid(lines, sampling.INTERPOLATION_STEPS))


def write(trainer: Trainer, file: str, tag: str, picture: torch.Tensor) -> None:
    """Write a picture (3, H, W), uint8, into the run's folder, and log it."""
    visualize.save(picture, Path(trainer.default_root_dir) / file, scale=2)
    log_picture(trainer, tag, picture)
