"""Gradient penalties on the discriminator, added to its loss.

A penalty is called with the discriminator, real and generated images (N, C, H, W) of one dtype, and returns a scalar.
The GAN evaluates a penalty with an ``interval`` n only every n steps, so the penalty multiplies itself by n: the lazy
regularization of StyleGAN2 (Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020). ``gamma`` may
change during training; see :class:`gan_lightning.callbacks.hyperparameter_schedules.HyperparameterSchedules`.
"""

from collections.abc import Callable
from math import inf

import torch
from torch import Tensor

Discriminator = Callable[[Tensor], Tensor]


def squared_gradient_norm(discriminator: Discriminator, images: Tensor) -> Tensor:
    """Return the mean over images (N, C, H, W) of the squared norm of the logit's gradient by the image, a scalar.

    Discriminators process every image by itself, so the gradient of the sum of all logits holds each image's own.
    """
    images = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(images).sum(), images, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()


class R1:
    """γ/2 · E‖∇D(x)‖² on real images.

    Mescheder et al., Which Training Methods for GANs do actually Converge?, 2018, equation 9.

    Args:
        gamma: The weight γ, at least 0 and finite.
        interval: Steps from one evaluation to the next.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, *, gamma: float, interval: int = 1) -> None:
        if not 0 <= gamma < inf:
            raise ValueError(f"gamma={gamma}: must be at least 0 and finite")
        if interval < 1:
            raise ValueError(f"interval={interval}: must be at least 1")
        self.gamma, self.interval = gamma, interval

    def __call__(self, discriminator: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
        """Return the penalty, a scalar."""
        return self.interval * self.gamma / 2 * squared_gradient_norm(discriminator, real)


class R2(R1):
    """γ/2 · E‖∇D(G(z))‖² on generated images (Mescheder et al., 2018, equation 10)."""

    def __call__(self, discriminator: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
        """Return the penalty, a scalar."""
        return self.interval * self.gamma / 2 * squared_gradient_norm(discriminator, fake)


class R1R2(R1):
    """R1 and R2 with one γ, as in R3GAN (Huang et al., The GAN is dead; long live the GAN!, 2024, equation 3)."""

    def __call__(self, discriminator: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
        """Return the penalty, a scalar."""
        both = torch.cat([real, fake])  # N images of each kind, so twice the mean over both is the sum
        return self.interval * self.gamma * squared_gradient_norm(discriminator, both)
