"""Figures of the generated images while they get better."""

from collections.abc import Mapping

from pytorch_lightning import Callback, Trainer
from torchmetrics import Metric

from gan_lightning.callbacks.scalars import log
from gan_lightning.data.images import normalise
from gan_lightning.gan import GAN
from gan_lightning.sampling import draw
from gan_lightning.scoring import score


class Scoring(Callback):
    """At each validation, compare generated with validation images, and log ``metrics/<name>``.

    The figures can be monitored by their plain names. With several devices the first one does the work.

    Args:
        metrics: By name; see :func:`gan_lightning.scoring.score`.
        num_images: Generated images.
        num_real: Validation images.
        seed: Of the generated images' noise.
    """

    def __init__(self, *, metrics: Mapping[str, Metric], num_images: int, num_real: int, seed: int) -> None:
        self.metrics = metrics
        self.num_images, self.num_real, self.seed = num_images, num_real, seed

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Score and log."""
        figures: dict[str, float] = {}
        if trainer.is_global_zero:
            images, _ = trainer.datamodule.val[: self.num_real]
            real = normalise(images.to(pl_module.device))
            fake = draw(pl_module, self.num_images, seed=self.seed)
            figures = score(self.metrics, fake=fake, real=[real], validation=real)
        figures = trainer.strategy.broadcast(figures)
        pl_module.log_dict(figures, logger=False, sync_dist=True)
        log(trainer, {f"metrics/{name}": value for name, value in figures.items()})
