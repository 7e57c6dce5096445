"""Generators and discriminators, one file per architecture, and what they share."""

from collections.abc import Sequence


def check_sizes(**sizes: Sequence[int] | int) -> None:
    """Raise ValueError unless every named size is a whole number of at least 1 and below 2**31, or some.

    Args:
        sizes: By the name of the argument.
    """
    for name, value in sizes.items():
        numbers = [value] if isinstance(value, int) else list(value or ())
        if not numbers or any(not isinstance(number, int) or not 1 <= number < 2**31 for number in numbers):
            raise ValueError(f"{name}={value}: must be whole numbers of at least 1 and below 2**31")
