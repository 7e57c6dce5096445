from pathlib import Path

import pytest
import torch

from gan_lightning.data.datamodule import ImageDataModule
from tests import helpers


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run that went through."""
    return helpers.run(tmp_path_factory.mktemp("runs") / "whole", "optimizer/scheduler=linear")


@pytest.fixture(scope="session")
def mnist() -> ImageDataModule:
    """MNIST, set up."""
    from torchvision.datasets import MNIST

    data = ImageDataModule(dataset=MNIST, root=str(helpers.ROOT / "data"), batch_size=64, val_size=10_000, seed=0)
    data.prepare_data()
    data.setup()
    return data


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)
