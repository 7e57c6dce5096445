"""Training of the classifier that the metrics look through."""

from math import pi
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

Batch = tuple[Tensor, Tensor]  # images (N, C, H, W) in [-1, 1], labels (N,)


class ClassifierTraining(LightningModule):
    """Train a classifier on images turned, scaled and shifted at random, the learning rate in one cycle.

    Args:
        classifier: Maps images (N, C, H, W) in [-1, 1] to logits (N, num_classes).
        lr: The highest learning rate.
        weight_decay: Of AdamW.
    """

    def __init__(self, classifier: nn.Module, *, lr: float, weight_decay: float) -> None:
        super().__init__()
        self.classifier, self.lr, self.weight_decay = classifier, lr, weight_decay

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Cross-entropy on images moved at random."""
        images, labels = batch
        return cross_entropy(self.classifier(move_at_random(images)), labels)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the share of right answers as ``accuracy``."""
        images, labels = batch
        self.log("accuracy", (self.classifier(images).argmax(1) == labels).float().mean(), batch_size=len(labels))

    def configure_optimizers(self) -> Any:
        """AdamW, the learning rate rising and falling once over the whole run."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.lr, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def move_at_random(images: Tensor, *, turn: float = pi / 15, scale: float = 0.1, shift: float = 1 / 7) -> Tensor:
    """Turn (at most ± ``turn`` radians), scale and shift (at most that share of its half width) each image."""

    def uniform(bound: float) -> Tensor:
        return (2 * torch.rand(len(images), device=images.device) - 1) * bound

    angle, size = uniform(turn), 1 + uniform(scale)
    cos, sin = angle.cos() / size, angle.sin() / size
    rows = [torch.stack([cos, -sin, uniform(shift)], 1), torch.stack([sin, cos, uniform(shift)], 1)]
    grid = affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return grid_sample(images + 1, grid, align_corners=False) - 1  # outside is black, -1
