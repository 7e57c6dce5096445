"""Residual networks without normalization, after R3GAN (Huang et al., The GAN is dead; long live the GAN!, 2024).

Adapted to small images and a CPU. Convolutions of stride 2 change the resolution (published: interpolation), and G
starts with a linear layer (published: a learned constant whose channels the noise scales): on MNIST both are more
stable. Blocks have one width (published: twice the channels inside) and no groups, there are none at the image's own
resolution, D flattens its features (published: a depthwise convolution of 4 x 4), and G ends in a tanh.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from gan_lightning.networks import check_sizes
from gan_lightning.networks.labels import Condition, Projection, check_num_classes, project
from gan_lightning.networks.mlp import check_slope
from gan_lightning.networks.pyramid import doubling, logit_layers, pyramid
from gan_lightning.networks.spectral_norm import normalize_layers


def convolution(width: int, size: int, *, gain: float, bias: bool = False) -> nn.Conv2d:
    """Return a convolution that keeps the shape, and multiplies the standard deviation by ``gain`` at first."""
    layer = nn.Conv2d(width, width, size, padding=size // 2, bias=bias)
    nn.init.normal_(layer.weight, std=gain / (width * size**2) ** 0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Block(nn.Module):
    """x + f(x), where f is convolutions of 1 x 1, 3 x 3 and 1 x 1 with LeakyReLU between them.

    Args:
        width: Channels.
        negative_slope: Slope of LeakyReLU for negative inputs.
        blocks: Blocks of the whole network. Fixup (Zhang et al., Fixup Initialization, 2019) scales all of f's m = 3
            layers but the last by blocks^(-1 / (2m - 2)), so that the first updates of a deep network change its
            output as little as those of a shallow one.
        last_gain: Scale of the last layer; 0, Fixup's, makes the block the identity at first.
    """

    def __init__(self, width: int, *, negative_slope: float, blocks: int, last_gain: float = 0.0) -> None:
        super().__init__()
        gain = nn.init.calculate_gain("leaky_relu", negative_slope) * blocks**-0.25
        self.layers = nn.Sequential(
            convolution(width, 1, gain=gain, bias=True),
            nn.LeakyReLU(negative_slope, inplace=True),
            convolution(width, 3, gain=gain, bias=True),
            nn.LeakyReLU(negative_slope, inplace=True),
            convolution(width, 1, gain=last_gain),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, width, H, W) for the same."""
        return x + self.layers(x)


def stage(width: int, blocks: int, stages: int, **settings: float) -> list[Block]:
    """Return the blocks at one of a network's resolutions."""
    return [Block(width, blocks=blocks * stages, **settings) for _ in range(blocks)]


def check_blocks(blocks: int) -> None:
    """Raise ValueError unless there are 1 to 100 blocks; without a limit, a typing error would take hours to build."""
    if not 1 <= blocks <= 100:
        raise ValueError(f"blocks={blocks}: must be between 1 and 100")


class Generator(nn.Module):
    """A linear layer, then blocks and a transposed convolution of stride 2 for each doubling, and a tanh.

    Args:
        latent_dim: Length of a noise vector.
        image_shape: (C, H, W) of an image, at least 8 x 8.
        width: Channels at half the image's resolution; doubled at each halving.
        max_width: Channels at any resolution, at most.
        blocks: Residual blocks at each resolution but the image's, 1 to 100.
        negative_slope: Slope of LeakyReLU for negative inputs, at least 0.
        num_classes: Number of classes of a conditional network; 0: unconditional.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        *,
        latent_dim: int,
        image_shape: Sequence[int],
        width: int,
        max_width: int,
        blocks: int,
        negative_slope: float,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        check_sizes(latent_dim=latent_dim, width=width, max_width=max_width)
        check_blocks(blocks)
        check_slope(negative_slope)
        check_num_classes(num_classes)
        shapes = pyramid(image_shape, width, max_width)
        self.condition = Condition(latent_dim, num_classes) if num_classes else None
        self.lowest = shapes[-1]
        self.linear = nn.Linear(latent_dim * (2 if num_classes else 1), prod(self.lowest))
        layers: list[nn.Module] = []
        for low, high in pairwise(shapes[::-1]):
            layers += stage(low[0], blocks, len(shapes) - 1, negative_slope=negative_slope)
            up = doubling(low, high)
            nn.init.normal_(up.weight, std=(4 * low[0]) ** -0.5)  # a pixel is a sum over 2 x 2 of the inputs
            layers.append(up)
        self.layers = nn.Sequential(*layers, nn.Tanh()).to(memory_format=torch.channels_last)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1] for noise (N, latent_dim), and labels (N,) if there are classes."""
        x = self.linear(self.condition(z, labels) if self.condition else z).unflatten(1, self.lowest)
        return self.layers(x.contiguous(memory_format=torch.channels_last))


class Discriminator(nn.Module):
    """A convolution of stride 2 and blocks for each halving, then a linear layer.

    Args:
        image_shape: (C, H, W) of an image, at least 8 x 8.
        width: Channels at half the image's resolution; doubled at each halving.
        max_width: Channels at any resolution, at most.
        blocks: Residual blocks at each resolution but the image's, 1 to 100.
        negative_slope: Slope of LeakyReLU for negative inputs, at least 0.
        hidden: Width of a fully connected layer with LeakyReLU before the last one; 0: none.
        spectral_norm: Whether the weights are divided by their largest singular values. As weights of 0 have none, no
            block is the identity at first.
        num_classes: Number of classes of a conditional network; 0: unconditional.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        width: int,
        max_width: int,
        blocks: int,
        negative_slope: float,
        hidden: int = 0,
        spectral_norm: bool = False,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        check_sizes(width=width, max_width=max_width)
        check_blocks(blocks)
        check_slope(negative_slope)
        check_num_classes(num_classes)
        shapes = pyramid(image_shape, width, max_width)
        layers: list[nn.Module] = []
        last_gain = float(spectral_norm)
        for (c_in, *_), (c_out, *_) in pairwise(shapes):
            down = nn.Conv2d(c_in, c_out, 4, stride=2, padding=1)
            nn.init.normal_(down.weight, std=(16 * c_in) ** -0.5)
            layers += [down, *stage(c_out, blocks, len(shapes) - 1, negative_slope=negative_slope, last_gain=last_gain)]
        features = prod(shapes[-1])
        layers += logit_layers(features, hidden, negative_slope)
        self.layers = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        self.projection = Projection(hidden or features, num_classes) if num_classes else None
        if spectral_norm:
            normalize_layers(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (N, 1) of images (N, C, H, W), and of their labels (N,) if there are classes."""
        images = images.contiguous(memory_format=torch.channels_last)
        return project(self.layers, images, self.projection, labels)
