"""Number of classes among the generated images, and how evenly they are covered."""

from typing import ClassVar

import torch
from torch import Tensor

from gan_lightning.metrics.base import ImageMetric
from gan_lightning.metrics.features import FeatureExtractor


class Modes(ImageMetric):
    """Distribution of the generated images over a classifier's classes, compared with that of real images.

    Args:
        features: Has ``classify``, which maps images (N, C, H, W) in [-1, 1] to classes (N,), and ``num_classes``.
    """

    values: ClassVar[dict[str, bool | None]] = {
        "modes": True,
        "mode_kl": False,
        "mode_share_min": True,
        "mode_share_max": False,
    }
    real: Tensor
    fake: Tensor

    def __init__(self, *, features: FeatureExtractor) -> None:
        super().__init__()
        self.features = features
        for name in ("real", "fake"):
            self.add_state(name, default=torch.zeros(features.num_classes), dist_reduce_fx="sum")

    def update(self, images: Tensor, *, real: bool) -> None:
        """Count the classes of images (N, C, H, W) in [-1, 1]."""
        counts = self.features.classify(images).bincount(minlength=self.features.num_classes)
        (self.real if real else self.fake).add_(counts)

    def compute(self) -> dict[str, Tensor]:
        """Return ``modes`` (number of generated classes), ``mode_kl`` and the smallest and largest share of a class.

        ``mode_kl`` is KL(generated ‖ real) between the two distributions over classes, in nats.
        """
        real, fake = self.real / self.real.sum(), self.fake / self.fake.sum()
        return {
            "modes": (fake > 0).sum().float(),
            "mode_kl": torch.special.xlogy(fake, fake / real.clamp(min=1e-12)).sum(),
            "mode_share_min": fake.min(),
            "mode_share_max": fake.max(),
        }
