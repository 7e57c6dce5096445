"""What happens when a loss, a logit or a weight is no longer finite."""

import logging
import math
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from torch import nn

from gan_lightning.checkpoints import file as checkpoint_file
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN, Outputs

log = logging.getLogger(__name__)

NEVER = 2**53  # later than any step
LR_FACTOR, MAX_RESTORES = 0.5, 10
ADVICE = "a lower optimizer.lr may help; on_nan=restore continues from the checkpoint at half the learning rate"


class DivergenceError(InputError):
    """A loss, a logit or a weight is nan or infinite."""


class StopOnNan(Callback):
    """Stop at the step at which a loss or a logit is nan or infinite, or restore the last checkpoint and continue.

    Restoring takes the weights, averages and optimizer states of ``last.ckpt`` and halves both learning rates; the run
    continues at the same step, so that other noise and images follow. On an accelerator, or on several devices, values
    are read every ``trainer.log_every_n_steps`` steps, to avoid a synchronization at every step. Weights are checked
    before they are saved and at the end: weights that became nan are otherwise noticed by the next step's logits.

    Args:
        action: "raise" or "restore".

    Raises:
        ValueError: If the action is neither.
    """

    def __init__(self, *, action: str) -> None:
        if action not in ("raise", "restore"):
            raise ValueError(f"action={action}: must be raise or restore")
        self.action, self.restores = action, 0

    def state_dict(self) -> dict[str, int]:
        """Return how often the run has been restored."""
        return {"restores": self.restores}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.restores = state_dict["restores"]

    def on_train_start(self, trainer: Trainer, pl_module: GAN) -> None:
        """Make sure that there is a checkpoint to restore."""
        self.first = torch.tensor(NEVER, device=pl_module.device)
        if self.action == "restore" and not last_checkpoint(trainer).exists():
            trainer.save_checkpoint(last_checkpoint(trainer))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: GAN, outputs: Outputs, batch: Any, batch_idx: int
    ) -> None:
        """Remember the first step with a value that is not finite, and act on it as soon as it is read."""
        total: Any = sum(value.sum(dtype=torch.float32) for value in outputs.values())
        each_step = trainer.world_size == 1 and pl_module.device.type == "cpu"
        if each_step and math.isfinite(total):
            return
        self.first = torch.where(total.isfinite(), self.first, self.first.clamp(max=trainer.global_step))
        if each_step or trainer.global_step % trainer.log_every_n_steps == 0:
            first = int(trainer.strategy.reduce(self.first.clone(), reduce_op="min"))
            if first < NEVER:
                self.handle(trainer, pl_module, f"step {first}: {nonfinite_values(outputs, batch)}")

    def on_train_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Check the weights after the last step."""
        self.check_weights(trainer, pl_module)

    def check_weights(self, trainer: Trainer, gan: Any) -> None:
        """Act on weights that are not finite; call it on every rank."""
        if bad := networks_not_finite(gan):
            self.handle(trainer, gan, f"step {trainer.global_step}: weights of {' and '.join(bad)} are nan or infinite")

    def handle(self, trainer: Trainer, gan: Any, what: str) -> None:
        """Raise DivergenceError, or restore the last checkpoint."""
        if self.action == "raise":
            raise DivergenceError(f"{what}; {checkpoint_hint(trainer)}; {ADVICE}")
        self.restores += 1
        if self.restores > MAX_RESTORES:
            tried = f"although the last checkpoint was restored {MAX_RESTORES} times"
            raise DivergenceError(f"{what}, {tried}; {checkpoint_hint(trainer)}")
        step = restore(trainer, gan)
        self.first.fill_(NEVER)
        if trainer.is_global_zero:
            log.warning("%s; restored the weights of step %d, and halved the learning rates", what, step)


def restore(trainer: Trainer, gan: Any) -> int:
    """Restore the weights and optimizer states of the last checkpoint at half the current rates; return its step."""
    content = checkpoint_file.read(last_checkpoint(trainer))
    gan.load_state_dict(content["state_dict"])
    for optimizer, state in zip(trainer.optimizers, content["optimizer_states"], strict=True):
        rates = [group["lr"] for group in optimizer.param_groups]
        optimizer.load_state_dict(state)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = LR_FACTOR * rate
    for config in trainer.lr_scheduler_configs:
        config.scheduler.base_lrs = [LR_FACTOR * rate for rate in config.scheduler.base_lrs]
    return content["global_step"]


def networks_not_finite(module: nn.Module) -> list[str]:
    """Return the names of a module's parts with a weight or buffer that is nan or infinite."""
    floats = {name: value for name, value in module.state_dict().items() if value.is_floating_point()}
    largest = torch.stack(torch._foreach_norm(list(floats.values()), math.inf)).isfinite().tolist()
    return list(dict.fromkeys(n.partition(".")[0] for n, finite in zip(floats, largest, strict=True) if not finite))


def nonfinite_values(outputs: Outputs, batch: Any) -> str:
    """Return which values of a step are not finite."""
    if not batch[0].isfinite().all():
        return "the images of the batch contain nan or infinite values"
    names = [name for name, value in outputs.items() if not value.isfinite().all()]
    return f"{', '.join(names) or 'a sum of values'} {'are' if len(names) > 1 else 'is'} nan or infinite"


def last_checkpoint(trainer: Trainer) -> Path:
    """Return the path of a run's last checkpoint."""
    return Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"


def checkpoint_hint(trainer: Trainer) -> str:
    """Return a hint at the last checkpoint, for a message."""
    path = last_checkpoint(trainer)
    return f"the last good checkpoint is {path}" if path.exists() else "there is no checkpoint yet"
