"""Norms of gradients and weights, learning rates, and the penalty's value."""

from collections.abc import Iterable
from typing import Any

from pytorch_lightning import Callback, Trainer
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from gan_lightning.callbacks.scalars import log_scalars
from gan_lightning.gan import GAN

NETWORKS = ("generator", "discriminator")  # in the order of the trainer's optimizers


class GradientNorms(Callback):
    """Measure the norm of each network's gradient at the steps that are logged, for callbacks derived from this one.

    The gradient is the one that the optimizer receives: of all minibatches and devices, after clipping, and of D's
    last update if there are several. :attr:`gradient_norms` has it by the network's name; the other steps measure
    nothing.
    """

    def on_train_batch_start(self, trainer: Trainer, pl_module: GAN, batch: Any, batch_idx: int) -> None:
        """Find out whether the step will be logged."""
        self.measures = (trainer.global_step + 1) % trainer.log_every_n_steps == 0
        self.gradient_norms: dict[str, Tensor] = {}

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: GAN, optimizer: Optimizer) -> None:
        """Measure the gradient, before it is reset; does not wait for the device."""
        if self.measures:
            name = next(name for name, own in zip(NETWORKS, trainer.optimizers, strict=False) if own is optimizer)
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            self.gradient_norms[name] = norm(p.grad for p in parameters if p.grad is not None)


class Norms(GradientNorms):
    """Log norms, learning rates and the penalty every ``trainer.log_every_n_steps`` steps.

    - ``loss/penalty``: the penalty's last value as it is added to D's loss, a lazy one's divided by its interval;
    - ``norm/gradient_generator``, ``norm/gradient_discriminator``: see :class:`GradientNorms`;
    - ``norm/weights_generator``, ``norm/weights_discriminator``: of all parameters, after the step;
    - ``optimizer/lr_generator``, ``optimizer/lr_discriminator``: the rates of the step.
    """

    def __init__(self) -> None:
        self.penalty: Tensor | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the penalty's last value, which a resumed run logs until there is a new one."""
        return {"penalty": self.penalty}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.penalty = state_dict["penalty"]

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: GAN, optimizer: Optimizer) -> None:
        """Keep the learning rates, too, before a scheduler changes them."""
        super().on_before_optimizer_step(trainer, pl_module, optimizer)
        if self.measures:
            self.rates = [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers]

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keep the penalty, which is not in every step, and log the values of the step."""
        self.penalty = outputs.get("loss/penalty", self.penalty)
        if not self.gradient_norms:
            return
        values: dict[str, float | Tensor] = {f"norm/gradient_{name}": n for name, n in self.gradient_norms.items()}
        for name, rate in zip(NETWORKS, self.rates, strict=True):
            values[f"norm/weights_{name}"] = norm(getattr(pl_module, name).parameters())
            values[f"optimizer/lr_{name}"] = rate
        if self.penalty is not None:
            values["loss/penalty"] = self.penalty / getattr(pl_module.penalty, "interval", 1)
        log_scalars(trainer, values)


def norm(tensors: Iterable[Tensor]) -> Tensor:
    """Return the norm of all tensors together, a scalar."""
    return get_total_norm([tensor.detach() for tensor in tensors])
