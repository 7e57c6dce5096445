"""Checkpoints: the best, the last, and the one that an interruption leaves."""

import logging
import signal
import threading
import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from gan_lightning.gan import GAN

log = logging.getLogger(__name__)


class Interrupted(BaseException):
    """A run was told to stop, by Ctrl-C or SIGTERM, and has written its checkpoint.

    Args:
        signum: The signal's number.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Checkpoints(ModelCheckpoint):
    """Keep the best checkpoint by a monitored figure and, as ``last.ckpt``, the newest one.

    The newest is written after each validation, at the end, and when SIGINT or SIGTERM ask the run to stop: then
    the step under way is finished first (on several devices, the steps up to the next log, where they agree), so that
    nothing is lost and a resumed run gives the same bits. A second Ctrl-C stops at once.

    Args:
        monitor: What makes a checkpoint the best; without such a figure, only the last is kept.
        mode: "max" if a larger one is better, else "min".
    """

    every_n_steps = 0

    def __init__(self, *, monitor: str, mode: str) -> None:
        super().__init__(
            filename="best-{step}",
            auto_insert_metric_name=False,
            monitor=monitor,
            mode=mode,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
        self.signum, self.asked = 0, 0.0
        self.missed = False
        self.alone: GAN | None = None  # if there are no other ranks to agree with

    def setup(self, trainer: Trainer, pl_module: GAN, stage: str) -> None:
        """Settle in the run's folder."""
        self.dirpath = str(Path(trainer.default_root_dir) / "checkpoints")
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Trainer, pl_module: GAN) -> None:
        """Listen to the two signals; Lightning puts the former handlers back when it is done."""
        super().on_train_start(trainer, pl_module)
        self.alone = pl_module if trainer.world_size == 1 else None
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                signal.signal(signum, self.ask_to_stop)

    def ask_to_stop(self, signum: int, frame: Any) -> None:
        """Note the signal for the end of the step; a SIGINT more than a second after another is impatience."""
        now = time.monotonic()
        if self.signum and signum == signal.SIGINT and now - self.asked > 1:
            raise KeyboardInterrupt
        self.signum, self.asked = signum, now
        if self.alone:
            self.alone.interrupted = True

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stop, if asked to, unless a validation comes first."""
        due = trainer.val_check_batch
        if not due or trainer.global_step % (due * pl_module.steps_per_batch):
            self.stop_if_asked(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Save the best and the last; then stop, if asked to."""
        if self.monitor in trainer.callback_metrics:
            super().on_validation_end(trainer, pl_module)
        self.tell_if_missed(trainer)
        self.save_newest(trainer)
        self.stop_if_asked(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Save the last."""
        self.tell_if_missed(trainer)
        self.save_newest(trainer)

    def tell_if_missed(self, trainer: Trainer) -> None:
        """Tell, once, if the monitored figure has not been there."""
        there = self.monitor in trainer.callback_metrics or self.best_model_path
        if trainer.is_global_zero and not (there or self.missed):
            self.missed = True
            if there_are := ", ".join(sorted(trainer.callback_metrics)):
                why = f"monitor={self.monitor}: not measured; allowed: {there_are}"
            else:
                why = "no validation within the run (trainer.val_check_interval, trainer.limit_val_batches)"
            log.warning("No checkpoint is kept as the best: %s", why)

    def save_newest(self, trainer: Trainer) -> None:
        """Write ``last.ckpt``; every rank takes part."""
        trainer.save_checkpoint(Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt")

    def stop_if_asked(self, trainer: Trainer) -> None:
        """Save and raise :class:`Interrupted` once a signal has come, on all ranks at the same step."""
        if trainer.global_step == trainer.max_steps:
            return  # the end is here anyway
        signum = self.signum
        if trainer.world_size > 1:
            if trainer.global_step % trainer.log_every_n_steps:
                return  # to agree at every step would cost each one a wait
            asked = trainer.strategy.reduce(torch.tensor(signum, device=trainer.strategy.root_device), reduce_op="max")
            signum = int(asked)
        if signum:
            self.save_newest(trainer)
            raise Interrupted(signum)
