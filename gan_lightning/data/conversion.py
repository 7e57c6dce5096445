"""The conversion of pictures of any mode, depth, orientation and size to the pixels of a data set."""

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

ORIENTATION = 0x0112  # EXIF tag
FITS = ("crop", "pad", "stretch")
CANNOT_READ = "cannot be read as a picture"
DARK = 1 / 8  # a largest value below this share of white suggests a scale that is not the format's
DEEP = {"I;16": 65535, "I;16L": 65535, "I;16B": 65535, "I;16N": 65535, "I": None, "F": 1.0}  # mode -> white


class Conversion:
    """Conversion of a PIL image to bytes (C, H, W).

    In this order: the first frame, EXIF orientation, 8 bits, transparency on a background, colors, size. Bytes of
    images that need none of these stay as they are.

    Args:
        size: Height and width, or one number for both; None: the image's own.
        channels: 1 for grayscale, 3 for color; None: the image's own.
        fit: How an image of another shape gets its size. "crop" fills it and crops what is left around the center,
            "pad" fits into it and adds the background, "stretch" changes the shape.
        background: Gray level, or red, green and blue, 0 to 255, behind transparent pixels and of what "pad" adds.
        white: Value of white in images of more than 8 bits. None: 65,535 in 16-bit images and 1 in floats; images
            whose values suggest another one are refused.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        *,
        size: int | Sequence[int] | None = None,
        channels: int | None = None,
        fit: str = "crop",
        background: int | Sequence[int] = 255,
        white: float | None = None,
    ) -> None:
        sides = None if size is None else (size, size) if isinstance(size, int) else tuple(size)
        if sides and (len(sides) != 2 or not all(isinstance(n, int) and 1 <= n < 2**15 for n in sides)):
            raise ValueError(f"image_size={size}: must be a number of pixels, or height and width as in [48,64]")
        if channels not in (None, 1, 3):
            raise ValueError(f"channels={channels}: must be 1 (grayscale) or 3 (color)")
        if fit not in FITS:
            raise ValueError(f"fit={fit}: must be crop, pad or stretch")
        color = (background,) * 3 if isinstance(background, int) else tuple(background)
        if len(color) != 3 or not all(isinstance(level, int) and 0 <= level <= 255 for level in color):
            raise ValueError(f"background={background}: must be a gray level, or [red,green,blue], from 0 to 255")
        if white is not None and not 0 < white < 2**32:
            raise ValueError(f"white={white}: must be above 0 and below 2**32")
        self.size, self.channels, self.fit, self.background, self.white = sides, channels, fit, color, white

    def __call__(self, image: Image.Image) -> Tensor:
        """Return the bytes (C, H, W) of an image.

        Raises:
            Exception: Of any kind, if Pillow cannot read it; ValueError if its values have an unknown scale.
        """
        deep_colors = has_deep_colors(image)
        if image.format == "JPEG" and self.size:  # decode large ones at a half, a quarter or an eighth of their size
            image.draft(image.mode, (2 * max(self.size), 2 * max(self.size)))
        image = ImageOps.exif_transpose(image)
        if image.mode in DEEP:
            image = self.to_8_bits(image)
        if deep_colors:
            self.check_8_bits(image)
        if image.has_transparency_data:
            layer = image.convert("RGBA")
            image = Image.new("RGBA", layer.size, self.background)
            image.alpha_composite(layer)
            image = image.convert("RGB")
        mode = {1: "L", 3: "RGB"}.get(self.channels or len(image.getbands()), "RGB")
        if image.mode != mode:
            image = image.convert("RGB" if self.channels is None and image.mode == "P" else mode)
        if self.size and image.size != (self.size[1], self.size[0]):
            image = self.resize(image)
        return pil_to_tensor(image)

    def keeps(self, shape: Sequence[int]) -> bool:
        """Return whether bytes of a shape (C, H, W) stay as they are."""
        return self.channels in (None, shape[0]) and self.size in (None, tuple(shape[1:]))

    def to_8_bits(self, image: Image.Image) -> Image.Image:
        """Return a grayscale image of 16 or 32 bits or floats with 8 bits."""
        values = np.asarray(image).astype(np.float64)
        low, high = float(values.min()), float(values.max())
        if not np.isfinite(values).all():
            raise ValueError("has values that are nan or infinite")
        white = self.white or DEEP[image.mode] or (65535 if high <= 65535 else None)
        found = f"has values from {low:g} to {high:g}"
        if white is None:
            raise ValueError(f"{found}; set data.white to the value of white")
        if low < 0 or high > white:
            raise ValueError(f"{found}, and white is {white:g}; set data.white to another value of white")
        if self.white is None and 0 < high < white * DARK:
            raise ValueError(
                f"{found}, which is nearly black if white is {white:g}; set data.white to the value of white"
            )
        return Image.fromarray((values * (255 / white)).round().astype(np.uint8))

    def check_8_bits(self, image: Image.Image) -> None:
        """Raise ValueError if colors of 16 bits, of which Pillow keeps the upper 8, have another scale than that."""
        if self.white is not None:
            raise ValueError("has colors of 16 bits, for which data.white cannot be set; convert it to 8 bits")
        if 0 < np.asarray(image.convert("RGB")).max() < 255 * DARK:
            raise ValueError("has nearly black colors of 16 bits, if white is 65535; convert it to 8 bits")

    def resize(self, image: Image.Image) -> Image.Image:
        """Return an image of the configured height and width."""
        size = (self.size[1], self.size[0])  # type: ignore[index]
        if self.fit == "stretch":
            return image.resize(size, Image.Resampling.BILINEAR)
        if self.fit == "crop":
            return ImageOps.fit(image, size, Image.Resampling.BILINEAR)
        color = self.background if image.mode == "RGB" else round(sum(self.background) / 3)
        return ImageOps.pad(image, size, Image.Resampling.BILINEAR, color=color)

    def changes(self, image: Image.Image) -> Iterator[str]:
        """Yield what is converted in an image that has been opened but not read, by its header."""
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            yield "reduced to the first frame"
        orientation = Image.Image.getexif(image).get(ORIENTATION, 1)  # that of PNG files would read all pixels
        if orientation in range(2, 9):
            yield "rotated as their EXIF orientation says"
        if image.mode in DEEP or has_deep_colors(image):
            yield "reduced to 8 bits"
        if image.has_transparency_data:
            yield "transparent, on the background"
        gray = image.mode in ("1", "L", "LA", "La", *DEEP)
        if self.channels == 1 and not gray:
            yield "converted to grayscale"
        if self.channels == 3 and gray:
            yield "converted to color"
        height, width = (image.width, image.height) if orientation in range(5, 9) else (image.height, image.width)
        if self.size and (height, width) != self.size:
            same_shape = height * self.size[1] == width * self.size[0]
            how = {"crop": "resized and cropped", "pad": "resized and padded", "stretch": "stretched"}[self.fit]
            yield "resized" if same_shape else how


def has_deep_colors(image: Image.Image) -> bool:
    """Return whether an image that has not been read has colors of 16 bits, of which Pillow keeps the upper 8."""
    return image.mode in ("RGB", "RGBA", "LA") and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
