"""What can be read off the game while it is played."""

import logging
import math
import time
from typing import Any

from pytorch_lightning import Callback, Trainer
from torch import Tensor

from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.gan import GAN


def images_per_step(trainer: Trainer) -> int:
    """How many real images a step takes, on all devices together."""
    data: ImageDataModule = trainer.datamodule
    return data.batch_size * data.minibatches_per_step * trainer.world_size


class Scalars(Callback):
    """Log losses, D(x) and D(G(z)), throughput and images seen every ``trainer.log_every_n_steps`` steps.

    The step is ``trainer.global_step``, the number of generator updates. Nothing is computed, and no device is
    waited for, in the steps between. After each validation, ``validation/<name>``.
    """

    every_n_steps = 0  # as the trainer's is looked at anyway
    warned = False  # that a figure is no longer finite

    def on_train_start(self, trainer: Trainer, pl_module: GAN) -> None:
        """Start the clock."""
        self.start(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Log the figures on validation images, and start the clock anew: throughput is training's alone."""
        figures = trainer.callback_metrics.items()
        log(trainer, {name: value for name, value in figures if name.startswith("validation/")})
        self.start(trainer)

    def start(self, trainer: Trainer) -> None:
        """Remember when, and at which step."""
        self.since = time.perf_counter(), trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log what the step's discriminator update saw."""
        if trainer.global_step % trainer.log_every_n_steps:
            return
        figures = {
            "loss/discriminator": outputs["loss/discriminator"],
            "loss/generator": outputs["loss/generator"],
            "probability/real": outputs["logits/real"].float().sigmoid().mean(),
            "probability/fake": outputs["logits/fake"].float().sigmoid().mean(),
        }
        figures = {name: value.item() for name, value in figures.items()}  # waits for the device
        if not self.warned and not all(map(math.isfinite, figures.values())):
            self.warned = True
            told = ", ".join(f"{name}={value:.4g}" for name, value in figures.items())
            logging.getLogger(__name__).warning("step %d: no longer finite: %s", trainer.global_step, told)
        then, step = self.since
        figures["throughput/images_per_second"] = (
            (trainer.global_step - step) * images_per_step(trainer) / (time.perf_counter() - then)
        )
        figures["images_seen"] = trainer.global_step * images_per_step(trainer)
        log(trainer, figures)
        self.start(trainer)


def log(trainer: Trainer, figures: dict[str, float] | dict[str, Tensor]) -> None:
    """Give figures to every logger, on the axis of generator updates."""
    for logger in trainer.loggers:
        logger.log_metrics({name: float(value) for name, value in figures.items()}, step=trainer.global_step)
