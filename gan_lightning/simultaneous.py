"""Simultaneous updates of both networks, as in the paper's authors' code, in place of Algorithm 1."""

from typing import Any

import torch
from torch import Tensor

from gan_lightning.gan import GAN, Outputs, detached


class SimultaneousGAN(GAN):
    """A GAN that updates D and G simultaneously, both by gradients at the current parameters and one shared pass.

    This is what github.com/goodfeli/adversarial does. In Algorithm 1 (:class:`GAN`) the generator is updated against a
    discriminator that has moved first.

    Args:
        arguments: See :class:`GAN`; ``k`` and ``accumulate_grad_batches`` must be 1.

    Raises:
        ValueError: If they are not.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        for name in ("k", "accumulate_grad_batches"):
            if (value := getattr(self, name)) != 1:
                hint = "; add k=1" if name == "k" else ""
                raise ValueError(f"{name}={value}: must be 1, as D and G are updated simultaneously{hint}")

    def step(self, images: Tensor, labels: Tensor) -> Outputs:
        """Update both networks; see :meth:`GAN.step`."""
        fake = self.fake_images(labels)
        # Cut the graph between G and D, so that DDP reduces the gradients of D and of G separately.
        cut = fake.detach().requires_grad_()
        real_logits, fake_logits = self.discriminate(images, cut, labels)
        generator_loss = self.generator_loss(fake_logits, real_logits)
        (gradient,) = torch.autograd.grad(generator_loss, cut, retain_graph=True)
        discriminator_loss = self.loss.discriminator(real_logits, fake_logits)
        penalty = self.penalize(images, fake.detach(), labels)
        self.manual_backward(discriminator_loss + penalty)
        self.manual_backward(fake, gradient)
        self.apply_gradient(self.discriminator)
        self.apply_gradient(self.generator)
        return detached(
            {
                "loss/discriminator": discriminator_loss,
                "loss/generator": generator_loss,
                "loss/penalty": penalty,
                "logits/real": real_logits,
                "logits/fake": fake_logits,
            }
        )
