"""The paper's Figures 2 and 3 of the trained generator."""

from pathlib import Path

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from gan_lightning import figures, sampling
from gan_lightning.data.images import to_pixels
from gan_lightning.gan import GAN


class PaperFigures(Callback):
    """At the end, show samples beside their nearest training images, and walks along lines in z.

    In TensorBoard as ``figures/nearest`` and ``figures/walk``; in the run's folder as ``figure2.png`` and
    ``figure3.png``.

    Args:
        seed: Of the walks' ends.
    """

    def __init__(self, *, seed: int) -> None:
        self.seed = seed

    @rank_zero_only
    def on_train_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Draw, log and keep them."""
        samples = to_pixels(sampling.show(pl_module, pl_module.fixed_latents[:32]))
        walks = to_pixels(sampling.walk(pl_module, 8, seed=self.seed))
        for tag, name, picture in (
            ("figures/nearest", "figure2.png", figures.beside_nearest(samples, trainer.datamodule.train.parts())),
            ("figures/walk", "figure3.png", figures.grid(walks, sampling.WALK)),
        ):
            figures.save(picture, Path(trainer.default_root_dir) / name, scale=2)
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_image(tag, picture, trainer.global_step)
