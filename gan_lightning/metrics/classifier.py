"""A small convolutional classifier whose features the metrics compare, and its training."""

from hashlib import sha256
from math import inf, pi
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

Batch = tuple[Tensor, Tensor]  # images (N, C, H, W) in [-1, 1], labels (N,)


class Classifier(nn.Module):
    """Three convolutions and two linear layers, for images of 28 x 28.

    Args:
        channels: Channels of an image.
        num_classes: Number of classes.
        num_features: Width of the last hidden layer.
        dropout: Probability that a feature is dropped in training.
    """

    def __init__(
        self, *, channels: int = 1, num_classes: int = 10, num_features: int = 32, dropout: float = 0.25
    ) -> None:
        super().__init__()
        self.channels, self.num_features, self.num_classes = channels, num_features, num_classes
        layers: list[nn.Module] = []
        for c_in, c_out, stride in ((channels, 32, 1), (32, 64, 2), (64, 64, 2)):
            layers += [nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()]
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 7 * 7, num_features))
        self.features.append(nn.BatchNorm1d(num_features, affine=False))  # each feature has mean 0 and variance 1
        self.head = nn.Sequential(nn.ReLU(), nn.Dropout(dropout), nn.Linear(num_features, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, 28, 28) in [-1, 1] to logits (N, num_classes)."""
        return self.head(self.features(images))


class ClassifierTraining(LightningModule):
    """Training of a classifier on randomly transformed images, with AdamW and the one-cycle learning rate schedule.

    Args:
        classifier: Maps images (N, C, H, W) in [-1, 1] to logits (N, num_classes).
        lr: The highest learning rate.
        weight_decay: Weight decay of AdamW.

    Raises:
        ValueError: If ``lr`` is not above 0, ``weight_decay`` is negative, or one is not finite.
    """

    def __init__(self, classifier: nn.Module, *, lr: float, weight_decay: float) -> None:
        super().__init__()
        if not 0 < lr < inf:
            raise ValueError(f"lr={lr}: must be above 0 and finite")
        if not 0 <= weight_decay < inf:
            raise ValueError(f"weight_decay={weight_decay}: must be at least 0 and finite")
        self.classifier, self.lr, self.weight_decay = classifier, lr, weight_decay

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the cross-entropy of randomly transformed images."""
        images, labels = batch
        return cross_entropy(self.classifier(random_affine(images)), labels)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the share of correctly classified images as ``accuracy``."""
        images, labels = batch
        self.log("accuracy", (self.classifier(images).argmax(1) == labels).float().mean(), batch_size=len(labels))

    def configure_optimizers(self) -> Any:
        """Return AdamW and a schedule whose learning rate rises and falls once over the whole run."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.lr, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def random_affine(
    images: Tensor, *, max_rotation: float = pi / 15, max_scale: float = 0.1, max_shift: float = 1 / 7
) -> Tensor:
    """Return images that are each rotated, scaled and shifted at random; what comes in from outside is black.

    Args:
        images: (N, C, H, W) in [-1, 1].
        max_rotation: Largest angle in either direction, in radians.
        max_scale: Largest relative change of the size.
        max_shift: Largest shift along an axis, as a share of half the image's width.
    """

    def uniform(bound: float) -> Tensor:
        return (2 * torch.rand(len(images), device=images.device) - 1) * bound

    angle, size = uniform(max_rotation), 1 + uniform(max_scale)
    cos, sin = angle.cos() / size, angle.sin() / size
    rows = [torch.stack([cos, -sin, uniform(max_shift)], 1), torch.stack([sin, cos, uniform(max_shift)], 1)]
    grid = affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)  # (N, H, W, 2)
    return grid_sample(images + 1, grid, align_corners=False) - 1  # padding is 0, so black is shifted to 0


def save_weights(classifier: Classifier, path: Path) -> str:
    """Write a classifier's weights as safetensors, and return the file's SHA-256."""
    save_file(classifier.cpu().state_dict(), path)
    return sha256(path.read_bytes()).hexdigest()
