"""Agreement of generated images with the classes requested from a conditional generator."""

from typing import ClassVar

import torch
from torch import Tensor

from gan_lightning.metrics.base import ImageMetric
from gan_lightning.metrics.features import ClassifierFeatures


class LabelAgreement(ImageMetric):
    """Share of generated images that a classifier assigns to the requested class.

    For a conditional GAN only. The classifier must number its classes as the data does.

    Args:
        features: Has ``classify``, which maps images (N, C, H, W) in [-1, 1] to classes (N,), and ``num_classes``.
    """

    values: ClassVar[dict[str, bool | None]] = {"label_agreement": True, "label_agreement_min": True}
    uses_classes = True
    requested: Tensor
    agreed: Tensor

    def __init__(self, *, features: ClassifierFeatures) -> None:
        super().__init__()
        self.features = features
        for name in ("requested", "agreed"):
            self.add_state(name, default=torch.zeros(features.num_classes), dist_reduce_fx="sum")

    def update(self, images: Tensor, *, real: bool, labels: Tensor) -> None:  # type: ignore[override]
        """Count the requested classes (N,), and those that the classifier finds in images (N, C, H, W) in [-1, 1].

        Real images are ignored.
        """
        if not real:
            number = self.features.num_classes
            self.requested += labels.bincount(minlength=number)[:number]
            self.agreed += labels[self.features.classify(images) == labels].bincount(minlength=number)[:number]

    def compute(self) -> dict[str, Tensor]:
        """Return ``label_agreement``, the share over all images, and ``label_agreement_min``, of the worst class."""
        present = self.requested > 0
        shares = self.agreed[present] / self.requested[present]
        return {"label_agreement": self.agreed.sum() / self.requested.sum(), "label_agreement_min": shares.min()}
