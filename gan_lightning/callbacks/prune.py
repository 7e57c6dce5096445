"""Ending hopeless runs of a search early."""

import logging
import math
import sys
from typing import Any, Protocol

import torch
from pytorch_lightning import Callback, Trainer

from gan_lightning.errors import one_line
from gan_lightning.gan import GAN

log = logging.getLogger(__name__)


class Trial(Protocol):
    """What a search knows of a run: :class:`optuna.trial.Trial`."""

    def report(self, value: float, step: int) -> None: ...  # noqa: D102
    def should_prune(self) -> bool: ...  # noqa: D102


class Prune(Callback):
    """After each validation, report the monitored metric to a search, and exit if the search ends the run.

    Args:
        trial: Of the search.
        monitor: The metric.
        code: The exit code of a run that the search ends.
    """

    def __init__(self, *, trial: Trial, monitor: str, code: int) -> None:
        self.trial, self.monitor, self.code = trial, monitor, code

    def on_validation_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Report on the first rank, and exit on all of them; the last validation ends no run."""
        value: Any = trainer.callback_metrics.get(self.monitor)
        if value is None or not math.isfinite(value) or trainer.global_step >= trainer.max_steps > 0:
            return
        ends = torch.zeros((), device=trainer.strategy.root_device)
        if trainer.is_global_zero:
            try:
                self.trial.report(float(value), trainer.global_step)
                ends += self.trial.should_prune()
            except Exception as error:  # the database is out of reach, or the search has given the trial up
                log.warning("Step %d was not reported to the search: %s", trainer.global_step, one_line(error))
        if trainer.strategy.reduce(ends, reduce_op="max"):
            log.info("Ended by the search at step %d: %s is %.4g", trainer.global_step, self.monitor, value)
            sys.exit(self.code)
