"""Sampling from a trained GAN."""

from collections.abc import Iterator

import torch
from torch import Tensor

from gan_lightning.gan import GAN

INTERPOLATION_STEPS = 12


def sample(gan: GAN, num_images: int, *, seed: int, batch_size: int = 1000) -> Iterator[Tensor]:
    """Yield batches of generated images (N, C, H, W) in [-1, 1], ``num_images`` in all.

    The noise comes from a CPU generator of its own: the same seed gives the same noise on every device, torch's random
    state stays as it is, and a smaller ``num_images`` yields a prefix of a larger one.
    """
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, num_images, batch_size):
        yield generate(gan, gan.prior(batch_size, generator=generator)[: num_images - start])


@torch.inference_mode()
def generate(gan: GAN, z: Tensor, labels: Tensor | None = None) -> Tensor:
    """Return images (N, C, H, W), float32 in [-1, 1], generated from noise (N, latent_dim) in evaluation mode."""
    modes = {module: module.training for module in gan.modules()}
    gan.eval()
    try:
        return gan(z.to(gan.fixed_latents), labels).float()
    finally:
        for module, training in modes.items():
            module.training = training


def interpolate(gan: GAN, num_lines: int, *, steps: int = INTERPOLATION_STEPS, seed: int) -> Tensor:
    """Return images (num_lines * steps, C, H, W) in [-1, 1] along straight lines in z (the paper's Figure 3)."""
    ends = gan.prior(2 * num_lines, generator=torch.Generator().manual_seed(seed)).view(num_lines, 2, 1, -1)
    share = torch.linspace(0, 1, steps).view(1, steps, 1)
    return generate(gan, torch.lerp(ends[:, 0], ends[:, 1], share).flatten(0, 1))
