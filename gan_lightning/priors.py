"""Prior distributions p(z) of the generator's input noise."""

import torch
from torch import Tensor


class Normal:
    """The standard normal distribution.

    Args:
        dim: Length of a noise vector, at least 1 and below 2**31.

    Raises:
        ValueError: If it is out of range.
    """

    def __init__(self, *, dim: int) -> None:
        if not 1 <= dim < 2**31:
            raise ValueError(f"dim={dim}: must be at least 1 and below 2**31")
        self.dim = dim

    def __call__(
        self, n: int, *, device: torch.device | str = "cpu", generator: torch.Generator | None = None
    ) -> Tensor:
        """Return n noise vectors, (n, dim), from ``generator`` or else from torch's default generator."""
        return torch.randn(n, self.dim, device=device, generator=generator)


class Uniform(Normal):
    """The uniform distribution on [-√3, √3], of mean 0 and variance 1, as in the paper's MNIST experiment."""

    def __call__(
        self, n: int, *, device: torch.device | str = "cpu", generator: torch.Generator | None = None
    ) -> Tensor:
        """Return n noise vectors, (n, dim), from ``generator`` or else from torch's default generator."""
        return (2 * torch.rand(n, self.dim, device=device, generator=generator) - 1) * 3**0.5
