"""``torch.compile`` for both networks."""

import os
import shutil

import torch

from gan_lightning.errors import InputError
from gan_lightning.gan import GAN


def compile_networks(gan: GAN) -> None:
    """Compile both networks in place, so that weights keep their names.

    Raises:
        InputError: If there is no C++ compiler, which a CPU needs.
    """
    if not torch.accelerator.is_available() and not has_compiler():
        raise InputError("compile=true: needs a C++ compiler such as g++, which was not found; use compile=false")
    for network in (gan.generator, gan.discriminator):
        network.compile(dynamic=False)


def has_compiler() -> bool:
    """Return whether this machine has a C++ compiler."""
    return any(name and shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++", "cl"))
