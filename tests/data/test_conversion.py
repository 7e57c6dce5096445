import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from gan_lightning.data.conversion import Conversion

LEVELS = np.array([[0, 64, 128], [160, 200, 255]], np.uint8)  # 2 x 3


def picture(mode: str = "L", **changes: Any) -> Image.Image:
    image = Image.fromarray(LEVELS).convert(mode)
    image.info.update(changes)
    return image


def saved(image: Image.Image, kind: str, **options: Any) -> Image.Image:
    """Return an image as read from a file in memory."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Image.open(io.BytesIO(file.getvalue()))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "YCbCr", "P", "RGBA", "LA", "1"])
@pytest.mark.parametrize("channels", [1, 3])
def test_modes(mode: str, channels: int) -> None:
    image = picture(mode)
    pixels = Conversion(channels=channels)(image)
    assert pixels.shape == (channels, 2, 3)
    expected = image.convert("RGB").convert("L") if channels == 1 else image.convert("RGB")
    expected_pixels = torch.from_numpy(np.array(expected)).reshape(2, 3, -1).permute(2, 0, 1)
    assert (pixels.int() - expected_pixels.int()).abs().max() <= 2  # YCbCr rounds


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_images_that_need_nothing_stay_as_they_are(mode: str) -> None:
    assert torch.equal(Conversion()(picture(mode)), torch.from_numpy(LEVELS).expand(len(mode), 2, 3))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_the_orientation_is_applied(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = saved(picture("RGB"), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    x = LEVELS
    upright = [x, x[:, ::-1], x[::-1, ::-1], x[::-1], x.T, x[::-1].T, x[::-1, ::-1].T, x[:, ::-1].T][orientation - 1]
    assert torch.equal(Conversion(channels=1)(stored)[0], torch.from_numpy(upright.copy()))


def tiles(mode: str) -> Image.Image:
    """Return 16 x 16 tiles of four gray levels, or colors, which survive a lossy format."""
    gray = np.kron(np.array([[0, 80], [160, 255]], np.uint8), np.ones((16, 16), np.uint8))
    if mode in ("I;16", "I"):
        return Image.fromarray((gray * 257.0).astype(np.uint16 if mode == "I;16" else np.int32))
    if mode == "F":
        return Image.fromarray(gray.astype(np.float32) / 255)
    if mode in ("1", "L", "LA"):
        return Image.fromarray(gray).convert(mode, dither=Image.Dither.NONE)
    return Image.merge("RGB", [Image.fromarray(x) for x in (gray, gray.T, 255 - gray)]).convert(mode)


FORMATS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "GIF": ("L", "P", "RGB"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"),
    "WEBP": ("L", "RGB", "RGBA"),
    "AVIF": ("L", "RGB", "RGBA"),
    "PPM": ("1", "L", "RGB", "I;16", "I"),
    "PFM": ("F",),
    "ICO": ("L", "RGB", "RGBA"),
    "JPEG2000": ("L", "LA", "RGB", "RGBA", "I;16"),
    "TGA": ("L", "LA", "P", "RGB", "RGBA"),
    "QOI": ("RGB", "RGBA"),
}


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in FORMATS.items() for mode in modes])
@pytest.mark.parametrize("channels", [1, 3])
def test_formats(kind: str, mode: str, channels: int) -> None:
    image = tiles(mode)
    Image.init()  # all of Pillow's formats, of which it first loads the usual ones
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow cannot write {kind}")
    stored = saved(image, kind, **({"sizes": [(32, 32)]} if kind == "ICO" else {}))
    rgb = tiles({"1": "1", "P": "P", "RGB": "RGB"}.get(mode, "RGB" if len(mode) > 2 and mode[0] != "I" else "L"))
    rgb = rgb.convert("RGB")
    expected = torch.from_numpy(np.array(rgb.convert("L") if channels == 1 else rgb)).reshape(32, 32, -1)
    pixels = Conversion(size=32, channels=channels)(stored).permute(1, 2, 0)
    assert pixels.shape == (32, 32, channels)
    error = (pixels.int() - expected.int()).abs()[4::8, 4::8]  # away from the tiles' edges, where formats differ
    assert error.max() <= (8 if kind in ("JPEG", "WEBP", "AVIF") else 3)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), (level,) * 3) for level in (50, 200)]
    pixels = Conversion(channels=1)(saved(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert (pixels.int() - 50).abs().max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_large_jpeg(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    quarters = np.kron(np.array([[0, 80], [160, 255]], np.uint8), np.ones((150, 200), np.uint8))
    turned = ImageOps.exif_transpose(saved(Image.fromarray(quarters), "PNG", exif=exif))
    pixels = Conversion(size=16, fit="stretch")(saved(Image.fromarray(quarters), "JPEG", quality=95, exif=exif))
    expected = torch.from_numpy(np.array(turned.resize((16, 16), Image.Resampling.BOX)))
    assert (pixels[0].int() - expected.int()).abs()[2::4, 2::4].max() <= 3


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1)])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_thin_images(shape: tuple[int, int], fit: str, kind: str) -> None:
    pixels = Conversion(size=8, channels=3, fit=fit, background=200)(saved(Image.new("L", shape, 200), kind))
    assert pixels.shape == (3, 8, 8)
    assert (pixels.int() - 200).abs().max() <= 2


def test_transparency_shows_the_background() -> None:
    image = Image.new("RGBA", (3, 2), (255, 0, 0, 0))  # its hidden color is red
    image.putpixel((0, 0), (0, 255, 0, 255))
    pixels = Conversion(channels=3, background=[0, 0, 100])(image)
    assert pixels[:, 0, 0].tolist() == [0, 255, 0]
    assert pixels[:, 1, 2].tolist() == [0, 0, 100]
    palette = image.convert("P")
    palette.info["transparency"] = palette.getpixel((2, 1))
    assert Conversion(channels=3, background=7)(saved(palette, "PNG"))[:, 1, 2].tolist() == [7, 7, 7]
    gray = saved(Image.new("L", (2, 2), 9), "PNG", transparency=9)
    assert Conversion(channels=1, background=200)(gray).unique().tolist() == [200]


def deep(values: list[float], dtype: Any) -> Image.Image:
    return Image.fromarray(np.array([values, values], dtype))


@pytest.mark.parametrize(
    ("image", "white", "expected"),
    [
        (deep([0, 257, 65535], np.uint16), None, [0, 1, 255]),
        (deep([0, 2048, 4095], np.uint16), 4095, [0, 128, 255]),
        (deep([0, 32768, 65535], np.int32), None, [0, 128, 255]),
        (deep([0, 1000, 200_000], np.int32), 200_000, [0, 1, 255]),
        (deep([0, 0.5, 1], np.float32), None, [0, 128, 255]),
        (deep([0, 100, 255], np.float32), 255, [0, 100, 255]),
    ],
)
@pytest.mark.parametrize("kind", [None, "TIFF"])
def test_deep_images_are_scaled(image: Image.Image, white: float | None, expected: list[int], kind: str | None) -> None:
    image = saved(image, kind) if kind else image
    assert Conversion(white=white)(image)[0, 0].tolist() == expected


@pytest.mark.parametrize(
    ("image", "white", "reason"),
    [
        (deep([0, 2048, 4095], np.uint16), None, r"from 0 to 4095, which is nearly black .* 65535; set data.white"),
        (deep([0, 1, 200_000], np.int32), None, r"from 0 to 200000; set data.white"),
        (deep([-1, 0, 1], np.float32), None, r"from -1 to 1, and white is 1"),
        (deep([0, 100, 255], np.float32), None, r"from 0 to 255, and white is 1"),
        (deep([0, 0.5, np.nan], np.float32), None, r"nan or infinite"),
        (deep([0, 0, 5000], np.uint16), 4095, r"from 0 to 5000, and white is 4095"),
    ],
)
def test_unknown_scales_are_refused(image: Image.Image, white: float | None, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Conversion(white=white)(image)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_sizes(fit: str) -> None:
    image = Image.new("RGB", (90, 30), (10, 20, 30))
    pixels = Conversion(size=[20, 10], channels=3, fit=fit, background=255)(image)
    assert pixels.shape == (3, 20, 10)
    colors = {tuple(color) for color in pixels.flatten(1).T.tolist()}
    assert (10, 20, 30) in colors
    assert ((255, 255, 255) in colors) == (fit == "pad")


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size() -> None:
    gradient = Image.linear_gradient("L").resize((1600, 1200))
    image = saved(gradient, "JPEG", quality=95)
    pixels = Conversion(size=[30, 40])(image)
    assert image.size < (1600, 1200)
    expected = Conversion(size=[30, 40])(gradient)
    assert (pixels.int() - expected.int()).abs().max() <= 3


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"size": 0}, r"image_size=0: must be a number of pixels, or height and width"),
        ({"size": [8]}, r"image_size=\[8\]"),
        ({"channels": 2}, r"channels=2: must be 1 .* or 3"),
        ({"fit": "cover"}, r"fit=cover: must be crop, pad or stretch"),
        ({"background": 256}, r"background=256"),
        ({"background": [1, 2]}, r"background=\[1, 2\]"),
        ({"white": 0}, r"white=0: must be above 0"),
    ],
)
def test_arguments_are_validated(arguments: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        Conversion(**arguments)


def test_changes_are_named() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(picture("RGB"), "PNG", exif=exif)
    assert [*Conversion(size=[3, 2], channels=3).changes(turned)] == ["rotated as their EXIF orientation says"]
    assert [*Conversion(size=6, channels=1).changes(picture("RGBA"))] == [
        "transparent, on the background",
        "converted to grayscale",
        "resized and cropped",
    ]
    assert [*Conversion(size=[4, 6]).changes(deep([0, 1, 2], np.uint16))] == ["reduced to 8 bits", "resized"]
    assert not [*Conversion(channels=1).changes(picture())]
    frames = saved(picture("P"), "GIF", save_all=True, append_images=[picture("P").rotate(180)])
    assert "reduced to the first frame" in [*Conversion().changes(frames)]


def png_16(folder: Path, levels: int) -> Path:
    """Write a color PNG of 16 bits, whose values are from 0 to ``levels``: Pillow reads such files, and writes none."""
    rows = np.random.default_rng(0).integers(0, levels + 1, (5, 4, 3)).astype(">u2")

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 5, 16, 2, 0, 0, 0))
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    path = folder / f"{levels}.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    return path


def test_colors_of_16_bits_are_reduced_or_refused(tmp_path: Path) -> None:
    with Image.open(png_16(tmp_path, 65535)) as image:
        assert "reduced to 8 bits" in list(Conversion().changes(image))
        assert Conversion()(image).max() > 200
    with Image.open(png_16(tmp_path, 4095)) as image, pytest.raises(ValueError, match="nearly black colors of 16 bits"):
        Conversion()(image)
    with Image.open(png_16(tmp_path, 65535)) as image, pytest.raises(ValueError, match=r"data\.white cannot be set"):
        Conversion(white=4095)(image)
