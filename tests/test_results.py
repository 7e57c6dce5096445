"""The figures that the README gives, held to. Eleven runs of minutes: ``pytest -m slow tests/test_results.py``."""

import json
from functools import cache
from pathlib import Path

import pytest

from tests.helpers import call

QUICKER = ("metrics.kid=null", "metrics.nearest_training=null", "callbacks.paper_figures=null")


@cache
def figures(folder: Path, experiment: str, seed: int, *overrides: str) -> dict[str, float]:
    """Train an experiment, once; give its ``metrics.json``."""
    run = folder / "-".join([experiment, str(seed), *overrides])
    typed = (f"experiment={experiment}", f"seed={seed}", *QUICKER, *overrides)
    done = call("-m", "gan_lightning.train", *typed, f"hydra.run.dir={run}", cwd=folder, timeout=3600)
    assert done.returncode == 0, done.stderr
    return json.loads((run / "metrics.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_default_makes_clear_and_varied_digits(folder: Path, seed: int) -> None:
    found = figures(folder, "default", seed)
    assert found["parzen_ll"] >= 225  # the paper's own figure
    assert found["precision"] >= 0.8
    assert found["recall"] >= 0.6
    assert found["mode_share_min"] >= 0.07
    assert found["mode_share_max"] <= 0.13


@pytest.mark.slow
@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(0, marks=pytest.mark.xfail(strict=True, reason="8.7 times so far: 0.461 against 3.99")),
        pytest.param(1, marks=pytest.mark.xfail(strict=True, reason="11.6 times so far: 0.505 against 5.85")),
        pytest.param(2, marks=pytest.mark.xfail(strict=True, reason="12.7 times so far: 0.418 against 5.29")),
    ],
)
def test_default_beats_the_article_twentyfold(folder: Path, seed: int) -> None:
    default, article = (figures(folder, experiment, seed) for experiment in ("default", "article"))
    assert default["images_seen"] == article["images_seen"]
    assert default["fid"] <= article["fid"] / 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_long_is_near_real_images(folder: Path, seed: int) -> None:
    found = figures(folder, "long", seed)
    assert found["parzen_ll"] >= 241  # what real images score
    assert found["precision"] >= 0.82
    assert found["coverage"] >= 0.78
    assert found["fid"] <= 4 * 0.035  # of real images


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.xfail(strict=True, reason="0.767, 0.765 and 0.758 so far")
def test_long_is_as_varied_as_real_images(folder: Path, seed: int) -> None:
    assert figures(folder, "long", seed)["recall"] >= 0.82


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_papers_own_discriminator_does_not_win(folder: Path, seed: int) -> None:
    found = figures(folder, "goodfellow2014", seed, "trainer.max_steps=3500")
    assert 0.02 < found["probability_fake"] < 0.5  # by Algorithm 1: 0.0001
