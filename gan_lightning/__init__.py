"""Generative Adversarial Nets (Goodfellow et al., 2014), trained with PyTorch Lightning."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gan_lightning.gan import GAN

__version__ = "0.7.0"


def load(path: Path | str, *, trust: str | Iterable[str] = ()) -> "GAN":
    """Return the GAN stored in a checkpoint, with its trained weights, on the CPU and in evaluation mode.

    No other file is needed, and no code in the file is run.

    Args:
        path: A checkpoint file; a run's folder, which stands for its ``checkpoints/last.ckpt``; a trained model of this
            package, such as ``"mnist"``; a folder that ``export`` has written; or ``"user/name"`` of the Hugging Face
            hub.
        trust: Names of your own modules or classes that the checkpoint may use, such as ``["mypackage"]``.

    Raises:
        InputError: If there is no such file or model, it is damaged, it is not of this or an earlier version of
            this package, it names a class that it may not use, or its weights do not fit its networks.
    """
    from gan_lightning.run.checkpoint import Checkpoint  # torch is imported only when it is needed

    return Checkpoint(path, trust).gan()
