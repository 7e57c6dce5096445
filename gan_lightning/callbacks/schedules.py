"""What changes with the step besides the learning rates."""

from collections.abc import Callable
from typing import Any

from pytorch_lightning import Callback, Trainer

from gan_lightning.errors import InputError
from gan_lightning.gan import GAN

Schedule = Callable[[int], float]


class Schedules(Callback):
    """Set the penalty's γ and the optimizers' momentum by the step, before each step.

    Args:
        gamma: Gives the penalty's γ at a step.
        momentum: Gives both optimizers' momentum at a step.

    Raises:
        InputError: When training starts, if there is no penalty, or an optimizer without momentum.
    """

    def __init__(self, *, gamma: Schedule | None = None, momentum: Schedule | None = None) -> None:
        self.gamma, self.momentum = gamma, momentum

    def on_train_start(self, trainer: Trainer, pl_module: GAN) -> None:
        """Look whether there is what to set."""
        if self.gamma and pl_module.penalty is None:
            raise InputError("callbacks.schedules.gamma: penalty=none has no gamma; callbacks.schedules.gamma=null")
        if self.momentum and not all("momentum" in o.defaults for o in trainer.optimizers):
            raise InputError(
                "callbacks.schedules.momentum: no such value; optimizer=sgd has one, or callbacks.schedules=null"
            )

    def on_train_batch_start(self, trainer: Trainer, pl_module: GAN, batch: Any, batch_idx: int) -> None:
        """Set them."""
        if self.gamma:
            pl_module.penalty.gamma = self.gamma(trainer.global_step)
        if self.momentum:
            for optimizer in trainer.optimizers:
                for group in optimizer.param_groups:
                    group["momentum"] = self.momentum(trainer.global_step)
