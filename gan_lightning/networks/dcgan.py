"""Convolutional networks after Radford et al., Unsupervised Representation Learning with DCGANs, 2016.

A layer of stride 2 leads from each resolution to the next. Any size of at least 8 x 8 is possible. The published
networks are those for 64 x 64 with a width of 128, up to 1,024 channels, and BatchNorm and no hidden layer in D.
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


class Generator(nn.Module):
    """A linear layer, then transposed convolutions with BatchNorm and ReLU between them, and a tanh.

    Args:
        latent_dim: Length of a noise vector.
        image_shape: (C, H, W) of an image, at least 8 x 8.
        width: Channels at half the image's resolution; doubled at each halving.
        max_width: Channels at any resolution, at most.
        weight_init: "dcgan" (published) or "default" (torch's); see :func:`initialize`.
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
        weight_init: str,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        check_sizes(latent_dim=latent_dim, width=width, max_width=max_width)
        check_num_classes(num_classes)
        shapes = pyramid(image_shape, width, max_width)
        self.condition = Condition(latent_dim, num_classes) if num_classes else None
        self.lowest = shapes[-1]
        self.linear = nn.Linear(latent_dim * (2 if num_classes else 1), prod(self.lowest))
        layers: list[nn.Module] = []
        for low, high in pairwise(shapes[::-1]):
            layers += [nn.BatchNorm2d(low[0]), nn.ReLU(inplace=True), doubling(low, high)]
        self.layers = nn.Sequential(*layers, nn.Tanh()).to(memory_format=torch.channels_last)
        initialize(self, weight_init)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1] for noise (N, latent_dim), and labels (N,) if there are classes."""
        x = self.linear(self.condition(z, labels) if self.condition else z).unflatten(1, self.lowest)
        return self.layers(x.contiguous(memory_format=torch.channels_last))


class Discriminator(nn.Module):
    """Convolutions of stride 2 with LeakyReLU, then a linear layer.

    The published network has BatchNorm on all convolutions but the first. With it, an image's logit depends on the
    other images of its batch, which gradient penalties assume it does not.

    Args:
        image_shape: (C, H, W) of an image, at least 8 x 8.
        width: Channels at half the image's resolution; doubled at each halving.
        max_width: Channels at any resolution, at most.
        negative_slope: Slope of LeakyReLU for negative inputs, at least 0.
        weight_init: "dcgan" (published) or "default" (torch's); see :func:`initialize`.
        hidden: Width of a fully connected layer with LeakyReLU before the last one; 0: none, as published.
        batch_norm: Whether there is BatchNorm.
        spectral_norm: Whether the weights are divided by their largest singular values.
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
        negative_slope: float,
        weight_init: str,
        hidden: int = 0,
        batch_norm: bool = False,
        spectral_norm: bool = False,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        check_sizes(width=width, max_width=max_width)
        check_slope(negative_slope)
        check_num_classes(num_classes)
        shapes = pyramid(image_shape, width, max_width)
        layers: list[nn.Module] = []
        for i, ((c_in, *_), (c_out, *_)) in enumerate(pairwise(shapes)):
            layers.append(nn.Conv2d(c_in, c_out, 4, stride=2, padding=1))
            if batch_norm and i > 0:
                layers.append(nn.BatchNorm2d(c_out))
            layers.append(nn.LeakyReLU(negative_slope, inplace=True))
        features = prod(shapes[-1])
        layers += logit_layers(features, hidden, negative_slope)
        self.layers = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        self.projection = Projection(hidden or features, num_classes) if num_classes else None
        initialize(self, weight_init)
        if spectral_norm:
            normalize_layers(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (N, 1) of images (N, C, H, W), and of their labels (N,) if there are classes."""
        images = images.contiguous(memory_format=torch.channels_last)
        return project(self.layers, images, self.projection, labels)


def initialize(network: nn.Module, weight_init: str) -> None:
    """Draw the weights as DCGAN's authors did: from N(0, 0.02²), BatchNorm's scales from N(1, 0.02²), biases 0.

    Args:
        network: Changed in place.
        weight_init: "dcgan", or "default" to keep torch's.

    Raises:
        ValueError: If it is neither.
    """
    if weight_init not in ("dcgan", "default"):
        raise ValueError(f"weight_init={weight_init}: must be dcgan or default")
    for module in network.modules() if weight_init == "dcgan" else ():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
            nn.init.normal_(module.weight, float(isinstance(module, nn.BatchNorm2d)), 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
