"""The discriminator's outputs for training, validation and generated images."""

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from gan_lightning.callbacks.scalars import log_scalars
from gan_lightning.data.images import InMemoryImages, StreamedImages, fitting_batch_size, image_shape, normalize
from gan_lightning.gan import GAN
from gan_lightning.networks import evaluation_mode
from gan_lightning.sampling import repeat_labels


class DiscriminatorOutputs(Callback):
    """At each validation, log what D returns for training, validation and generated images.

    D is in evaluation mode, and the images are G's, not those of its EMA. The outputs are probabilities if the loss has
    them, else logits, and the tags begin accordingly. ``probability/training``, ``probability/validation`` and
    ``probability/generated`` are histograms, for TensorBoard. ``probability/train_minus_validation``, the difference of
    the means, grows when D overfits the training images.

    Args:
        num_images: Number of images of each kind, the first of their sets; all of them if there are fewer.
        seed: Seed of the generated images' noise.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, *, num_images: int, seed: int) -> None:
        if num_images < 1:
            raise ValueError(f"num_images={num_images}: must be at least 1")
        self.num_images, self.seed = num_images, seed

    @rank_zero_only
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Compute and log the outputs."""
        if trainer.sanity_checking:
            return
        train, validation = (getattr(trainer.datamodule, split).first(self.num_images) for split in ("train", "val"))
        outputs = {"training": logits(pl_module, train), "validation": logits(pl_module, validation)}
        outputs["generated"] = logits(pl_module, generated(pl_module, self.num_images, self.seed))
        kind = "logits"
        if getattr(pl_module.loss, "gives_probabilities", False):
            kind, outputs = "probability", {name: values.sigmoid() for name, values in outputs.items()}
        difference = outputs["training"].mean() - outputs["validation"].mean()
        log_scalars(trainer, {f"{kind}/train_minus_validation": difference})
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                for name, values in outputs.items():
                    finite = values[values.isfinite()]  # TensorBoard refuses others
                    if len(finite):
                        logger.experiment.add_histogram(f"{kind}/{name}", finite, trainer.global_step)


@torch.inference_mode()
def logits(gan: GAN, images: InMemoryImages | StreamedImages) -> Tensor:
    """Return D's logits (N,) of images, float32, in evaluation mode."""
    size, found = fitting_batch_size(image_shape(images)), []
    with evaluation_mode(gan):
        for indices in torch.arange(len(images)).split(size):
            pixels, labels = images[indices]
            x = normalize(pixels).to(gan.fixed_latents)  # its device and dtype
            # .forward is not compiled, which would take long for each new number of images
            found.append(gan.discriminator.forward(x, labels.to(gan.device) if gan.num_classes else None))
    return torch.cat(found).float().flatten()


@torch.inference_mode()
def generated(gan: GAN, num_images: int, seed: int) -> InMemoryImages:
    """Return images of G, and not of its EMA, in evaluation mode; torch's random state stays as it is."""
    z = gan.prior(num_images, generator=torch.Generator().manual_seed(seed)).to(gan.fixed_latents)
    labels = repeat_labels(gan, num_images)
    labels = torch.zeros(num_images, dtype=torch.int64) if labels is None else labels
    with evaluation_mode(gan):
        images = gan.generator.forward(z, labels.to(gan.device) if gan.num_classes else None)
    return InMemoryImages(images.float(), labels.to(gan.device))
