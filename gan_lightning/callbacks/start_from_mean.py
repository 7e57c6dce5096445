"""A generator that begins with the mean image."""

import torch
from pytorch_lightning import Callback, Trainer

from gan_lightning.data.images import normalise
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN


class StartFromMean(Callback):
    """Set the generator's output biases so that its first images are the training images' mean.

    Needs a generator with ``start_from_mean``; a resumed run is left as it is.
    """

    def on_train_start(self, trainer: Trainer, pl_module: GAN) -> None:
        """Set them."""
        if trainer.global_step == 0:
            if not hasattr(pl_module.generator, "start_from_mean"):
                raise InputError("callbacks.start_from_mean: this generator cannot; callbacks.start_from_mean=null")
            sums = [normalise(part).sum(0) for part in trainer.datamodule.train.parts()]
            mean = (torch.stack(sums).sum(0) / len(trainer.datamodule.train)).to(pl_module.device)
            for network in filter(None, (pl_module.generator, pl_module.average and pl_module.average.network)):
                network.start_from_mean(mean)
