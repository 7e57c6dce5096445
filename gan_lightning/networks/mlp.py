"""The article's fully connected generator and discriminator."""

from collections.abc import Sequence
from itertools import pairwise
from math import inf, prod

from torch import Tensor, nn

from gan_lightning.networks import check_sizes
from gan_lightning.networks.labels import Condition, Projection, check_num_classes, project
from gan_lightning.networks.spectral_norm import normalize_layers


class Generator(nn.Module):
    """Linear layers with LeakyReLU between them, and BatchNorm on all hidden layers but the first.

    The article passes 0.8 as the second argument of ``BatchNorm1d``. That argument is ``eps``, although code that
    writes it this way mostly meant ``momentum``; it is kept here under its true name.

    Args:
        latent_dim: Length of a noise vector.
        image_shape: (C, H, W) of an image.
        widths: Widths of the hidden layers.
        negative_slope: Slope of LeakyReLU for negative inputs, at least 0.
        batch_norm_eps: Added to the variance in BatchNorm; above 0.
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
        negative_slope: float,
        batch_norm_eps: float,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        check_sizes(latent_dim=latent_dim, image_shape=image_shape, widths=widths)
        check_slope(negative_slope)
        check_num_classes(num_classes)
        if not 0 < batch_norm_eps < inf:
            raise ValueError(f"batch_norm_eps={batch_norm_eps}: must be above 0 and finite")
        self.condition = Condition(latent_dim, num_classes) if num_classes else None
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(pairwise([latent_dim * (2 if num_classes else 1), *widths])):
            layers.append(nn.Linear(before, after))
            if i > 0:
                layers.append(nn.BatchNorm1d(after, eps=batch_norm_eps))
            layers.append(nn.LeakyReLU(negative_slope, inplace=True))
        layers += [nn.Linear(widths[-1], prod(image_shape)), nn.Tanh(), nn.Unflatten(1, tuple(image_shape))]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1] for noise (N, latent_dim), and labels (N,) if there are classes."""
        return self.layers(self.condition(z, labels) if self.condition else z)


class Discriminator(nn.Module):
    """Linear layers with LeakyReLU between them.

    The article ends in a sigmoid. It is left to the losses, which are computed from logits and so never take log 0.

    Args:
        image_shape: (C, H, W) of an image.
        widths: Widths of the hidden layers.
        negative_slope: Slope of LeakyReLU for negative inputs, at least 0.
        spectral_norm: Whether the weights are divided by their largest singular values.
        num_classes: Number of classes of a conditional network; 0: unconditional.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        widths: Sequence[int],
        negative_slope: float,
        spectral_norm: bool = False,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        check_sizes(image_shape=image_shape, widths=widths)
        check_slope(negative_slope)
        check_num_classes(num_classes)
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise([prod(image_shape), *widths]):
            layers += [nn.Linear(before, after), nn.LeakyReLU(negative_slope, inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], 1))
        self.projection = Projection(widths[-1], num_classes) if num_classes else None
        if spectral_norm:
            normalize_layers(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (N, 1) of images (N, C, H, W), and of their labels (N,) if there are classes.

        The sigmoid of a logit is D(x), the probability that the image is real.
        """
        return project(self.layers, images, self.projection, labels)


def check_slope(negative_slope: float) -> None:
    """Raise ValueError for a slope with which LeakyReLU cannot be differentiated in place."""
    if not 0 <= negative_slope < inf:
        raise ValueError(f"negative_slope={negative_slope}: must be at least 0 and finite")
