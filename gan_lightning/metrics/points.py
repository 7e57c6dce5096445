"""Metrics of points of the plane."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from gan_lightning.data.points import Layout, check_std
from gan_lightning.metrics.modes import Modes

GOOD = 3  # standard deviations from the nearest mode
PER_CURVE = 500  # points that stand for a curve
BLOCK = 1000  # points compared with all modes at a time; bounds the memory, does not change the result


class PointFeatures(nn.Module):
    """The coordinates of points as their features, and the nearest mode as their class.

    As in VEEGAN (Srivastava et al., 2017), a point is good, and has a class, if it is at most three standard deviations
    from its nearest mode.

    Args:
        layout: See :class:`gan_lightning.data.points.Layout`.
        modes: See there.
        extent: See there.
        std: Standard deviation of the data around a mode, above 0.

    Raises:
        ValueError: If an argument is out of range.
    """

    num_features = 2
    centers: Tensor
    index: Tensor

    def __init__(self, *, layout: str, modes: int, extent: float, std: float) -> None:
        super().__init__()
        curves = Layout(layout=layout, modes=modes, extent=extent)
        check_std(std)
        self.num_classes, self.std = modes, std
        along = torch.zeros(1) if curves.are_points else torch.linspace(0, 1, PER_CURVE)
        index = torch.arange(modes).repeat_interleave(len(along))
        self.register_buffer("centers", curves(index, along.repeat(modes)).double(), persistent=False)
        self.register_buffer("index", index, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the coordinates (N, 2) of images (N, 2, 1, 1), in double precision: distances may be tiny."""
        return images.flatten(1).double()

    def classify(self, images: Tensor) -> Tensor:
        """Return the nearest modes (N,) of images (N, 2, 1, 1), -1 where none is near enough."""
        nearest = [torch.cdist(block, self.centers).min(1) for block in self(images).split(BLOCK)]
        distances, indices = (torch.cat(parts) for parts in zip(*nearest, strict=True))
        return torch.where(distances <= GOOD * self.std, self.index[indices], -1)


class PointModes(Modes):
    """The modes of points, and the share of good points; see :class:`PointFeatures`."""

    values: ClassVar[dict[str, bool | None]] = {"good_samples": True, **Modes.values}

    def compute(self) -> dict[str, Tensor]:
        """Return the share of generated points that are good, and what :meth:`Modes.compute` returns of these."""
        return {"good_samples": self.fake[:-1].sum() / self.fake.sum(), **super().compute()}
