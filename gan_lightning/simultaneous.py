"""Both networks updated at once, as the paper's authors ran it, in place of the paper's Algorithm 1."""

from typing import Any

import torch
from torch import Tensor

from gan_lightning.gan import GAN, Outputs


class SimultaneousGAN(GAN):
    """A GAN whose networks step at once, each along its gradient at the point where both are, after one shared pass.

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
                raise ValueError(f"{name}={value}: must be 1 where both networks are updated at once; add {name}=1")

    def step(self, images: Tensor, labels: Tensor) -> Outputs:
        """Update both networks; see :meth:`GAN.step`."""
        fake = self.fake_images(labels)
        # Cut the graph between G and D, so that DDP reduces the gradients of D and of G separately.
        cut = fake.detach().requires_grad_()
        real_logits, fake_logits = self.discriminator(torch.cat([images, cut]), labels.repeat(2)).chunk(2)
        generator_loss = self.generator_loss(fake_logits, lambda: real_logits)
        (gradient,) = torch.autograd.grad(generator_loss, cut, retain_graph=True)
        discriminator_loss = self.loss.discriminator(real_logits, fake_logits)
        self.manual_backward(discriminator_loss + self.penalize(images, fake.detach(), labels))
        self.manual_backward(fake, gradient)
        self.update(self.discriminator)
        self.update(self.generator)
        outputs = {
            "loss/discriminator": discriminator_loss,
            "loss/generator": generator_loss,
            "logits/real": real_logits,
            "logits/fake": fake_logits,
        }
        return {name: value.detach() for name, value in outputs.items()}
