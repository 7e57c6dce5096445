"""The way to draw images from a trained GAN."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_linear_bn_weights

from gan_lightning.gan import GAN
from gan_lightning.networks import mlp
from gan_lightning.networks.linear import Linear

WALK = 12  # images along a line


def draw(gan: GAN, num_images: int, *, seed: int, batch_size: int = 1000) -> Iterator[Tensor]:
    """Yield batches of generated images (N, C, H, W) in [-1, 1], ``num_images`` in all.

    The noise comes from a generator of its own on the CPU: the same seed gives the same images on every device,
    and torch's own random state stays as it was. A shorter draw is the beginning of a longer one.
    """
    generator = torch.Generator().manual_seed(seed)
    networks = [network for network in (gan.average or gan.generator).modules() if type(network) is mlp.Generator]
    pairs = [(network, network.layers, folded(network.layers)) for network in networks]
    for start in range(0, num_images, batch_size):
        z = gan.latent(batch_size, generator=generator)[: num_images - start]
        try:
            for network, _, fewer in pairs:
                network.layers = fewer
            images = show(gan, z.to(gan.device))
        finally:
            for network, layers, _ in pairs:
                network.layers = layers
        yield images


@torch.no_grad()
def folded(layers: nn.Sequential) -> nn.Sequential:
    """Give layers with less to do that map (N, in) to the same in evaluation mode, up to rounding.

    BatchNorm goes into the linear layer before it, and tanh is made from a sigmoid. Layers with hooks stay as they are.
    """
    if any(module._forward_hooks or module._forward_pre_hooks for module in layers.modules()):
        return layers
    fewer: list[nn.Module] = []
    for layer in layers:
        before = fewer[-1] if fewer else None
        if type(layer) is nn.Tanh:
            fewer.append(Tanh())
        elif (
            type(layer) is nn.BatchNorm1d
            and type(before) is Linear
            and layer.affine
            and (mean := layer.running_mean) is not None
            and (variance := layer.running_var) is not None
        ):
            linear = fewer[-1] = nn.utils.skip_init(Linear, before.in_features, before.out_features)
            linear.weight, linear.bias = fuse_linear_bn_weights(
                before.weight, before.bias, mean, variance, layer.eps, layer.weight, layer.bias
            )
        else:
            fewer.append(layer)
    return nn.Sequential(*fewer)


class Tanh(nn.Module):
    """tanh(x) = 2 σ(2x) - 1, to 2e-7: on CPUs torch's sigmoid is several times as fast as its tanh."""

    def forward(self, x: Tensor) -> Tensor:
        """Map a tensor of any shape to one of the same shape."""
        return (2 * x).sigmoid_().mul_(2).sub_(1) if x.dtype == torch.float32 else x.tanh()


@torch.inference_mode()
def show(gan: GAN, z: Tensor) -> Tensor:
    """Map noise (N, latent_dim) to images (N, C, H, W) in [-1, 1] with the GAN in evaluation mode."""
    modes = {module: module.training for module in gan.modules()}
    gan.eval()
    try:
        return gan(z)
    finally:
        for module, training in modes.items():
            module.training = training


def walk(gan: GAN, num_lines: int, *, steps: int = WALK, seed: int) -> Tensor:
    """Draw images (num_lines * steps, C, H, W) in [-1, 1] along straight lines in z (the paper's Figure 3)."""
    ends = gan.latent(2 * num_lines, generator=torch.Generator().manual_seed(seed)).view(num_lines, 2, 1, -1)
    share = torch.linspace(0, 1, steps).view(1, steps, 1)
    return show(gan, torch.lerp(ends[:, 0], ends[:, 1], share).flatten(0, 1).to(gan.device))
