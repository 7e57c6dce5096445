"""Residual networks without normalization, after R3GAN (Huang et al., The GAN is dead; long live the GAN!, 2024).

Simplified: the convolutions have no groups, which are slow on a CPU; there are no blocks at the image's own resolution,
where they would cost the most; and G ends in a tanh.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_lightning.networks import check_sizes
from gan_lightning.networks.labels import Condition, Projection, check_num_classes, project
from gan_lightning.networks.mlp import check_slope
from gan_lightning.networks.pyramid import channels, logit_layers, resolutions
from gan_lightning.networks.spectral_norm import normalize_layers


def convolution(c_in: int, c_out: int, size: int, *, gain: float = 1.0, bias: bool = False) -> nn.Conv2d:
    """Return a convolution that keeps height and width, and multiplies the standard deviation by ``gain`` at first."""
    layer = nn.Conv2d(c_in, c_out, size, padding=size // 2, bias=bias)
    nn.init.normal_(layer.weight, std=gain / (c_in * size**2) ** 0.5)
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
            convolution(width, width, 1, gain=gain, bias=True),
            nn.LeakyReLU(negative_slope, inplace=True),
            convolution(width, width, 3, gain=gain, bias=True),
            nn.LeakyReLU(negative_slope, inplace=True),
            convolution(width, width, 1, gain=last_gain),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, width, H, W) for the same."""
        return x + self.layers(x)


def check_blocks(blocks: int) -> None:
    """Raise ValueError unless there are 1 to 100 blocks; without a limit, a typing error would take hours to build."""
    if not 1 <= blocks <= 100:
        raise ValueError(f"blocks={blocks}: must be between 1 and 100")


class Resize(nn.Module):
    """Average pooling to half the height and width, or bilinear interpolation.

    Args:
        size: Height and width afterwards.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, height, width) for (N, C, H, W)."""
        if x.shape[-1] > self.size[-1]:
            is_even = x.shape[2:] == (2 * self.size[0], 2 * self.size[1])
            return F.avg_pool2d(x, 2) if is_even else F.adaptive_avg_pool2d(x, self.size)
        return F.interpolate(x, self.size, mode="bilinear", align_corners=False)


class Generator(nn.Module):
    """A learned constant times a linear function of the noise, then blocks and interpolation.

    The noise enters nowhere else. A transposed convolution of stride 2 and a tanh give the image.

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
        image, *sizes = resolutions(image_shape)
        widths = channels(width, max_width, len(sizes))
        self.condition = Condition(latent_dim, num_classes) if num_classes else None
        self.linear = nn.Linear(latent_dim * (2 if num_classes else 1), widths[-1])
        self.constant = nn.Parameter(torch.randn(widths[-1], *sizes[-1]))
        layers: list[nn.Module] = []
        for i in reversed(range(len(sizes))):
            if layers:
                if widths[i] != widths[i + 1]:
                    layers.append(convolution(widths[i + 1], widths[i], 1))  # before: on fewer pixels
                layers.append(Resize(sizes[i]))
            layers += [
                Block(widths[i], negative_slope=negative_slope, blocks=blocks * len(sizes)) for _ in range(blocks)
            ]
        odd = (image[0] - 2 * sizes[0][0], image[1] - 2 * sizes[0][1])  # 1 where halving has rounded down
        to_image = nn.ConvTranspose2d(widths[0], image_shape[0], 4, stride=2, padding=1, output_padding=odd)
        nn.init.normal_(to_image.weight, std=(4 * widths[0]) ** -0.5)  # a pixel is a sum over 2 x 2 of the inputs
        self.layers = nn.Sequential(*layers, to_image, nn.Tanh()).to(memory_format=torch.channels_last)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1] for noise (N, latent_dim), and labels (N,) if there are classes."""
        weights = self.linear(self.condition(z, labels) if self.condition else z)
        x = self.constant * weights[:, :, None, None]  # (N, C, h, w)
        return self.layers(x.contiguous(memory_format=torch.channels_last))


class Discriminator(nn.Module):
    """A convolution of stride 2, then blocks and average pooling, and a linear layer.

    Args:
        image_shape: (C, H, W) of an image, at least 8 x 8.
        width: Channels at half the image's resolution; doubled at each halving.
        max_width: Channels at any resolution, at most.
        blocks: Residual blocks at each resolution but the image's, 1 to 100.
        negative_slope: Slope of LeakyReLU for negative inputs, at least 0.
        hidden: Width of a fully connected layer with LeakyReLU before the last one; 0: none, as published.
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
        _, *sizes = resolutions(image_shape)
        widths = channels(width, max_width, len(sizes))
        from_image = nn.Conv2d(image_shape[0], widths[0], 4, stride=2, padding=1)
        nn.init.normal_(from_image.weight, std=(16 * image_shape[0]) ** -0.5)
        layers: list[nn.Module] = [from_image]
        for i, size in enumerate(sizes):
            if i > 0:
                layers.append(Resize(size))
                if widths[i] != widths[i - 1]:
                    layers.append(convolution(widths[i - 1], widths[i], 1))  # after: on fewer pixels
            for _ in range(blocks):
                layers.append(
                    Block(
                        widths[i],
                        negative_slope=negative_slope,
                        blocks=blocks * len(sizes),
                        last_gain=float(spectral_norm),
                    )
                )
        features = widths[-1] * sizes[-1][0] * sizes[-1][1]
        layers += logit_layers(features, hidden, negative_slope)
        self.layers = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        self.projection = Projection(hidden or features, num_classes) if num_classes else None
        if spectral_norm:
            normalize_layers(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (N, 1) of images (N, C, H, W), and of their labels (N,) if there are classes."""
        images = images.contiguous(memory_format=torch.channels_last)
        return project(self.layers, images, self.projection, labels)
