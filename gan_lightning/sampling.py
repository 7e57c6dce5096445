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
    """Map noise (N, latent_dim) to images (N, C, H, W) in [-1, 1] with the GAN in evaluation mode."""
    training = gan.training
    gan.eval()
    try:
        return gan(z)
    finally:
        gan.train(training)


def walk(gan: GAN, num_lines: int, *, steps: int = 12, seed: int) -> Tensor:
    """Draw images (num_lines * steps, C, H, W) in [-1, 1] along straight lines in z (the paper's Figure 3)."""
    ends = gan.latent(2 * num_lines, generator=torch.Generator().manual_seed(seed)).view(num_lines, 2, 1, -1)
    share = torch.linspace(0, 1, steps).view(1, steps, 1)
    return show(gan, torch.lerp(ends[:, 0], ends[:, 1], share).flatten(0, 1).to(gan.device))
