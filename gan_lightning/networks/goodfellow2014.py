"""The generator and the discriminator of the paper's MNIST experiment (section 5), as its authors configured them."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn


class Maxout(nn.Module):
    """A linear layer of ``units`` x ``pieces`` outputs, of which the largest of each unit's pieces is kept.

    Goodfellow et al., Maxout Networks, 2013.
    """

    def __init__(self, before: int, units: int, pieces: int) -> None:
        super().__init__()
        self.linear = nn.Linear(before, units * pieces)
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, before) to (N, units)."""
        return self.linear(x).unflatten(1, (-1, self.pieces)).amax(2)


def initialise(network: nn.Module, bound: float) -> None:
    """Draw all weights from U(-bound, bound) and set all biases to 0."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.uniform_(module.weight, -bound, bound)
            nn.init.zeros_(module.bias)


class Generator(nn.Module):
    """Noise to images: linear layers with ReLU between them and a sigmoid at the end.

    Args:
        latent_dim: Length of a noise vector.
        image_shape: (C, H, W) of an image.
        widths: Widths of the hidden layers.
        weight_bound: The weights begin uniform between minus this and this.
    """

    def __init__(
        self, *, latent_dim: int, image_shape: Sequence[int], widths: Sequence[int], weight_bound: float
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise([latent_dim, *widths]):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.hidden = nn.Sequential(*layers)
        self.visible = nn.Linear(widths[-1], prod(image_shape))
        self.image_shape = tuple(image_shape)
        initialise(self, weight_bound)

    def forward(self, z: Tensor) -> Tensor:
        """Map noise (N, latent_dim) to images (N, C, H, W) in [-1, 1]."""
        probabilities = self.visible(self.hidden(z)).sigmoid()  # in [0, 1], as the paper has its images
        return (2 * probabilities - 1).unflatten(1, self.image_shape)

    @torch.no_grad()
    def start_from_mean(self, mean: Tensor) -> None:
        """Let the first images be the mean image (C, H, W) in [-1, 1], by the output biases."""
        self.visible.bias.copy_(mean.add(1).div(2).flatten().logit(eps=1e-4))  # theirs: 1e-7; see docs/results.md


class Discriminator(nn.Module):
    """Images to logits: maxout layers with dropout, also on the image.

    Args:
        image_shape: (C, H, W) of an image.
        units: Units of each maxout layer.
        pieces: Linear pieces of a unit.
        input_dropout: Chance of a pixel to be dropped.
        hidden_dropout: Chance of a hidden unit to be dropped.
        weight_bound: The weights begin uniform between minus this and this.
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        units: Sequence[int],
        pieces: int,
        input_dropout: float,
        hidden_dropout: float,
        weight_bound: float,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten(), nn.Dropout(input_dropout)]
        for before, after in pairwise([prod(image_shape), *units]):
            layers += [Maxout(before, after, pieces), nn.Dropout(hidden_dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(units[-1], 1))
        initialise(self, weight_bound)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) in [-1, 1] to logits (N, 1)."""
        return self.layers((images + 1) / 2)  # the paper's images are in [0, 1]
