"""The callbacks that plot the paper's figures, and the sample grid."""

import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan_lightning.callbacks.figure1 import BINS, Figure1, bin_centers, density
from gan_lightning.callbacks.paper_figures import PaperFigures
from gan_lightning.callbacks.sample_grid import SampleGrid
from tests import helpers
from tests.callbacks.conftest import Train


def logged_images(folder: Path) -> dict[str, list[int]]:
    """Return the steps of the images in TensorBoard, by tag."""
    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    return {tag: [event.step for event in events.Images(tag)] for tag in events.Tags()["images"]}


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def test_figures_2_and_3(train: Train, tmp_path: Path) -> None:
    train(PaperFigures(seed=0), gan=helpers.tiny_gan(num_fixed_latents=40), logger=TensorBoardLogger(tmp_path, "", ""))
    assert logged_images(tmp_path) == {"samples/nearest": [3, 6], "samples/interpolation": [3, 6]}
    assert size(tmp_path / "figure2.png") == (84, 100)  # 4 x 8 pairs of 4 x 4 images, borders of 2, twice as large
    assert size(tmp_path / "figure3.png") == (148, 100)  # 12 x 8 images


def test_sample_grid(train: Train, tmp_path: Path) -> None:
    train(SampleGrid(every_n_steps=4), logger=TensorBoardLogger(tmp_path, "", ""))
    assert logged_images(tmp_path) == {"samples": [0, 4, 6]}
    assert size(tmp_path / "samples.png") == (28, 28)  # 2 x 2 images of 4 x 4


def test_sample_grid_logs_the_last_step_once(train: Train, tmp_path: Path) -> None:
    train(SampleGrid(every_n_steps=3), logger=TensorBoardLogger(tmp_path, "", ""))
    assert logged_images(tmp_path) == {"samples": [0, 3, 6]}


@pytest.mark.parametrize(
    ("callback", "arguments", "line"),
    [
        (SampleGrid, {"every_n_steps": 0}, r"^every_n_steps=0: .* at least 1$"),
        (Figure1, {"at": []}, r"^at=\[\]: .* at least one step"),
        (Figure1, {"at": [5, 0]}, r"^at=\[5, 0\]: .* at least 1$"),
    ],
)
def test_arguments_are_validated(callback: Any, arguments: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        callback(**arguments)


def test_density_integrates_to_1() -> None:
    values = density(torch.randn(10_000).mul(0.2).clamp(-1, 1))
    assert len(values) == BINS
    assert sum(values) * 2 / BINS == pytest.approx(1)
    assert abs(bin_centers()[values.index(max(values))].item()) < 0.1


@pytest.mark.slow
def test_figure_1_ends_with_equal_densities_and_an_undecided_discriminator(tmp_path: Path) -> None:
    command = ["-m", "gan_lightning.train", "experiment=figure1", "trainer.accelerator=cpu", "hydra.run.dir=run"]
    done = helpers.call(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    last = helpers.last(run)["callbacks"]["Figure1"]["snapshots"][-1]
    mean, std = 0.1, 0.2  # of conf/data/gaussian.yaml

    assert sum(last["density"]) == pytest.approx(BINS / 2, rel=0.01)
    center = sum(p * x for p, x in zip(last["density"], bin_centers().tolist(), strict=True)) * 2 / BINS
    assert center == pytest.approx(mean, abs=0.03)

    true = [statistics.NormalDist(mean, std).pdf(x) for x in bin_centers().tolist()]
    assert sum(abs(p - q) for p, q in zip(last["density"], true, strict=True)) / BINS < 0.1  # total variation

    where = [i for i, p in enumerate(last["density"]) if p > 0.5]
    assert all(abs(last["discriminator"][i] - 0.5) < 0.1 for i in where)
    assert (run / "figure1.png").exists()
