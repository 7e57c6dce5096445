"""A generator whose first images are the mean image."""

from typing import Any

import torch
from pytorch_lightning import Callback, Trainer

from gan_lightning.data.images import normalize
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN


class StartFromMean(Callback):
    """Set the generator's output biases so that its first images are the mean of the training images.

    The generator needs a method ``start_from_mean(mean)``. A resumed run is not changed.
    """

    def on_train_start(self, trainer: Trainer, pl_module: GAN) -> None:
        """Set the biases of the generator and of its EMA.

        Raises:
            InputError: If the generator has no such method.
        """
        if trainer.global_step > 0:
            return
        if not hasattr(pl_module.generator, "start_from_mean"):
            name = type(pl_module.generator).__name__
            raise InputError(f"callbacks.start_from_mean: must be null, as {name} has no method start_from_mean")
        train = trainer.datamodule.train
        mean = torch.stack([normalize(images).sum(0) for images in train.batches()]).sum(0) / len(train)  # (C, H, W)
        networks: list[Any] = [pl_module.generator] + ([pl_module.ema.network] if pl_module.ema else [])
        for network in networks:
            network.start_from_mean(mean.to(pl_module.device))
