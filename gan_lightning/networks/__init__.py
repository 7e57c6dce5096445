"""Generators and discriminators, one file per architecture, and what they share."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn


def check_sizes(**sizes: Sequence[int] | int) -> None:
    """Raise ValueError unless every named size is a whole number of at least 1 and below 2**31, or some.

    Args:
        sizes: By the name of the argument.
    """
    for name, value in sizes.items():
        numbers = [value] if isinstance(value, int) else list(value or ())
        if not numbers or any(not isinstance(number, int) or not 1 <= number < 2**31 for number in numbers):
            raise ValueError(f"{name}={value}: must be whole numbers of at least 1 and below 2**31")


@contextmanager
def evaluation_mode(*networks: nn.Module) -> Iterator[None]:
    """Return a context in which all modules of networks are in evaluation mode; each then returns to its own mode."""
    modes = {module: module.training for network in networks for module in network.modules()}
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
