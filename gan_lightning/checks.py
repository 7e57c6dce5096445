"""Checks that the parts of a GAN fit each other, before any data is read."""

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from gan_lightning.errors import InputError, one_line
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
    key, given = "model.generator", f"noise {list(z.shape)} of model.prior"
    try:
        images = gan.generator.eval()(z, labels)
        if image_shape and list(images.shape) != [2, *image_shape]:
            shape = list(images.shape[1:])
            raise InputError(f"{key}: returns images {shape}; must be model.image_shape={list(image_shape)}")
        key, given = "model.discriminator", f"images {list(images.shape)}"
        logits = gan.discriminator.eval()(images, labels)
        if list(logits.shape) != [2, 1]:
            raise InputError(f"{key}: returns {list(logits.shape)} for 2 images; must be logits [2, 1]")
    except InputError:
        raise
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise InputError(f"{key}: fails on {given} and labels: {one_line(error)}") from error
    finally:
        for module, training in modes.items():
            module.training = training


def check_loss(gan: GAN) -> None:
    """Compute both losses of two logits; InputError if one is not a scalar that depends on them."""
    for name, function in (("discriminator", gan.loss.discriminator), ("generator", gan.generator_loss)):
        logits = torch.zeros(2, 1, requires_grad=True)
        try:
            loss = function(logits, logits)
        except Exception as error:  # of any class
            raise InputError(f"loss.{name}: fails on logits [2, 1]: {one_line(error)}") from error
        if not (isinstance(loss, Tensor) and loss.ndim == 0 and loss.requires_grad):
            raise InputError(f"loss.{name}: must return a scalar with a gradient, of logits [2, 1]")
