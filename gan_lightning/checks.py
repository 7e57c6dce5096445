"""Checks that the parts of a GAN fit each other, before any data is read."""

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from gan_lightning.errors import InputError, third_party_errors
from gan_lightning.gan import GAN


def check_gan(gan: GAN, *, image_shape: Sequence[int] | None, batch_size: int | None) -> None:
    """Compute both networks' outputs and losses of two images, and check the optimizers and the scheduler.

    Args:
        gan: The GAN, untrained.
        image_shape: (C, H, W) of the images; None: any.
        batch_size: Number of images in a training minibatch; None: unknown.

    Raises:
        InputError: If a part does not take what it is given, returns something else, or cannot be used here.
    """
    if batch_size == 1 and any(isinstance(module, _BatchNorm) for module in gan.generator.modules()):
        raise InputError("data.batch_size=1: must be at least 2, as the generator has batch normalization")
    check_networks(gan, image_shape)
    check_loss(gan)
    if gan.scheduler:  # on one number
        gan.scheduler(torch.optim.SGD([torch.zeros(1)], lr=1.0), 1)
    for name in ("generator", "discriminator"):
        optimizer = getattr(gan, f"{name}_optimizer")
        closure = inspect.signature(optimizer.step).parameters.get("closure")
        if closure and closure.default is closure.empty:
            kind = type(optimizer).__name__
            raise InputError(f"optimizer.{name}._target_: {kind} evaluates losses within a step; use another optimizer")


@torch.no_grad()
def check_networks(gan: GAN, image_shape: Sequence[int] | None) -> None:
    """Pass two noise vectors through both networks, in evaluation mode; InputError if the shapes do not fit."""
    networks = gan.generator, gan.discriminator
    modes = {module: module.training for network in networks for module in network.modules()}
    z, labels = gan.prior(2, generator=torch.Generator().manual_seed(0)), torch.zeros(2, dtype=torch.int64)
    try:
        with third_party_errors(f"model.generator: fails on noise {list(z.shape)} of model.prior and labels"):
            images = gan.generator.eval()(z, labels)
            shape = list(images.shape)
        if image_shape and shape != [2, *image_shape]:
            allowed = f"must be model.image_shape={list(image_shape)}"
            raise InputError(f"model.generator: returns images {shape[1:]}; {allowed}")
        with third_party_errors(f"model.discriminator: fails on images {shape} and labels"):
            shape = list(gan.discriminator.eval()(images, labels).shape)
        if shape != [2, 1]:
            raise InputError(f"model.discriminator: returns {shape} for 2 images; must be logits [2, 1]")
    finally:
        for module, training in modes.items():
            module.training = training


def check_loss(gan: GAN) -> None:
    """Compute both losses of two logits; InputError if one is not a scalar that depends on them."""
    for name, function in (("discriminator", gan.loss.discriminator), ("generator", gan.generator_loss)):
        logits = torch.zeros(2, 1, requires_grad=True)
        with third_party_errors(f"loss.{name}: fails on logits [2, 1]"):
            loss = function(logits, logits)
        if not (isinstance(loss, Tensor) and loss.ndim == 0 and loss.requires_grad):
            raise InputError(f"loss.{name}: must return a scalar with a gradient, of logits [2, 1]")
