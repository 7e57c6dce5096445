"""Checkpoints: the best one, the newest one, and the one of an interrupted run."""

import logging
import os
import re
import signal
import threading
import time
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from gan_lightning.errors import InputError
from gan_lightning.gan import GAN

log = logging.getLogger(__name__)


class SaveCheckpoints(ModelCheckpoint):
    """Save the best checkpoint by a monitored metric and, as ``last.ckpt``, the newest one.

    The newest is saved after each validation, at the end, and when SIGINT (Ctrl-C) or SIGTERM asks the run to stop. The
    run then finishes its current step, so that a resumed run gives the same results bit for bit; on several devices it
    continues to the next log step, where they agree to stop. A Ctrl-C more than a second after the first signal stops
    immediately.

    Attributes:
        stopped_by: The signal that stopped the run after its checkpoint was saved, else None.

    Args:
        monitor: The metric that determines the best checkpoint; if it is not measured, only the newest is kept.
        mode: "max" if a larger value is better, else "min".

    Raises:
        ValueError: If the mode is neither.
    """

    def __init__(self, *, monitor: str, mode: str) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"mode={mode}: must be min or max")
        super().__init__(
            filename="best-{step}",
            auto_insert_metric_name=False,
            monitor=monitor,
            mode=mode,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
        self.received, self.received_at = 0, 0.0
        self.stopped_by: signal.Signals | None = None
        self.missed = False

    def setup(self, trainer: Trainer, pl_module: GAN, stage: str) -> None:
        """Use the run's folder."""
        self.dirpath = str(Path(trainer.default_root_dir) / "checkpoints")
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Trainer, pl_module: GAN) -> None:
        """Handle both signals; Lightning restores the previous handlers when it is done."""
        super().on_train_start(trainer, pl_module)
        self.received, self.stopped_by = 0, None
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                signal.signal(signum, self.request_stop)

    def request_stop(self, signum: int, frame: Any) -> None:
        """Remember the signal for the end of the step; a SIGINT more than a second after another signal stops now."""
        now = time.monotonic()  # within a second, it may be the same Ctrl-C: launchers pass it on to their children
        if self.received and signum == signal.SIGINT and now - self.received_at > 1:
            raise KeyboardInterrupt
        self.received, self.received_at = signum, now

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stop if requested, unless a validation comes first."""
        if not validation_is_due(trainer, batch_idx):
            self.stop_if_requested(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Save the best and the newest checkpoint; then stop if requested."""
        if trainer.sanity_checking:
            return
        if self.monitor in trainer.callback_metrics:
            super().on_validation_end(trainer, pl_module)
        self.warn_if_missed(trainer)
        self.save_newest(trainer)
        self.stop_if_requested(trainer)

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

    def warn_if_missed(self, trainer: Trainer) -> None:
        """Warn, once, if the monitored metric is not measured."""
        measured = self.monitor in trainer.callback_metrics or self.best_model_path
        if trainer.is_global_zero and not (measured or self.missed):
            self.missed = True
            if allowed := ", ".join(sorted(trainer.callback_metrics)):
                reason = f"monitor={self.monitor} is not measured; allowed: {allowed}"
            else:
                reason = "the run has no validation (trainer.val_check_interval, trainer.limit_val_batches)"
            log.warning("No best checkpoint is saved: %s", reason)

    def save_newest(self, trainer: Trainer) -> None:
        """Write ``last.ckpt``; must be called on every rank."""
        trainer.save_checkpoint(Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt")

    def stop_if_requested(self, trainer: Trainer) -> None:
        """Save and raise KeyboardInterrupt if a signal has been received, on all ranks in the same step.

        KeyboardInterrupt is how Lightning ends a run early: it calls ``on_exception``, tears down and exits.
        """
        if trainer.global_step == trainer.max_steps:
            return  # the run ends here anyway
        signum = self.received
        if trainer.world_size > 1:
            if trainer.global_step % trainer.log_every_n_steps:
                return  # agreeing in every step would make every step wait
            received = torch.tensor(signum, device=trainer.strategy.root_device)
            signum = int(trainer.strategy.reduce(received, reduce_op="max"))
        if signum:
            self.save_newest(trainer)
            self.stopped_by = signal.Signals(signum)
            raise KeyboardInterrupt


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


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoint files completely or not at all, and reads them without unpickling code.

    Args:
        content: Of the checkpoint that the run is resumed from, if it has been read already.
    """

    def __init__(self, content: dict[str, Any] | None = None) -> None:
        self.content = content

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a file next to ``path`` and move it there.

        Raises:
            InputError: If it cannot be written, or could not be read again.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.unfinished")
        try:
            with unfinished.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:  # torch raises RuntimeError if it cannot write
            unfinished.unlink(missing_ok=True)
            raise InputError(f"{path}: could not be written; is the disk full? ({error})") from error
        try:
            torch.load(unfinished, weights_only=True, mmap=True)
        except UnpicklingError as error:
            unfinished.unlink()
            found = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))
            kind = found[1] if found else "an object"
            allowed = "tensors, numbers, text, and lists and dicts of them"
            raise InputError(f"checkpoint: a callback's state contains {kind}; must be {allowed}") from error
        unfinished.replace(path)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Return the content of a file, on the CPU."""
        content, self.content = self.content, None
        return content or torch.load(path, map_location="cpu", weights_only=True)
