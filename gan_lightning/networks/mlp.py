"""The article's fully connected generator and discriminator."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from gan_lightning.networks.linear import Linear


class Generator(nn.Module):
    """Noise to images: linear layers, LeakyReLU between them, BatchNorm on all hidden ones but the first.

    The article passes 0.8 to ``BatchNorm1d`` as its second argument. That argument is ``eps``, although code
    that writes it so mostly meant ``momentum``; it is kept here under its true name.

    Args:
        latent_dim: Length of a noise vector.
        image_shape: (C, H, W) of an image.
        widths: Widths of the hidden layers.
        negative_slope: Of LeakyReLU.
        batch_norm_eps: Added to the variance in BatchNorm.
    """

    def __init__(
        self,
        *,
        latent_dim: int,
        image_shape: Sequence[int],
        widths: Sequence[int],
        negative_slope: float,
        batch_norm_eps: float,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(pairwise([latent_dim, *widths])):
            layers.append(Linear(before, after))
            if i > 0:
                layers.append(nn.BatchNorm1d(after, eps=batch_norm_eps))
            layers.append(nn.LeakyReLU(negative_slope, inplace=True))
        layers += [Linear(widths[-1], prod(image_shape)), nn.Tanh(), nn.Unflatten(1, tuple(image_shape))]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """Map noise (N, latent_dim) to images (N, C, H, W) in [-1, 1]."""
        return self.layers(z)


class Discriminator(nn.Module):
    """Images to logits: linear layers with LeakyReLU between them.

    The article ends in a sigmoid. It is left to the losses, which work on the logit and so never meet log 0.

    Args:
        image_shape: (C, H, W) of an image.
        widths: Widths of the hidden layers.
        negative_slope: Of LeakyReLU.
    """

    def __init__(self, *, image_shape: Sequence[int], widths: Sequence[int], negative_slope: float) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise([prod(image_shape), *widths]):
            layers += [Linear(before, after), nn.LeakyReLU(negative_slope, inplace=True)]
        self.layers = nn.Sequential(*layers, Linear(widths[-1], 1))

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, 1); the sigmoid of a logit is D(x), the chance of being real."""
        return self.layers(images)
