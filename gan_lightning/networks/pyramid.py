"""What convolutional networks share: the shapes at each resolution, the layer that doubles it, and the last layers."""

from collections.abc import Sequence

from torch import nn

from gan_lightning.networks import check_sizes

SMALLEST = 4  # pixels of the shorter side at the lowest resolution, as in DCGAN


def resolutions(image_shape: Sequence[int]) -> list[tuple[int, int]]:
    """Return (height, width) at each resolution, from the image's down to the lowest.

    Sizes are halved, and rounded down, as long as the shorter side has at least 4 pixels: 28, 14, 7; or 32, 16, 8, 4.

    Args:
        image_shape: (C, H, W) of an image.

    Raises:
        ValueError: If it is not a shape, or a side is too short to be halved.
    """
    check_sizes(image_shape=image_shape)
    if len(image_shape) != 3:
        raise ValueError(f"image_shape={list(image_shape)}: must be channels, height and width")
    channels, *sides = image_shape
    if min(sides) < 2 * SMALLEST:
        nearest = [channels, *(max(side, 2 * SMALLEST) for side in sides)]
        hint = "use model=mlp, or mlp_2d for points" if max(sides) == 1 else f"the nearest shape is {nearest}"
        raise ValueError(
            f"image_shape={list(image_shape)}: convolutional networks need a height and width of at least "
            f"{2 * SMALLEST}; {hint}"
        )
    count = (min(sides) // SMALLEST).bit_length()
    return [(sides[0] >> i, sides[1] >> i) for i in range(count)]


def channels(width: int, max_width: int, levels: int) -> list[int]:
    """Return the channels at each of the resolutions below the image's: doubled at each halving, up to a maximum."""
    return [min(width << i, max_width) for i in range(levels)]


def pyramid(image_shape: Sequence[int], width: int, max_width: int) -> list[tuple[int, int, int]]:
    """Return (channels, height, width) at each resolution, from the image's down to the lowest.

    Raises:
        ValueError: As :func:`resolutions`.
    """
    sizes = resolutions(image_shape)
    widths = [image_shape[0], *channels(width, max_width, len(sizes) - 1)]
    return [(c, *size) for c, size in zip(widths, sizes, strict=True)]


def doubling(low: tuple[int, int, int], high: tuple[int, int, int]) -> nn.ConvTranspose2d:
    """Return a transposed convolution of stride 2 from one shape (C, H, W) of a pyramid to the next higher one."""
    odd = (high[1] - 2 * low[1], high[2] - 2 * low[2])  # 1 where halving has rounded down
    return nn.ConvTranspose2d(low[0], high[0], 4, stride=2, padding=1, output_padding=odd)


def logit_layers(features: int, hidden: int, negative_slope: float) -> list[nn.Module]:
    """Return the last layers of a discriminator: from (N, C, h, w) with C * h * w features to logits (N, 1).

    Args:
        features: Number of features.
        hidden: Width of a fully connected layer with LeakyReLU; 0: none.
        negative_slope: Slope of LeakyReLU for negative inputs.

    Raises:
        ValueError: If ``hidden`` is out of range.
    """
    if not 0 <= hidden < 2**31:
        raise ValueError(f"hidden={hidden}: must be at least 0 (no such layer) and below 2**31")
    if not hidden:
        return [nn.Flatten(), nn.Linear(features, 1)]
    activation = nn.LeakyReLU(negative_slope, inplace=True)
    return [nn.Flatten(), nn.Linear(features, hidden), activation, nn.Linear(hidden, 1)]
