from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_lightning.data.folder import read
from gan_lightning.errors import InputError


def test_sixteen_bits_of_grey_become_eight(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257, 65535]], np.uint16)).save(tmp_path / "deep.png")
    image = read(str(tmp_path / "deep.png"))
    assert image.mode == "RGB"
    assert np.asarray(image)[0, :, 0].tolist() == [0, 1, 255]


@pytest.mark.parametrize("size", [0, 60])
def test_a_broken_image_is_named(tmp_path: Path, size: int) -> None:
    path = tmp_path / "broken.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 9), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=r"broken\.png: not an image that can be read"):
        read(str(path))


def test_a_loaders_process_hands_the_line_on() -> None:
    line = "a.png: not an image"
    assert str(InputError(line)) == line
    assert str(InputError(f"Caught InputError in worker 0.\nTraceback\n  File\nerrors.InputError: {line}\n")) == line
