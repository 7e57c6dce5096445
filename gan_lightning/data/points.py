"""Points of the plane in place of images: Gaussians on a circle or a grid, a spiral, two moons.

A point is an image of two channels and one pixel. Points are floats, as 256 levels would be coarser than the Gaussians.
"""

import math

import torch
from torch import Tensor

from gan_lightning.data.images import InMemoryImages

TEST_SIZE = 10_000
MAX_MODES = 10_000
SPIRAL_TURNS = 0.75  # of each arm


class Points:
    """Points around equally likely modes: the center of a Gaussian, or a curve; see :class:`Layout`.

    A point's label is its mode. Training and test points have a random seed each.

    Args:
        root: Ignored, as no files are read.
        train: Whether to sample the training points or ``TEST_SIZE`` test points.
        download: Ignored.
        layout: See :class:`Layout`.
        modes: See :class:`Layout`.
        extent: See :class:`Layout`.
        std: Standard deviation of both coordinates around a mode, above 0.
        size: Number of training points.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        root: str,
        *,
        train: bool,
        download: bool = False,
        layout: str,
        modes: int,
        extent: float,
        std: float,
        size: int,
    ) -> None:
        curves = Layout(layout=layout, modes=modes, extent=extent)
        check_std(std)
        if size < 1:
            raise ValueError(f"size={size}: must be at least 1")
        number, generator = size if train else TEST_SIZE, torch.Generator().manual_seed(int(train))
        self.targets = torch.randint(modes, (number,), generator=generator)
        points = curves(self.targets, torch.rand(number, generator=generator))
        self.data = (points + std * torch.randn(number, 2, generator=generator)).view(number, 2, 1, 1)

    def labeled_images(self) -> InMemoryImages:
        """Return the points as images (N, 2, 1, 1), with their labels."""
        return InMemoryImages(self.data, self.targets)

    def __len__(self) -> int:
        return len(self.data)


class Layout:
    """The modes of a layout in the square [-1, 1], each a point or a curve.

    - "ring": equally spaced points on a circle. Metz et al., Unrolled Generative Adversarial Networks, 2017, have eight
      Gaussians whose standard deviation is 0.01 of the radius.
    - "grid": points of a square grid. Srivastava et al., VEEGAN, 2017, have 25 Gaussians whose standard deviation is
      0.025 of the distance between neighbors.
    - "spiral": arms of an Archimedean spiral.
    - "two_moons": two interleaved half circles, as in scikit-learn.

    Args:
        layout: One of these.
        modes: Number of points or curves; a square number for a grid, 2 for two moons.
        extent: Largest coordinate of a ring, a grid or two moons; radius of a spiral; between 0 and 1.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, *, layout: str, modes: int, extent: float) -> None:
        if layout not in ("ring", "grid", "spiral", "two_moons"):
            raise ValueError(f"layout={layout}: must be one of ring, grid, spiral, two_moons")
        if not 1 <= modes <= MAX_MODES:
            raise ValueError(f"modes={modes}: must be from 1 to {MAX_MODES}")
        if layout == "grid" and math.isqrt(modes) ** 2 != modes:
            raise ValueError(
                f"modes={modes}: must be a square number for layout=grid, such as {math.isqrt(modes) ** 2}"
            )
        if layout == "two_moons" and modes != 2:
            raise ValueError(f"modes={modes}: must be 2 for layout=two_moons")
        if not 0 < extent < 1:
            raise ValueError(f"extent={extent}: must be between 0 and 1")
        self.layout, self.number, self.extent = layout, modes, extent
        self.are_points = layout in ("ring", "grid")

    def __call__(self, index: Tensor, position: Tensor) -> Tensor:
        """Return points (N, 2) of the modes with indices (N,), at positions (N,) from 0 to 1 along a curve."""
        if self.layout == "grid":
            side = math.isqrt(self.number)
            steps = torch.linspace(-self.extent, self.extent, side) if side > 1 else torch.zeros(1)
            return torch.stack([steps[index // side], steps[index % side]], 1)
        if self.layout == "two_moons":  # scikit-learn's around their center, 3 wide; one is the other turned by 180°
            angle = math.pi * position
            moon = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], 1) * (self.extent / 1.5)
            return moon * (1 - 2 * index).unsqueeze(1)
        angle, radius = index * (2 * math.pi / self.number), torch.full_like(position, self.extent)
        if self.layout == "spiral":
            share = position.sqrt()  # so that points lie nearly equally dense along an arm
            angle, radius = angle + 2 * math.pi * SPIRAL_TURNS * share, radius * share
        return radius.unsqueeze(1) * torch.stack([angle.cos(), angle.sin()], 1)


def check_std(std: float) -> None:
    """Raise ValueError for what is no standard deviation."""
    if not 0 < std < math.inf:
        raise ValueError(f"std={std}: must be above 0 and finite")
