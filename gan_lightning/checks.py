"""Checks that the parts of a GAN fit each other, before any data is read."""

import copy
import inspect
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized

from gan_lightning.errors import InputError, third_party_errors
from gan_lightning.gan import GAN
from gan_lightning.networks import evaluation_mode


def check_gan(gan: GAN, *, image_shape: Sequence[int] | None, batch_size: int | None) -> None:
    """Compute both networks' outputs and losses of two images, and check the optimizers and the scheduler.

    Args:
        gan: The GAN, untrained.
        image_shape: (C, H, W) of the images; None: any.
        batch_size: Number of images in a training minibatch; None: unknown.

    Raises:
        InputError: If a part does not take what it is given, returns something else, or cannot be used here.
    """
    for name, network in (("generator", gan.generator), ("discriminator", gan.discriminator)):
        if batch_size == 1 and any(isinstance(module, _BatchNorm) for module in network.modules()):
            raise InputError(f"data.batch_size=1: must be at least 2, as the {name} has batch normalization")
    check_networks(gan, image_shape)
    check_loss(gan)
    check_penalty(gan, image_shape)
    gan.uses_batch_statistics = gan.uses_batch_statistics or uses_batch_statistics(gan, image_shape)
    if gan.uses_batch_statistics and getattr(gan.penalty, "needs_independent_images", False):
        reason = "needs a discriminator that treats each image separately, and this one uses batch statistics"
        hint = "use penalty=none or a discriminator without batch normalization"
        raise InputError(f"penalty={type(gan.penalty).__name__}: {reason}; {hint}")
    if getattr(gan.loss, "needs_lipschitz", False) and not (gan.penalty or is_spectrally_normalized(gan)):
        options = "penalty=wgan_gp, penalty=weight_clipping or model.discriminator.spectral_norm=true"
        raise InputError(f"loss={type(gan.loss).__name__}: it is unbounded unless D's slope is bounded; add {options}")
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
    z, labels = gan.prior(2, generator=torch.Generator().manual_seed(0)), torch.zeros(2, dtype=torch.int64)
    with evaluation_mode(gan.generator, gan.discriminator):
        with third_party_errors(f"model.generator: fails on noise {list(z.shape)} of model.prior and labels"):
            images = gan.generator(z, labels)
            shape = list(images.shape)
        if image_shape and shape != [2, *image_shape]:
            allowed = f"must be model.image_shape={list(image_shape)}"
            raise InputError(f"model.generator: returns images {shape[1:]}; {allowed}")
        with third_party_errors(f"model.discriminator: fails on images {shape} and labels"):
            shape = list(gan.discriminator(images, labels).shape)
        if shape != [2, 1]:
            raise InputError(f"model.discriminator: returns {shape} for 2 images; must be logits [2, 1]")


def uses_batch_statistics(gan: GAN, image_shape: Sequence[int] | None) -> bool:
    """Return whether an image changes the logit that D, in training mode, returns for another one of its batch."""
    if not image_shape:
        return False
    discriminator = copy.deepcopy(gan.discriminator).train()  # a pass may change its buffers
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        images = torch.randn(4, *image_shape, requires_grad=True)
        logits = discriminator(images, torch.zeros(4, dtype=torch.int64))
        (gradient,) = torch.autograd.grad(logits[0].sum(), images, allow_unused=True)
    return gradient is not None and bool(gradient[1:].any())


def check_penalty(gan: GAN, image_shape: Sequence[int] | None) -> None:
    """Compute the penalty of two images of each kind; InputError if it fails or is no scalar."""
    if not gan.penalty or not image_shape:
        return
    with torch.random.fork_rng(devices=[]), third_party_errors("penalty: fails on D and images of each kind"):
        images, labels = torch.randn(2, 2, *image_shape), torch.zeros(2, dtype=torch.int64)
        with evaluation_mode(gan.discriminator):
            penalty = gan.penalty(lambda x: gan.discriminator(x, labels.repeat(len(x) // 2)), *images)
    if not (isinstance(penalty, Tensor) and penalty.ndim == 0):
        raise InputError("penalty: must return a scalar, of D and images of each kind")


def is_spectrally_normalized(gan: GAN) -> bool:
    """Return whether a layer of D has torch's spectral normalization."""
    return any(is_parametrized(module) for module in gan.discriminator.modules())


def check_loss(gan: GAN) -> None:
    """Compute both losses of two logits; InputError if one is not a scalar that depends on them."""
    for name, function in (("discriminator", gan.loss.discriminator), ("generator", gan.generator_loss)):
        logits = torch.zeros(2, 1, requires_grad=True)
        with third_party_errors(f"loss.{name}: fails on logits [2, 1]"):
            loss = function(logits, logits)
        if not (isinstance(loss, Tensor) and loss.ndim == 0 and loss.requires_grad):
            raise InputError(f"loss.{name}: must return a scalar with a gradient, of logits [2, 1]")
