"""The same latents, drawn again and again."""

from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from gan_lightning import figures, sampling
from gan_lightning.data.images import to_pixels
from gan_lightning.gan import GAN


class SampleGrid(Callback):
    """Show the images of the fixed latents in TensorBoard as they grow, and keep the last as ``samples.png``.

    Args:
        every_n_steps: Between two grids.
    """

    def __init__(self, *, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self.last = -1  # the step of the last grid

    def on_train_start(self, trainer: Trainer, pl_module: GAN) -> None:
        """Show what an untrained generator makes."""
        if trainer.global_step == 0:
            self.show(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Show the grid when it is time."""
        if trainer.global_step % self.every_n_steps == 0:
            self.show(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Show and keep the last grid."""
        if self.last != trainer.global_step:
            self.show(trainer, pl_module)
        self.keep(trainer, pl_module)

    @rank_zero_only
    def show(self, trainer: Trainer, gan: GAN) -> None:
        """Give the grid to TensorBoard."""
        self.last = trainer.global_step
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("samples", self.draw(gan), trainer.global_step)

    @rank_zero_only
    def keep(self, trainer: Trainer, gan: GAN) -> None:
        """Write the grid into the run's folder."""
        figures.save(self.draw(gan), Path(trainer.default_root_dir) / "samples.png", scale=2)

    def draw(self, gan: GAN) -> Tensor:
        """Make the grid (3, H, W), uint8."""
        return figures.grid(to_pixels(sampling.show(gan, gan.fixed_latents)))
