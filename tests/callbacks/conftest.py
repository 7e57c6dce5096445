from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning import Callback, Trainer
from torchvision.datasets import FakeData

from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.gan import GAN
from tests.helpers import tiny_gan

Train = Callable[..., Trainer]


def fake_data(root: str, train: bool, download: bool) -> FakeData:
    return FakeData(size=60, image_size=(1, 4, 4))


def train_tiny_gan(
    folder: Path, *callbacks: Callback, gan: GAN | None = None, ckpt_path: Path | None = None, **options: Any
) -> Trainer:
    """Train a tiny GAN: 5 steps per epoch, by default 6 steps with a validation every 3."""
    defaults = {
        "max_steps": 6,
        "val_check_interval": 3,
        "check_val_every_n_epoch": None,
        "log_every_n_steps": 2,
        "num_sanity_val_steps": 0,
        "logger": False,
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "default_root_dir": str(folder),
    }
    trainer = Trainer(callbacks=list(callbacks), **(defaults | options))
    data = ImageDataModule(dataset=fake_data, root=str(folder), batch_size=10, val_size=10, seed=0)
    trainer.fit(gan or tiny_gan(), data, ckpt_path=ckpt_path)
    return trainer


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """Train a tiny GAN in the test's folder."""
    return partial(train_tiny_gan, tmp_path)
