import math
from functools import partial
from typing import Any

import pytest
import torch

from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.data.images import InMemoryImages
from gan_lightning.data.points import TEST_SIZE, Layout, Points

LAYOUTS: dict[str, dict[str, Any]] = {  # as in conf/data
    "ring": {"layout": "ring", "modes": 8, "extent": 0.8, "std": 0.008},
    "grid": {"layout": "grid", "modes": 25, "extent": 0.8, "std": 0.01},
    "spiral": {"layout": "spiral", "modes": 2, "extent": 0.9, "std": 0.01},
    "two_moons": {"layout": "two_moons", "modes": 2, "extent": 0.84, "std": 0.028},
}


def points(like: str, **changes: Any) -> Points:
    return Points("", **({"train": True, "size": 20_000} | LAYOUTS[like] | changes))


def centers(layout: str) -> list[list[float]]:
    if layout == "ring":
        return [[0.8 * math.cos(math.pi / 4 * i), 0.8 * math.sin(math.pi / 4 * i)] for i in range(8)]
    return [[x, y] for x in (-0.8, -0.4, 0, 0.4, 0.8) for y in (-0.8, -0.4, 0, 0.4, 0.8)]


@pytest.mark.parametrize("layout", ["ring", "grid"])
def test_gaussians_have_the_centers_and_the_standard_deviation(layout: str) -> None:
    data = points(layout)
    for label, center in enumerate(centers(layout)):
        ours = data.data[data.targets == label].flatten(1)
        assert len(ours) == pytest.approx(20_000 / LAYOUTS[layout]["modes"], rel=0.2)
        assert ours.mean(0).tolist() == pytest.approx(center, abs=0.002)
        assert ours.std(0).tolist() == pytest.approx([LAYOUTS[layout]["std"]] * 2, rel=0.1)


def test_two_moons_are_those_of_scikit_learn() -> None:
    index, position = torch.arange(2).repeat_interleave(50), torch.linspace(0, 1, 50).repeat(2)
    moons = Layout(layout="two_moons", modes=2, extent=0.84)(index, position) * 1.5 / 0.84 + torch.tensor([0.5, 0.25])
    (x1, y1), (x2, y2) = moons[:50].T, moons[50:].T
    torch.testing.assert_close(x1**2 + y1**2, torch.ones(50))
    torch.testing.assert_close((x2 - 1) ** 2 + (y2 - 0.5) ** 2, torch.ones(50))
    assert y1.min() >= -1e-6
    assert y2.max() <= 0.5 + 1e-6


def test_the_radius_of_a_spiral_grows_with_the_angle() -> None:
    position = torch.linspace(0.1, 1, 50)
    first, second = (Layout(layout="spiral", modes=2, extent=0.9)(torch.full((50,), arm), position) for arm in (0, 1))
    torch.testing.assert_close(second, -first)
    radius = torch.linalg.vector_norm(first, dim=1)
    angle = radius / 0.9 * 2 * math.pi * 0.75
    torch.testing.assert_close(first, radius.unsqueeze(1) * torch.stack([angle.cos(), angle.sin()], 1))
    assert radius[-1].item() == pytest.approx(0.9)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_points_are_near_their_mode_and_in_the_square(layout: str) -> None:
    data, arguments = points(layout), LAYOUTS[layout]
    modes = Layout(**{name: arguments[name] for name in ("layout", "modes", "extent")})
    along = torch.linspace(0, 1, 1000)
    for label in range(arguments["modes"]):
        ours = data.data[data.targets == label].flatten(1)[:200]
        distances = torch.cdist(ours, modes(torch.full((1000,), label), along)).amin(1)
        assert distances.max() < 5 * arguments["std"]
    assert data.data.abs().max() < 1


def test_training_and_test_points_are_samples_of_their_own() -> None:
    train, again, test = points("ring"), points("ring"), points("ring", train=False)
    assert torch.equal(train.data, again.data)
    assert (len(train), len(test)) == (20_000, TEST_SIZE)
    assert not torch.equal(train.data[:TEST_SIZE], test.data)


@pytest.mark.parametrize("in_memory", [True, False])
def test_the_data_module_keeps_floats(in_memory: bool) -> None:
    dataset = partial(Points, **LAYOUTS["ring"], size=500)
    shape = [2, 1, 1]
    module = ImageDataModule(
        dataset=dataset,
        root="",
        batch_size=64,
        val_size=100,
        seed=0,
        image_shape=shape,
        in_memory=in_memory,
        num_workers=0,
    )
    module.setup()
    official = dataset("", train=True)
    assert isinstance(module.train, InMemoryImages)
    assert torch.equal(torch.cat([module.train.images, module.val.images]), official.data)
    assert torch.equal(torch.cat([module.train.labels, module.val.labels]), official.targets)
    images, labels = module.on_after_batch_transfer(next(iter(module.train_dataloader())), 0)
    assert (images.dtype, images.shape, labels.shape) == (torch.float32, (64, 2, 1, 1), (64,))
    assert {tuple(x) for x in images.flatten(1).tolist()} <= {tuple(x) for x in official.data.flatten(1).tolist()}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"layout": "cube"}, r"^layout=cube: .* ring, grid, spiral, two_moons"),
        ({"modes": 0}, r"^modes=0: .* from 1 to"),
        ({"layout": "grid"}, r"^modes=8: .* square number .* such as 4"),
        ({"layout": "two_moons"}, r"^modes=8: must be 2"),
        ({"extent": 1.0}, r"^extent=1\.0: .* between 0 and 1"),
        ({"std": 0.0}, r"^std=0\.0: .* above 0"),
        ({"size": 0}, r"^size=0: .* at least 1"),
    ],
)
def test_arguments_are_validated(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        points("ring", **changes)
