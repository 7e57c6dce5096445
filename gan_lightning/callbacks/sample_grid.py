"""The images of fixed latents during training."""

from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from gan_lightning import sampling, visualize
from gan_lightning.callbacks.pictures import log_picture
from gan_lightning.data.images import to_pixels
from gan_lightning.gan import GAN


class SampleGrid(Callback):
    """Log the images of the fixed latents as ``samples``, and write the last ones to ``samples.png``.

    Args:
        every_n_steps: Steps from one grid to the next. A run also begins and ends with one.

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
        """Log a grid every ``every_n_steps`` steps."""
        if trainer.global_step % self.every_n_steps == 0:
            self.log_grid(trainer, pl_module)

    @rank_zero_only
    def on_train_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Log and write the last grid."""
        if self.last_step != trainer.global_step:
            self.log_grid(trainer, pl_module)
        visualize.save(fixed_grid(pl_module), Path(trainer.default_root_dir) / "samples.png", scale=2)

    @rank_zero_only
    def log_grid(self, trainer: Trainer, gan: GAN) -> None:
        """Log the current grid."""
        self.last_step = trainer.global_step
        if trainer.loggers:
            log_picture(trainer, "samples", fixed_grid(gan))


def fixed_grid(gan: GAN) -> Tensor:
    """Return the images of the fixed latents as one picture (3, H, W), uint8; of a conditional GAN, a row per class."""
    images = to_pixels(sampling.generate(gan, gan.fixed_latents, gan.fixed_labels))
    return visualize.grid(images, None if gan.fixed_labels is None else len(images) // len(gan.fixed_labels.unique()))
