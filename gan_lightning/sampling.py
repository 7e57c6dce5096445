"""The way to draw images from a trained GAN."""

import copy
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from gan_lightning.gan import GAN


def draw(gan: GAN, num_images: int, *, seed: int, batch_size: int = 1000) -> Iterator[Tensor]:
    """Yield batches of generated images (N, C, H, W) in [-1, 1], ``num_images`` in all.

    The noise comes from a generator of its own on the CPU: the same seed gives the same images on every device,
    and torch's own random state stays as it was. A shorter draw is the beginning of a longer one.
    """
    name, lean = "average" if gan.average else "generator", copy.copy(gan)
    lean._modules = {**gan._modules, name: for_inference(getattr(gan, name))}
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, num_images, batch_size):
        z = gan.latent(batch_size, generator=generator)[: num_images - start]
        yield show(lean, z.to(gan.device))


def for_inference(network: nn.Module) -> nn.Module:
    """Give a network in evaluation mode with less to do for the same images (up to rounding), and the same weights.

    In each ``nn.Sequential``, BatchNorm goes into the linear layer before it, and tanh is made from a sigmoid.
    """
    tensors = [*network.parameters(), *network.buffers()]
    tensors += [x for module in network.modules() for x in vars(module).values() if isinstance(x, Tensor)]
    network = copy.deepcopy(network, {id(x): x for x in tensors}).eval()
    for layers in (module for module in network.modules() if isinstance(module, nn.Sequential)):
        for i, (layer, after) in enumerate(list(pairwise(layers))):
            if isinstance(after, nn.Tanh):
                layers[i + 1] = Tanh()
            elif (
                isinstance(layer, nn.Linear)
                and isinstance(layer.weight, nn.Parameter)  # not computed from others
                and isinstance(after, nn.BatchNorm1d)
                and after.affine
                and after.track_running_stats
            ):
                layers[i], layers[i + 1] = fuse_linear_bn_eval(layer, after), nn.Identity()
    return network


class Tanh(nn.Module):
    """tanh(x) = 2 σ(2x) - 1, to 2e-7: on CPUs torch's sigmoid is several times as fast as its tanh."""

    def forward(self, x: Tensor) -> Tensor:
        """Map a tensor of any shape to one of the same shape."""
        return (2 * x).sigmoid_().mul_(2).sub_(1) if x.dtype == torch.float32 else x.tanh()


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
