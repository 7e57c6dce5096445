"""A progress bar for the whole run."""

import logging
import sys
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ProgressBar as LightningProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gan_lightning.callbacks.scalars import images_per_step
from gan_lightning.gan import GAN

OTHER_COLUMNS = 71  # characters that all but the metrics take, with the shortest bar
PREFERRED = ("fid", "precision", "recall", "modes", "good_samples")


class ProgressBar(LightningProgressBar):
    """Show steps, images per second, the time left, both losses and the last validation's metrics, in one bar.

    It is updated every ``trainer.log_every_n_steps`` steps, since reading the losses waits for the device. Lightning's
    own RichProgressBar has a bar per epoch and per validation, and is updated in every step.
    """

    def __init__(self) -> None:
        super().__init__()
        self.enabled = True
        self.bar: Progress | None = None

    def enable(self) -> None:
        """Show the bar."""
        self.enabled = True

    def disable(self) -> None:
        """Show no bar; Lightning calls this on every rank but the first."""
        self.enabled = False

    def on_train_start(self, trainer: Trainer, pl_module: GAN) -> None:
        """Show the bar at the step where the run starts or resumes."""
        if not self.enabled:
            return
        self.bar = Progress(
            MofNCompleteColumn(),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[rate]}"),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
            TextColumn("{task.fields[metrics]}"),
            console=Console(),
            expand=True,
            refresh_per_second=2,
        )
        steps = trainer.estimated_stepping_batches
        total = steps if 0 < steps < float("inf") else None
        done = trainer.global_step
        self.task = self.bar.add_task("", total=total, completed=done, rate="", losses="", metrics="")
        stdout = sys.stdout
        self.bar.start()
        redirect_logging(stdout, sys.stdout)

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Update the bar."""
        if self.bar and trainer.global_step % trainer.log_every_n_steps == 0:
            speed = self.bar.tasks[0].speed
            rate = f"{speed * images_per_step(trainer):,.0f} images/s" if speed else ""
            losses = f"loss D {outputs['loss/discriminator']:.3f} G {outputs['loss/generator']:.3f}"
            self.bar.update(self.task, completed=trainer.global_step, rate=rate, losses=losses)

    def on_validation_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Show as many of the validation's metrics as there is room for, the monitored one first."""
        if self.bar and not trainer.sanity_checking:
            monitored = [callback.monitor for callback in trainer.callbacks if hasattr(callback, "monitor")]
            values, shown = trainer.callback_metrics, ""
            for name in dict.fromkeys([*monitored, *PREFERRED]):
                if name in values:
                    more = f"{shown} {name.removeprefix('validation/')} {values[name]:.3g}".strip()
                    shown = more if len(more) <= self.bar.console.width - OTHER_COLUMNS else shown
            self.bar.update(self.task, metrics=shown)

    def on_train_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Leave the bar on the screen as it is at the last step."""
        if self.bar:
            self.bar.update(self.task, completed=trainer.global_step)
            self.stop()

    def on_exception(self, trainer: Trainer, pl_module: GAN, exception: BaseException) -> None:
        """Restore the terminal."""
        self.stop()

    def stop(self) -> None:
        """Stop the bar."""
        if self.bar:
            stdout = sys.stdout
            self.bar.stop()
            redirect_logging(stdout, sys.stdout)
            self.bar = None


def redirect_logging(old: Any, new: Any) -> None:
    """Move logging from one stream to another.

    While a bar is on a terminal, rich puts a stream in place of ``sys.stdout`` that prints above the bar. Handlers keep
    the stream they were created with, and would print into the bar.
    """
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is old:
            handler.setStream(new)
