"""The page of all experiments, from folders of runs."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import zoo
from gan_lightning.run.config import CONF


def finished(folder: Path, **metrics: float) -> Path:
    """Write what the page needs of a run."""
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"images_seen": 320_000, "train_seconds": 90.0} | metrics))
    (folder / "machine.txt").write_text("A processor\n")
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(folder / "samples.png")
    return folder


@pytest.mark.parametrize("experiment", zoo.EXPERIMENTS)
def test_every_experiment_says_what_it_shows(experiment: str) -> None:
    assert (CONF / "experiment" / f"{experiment}.yaml").exists()
    assert 20 < len(zoo.description(experiment)) < 500


def test_the_page(tmp_path: Path) -> None:
    runs = {
        "dcgan": [
            finished(tmp_path / "a" / str(i), fid=fid, recall=0.8, parzen_ll=225, modes=10)
            for i, fid in enumerate((0.5, 0.7))
        ],
        "ring": [finished(tmp_path / "b", modes=8, good_samples=0.9876)],
        "stacked_mnist": [finished(tmp_path / "c", fid=2, modes=999, mode_kl=0.1)],
    }
    page = zoo.document(runs)
    assert "| 0.600 ± 0.141 |  | 0.800 ± 0.000 |" in page
    assert "| 8 | 0.988 |  | 0.32 | 1.5 | 1 |" in page
    assert "| 999 |  | 0.100 | 0.32 | 1.5 | 1 |" in page
    assert "on A processor." in page
    assert page.index("- `dcgan`: ") < page.index("- `ring`: ") < page.index("## MNIST") < page.index("## Points")
    zoo.picture(runs, tmp_path / "zoo.png")
    with Image.open(tmp_path / "zoo.png") as picture:
        assert picture.width > 1000


def test_finished_runs_are_kept_and_stopped_ones_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: commands.append(command[3:]))
    finished(tmp_path / "0", modes=8)
    (tmp_path / "1" / "checkpoints").mkdir(parents=True)
    (tmp_path / "1" / "checkpoints" / "last.ckpt").touch()
    (tmp_path / "2").mkdir()
    for seed in range(3):
        zoo.train("ring", seed, tmp_path / str(seed), ["k=2"])
    assert commands == [
        [f"checkpoint={tmp_path}/1", f"hydra.run.dir={tmp_path}/1"],
        ["experiment=ring", "seed=2", "k=2", f"hydra.run.dir={tmp_path}/2"],
    ]
