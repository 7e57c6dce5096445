"""Penalties on the discriminator's gradient, added to its loss, and the clipping of its weights.

A penalty is called with the discriminator, real and generated images (N, C, H, W) of one dtype, and returns a scalar.
The GAN evaluates a penalty with an ``interval`` n only every n steps, so the penalty multiplies itself by n: the lazy
regularization of StyleGAN2 (Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020), without its
change of Adam's rates. With k > 1, all k updates of such a step have the penalty. ``gamma`` may change during training;
see :class:`gan_lightning.callbacks.hyperparameter_schedules.HyperparameterSchedules`.

A penalty may have two more attributes. ``needs_independent_images``: it is defined only for a discriminator that
processes every image by itself, as one with batch normalization does not. ``constrain``: a method that the GAN calls
with the discriminator after every update of it.
"""

from collections.abc import Callable
from math import inf

import torch
from torch import Tensor, nn

from gan_lightning.ranks import rand_like, stack, world_size

Discriminator = Callable[[Tensor], Tensor]


class GradientPenalty:
    """γ · E(‖∇D(x)‖ - target)² at points x that a subclass chooses, where D(x) is the logit.

    Args:
        gamma: The weight γ, at least 0 and finite.
        interval: Steps from one evaluation to the next.

    Raises:
        ValueError: If an argument is out of range.
    """

    needs_independent_images = True  # else an image's gradient would hold those of other logits
    target = 0.0  # of the gradient's norm
    factor = 1.0  # of γ

    def __init__(self, *, gamma: float, interval: int = 1) -> None:
        if not 0 <= gamma < inf:
            raise ValueError(f"gamma={gamma}: must be at least 0 and finite")
        if interval < 1:
            raise ValueError(f"interval={interval}: must be at least 1")
        self.gamma, self.interval = gamma, interval

    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the images (N or 2N, C, H, W) at which the gradient is taken, of N real and N generated ones."""
        raise NotImplementedError

    def __call__(self, discriminator: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
        """Return the penalty, a scalar."""
        points = self.points(real, fake).detach().requires_grad_()
        # The gradient of the sum of all logits holds each image's own.
        (gradient,) = torch.autograd.grad(discriminator(points).sum(), points, create_graph=True)
        if self.target:
            norms = torch.linalg.vector_norm(gradient.flatten(1), dim=1)  # its gradient is 0 and not nan at 0
            squares = (norms - self.target).square()
        else:
            squares = gradient.square().flatten(1).sum(1)
        return self.interval * self.gamma * self.factor * squares.mean()


class R1(GradientPenalty):
    """γ/2 · E‖∇D(x)‖² on real images.

    Mescheder et al., Which Training Methods for GANs do actually Converge?, 2018, equation 9. For the arguments, see
    :class:`GradientPenalty`.
    """

    factor = 0.5

    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the real images."""
        return real


class R2(R1):
    """γ/2 · E‖∇D(G(z))‖² on generated images (Mescheder et al., 2018, equation 10)."""

    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the generated images."""
        return fake


class R1R2(R1):
    """R1 and R2 with one γ, as in R3GAN (Huang et al., The GAN is dead; long live the GAN!, 2024, equation 3)."""

    factor = 1.0  # N images of each kind, so twice the mean over both is the sum

    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return both, (2N, C, H, W)."""
        return torch.cat([real, fake])


class ZeroCentered(GradientPenalty):
    """0-GP: γ · E‖∇D(x̃)‖² on random interpolates between a real and a generated image.

    Thanh-Tung et al., Improving Generalization and Stability of Generative Adversarial Networks, 2019, which calls the
    weight λ. Its authors' code takes the gradient of D's probability, which is at most a quarter of the logit's (a
    sixteenth when squared), so their weights are larger. For the arguments, see :class:`GradientPenalty`.
    """

    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return one point of the line from each generated image to the real one of the same index."""
        return torch.lerp(fake, real, uniform(real))


class WGANGP(ZeroCentered):
    """γ · E(‖∇D(x̂)‖ - 1)² on random interpolates between a real and a generated image.

    Gulrajani et al., Improved Training of Wasserstein GANs, 2017, equation 3, which calls the weight λ. For the
    arguments, see :class:`GradientPenalty`.
    """

    target = 1.0


class DRAGAN(GradientPenalty):
    """γ · E(‖∇D(x̂)‖ - 1)² around real images.

    Kodali et al., On Convergence and Stability of GANs, 2017, which calls the weight λ. Its text adds normal noise to
    the images. This is what its authors' code does: each image is moved a random part of the way to a noisy copy, with
    noise of ``scale`` times the standard deviation of all pixels of the minibatch times U(0, 1).

    Args:
        gamma: The weight γ, at least 0 and finite.
        scale: Size of the noise in standard deviations of the minibatch, at least 0 and finite; theirs is 0.5.
        interval: Steps from one evaluation to the next.

    Raises:
        ValueError: If an argument is out of range.
    """

    target = 1.0

    def __init__(self, *, gamma: float, scale: float, interval: int = 1) -> None:
        super().__init__(gamma=gamma, interval=interval)
        if not 0 <= scale < inf:
            raise ValueError(f"scale={scale}: must be at least 0 and finite")
        self.scale = scale

    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return one point for each real image."""
        noise = self.scale * deviation(real) * rand_like(real)
        return real + uniform(real) * noise


class WeightClipping:
    """No penalty, but D's weights are clipped after every update (Arjovsky et al., Wasserstein GAN, 2017, Algorithm 1).

    Args:
        bound: Largest absolute value of a parameter, the paper's c, above 0 and finite.

    Raises:
        ValueError: If it is out of range.
    """

    needs_independent_images = False

    def __init__(self, *, bound: float) -> None:
        if not 0 < bound < inf:
            raise ValueError(f"bound={bound}: must be above 0 and finite")
        self.bound = bound

    def __call__(self, discriminator: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
        """Return 0, a scalar."""
        return real.new_zeros(())

    @torch.no_grad()
    def constrain(self, network: nn.Module) -> None:
        """Clip all parameters to [-bound, bound], in place."""
        for parameter in network.parameters():
            parameter.clamp_(-self.bound, self.bound)


def uniform(images: Tensor) -> Tensor:
    """Return one number of U(0, 1) per image, (N, 1, 1, 1)."""
    return rand_like(images[:, :1, :1, :1])


def deviation(images: Tensor) -> Tensor:
    """Return the standard deviation, a scalar, of all pixels of the minibatches of all devices."""
    if world_size() == 1:
        return images.std(correction=0)
    variances, means = stack(torch.stack(torch.var_mean(images, correction=0))).unbind(1)  # (ranks,)
    return (variances + (means - means.mean()).square()).mean().sqrt()
