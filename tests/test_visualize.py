from pathlib import Path

import pytest
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


def test_images_fill_rows_in_turn(tmp_path: Path) -> None:
    pixels = torch.arange(1, 8, dtype=torch.uint8).view(7, 1, 1, 1)
    ordered, columns = visualize.by_row(pixels, 3)
    assert ordered.view(3, columns).tolist() == [[1, 4, 7], [2, 5, 0], [3, 6, 0]]
    for rows, size in ((3, (11, 11)), (1, (11, 11)), (2, (14, 8))):
        visualize.write_images([pixels], tmp_path / "a.png", rows=rows)
        with Image.open(tmp_path / "a.png") as picture:
            assert picture.size == size


def test_saved_picture_is_the_pixels(tmp_path: Path) -> None:
    pixels = torch.tensor([[[0, 255], [128, 7]]], dtype=torch.uint8)
    visualize.save(pixels, tmp_path / "a.png", scale=3)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (6, 6)
        assert [picture.getpixel(xy) for xy in ((0, 0), (5, 2), (1, 4), (4, 4))] == [0, 255, 128, 7]


def test_a_scatter_plot_has_the_points_over_the_heat_map() -> None:
    heat = torch.zeros(50, 50)
    heat[25:] = 1  # where x_2 > 0
    alone = torch.tensor([[0.5, 0.5]]).view(1, 2, 1, 1)
    none, one = (visualize.scatter(points, heat=heat, heat_label="D(x)") for points in (alone[:0], alone))
    assert (one.shape, one.dtype) == ((3, 560, 660), torch.uint8)
    changed = (none[:, :500] != one[:, :500]).any(0).nonzero()  # without the legend
    assert 0 < len(changed) < 50
    y, x = changed.float().mean(0).tolist()
    inside = (none[0].int() - none[2].int())[:500, :500]  # red above, blue below, in the axes
    assert inside[int(y), int(x) - 60] > 50
    rows = (inside.abs() > 50)[:, int(x) - 60].nonzero()
    top, bottom = int(rows.min()), int(rows.max())
    assert inside[bottom, int(x) - 60] < -50
    assert (y - top) / (bottom - top) == pytest.approx(0.25, abs=0.02)


def test_a_scatter_plot_of_logits_is_symmetric_around_0_and_has_real_points() -> None:
    points, heat = torch.zeros(9, 2, 1, 1), torch.full((5, 5), -3.0)
    plots = [
        visualize.scatter(points, heat=heat, heat_label="logit of x", real=real)
        for real in (None, torch.full((9, 2, 1, 1), 0.5))
    ]
    assert not torch.equal(*plots)
    assert plots[0][2, 200, 100] > plots[0][0, 200, 100]  # blue: below 0
