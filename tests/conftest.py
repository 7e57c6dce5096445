import signal
from pathlib import Path

import pytest
import torch
from tensorboard.summary.writer import event_file_writer

from gan_lightning.data.datamodule import ImageDataModule
from tests import helpers

# Event files of one second are read in their names' order, in which 10 is before 9: count from 1000 in this process.
event_file_writer._global_uid = event_file_writer.AtomicCounter(1000)

# Shells ignore it for background jobs, and child processes inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small finished run."""
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
