"""The generator and the discriminator of the paper's MNIST experiment (section 5), as its authors configured them."""

from collections.abc import Sequence
from itertools import pairwise
from math import inf, prod

import torch
from torch import Tensor, nn

from gan_lightning.networks import check_sizes
from gan_lightning.networks.labels import Condition, Projection, check_num_classes, project
from gan_lightning.networks.spectral_norm import normalize_layers


class Maxout(nn.Module):
    """A linear layer of ``units`` x ``pieces`` outputs that returns the largest of each unit's pieces.

    Goodfellow et al., Maxout Networks, 2013.
    """

    def __init__(self, in_features: int, units: int, pieces: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, units * pieces)
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, units) for (N, in_features)."""
        return self.linear(x).unflatten(1, (-1, self.pieces)).amax(2)


def initialize(network: nn.Module, bound: float) -> None:
    """Draw all layers' weights from U(-bound, bound) and set all biases to 0."""
    if not 0 < bound < inf:
        raise ValueError(f"weight_bound={bound}: must be above 0 and finite")
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class Generator(nn.Module):
    """Linear layers with ReLU between them, and a sigmoid at the end.

    Args:
        latent_dim: Length of a noise vector.
        image_shape: (C, H, W) of an image.
        widths: Widths of the hidden layers.
        weight_bound: The weights are initialized uniformly between minus this and this; above 0.
        num_classes: Number of classes of a conditional network; 0: unconditional.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        *,
        latent_dim: int,
        image_shape: Sequence[int],
        widths: Sequence[int],
        weight_bound: float,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        check_sizes(latent_dim=latent_dim, image_shape=image_shape, widths=widths)
        check_num_classes(num_classes)
        self.condition = Condition(latent_dim, num_classes) if num_classes else None
        layers: list[nn.Module] = []
        for before, after in pairwise([latent_dim * (2 if num_classes else 1), *widths]):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.hidden = nn.Sequential(*layers)
        self.visible = nn.Linear(widths[-1], prod(image_shape))
        self.image_shape = tuple(image_shape)
        initialize(self, weight_bound)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1] for noise (N, latent_dim), and labels (N,) if there are classes."""
        z = self.condition(z, labels) if self.condition else z
        probabilities = self.visible(self.hidden(z)).sigmoid()  # the paper's pixels are in [0, 1]
        return (2 * probabilities - 1).unflatten(1, self.image_shape)

    @torch.no_grad()
    def start_from_mean(self, mean: Tensor) -> None:
        """Set the output biases so that the first images are the mean image (C, H, W) in [-1, 1]."""
        self.visible.bias.copy_(mean.add(1).div(2).flatten().logit(eps=1e-4))  # theirs: 1e-7; see docs/results.md


class Discriminator(nn.Module):
    """Maxout layers with dropout, also on the image.

    Args:
        image_shape: (C, H, W) of an image.
        units: Units of each maxout layer.
        pieces: Linear pieces of a unit.
        input_dropout: Probability that a pixel is dropped.
        hidden_dropout: Probability that a hidden unit is dropped.
        weight_bound: The weights are initialized uniformly between minus this and this; above 0.
        spectral_norm: Whether the weights are divided by their largest singular values.
        num_classes: Number of classes of a conditional network; 0: unconditional.

    Raises:
        ValueError: If an argument is out of range.
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
        spectral_norm: bool = False,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        check_sizes(image_shape=image_shape, units=units, pieces=pieces)
        check_num_classes(num_classes)
        for name, value in (("input_dropout", input_dropout), ("hidden_dropout", hidden_dropout)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value}: must be between 0 and 1")
        layers: list[nn.Module] = [nn.Flatten(), nn.Dropout(input_dropout)]
        for before, after in pairwise([prod(image_shape), *units]):
            layers += [Maxout(before, after, pieces), nn.Dropout(hidden_dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(units[-1], 1))
        self.projection = Projection(units[-1], num_classes) if num_classes else None
        initialize(self, weight_bound)
        if spectral_norm:
            normalize_layers(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (N, 1) of images (N, C, H, W) in [-1, 1], and of their labels (N,) if there are classes."""
        return project(self.layers, (images + 1) / 2, self.projection, labels)  # the paper's pixels are in [0, 1]
