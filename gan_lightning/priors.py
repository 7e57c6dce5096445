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


class Signs(Normal):
    """Random signs, -1 or 1, in the first entries, and the standard normal distribution in the others.

    A continuous generator maps a connected prior to a connected set, so that it also generates images between modes
    that have nothing in common (Khayatkhoei et al., Disconnected Manifold Learning for Generative Adversarial Networks,
    2018). This prior consists of 2^signs parts, of which each mode can have some.

    Args:
        dim: Length of a noise vector, at least 1 and below 2**31.
        signs: Number of entries that are signs, from 0 to ``dim``.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, *, dim: int, signs: int) -> None:
        super().__init__(dim=dim)
        if not 0 <= signs <= dim:
            raise ValueError(f"signs={signs}: must be from 0 to dim={dim}")
        self.signs = signs

    def __call__(
        self, n: int, *, device: torch.device | str = "cpu", generator: torch.Generator | None = None
    ) -> Tensor:
        """Return n noise vectors, (n, dim), from ``generator`` or else from torch's default generator."""
        z = super().__call__(n, device=device, generator=generator)
        z[:, : self.signs] = torch.where(z[:, : self.signs] < 0, -1.0, 1.0)
        return z
