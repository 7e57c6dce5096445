"""Both players at once: what the paper's authors ran, in place of its Algorithm 1."""

from typing import Any

import torch
from torch import Tensor

from gan_lightning.errors import InputError
from gan_lightning.gan import GAN


class SimultaneousGAN(GAN):
    """A GAN whose players step at once, each by its gradient where both stand, from one pass through both networks.

    So does github.com/goodfeli/adversarial. In Algorithm 1 (:class:`GAN`) the generator meets a discriminator that has
    moved first.

    Args:
        parts: See :class:`GAN`; ``k`` and ``accumulate_grad_batches`` must be 1.

    Raises:
        InputError: If they are not.
    """

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        for name in ("k", "accumulate_grad_batches"):
            if getattr(self, name) != 1:
                raise InputError(f"{name}={getattr(self, name)}: allowed: 1, where both players step at once")

    def iteration(self, real: Tensor) -> dict[str, Tensor]:
        """Update both networks; see :meth:`GAN.iteration`."""
        fake = self.sample(len(real))
        shown = fake.detach().requires_grad_()  # where G's half of the gradient's way begins, which DDP sees apart
        real_logits, fake_logits = self.discriminator(torch.cat([real, shown])).chunk(2)
        generator_loss = self.generator_loss(fake_logits, lambda: real_logits)
        (direction,) = torch.autograd.grad(generator_loss, shown, retain_graph=True)
        discriminator_loss = self.loss.discriminator(real_logits, fake_logits)
        self.manual_backward(discriminator_loss + self.penalise(real, fake.detach()))
        self.manual_backward(fake, direction)
        self.update(player=1)
        self.update(player=0)
        seen = {
            "loss/discriminator": discriminator_loss,
            "loss/generator": generator_loss,
            "logits/real": real_logits,
            "logits/fake": fake_logits,
        }
        return {name: value.detach() for name, value in seen.items()}
