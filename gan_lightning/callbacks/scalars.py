"""Scalars of training: losses, the discriminator's outputs, throughput."""

import logging
import time
from collections.abc import Mapping
from typing import Any

from pytorch_lightning import Callback, Trainer
from torch import Tensor

from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.gan import GAN

log = logging.getLogger(__name__)

# A run is reported as slow after 3 measurements in a row below 0.4 of the best of at least 5 earlier ones.
SLOW, IN_A_ROW, MEASURED_BEFORE = 0.4, 3, 5


def images_per_step(trainer: Trainer) -> int:
    """Return the number of real images that a step takes on all devices together."""
    data: ImageDataModule = trainer.datamodule
    return data.batch_size * data.minibatches_per_step * trainer.world_size


def log_scalars(trainer: Trainer, values: Mapping[str, float | Tensor]) -> None:
    """Send values to every logger, at the trainer's global step."""
    for logger in trainer.loggers:
        logger.log_metrics({name: float(value) for name, value in values.items()}, step=trainer.global_step)


def as_line(values: Mapping[str, Tensor]) -> str:
    """Return values with their names, without ``validation/``, on a line."""
    return ", ".join(f"{name.removeprefix('validation/')} {value:.4g}" for name, value in values.items())


def compared_images(trainer: Trainer) -> list[int]:
    """Return how many generated and validation images the last validation compared; nothing if it compared none."""
    return next((callback.compared for callback in trainer.callbacks if hasattr(callback, "compared")), [])


class Scalars(Callback):
    """Log losses, the discriminator's outputs, throughput and images seen every ``trainer.log_every_n_steps`` steps.

    The outputs are the mean probabilities D(x) and D(G(z)) if the loss has them, else the mean logits; ``images_seen``
    counts real images. The steps between compute nothing and do not wait for the device. After each validation, its
    values go to the loggers as ``validation/<name>``, and with all other metrics to the log, in one line that says how
    many images they are of.

    Warns once if throughput falls and stays low.
    """

    def __init__(self) -> None:
        self.warned_slow = False
        self.best_rate, self.measurements, self.slow = 0.0, 0, 0

    def on_train_start(self, trainer: Trainer, pl_module: GAN) -> None:
        """Start the clock."""
        self.restart_clock(trainer)

    def restart_clock(self, trainer: Trainer) -> None:
        """Begin a measurement of throughput at the current step."""
        self.since = time.perf_counter(), trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the step's losses and its last discriminator outputs."""
        if trainer.global_step % trainer.log_every_n_steps:
            return
        tensors = {name: outputs[name] for name in ("loss/discriminator", "loss/generator")}
        for images in ("real", "fake"):
            logits = outputs[f"logits/{images}"].float()
            if getattr(pl_module.loss, "gives_probabilities", False):
                tensors[f"probability/{images}"] = logits.sigmoid().mean()
            else:
                tensors[f"logits/{images}"] = logits.mean()
        values = {name: tensor.item() for name, tensor in tensors.items()}  # waits for the device
        start, step = self.since
        images_per_second = (trainer.global_step - step) * images_per_step(trainer) / (time.perf_counter() - start)
        if trainer.is_global_zero:
            self.warn_if_slow(trainer, images_per_second)
        values["throughput/images_per_second"] = images_per_second
        values["images_seen"] = trainer.global_step * images_per_step(trainer)
        log_scalars(trainer, values)
        self.restart_clock(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Log the validation's values, and restart the clock, as throughput excludes validation."""
        values = trainer.callback_metrics
        if values and trainer.is_global_zero and not trainer.sanity_checking:
            own = {name: value for name, value in values.items() if name.startswith("validation/")}
            others = {name: value for name, value in values.items() if name not in own}
            log_scalars(trainer, own)
            whole, compared = getattr(trainer, "limit_val_batches", 1.0) == 1.0, compared_images(trainer)
            of_own = f"{'' if whole else 'part of '}{len(trainer.datamodule.val):,} validation images"
            of_others = "{:,} samples, {:,} validation images".format(*compared) if compared else "other metrics"
            lines = [f"{images}: {as_line(part)}" for images, part in ((of_own, own), (of_others, others)) if part]
            log.info("step %d, %s", trainer.global_step, "; ".join(lines))
        self.restart_clock(trainer)

    def warn_if_slow(self, trainer: Trainer, rate: float) -> None:
        """Warn, once, if throughput (images per second) has fallen and stayed low.

        On a CPU the usual cause is another program on the same cores: OpenMP's threads spin while they wait for one
        that the other program keeps from running.
        """
        is_slow = self.measurements >= MEASURED_BEFORE and rate < SLOW * self.best_rate
        self.slow = self.slow + 1 if is_slow else 0
        self.measurements, self.best_rate = self.measurements + 1, max(self.best_rate, rate)
        if self.slow == IN_A_ROW and not self.warned_slow:
            self.warned_slow = True
            on_cpu = trainer.strategy.root_device.type == "cpu"
            log.warning(
                "step %d: throughput has fallen from %.0f to %.0f images/s%s",
                trainer.global_step,
                self.best_rate,
                rate,
                "; another program may be using the cores. If so, stop this run by Ctrl-C, which saves a checkpoint, "
                "and resume it with omp_wait_policy=passive"
                if on_cpu
                else "",
            )
