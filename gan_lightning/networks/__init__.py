"""Generators and discriminators, one file per architecture."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def check_sizes(**sizes: Sequence[int] | int) -> None:
    """Raise ValueError unless every named size is a whole number of at least 1, or a sequence of them.

    Args:
        sizes: By the name of the argument.
    """
    for name, value in sizes.items():
        numbers = [value] if isinstance(value, int) else list(value)
        if not numbers or any(not isinstance(number, int) or number < 1 for number in numbers):
            raise ValueError(f"{name}={value}: must be whole numbers of at least 1")


@torch.no_grad()
def check_networks(
    generator: nn.Module,
    discriminator: nn.Module,
    prior: Callable[..., Tensor],
    *,
    image_shape: Sequence[int] | None = None,
    batch_size: int | None = None,
) -> None:
    """Check that prior and networks fit each other, by passing two noise vectors through them in evaluation mode.

    Args:
        generator: Maps noise (N, latent_dim) and labels (N,) to images (N, C, H, W).
        discriminator: Maps images (N, C, H, W) and labels (N,) to logits (N, 1).
        prior: Returns noise (N, latent_dim).
        image_shape: (C, H, W) of the images; None: any.
        batch_size: Number of images in a training minibatch.

    Raises:
        ValueError: If a network does not take what it is given, or returns something else.
    """
    if batch_size == 1 and any(isinstance(module, _BatchNorm) for module in generator.modules()):
        raise ValueError("data.batch_size=1: must be at least 2, as the generator has batch normalization")
    modes = {module: module.training for network in (generator, discriminator) for module in network.modules()}
    z, labels = prior(2, generator=torch.Generator().manual_seed(0)), torch.zeros(2, dtype=torch.int64)
    key, given = "model.generator", f"noise {list(z.shape)} of model.prior"
    try:
        images = generator.eval()(z, labels)
        if image_shape and list(images.shape) != [2, *image_shape]:
            shape = list(images.shape[1:])
            raise ValueError(f"{key}: returns images {shape}; must be model.image_shape={list(image_shape)}")
        key, given = "model.discriminator", f"images {list(images.shape)}"
        logits = discriminator.eval()(images, labels)
        if list(logits.shape) != [2, 1]:
            raise ValueError(f"{key}: returns {list(logits.shape)} for 2 images; must be logits [2, 1]")
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        if str(error).startswith(f"{key}: returns"):
            raise
        raise ValueError(f"{key}: fails on {given} and labels: {' '.join(str(error).split())[:500]}") from error
    finally:
        for module, training in modes.items():
            module.training = training
