from pathlib import Path

import torch
from PIL import Image

from gan_lightning import visualize


def test_grid_is_nearly_a_square() -> None:
    assert visualize.grid(torch.zeros(64, 1, 28, 28, dtype=torch.uint8)).shape == (3, 242, 242)
    assert visualize.grid(torch.zeros(5, 3, 8, 8, dtype=torch.uint8)).shape == (3, 22, 32)
    assert visualize.grid(torch.zeros(6, 1, 8, 8, dtype=torch.uint8), columns=6).shape == (3, 12, 62)


def test_each_image_has_the_nearest_on_its_right() -> None:
    train = torch.randint(0, 256, (50, 1, 4, 4), dtype=torch.uint8)
    samples = (train[[7, 30, 2]].int() + 1).clamp(max=255).to(torch.uint8)
    picture = visualize.nearest_pairs(samples, train.split(5), pairs=2)
    assert picture.shape == (3, 14, 22)  # two pairs of 8 by 4 in a row, and lines of 2
    assert torch.equal(picture[:, 2:6, 2:10], torch.cat([samples[0], train[7]], 2).expand(3, -1, -1))
    assert torch.equal(picture[:, 2:6, 12:20], torch.cat([samples[1], train[30]], 2).expand(3, -1, -1))
    assert torch.equal(picture[:, 8:12, 2:10], torch.cat([samples[2], train[2]], 2).expand(3, -1, -1))
    assert (picture[:, :, 10:12] == 255).all()


def test_saved_picture_is_the_pixels(tmp_path: Path) -> None:
    pixels = torch.tensor([[[0, 255], [128, 7]]], dtype=torch.uint8)
    visualize.save(pixels, tmp_path / "a.png", scale=3)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (6, 6)
        assert [picture.getpixel(xy) for xy in ((0, 0), (5, 2), (1, 4), (4, 4))] == [0, 255, 128, 7]
