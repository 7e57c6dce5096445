"""Number of classes among the generated images, and how evenly they are covered."""

from typing import ClassVar, Protocol

import torch
from torch import Tensor

from gan_lightning.metrics.base import ImageMetric


class Classes(Protocol):
    """Has ``classify``, which maps images (N, C, H, W) in [-1, 1] to classes (N,), -1 for none, and ``num_classes``."""

    num_classes: int

    def classify(self, images: Tensor) -> Tensor: ...  # noqa: D102


class Modes(ImageMetric):
    """Distribution of the generated images over a classifier's classes, compared with that of real images.

    Images without a class are left out.

    Args:
        features: See :class:`Classes`.
        uniform: Whether ``mode_kl`` compares with the uniform distribution instead of that of real images.
    """

    values: ClassVar[dict[str, bool | None]] = {
        "modes": True,
        "mode_kl": False,
        "mode_share_min": True,
        "mode_share_max": False,
    }
    uses_classes = True
    real: Tensor
    fake: Tensor

    def __init__(self, *, features: Classes, uniform: bool = False) -> None:
        super().__init__()
        self.features, self.uniform = features, uniform
        for name in ("real", "fake"):  # images of each class, and last of none
            self.add_state(name, default=torch.zeros(features.num_classes + 1), dist_reduce_fx="sum")

    def update(self, images: Tensor, *, real: bool) -> None:
        """Count the classes of images (N, C, H, W) in [-1, 1]."""
        classes, number = self.features.classify(images), self.features.num_classes
        (self.real if real else self.fake).add_(
            torch.where(classes < 0, number, classes).bincount(minlength=number + 1)
        )

    def compute(self) -> dict[str, Tensor]:
        """Return ``modes`` (number of generated classes), ``mode_kl`` and the smallest and largest share of a class.

        ``mode_kl`` is KL(generated ‖ real), or KL(generated ‖ uniform), of the distributions over classes, in nats.
        """
        real, fake = (counts[:-1] / counts[:-1].sum().clamp(min=1) for counts in (self.real, self.fake))
        expected = torch.full_like(real, 1 / len(real)) if self.uniform else real
        kl = torch.special.xlogy(fake, fake / expected.clamp(min=1e-12)).sum()
        return {
            "modes": (fake > 0).sum().float(),
            "mode_kl": kl if fake.any() else torch.tensor(torch.inf),
            "mode_share_min": fake.min(),
            "mode_share_max": fake.max(),
        }
