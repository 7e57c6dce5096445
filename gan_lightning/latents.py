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
