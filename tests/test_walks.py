"""The walks of README.md and CONTRIBUTING.md, taken in a copy of the project."""

import re
import shutil
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from tests.helpers import ROOT, SMALL, call

FENCED = r"```{language}\n(.*?)```"


def test_a_checkpoint_gives_the_gan(run: Path) -> None:
    walk = re.search(FENCED.format(language="python"), (ROOT / "README.md").read_text(), re.DOTALL)
    assert walk
    names: dict[str, Any] = {}
    exec(re.sub(r'"outputs/.*"', f'"{run}/checkpoints/last.ckpt"', walk[1]), names)
    assert names["images"].shape == (64, 1, 28, 28)


def test_a_loss_is_a_class_and_a_file(tmp_path: Path) -> None:
    walk = (ROOT / "README.md").read_text().partition("## Add a loss")[2]
    class_, file = (re.search(FENCED.format(language=name), walk, re.DOTALL)[1] for name in ("python", "yaml"))  # type: ignore[index]
    for folder in ("gan_lightning", "conf"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    with (tmp_path / "gan_lightning" / "losses.py").open("a") as losses:
        losses.write(f"\n\n{class_}")
    (tmp_path / "conf" / "loss" / "least_squares.yaml").write_text(file)
    done = call(
        *("-m", "gan_lightning.train", "loss=least_squares", f"data.root={ROOT / 'data'}", *SMALL),
        cwd=tmp_path,
        PYTHONPATH=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "outputs" / "default").iterdir()
    assert OmegaConf.load(run / ".hydra" / "config.yaml").loss._target_.endswith("LeastSquares")


def test_a_data_set_is_a_file() -> None:
    walk = (ROOT / "CONTRIBUTING.md").read_text()
    file = re.search(FENCED.format(language="yaml"), walk, re.DOTALL)
    assert file
    assert file[1] == (ROOT / "conf" / "data" / "kmnist.yaml").read_text()
