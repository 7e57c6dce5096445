"""What the README promises of the default recipe."""

import json
from pathlib import Path

import pytest

from tests.helpers import call


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_default_recipe_reaches_its_figures(seed: int, tmp_path: Path) -> None:
    figures = {}
    for name in ("default", "article"):
        options = [f"experiment={name}", f"seed={seed}", "trainer.accelerator=cpu", f"hydra.run.dir={name}"]
        if name == "article":
            options.append(f"trainer.max_steps={round(figures['default']['images_seen'] / 64)}")
        done = call("-m", "gan_lightning.train", *options, cwd=tmp_path, timeout=1800)
        assert done.returncode == 0, done.stderr
        figures[name] = json.loads((tmp_path / name / "metrics.json").read_text())
    found = figures["default"]
    assert found["parzen_ll"] >= 225
    assert found["precision"] >= 0.8
    assert found["recall"] >= 0.6
    assert found["mode_share_min"] >= 0.07
    assert found["mode_share_max"] <= 0.13
    assert found["fid"] <= figures["article"]["fid"] / 20
