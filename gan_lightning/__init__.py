"""Generative Adversarial Nets (Goodfellow et al., 2014), trained with PyTorch Lightning."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gan_lightning.gan import GAN

__version__ = "0.2.0"


def load(path: Path | str) -> "GAN":
    """Return the GAN stored in a checkpoint, with its trained weights, on the CPU and in evaluation mode.

    No other file is needed. Loading builds the classes that the checkpoint names: load only files that you trust.

    Args:
        path: A checkpoint file, or a run's folder, which stands for its ``checkpoints/last.ckpt``.

    Raises:
        InputError: If there is no such file, it is not a checkpoint of this or an earlier version of this package, or
            its weights do not fit the networks of its config.
    """
    from gan_lightning.run.checkpoint import Checkpoint  # torch is imported only when it is needed

    return Checkpoint(path).gan()
