"""The way to draw images from a trained GAN."""

from collections.abc import Iterator

import torch
from torch import Tensor

from gan_lightning.gan import GAN


def draw(gan: GAN, num_images: int, *, seed: int, batch_size: int = 500) -> Iterator[Tensor]:
    """Yield batches of generated images (N, C, H, W) in [-1, 1], ``num_images`` in all.

    The noise comes from a generator of its own on the CPU: the same seed gives the same images on every device,
    and torch's own random state stays as it was. A shorter draw is the beginning of a longer one.
    """
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, num_images, batch_size):
        z = gan.latent(batch_size, generator=generator)[: num_images - start]
        yield show(gan, z.to(gan.device))


@torch.inference_mode()
def show(gan: GAN, z: Tensor) -> Tensor:
    """Map noise (N, latent_dim) to images (N, C, H, W) in [-1, 1] with the generator in evaluation mode."""
    training = gan.generator.training
    gan.generator.eval()
    try:
        return gan.generator(z)
    finally:
        gan.generator.train(training)
