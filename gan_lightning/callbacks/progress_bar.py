"""A progress bar for the whole run."""

from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ProgressBar as LightningProgressBar
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from gan_lightning.callbacks.scalars import images_per_step
from gan_lightning.gan import GAN


class ProgressBar(LightningProgressBar):
    """Show steps, images a second, the time left and both losses, from the first step to the last.

    Args:
        every_n_steps: Between two looks at the losses, which wait for the device.
    """

    def __init__(self, *, every_n_steps: int) -> None:
        super().__init__()
        self.every_n_steps = every_n_steps
        self.enabled = True

    def disable(self) -> None:
        """Stay silent; Lightning calls this on every rank but the first."""
        self.enabled = False

    def on_train_start(self, trainer: Trainer, pl_module: GAN) -> None:
        """Put the bar up."""
        self.bar = Progress(
            MofNCompleteColumn(),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[rate]}"),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
            console=Console(),
            disable=not self.enabled,
            expand=True,
            refresh_per_second=2,
        )
        steps = trainer.max_steps
        if trainer.max_epochs and trainer.max_epochs > 0:
            in_epochs = trainer.max_epochs * int(trainer.num_training_batches)
            steps = min(steps, in_epochs) if steps > 0 else in_epochs
        self.task = self.bar.add_task(
            "", total=steps if steps > 0 else None, completed=trainer.global_step, rate="", losses=""
        )
        self.bar.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Move the bar on."""
        if trainer.global_step % self.every_n_steps:
            return
        speed = self.bar.tasks[0].speed
        rate = f"{speed * images_per_step(trainer):,.0f} images/s" if speed else ""
        losses = f"loss D {outputs['loss/discriminator']:.3f} G {outputs['loss/generator']:.3f}"
        self.bar.update(self.task, completed=trainer.global_step, rate=rate, losses=losses)

    def on_validation_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Leave a line about the validation above the bar."""
        if self.enabled:
            figures = (f"{name} {float(value):.4g}" for name, value in trainer.callback_metrics.items())
            words = ", ".join(figures).replace("validation/", "").replace("_", " ")
            self.bar.console.print(f"step {trainer.global_step}: {words}", highlight=False, soft_wrap=True)

    def on_train_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Leave the full bar standing."""
        self.bar.update(self.task, completed=trainer.global_step)
        self.bar.stop()

    def on_exception(self, trainer: Trainer, pl_module: GAN, exception: BaseException) -> None:
        """Give the terminal back."""
        if hasattr(self, "bar"):
            self.bar.stop()
