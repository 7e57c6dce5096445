"""Gradient penalties on the discriminator, added to its loss.

Each is called with the discriminator, real and fake images (N, C, H, W), and gives a scalar. ``gamma`` may be
changed while training runs; see :class:`gan_lightning.callbacks.schedules.Schedules`. One with ``every_n_steps`` is
asked for in every n-th step alone, and weighs n times as much there: the lazy regularization of StyleGAN2 (Karras et
al., Analyzing and Improving the Image Quality of StyleGAN, 2020).
"""

from collections.abc import Callable

import torch
from torch import Tensor

Discriminator = Callable[[Tensor], Tensor]


def squared_gradient_norm(discriminator: Discriminator, images: Tensor) -> Tensor:
    """Mean over images of the squared norm of the logit's gradient by the image, a scalar.

    Every network works on each image by itself, so the gradient of the sum of logits holds each one's own.
    """
    images = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(images).sum(), images, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()


class R1:
    """γ/2 · E‖∇D(x)‖² on real images.

    Mescheder et al., Which Training Methods for GANs do actually Converge?, 2018, equation 9.

    Args:
        gamma: The weight γ.
        every_n_steps: Between two steps with the penalty.
    """

    def __init__(self, *, gamma: float, every_n_steps: int = 1) -> None:
        self.gamma, self.every_n_steps = gamma, every_n_steps

    def __call__(self, discriminator: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
        """Give the penalty, a scalar."""
        return self.every_n_steps * self.gamma / 2 * squared_gradient_norm(discriminator, real)


class R2(R1):
    """γ/2 · E‖∇D(G(z))‖² on generated images (Mescheder et al., 2018, equation 10)."""

    def __call__(self, discriminator: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
        """Give the penalty, a scalar."""
        return self.every_n_steps * self.gamma / 2 * squared_gradient_norm(discriminator, fake)


class R1R2(R1):
    """Both, with one γ, as in R3GAN (Huang et al., The GAN is dead; long live the GAN!, 2024, equation 3)."""

    def __call__(self, discriminator: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
        """Give the penalty, a scalar."""
        both = torch.cat([real, fake.detach()])  # N images of each kind: twice the mean over both is the sum
        return self.every_n_steps * self.gamma * squared_gradient_norm(discriminator, both)
