"""Priors p(z) over the generator's input noise."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(kw_only=True)
class Normal:
    """The standard normal distribution.

    Args:
        dim: Length of a noise vector.
    """

    dim: int

    def __call__(
        self, n: int, *, device: torch.device | str = "cpu", generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw n noise vectors, (n, dim), from ``generator`` or else from torch's own."""
        return torch.randn(n, self.dim, device=device, generator=generator)


@dataclass(kw_only=True)
class Uniform:
    """The uniform distribution of mean 0 and variance 1, between -√3 and √3, as in the paper's MNIST experiment.

    Args:
        dim: Length of a noise vector.
    """

    dim: int

    def __call__(
        self, n: int, *, device: torch.device | str = "cpu", generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw n noise vectors, (n, dim), from ``generator`` or else from torch's own."""
        return (2 * torch.rand(n, self.dim, device=device, generator=generator) - 1) * 3**0.5
