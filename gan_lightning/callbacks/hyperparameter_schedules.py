"""Schedules of hyperparameters other than the learning rates."""

from collections.abc import Callable
from typing import Any

from pytorch_lightning import Callback, Trainer

from gan_lightning.errors import InputError
from gan_lightning.gan import GAN

Schedule = Callable[[int], float]


class HyperparameterSchedules(Callback):
    """Set the penalty's γ and the optimizers' momentum before each step.

    Args:
        gamma: Returns the penalty's γ at a step; None: constant.
        momentum: Returns both optimizers' momentum at a step; None: constant.

    Raises:
        ValueError: If one is no function.
    """

    def __init__(self, *, gamma: Schedule | None = None, momentum: Schedule | None = None) -> None:
        for name, value in (("gamma", gamma), ("momentum", momentum)):
            if value is not None and not callable(value):
                raise ValueError(f"{name}={value}: must be a schedule, such as gan_lightning.schedules.LinearSchedule")
        self.gamma, self.momentum = gamma, momentum

    def on_train_start(self, trainer: Trainer, pl_module: GAN) -> None:
        """Check that the values exist.

        Raises:
            InputError: If the penalty has no γ, or an optimizer no momentum.
        """
        if self.gamma and not hasattr(pl_module.penalty, "gamma"):
            raise InputError("callbacks.schedules.gamma: must be null unless the penalty has a gamma (penalty=r1)")
        if self.momentum and not all("momentum" in optimizer.defaults for optimizer in trainer.optimizers):
            raise InputError("callbacks.schedules.momentum: must be null unless the optimizer has one (optimizer=sgd)")

    def on_train_batch_start(self, trainer: Trainer, pl_module: GAN, batch: Any, batch_idx: int) -> None:
        """Set the values of this step."""
        if self.gamma:
            pl_module.penalty.gamma = self.gamma(trainer.global_step)
        if self.momentum:
            for optimizer in trainer.optimizers:
                for group in optimizer.param_groups:
                    group["momentum"] = self.momentum(trainer.global_step)
