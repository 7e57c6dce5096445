"""The results in the README. Eight runs of minutes: ``pytest -m slow tests/test_results.py``."""

import json
from functools import cache
from pathlib import Path
from statistics import mean

import pytest

from tests.helpers import call

FASTER = ("metrics.kid=null", "metrics.nearest_training=null", "callbacks.paper_figures=null")
SEEDS = (0, 1, 2)


@cache
def train(folder: Path, experiment: str, seed: int, *overrides: str) -> dict[str, float]:
    """Train an experiment, once, and return its ``metrics.json``."""
    run = folder / "-".join([experiment, str(seed), *overrides])
    typed = (f"experiment={experiment}", f"seed={seed}", *FASTER, *overrides)
    done = call("-m", "gan_lightning.train", *typed, f"hydra.run.dir={run}", cwd=folder, timeout=3600)
    assert done.returncode == 0, done.stderr
    return json.loads((run / "metrics.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_default_generates_clear_and_varied_digits(folder: Path, seed: int) -> None:
    metrics = train(folder, "default", seed)
    assert metrics["fid"] <= 0.55
    assert metrics["mode_share_min"] >= 0.07
    assert metrics["mode_share_max"] <= 0.13


@pytest.mark.slow
def test_default_over_three_seeds(folder: Path) -> None:
    runs = [train(folder, "default", seed) for seed in SEEDS]
    assert mean(run["parzen_ll"] for run in runs) >= 228  # the paper has 225
    assert mean(run["precision"] for run in runs) >= 0.81
    assert mean(run["recall"] for run in runs) >= 0.62


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_long_is_close_to_real_images(folder: Path, seed: int) -> None:
    metrics = train(folder, "long", seed)
    assert metrics["parzen_ll"] >= 241  # as real images have
    assert metrics["precision"] >= 0.82
    assert metrics["coverage"] >= 0.78
    assert metrics["fid"] <= 4 * 0.035  # of real images


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_papers_discriminator_does_not_win(folder: Path, seed: int) -> None:
    metrics = train(folder, "goodfellow2014", seed, "trainer.max_steps=3500")
    assert 0.02 < metrics["probability_fake"] < 0.5  # 0.0001 with algorithm=alternating
