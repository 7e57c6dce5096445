from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from pytorch_lightning import Callback

from gan_lightning import visualize
from gan_lightning.callbacks import animations
from gan_lightning.callbacks.animations import LAST_MILLISECONDS, MILLISECONDS, Animations, spacing
from tests.callbacks.conftest import Train


class StopAt(Callback):
    """Raise an exception after a step."""

    def __init__(self, step: int, exception: type[BaseException]) -> None:
        self.step, self.exception = step, exception

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise self.exception


def steps(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in (folder / "frames").glob("*.png"))


def durations(path: Path) -> list[int]:
    with Image.open(path) as image:
        found = []
        for i in range(image.n_frames):
            image.seek(i)
            image.load()
            found.append(image.info["duration"])
    return found


def test_frames_and_both_animations(train: Train, tmp_path: Path) -> None:
    train(Animations(seed=0), max_steps=10)
    assert steps(tmp_path) == [0, 1, 4, 9, 10]
    assert sum(durations(tmp_path / "training.webp")) == 4 * MILLISECONDS + LAST_MILLISECONDS  # equal frames are joined
    frames = animations.CORNERS * animations.STEPS_BETWEEN
    assert sum(durations(tmp_path / "walk.webp")) == frames * MILLISECONDS


@pytest.mark.parametrize("exception", [KeyboardInterrupt, ValueError])
def test_a_stopped_run_has_them_and_a_resumed_one_continues(
    train: Train, tmp_path: Path, exception: type[BaseException]
) -> None:
    train(max_steps=4).save_checkpoint(tmp_path / "last.ckpt")
    with pytest.raises((SystemExit, exception)):
        train(Animations(seed=0), StopAt(9, exception), max_steps=16)
    assert sum(durations(tmp_path / "training.webp")) == 3 * MILLISECONDS + LAST_MILLISECONDS
    assert (tmp_path / "walk.webp").exists() == (exception is KeyboardInterrupt)
    train(Animations(seed=0), max_steps=16, ckpt_path=tmp_path / "last.ckpt")
    assert steps(tmp_path) == [0, 1, 4, 9, 16]


def test_a_resumed_run_without_frames_fails_with_its_own_error(train: Train, tmp_path: Path) -> None:
    train(max_steps=4).save_checkpoint(tmp_path / "last.ckpt")
    with pytest.raises(KeyError):
        train(Animations(seed=0), StopAt(5, KeyError), max_steps=16, ckpt_path=tmp_path / "last.ckpt")
    assert not (tmp_path / "training.webp").exists()


def test_other_files_are_left_alone(train: Train, tmp_path: Path) -> None:
    other = tmp_path / "frames" / "other.png"
    other.parent.mkdir()
    other.touch()
    train(Animations(seed=0), max_steps=2)
    assert other.exists()


def test_frames_are_at_most_as_many_as_allowed(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(animations, "MAX_FRAMES", 3)
    train(Animations(seed=0), max_steps=50)
    assert steps(tmp_path) == [0, 16, 50]


def test_spacing_doubles() -> None:
    assert [spacing(root) for root in (0, 1, 60, 61, 120, 121, 1000)] == [1, 1, 1, 2, 2, 4, 32]


def test_points_are_drawn_over_the_discriminator() -> None:
    heat = torch.zeros(50, 50)
    heat[:, 25:] = 1.0
    point = torch.tensor([0.5, 0.5]).view(1, 2, 1, 1)
    picture = visualize.point_map(point, real=-point, heat=heat)
    assert picture.shape == (3, 200, 200)
    assert picture[:, 49, 150].tolist() == [0, 153, 25]  # green, in the upper right quarter
    assert picture[:, 149, 50].tolist() == [0, 0, 0]  # black, in the lower left one
    assert picture[:, 100, 190].tolist() == [255, 153, 153]  # red, where D is above its undecided value
