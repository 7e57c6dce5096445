"""The callbacks that draw the paper's figures."""

import statistics
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan_lightning import checkpoint, config
from gan_lightning.train import train
from tests import helpers


def image_tags(run: Path) -> set[str]:
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return set(events.Tags()["images"])


def test_figures_2_and_3(tmp_path: Path) -> None:
    callback = "callbacks.paper_figures={_target_:gan_lightning.callbacks.paper_figures.PaperFigures,seed:0}"
    settings = [s for s in helpers.SMALL if "paper_figures" not in s]
    run = tmp_path / "run"
    run.mkdir()
    train(config.compose("train", [*settings, callback]), run, settings, 0)
    assert {"figures/nearest", "figures/walk"} <= image_tags(run)
    for name, size in (("figure2.png", (468, 484)), ("figure3.png", (724, 484))):
        with Image.open(run / name) as picture:
            assert picture.size == size


@pytest.mark.slow
def test_figure_1_ends_with_equal_densities_and_an_undecided_discriminator(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    train(config.compose("train", ["experiment=figure1", "trainer.accelerator=cpu"]), run, ["experiment=figure1"], 0)
    state = checkpoint.read(run / "checkpoints" / "last.ckpt")["callbacks"]["Figure1"]
    last = state["moments"][-1]
    data = config.compose("train", ["experiment=figure1"]).data.dataset

    assert sum(last["density"]) == pytest.approx(32, rel=0.01)
    centre = sum(p * (i + 0.5) / 32 for i, p in enumerate(last["density"])) / 32 - 1
    assert centre == pytest.approx(data.mean, abs=0.03)

    normal = statistics.NormalDist(data.mean, data.std)
    width = 2 / len(last["density"])
    true = [normal.pdf((i + 0.5) * width - 1) for i in range(len(last["density"]))]
    assert sum(abs(p - q) for p, q in zip(last["density"], true, strict=True)) * width / 2 < 0.1  # total variation

    where = [i for i, p in enumerate(last["density"]) if p > 0.5]
    assert all(abs(last["discriminator"][i] - 0.5) < 0.1 for i in where)
    assert (run / "figure1.png").exists()
