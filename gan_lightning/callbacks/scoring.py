"""Figures of the generated images while they get better."""

from collections.abc import Mapping, Sequence

from pytorch_lightning import Callback, Trainer
from torch import Tensor
from torchmetrics import Metric

from gan_lightning.callbacks.scalars import log
from gan_lightning.data.images import normalise
from gan_lightning.gan import GAN
from gan_lightning.sampling import draw
from gan_lightning.scoring import BATCH, normalised, score


class Scoring(Callback):
    """At each validation, compare generated with validation images, and log ``metrics/<name>``.

    The figures can be monitored by their plain names. With several devices the first one does the work.

    Args:
        metrics: By name; see :func:`gan_lightning.scoring.score`.
        skip: Names of metrics to leave out.
        num_images: Generated images.
        num_real: Validation images.
        seed: Of the generated images' noise.
    """

    def __init__(
        self,
        *,
        metrics: Mapping[str, Metric | None],
        skip: Sequence[str],
        num_images: int,
        num_real: int,
        seed: int,
    ) -> None:
        self.metrics = {name: metric for name, metric in metrics.items() if metric and name not in skip}
        self.num_images, self.num_real, self.seed = num_images, num_real, seed
        self.real: list[Tensor] = []  # kept, and with them their features

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Score and log."""
        figures: dict[str, float] = {}
        if trainer.is_global_zero:
            data, device = trainer.datamodule, pl_module.device
            self.real = self.real or list(normalised(data.val.images[: self.num_real].split(BATCH), device))
            figures = score(
                self.metrics,
                fake=draw(pl_module, self.num_images, seed=self.seed),
                real=self.real,
                validation=lambda n: normalise(data.val.images[:n].to(device)),
                train=lambda: normalised(data.train.parts(), device),
                device=device,
            )
        figures = trainer.strategy.broadcast(figures)
        pl_module.log_dict(figures, logger=False, sync_dist=True)
        log(trainer, {f"metrics/{name}": value for name, value in figures.items()})
