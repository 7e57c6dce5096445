"""Modes covered, and how evenly."""

import torch
from torch import Tensor
from torchmetrics import Metric

from gan_lightning.metrics.features import Features


class Modes(Metric):
    """Which classes a classifier finds among the generated images, beside those of real ones.

    Args:
        features: Has ``classify``, images (N, C, H, W) in [-1, 1] to classes (N,), and ``num_classes``.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    real: Tensor
    fake: Tensor

    def __init__(self, *, features: Features) -> None:
        super().__init__()
        self.features = features
        for name in ("real", "fake"):
            self.add_state(name, default=torch.zeros(features.num_classes), dist_reduce_fx="sum")

    def update(self, images: Tensor, *, real: bool) -> None:
        """Take in images (N, C, H, W) in [-1, 1]."""
        counts = self.features.classify(images).bincount(minlength=self.features.num_classes)
        (self.real if real else self.fake).add_(counts)

    def compute(self) -> dict[str, Tensor]:
        """Give ``modes`` (classes found), ``mode_kl`` and the least and the largest class's share.

        ``mode_kl`` is KL(generated ‖ real) between the two distributions over classes, in nats.
        """
        real, fake = self.real / self.real.sum(), self.fake / self.fake.sum()
        return {
            "modes": (fake > 0).sum().float(),
            "mode_kl": torch.special.xlogy(fake, fake / real.clamp(min=1e-12)).sum(),
            "mode_share_min": fake.min(),
            "mode_share_max": fake.max(),
        }
