"""Checkpoints: the best one, the newest one, and the one of an interrupted run."""

import logging
import math
import signal
import threading
import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Checkpoint

from gan_lightning.callbacks.scalars import compared_images
from gan_lightning.callbacks.stop_on_nan import StopOnNan, last_checkpoint, networks_not_finite
from gan_lightning.gan import GAN

log = logging.getLogger(__name__)

FIRST_SAVE = 30.0  # seconds of training before the first periodic checkpoint, if the interval is longer


class SaveCheckpoints(Checkpoint):
    """Save the best checkpoint by a monitored metric and, as ``last.ckpt``, the newest one.

    The newest is saved after each validation, at the end, every ``interval`` seconds, and when SIGINT (Ctrl-C) or
    SIGTERM asks the run to stop. The run then finishes its current step, so that a resumed run gives the same results
    bit for bit; on several devices it continues to the next log step, at which all ranks stop. A second signal, more
    than a second after the first, stops immediately. Weights that are not finite are never saved.

    Attributes:
        stopped_by: The signal that stopped the run after its checkpoint was saved, else None.

    Args:
        monitor: The metric that determines the best checkpoint; if it is not measured, only the newest is kept.
        mode: "max" if a larger value is better, else "min".
        interval: Seconds of training after which the newest checkpoint is saved again; the first time after half a
            minute. On several devices it waits for the next log step. None: no saves by time.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, *, monitor: str, mode: str, interval: float | None = None) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"mode={mode}: must be min or max")
        if interval is not None and not interval > 0:
            raise ValueError(f"interval={interval}: must be above 0, or null")
        self.monitor, self.sign, self.interval = monitor, (1 if mode == "max" else -1), interval
        self.best: dict[str, Any] = {"file": None, "value": None}
        self.received, self.received_at, self.next_save = 0, 0.0, math.inf
        self.stopped_by: signal.Signals | None = None
        self.warned = False

    def state_dict(self) -> dict[str, Any]:
        """Return the name of the best checkpoint's file, without its folder, and its metric."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.best = dict(state_dict["best"])

    def on_train_start(self, trainer: Trainer, pl_module: GAN) -> None:
        """Handle both signals; Lightning restores the previous handlers when it is done."""
        best = self.best["file"]
        if best and not (folder(trainer) / Path(best).name).is_file():  # resumed elsewhere, without it
            self.best = {"file": None, "value": None}
        self.received, self.stopped_by = 0, None
        if self.interval is not None:
            self.next_save = time.monotonic() + min(self.interval, FIRST_SAVE)
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                signal.signal(signum, self.request_stop)

    def request_stop(self, signum: int, frame: Any) -> None:
        """Remember the signal for the end of the step; a signal more than a second after another one stops now."""
        now = time.monotonic()  # within a second, it may be the same Ctrl-C: launchers pass it on to their children
        if self.received and now - self.received_at > 1:
            raise KeyboardInterrupt
        self.received, self.received_at = signum, now

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save if it is time, and stop if requested, unless a validation comes first."""
        if not validation_is_due(trainer, batch_idx):
            self.save_or_stop(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Save the best and the newest checkpoint; then stop if requested."""
        if trainer.sanity_checking:
            return
        self.save_if_best(trainer)
        self.warn_if_missed(trainer)
        self.save_newest(trainer)
        self.save_or_stop(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Save the newest checkpoint; signals that come later stop at once."""
        self.warn_if_missed(trainer)
        self.save_newest(trainer)
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                signal.signal(signum, self.stop_now)

    def stop_now(self, signum: int, frame: Any) -> None:
        """Stop at once, as everything has been saved."""
        self.stopped_by = signal.Signals(signum)
        raise KeyboardInterrupt

    def save_if_best(self, trainer: Trainer) -> None:
        """Write ``best-STEP.ckpt``, and remove any other, if the metric is better than before; call it on every rank.

        A file of a later step may exist if the run was resumed from an earlier checkpoint. A value of another number of
        images, which a resumed run may set, is not compared.
        """
        value, best, compared = trainer.callback_metrics.get(self.monitor), self.best["value"], compared_images(trainer)
        if self.best.get("compared", compared) != compared:
            best = None
        if value is None or not torch.isfinite(value) or not self.weights_are_finite(trainer):
            return
        if best is None or self.sign * float(value) > self.sign * best:
            self.best = {"file": f"best-{trainer.global_step}.ckpt", "value": float(value), "compared": compared}
            trainer.save_checkpoint(folder(trainer) / self.best["file"])
            if trainer.is_global_zero:
                for other in folder(trainer).glob("best-*.ckpt"):
                    if other.name != self.best["file"]:
                        other.unlink()

    def save_newest(self, trainer: Trainer) -> None:
        """Write ``last.ckpt``; must be called on every rank."""
        if self.weights_are_finite(trainer):
            trainer.save_checkpoint(last_checkpoint(trainer))
        if self.interval is not None:
            self.next_save = time.monotonic() + self.interval

    def weights_are_finite(self, trainer: Trainer) -> bool:
        """Return whether the weights can be saved; :class:`StopOnNan` raises an error or restores those that cannot."""
        stop = next((callback for callback in trainer.callbacks if isinstance(callback, StopOnNan)), None)
        if stop is None:
            return not networks_not_finite(trainer.lightning_module)
        stop.check_weights(trainer, trainer.lightning_module)
        return True

    def save_or_stop(self, trainer: Trainer) -> None:
        """Save if it is time, or if a signal has been received; then raise KeyboardInterrupt, on all ranks in one step.

        KeyboardInterrupt is how Lightning ends a run early: it calls ``on_exception``, tears down and exits.
        """
        if trainer.global_step == trainer.max_steps:
            return  # the run ends here anyway
        signum, is_time = self.received, time.monotonic() >= self.next_save
        if trainer.world_size > 1:
            if trainer.global_step % trainer.log_every_n_steps:
                return  # agreeing in every step would make every step wait
            signum, is_time = int(max_over_ranks(trainer, signum)), bool(max_over_ranks(trainer, is_time))
        if signum or is_time:
            self.save_newest(trainer)
        if signum:
            self.stopped_by = signal.Signals(signum)
            raise KeyboardInterrupt

    def warn_if_missed(self, trainer: Trainer) -> None:
        """Warn, once, if the monitored metric is not measured."""
        measured = self.monitor in trainer.callback_metrics or self.best["file"]
        if trainer.is_global_zero and not (measured or self.warned):
            self.warned = True
            if allowed := ", ".join(sorted(trainer.callback_metrics)):
                reason = f"monitor={self.monitor} is not measured; allowed: {allowed}"
            else:
                reason = "the run has no validation (trainer.val_check_interval, trainer.limit_val_batches)"
            log.warning("No best checkpoint is saved: %s", reason)


def folder(trainer: Trainer) -> Path:
    """Return the folder of a run's checkpoints."""
    return last_checkpoint(trainer).parent


def max_over_ranks(trainer: Trainer, value: float) -> float:
    """Return the largest value of all ranks."""
    tensor = torch.tensor(float(value), device=trainer.strategy.root_device)
    return float(trainer.strategy.reduce(tensor, reduce_op="max"))


def validation_is_due(trainer: Trainer, batch_idx: int) -> bool:
    """Return whether Lightning validates after this batch, by ``val_check_interval`` and ``check_val_every_n_epoch``.

    Args:
        trainer: The trainer, after the step.
        batch_idx: Index of the batch in the epoch.
    """
    epochs, interval = trainer.check_val_every_n_epoch, trainer.val_check_batch
    if not trainer.enable_validation or interval in (None, float("inf")):  # None: by time, inf: unknown length
        return False
    if epochs is None:  # the interval counts steps over epochs
        return trainer.global_step % interval == 0
    return (trainer.current_epoch + 1) % epochs == 0 and (batch_idx + 1) % interval == 0
