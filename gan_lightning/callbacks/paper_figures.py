"""The paper's Figures 2 and 3."""

from pathlib import Path

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.utilities import rank_zero_only

from gan_lightning import sampling, visualize
from gan_lightning.callbacks.pictures import log_picture
from gan_lightning.data.images import to_pixels
from gan_lightning.gan import GAN


class PaperFigures(Callback):
    """After training, show samples next to their nearest training images, and interpolations along lines in z.

    In the run's folder they are ``figure2.png`` and ``figure3.png``, for loggers ``figures/nearest`` and
    ``figures/interpolation``.

    Args:
        seed: Determines the end points of the lines.
    """

    def __init__(self, *, seed: int) -> None:
        self.seed = seed

    @rank_zero_only
    def on_train_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Write and log both figures."""
        latents, labels = pl_module.fixed_latents, pl_module.fixed_labels
        count = min(32, len(latents))
        chosen = torch.arange(count) * len(latents) // count  # of all classes
        samples = sampling.generate(pl_module, latents[chosen], None if labels is None else labels[chosen])
        samples = to_pixels(samples)
        nearest = visualize.nearest_pairs(samples, trainer.datamodule.train.batches())
        lines = to_pixels(sampling.interpolate(pl_module, min(max(8, pl_module.num_classes), 16), seed=self.seed))
        for name, tag, picture in (
            ("figure2.png", "figures/nearest", nearest),
            ("figure3.png", "figures/interpolation", visualize.grid(lines, sampling.INTERPOLATION_STEPS)),
        ):
            visualize.save(picture, Path(trainer.default_root_dir) / name, scale=2)
            log_picture(trainer, tag, picture)
