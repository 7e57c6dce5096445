"""Runs on points of the plane and on Stacked MNIST."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gan_lightning.run import config, schema
from gan_lightning.run.training import train
from tests import helpers
from tests.data.test_points import LAYOUTS

SMALL = [
    "trainer.accelerator=cpu",
    "trainer.max_steps=4",
    "trainer.val_check_interval=4",
    "num_images=300",
    "data.val_size=1000",
    "callbacks.validation_metrics.num_images=100",
    "callbacks.validation_metrics.num_real=100",
    "callbacks.sample_grid.every_n_steps=3",
]
PLOT = (660, 560)
MEASURED = {"modes", "good_samples", "precision", "recall"}


def run(folder: Path, *overrides: str) -> Path:
    """Train for a few steps within this process."""
    folder.mkdir()
    typed = [*SMALL, *overrides]
    train(schema.validate("train", config.compose("train", typed)), folder, typed)
    return folder


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("ring") / "run", "data=ring", "data.dataset.size=2000", "model=mlp_2d")


def test_points_are_drawn_and_measured(ring: Path) -> None:
    with Image.open(ring / "samples.png") as picture:
        assert picture.size == PLOT
    assert [step for step, _ in helpers.grids(ring)] == [0, 3, 4]
    metrics = helpers.metrics(ring)
    assert metrics.keys() >= MEASURED
    assert not {"fid", "kid", "parzen_ll", "nearest_training"} & metrics.keys()
    assert not (ring / "figure2.png").exists()


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "ring"])
def test_every_layout_has_the_same_metrics(layout: str, tmp_path: Path) -> None:
    typed = ("experiment=ring", f"data={layout}", "data.dataset.size=2000", "logger=none")
    assert helpers.metrics(run(tmp_path / "run", *typed)).keys() >= MEASURED


def test_the_yaml_files_have_these_layouts() -> None:
    for name, arguments in LAYOUTS.items():
        composed = config.compose("train", [f"data={name}", "experiment=ring"] if name == "ring" else [f"data={name}"])
        for key, value in arguments.items():
            assert composed.data.dataset[key] == composed.features[key] == value


def test_the_default_recipe_takes_points(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", "data=ring", "data.dataset.size=2000", "logger=none", "trainer.max_steps=2")
    assert (folder / "samples.png").exists()


def test_sample_draws_points_or_writes_their_coordinates(ring: Path, tmp_path: Path) -> None:
    for out in ("a.png", "a.npz"):
        done = helpers.command("sample", f"checkpoint={ring}", "num_images=50", f"out={out}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == PLOT
    points = np.load(tmp_path / "a.npz")["arr_0"]
    assert (points.shape, points.dtype) == ((50, 2), np.float32)
    assert np.abs(points).max() <= 1


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("out=folder", "out=folder: must end in .png (a plot) or .npz (an array), as the model generates points"),
        ("show=nearest", "show=nearest: shows images, and the model generates points; use show=samples"),
        ("show=interpolation", "show=interpolation: shows images"),
    ],
)
def test_sample_refuses_what_needs_images(ring: Path, tmp_path: Path, typed: str, line: str) -> None:
    done = helpers.command("sample", f"checkpoint={ring}", typed, cwd=tmp_path)
    assert done.returncode == 1
    assert line in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("typed", [(), ("metrics=points",), ("metrics.kid=null",)])
def test_evaluate_takes_the_metrics_of_points(ring: Path, tmp_path: Path, typed: tuple[str, ...]) -> None:
    typed = (*typed, "num_images=300", "out=metrics.json")
    done = helpers.command("evaluate", f"checkpoint={ring}", *typed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ours, runs = helpers.metrics(tmp_path), helpers.metrics(ring)
    assert "parzen_ll" not in ours
    for name in MEASURED:
        assert ours[name] == pytest.approx(runs[name])


def test_stacked_mnist(tmp_path: Path) -> None:
    typed = ("experiment=stacked_mnist", "num_images=200", "data.dataset.size=2000", "data.val_size=200")
    small = ("model.generator.width=4", "model.discriminator.width=4", "trainer.precision=32-true")
    folder = run(tmp_path / "run", *typed, *small, "logger=none")
    metrics = helpers.metrics(folder)
    assert {"modes", "mode_kl", "fid"} <= metrics.keys()
    assert not {"parzen_ll", "precision", "nearest_training"} & metrics.keys()
    assert 1 <= metrics["modes"] <= 200
    assert torch.tensor(metrics["mode_kl"]).exp() * 0.99 <= 1000
