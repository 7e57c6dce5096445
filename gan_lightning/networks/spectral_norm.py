"""Spectral normalization of a discriminator."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize


class SpectralNorm(parametrizations._SpectralNorm):
    """Torch's parametrization, computed in the weight's own precision.

    Under autocast on a GPU, torch's would multiply vectors of two types, which fails.
    """

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight divided by the estimate of its largest singular value."""
        device = weight.device.type
        available = torch.amp.is_autocast_available(device)  # not on the meta device
        with torch.autocast(device, enabled=False) if available else nullcontext():
            return super().forward(weight)


def normalize_layers(network: nn.Module) -> None:
    """Divide the weight of each linear and convolution layer by its largest singular value, in place.

    The value is estimated by one step of the power method in each forward pass of training (Miyato et al., Spectral
    Normalization for Generative Adversarial Networks, 2018, algorithm 1).

    Args:
        network: Its weights are initialized before.
    """
    for module in list(network.modules()):
        if isinstance(module, nn.Linear | nn.Conv2d):
            parametrize.register_parametrization(module, "weight", SpectralNorm(module.weight))
