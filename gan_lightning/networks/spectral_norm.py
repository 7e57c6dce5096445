"""Spectral normalization of a discriminator."""

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


def normalize_layers(network: nn.Module) -> None:
    """Divide the weight of each linear and convolution layer by its largest singular value, in place.

    The value is estimated by one step of the power method in each forward pass of training (Miyato et al., Spectral
    Normalization for Generative Adversarial Networks, 2018, algorithm 1).

    Args:
        network: Its weights have been initialized, none of them to 0.
    """
    for module in list(network.modules()):
        if isinstance(module, nn.Linear | nn.Conv2d):
            spectral_norm(module)
