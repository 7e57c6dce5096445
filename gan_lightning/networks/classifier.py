"""A small convolutional classifier, whose features the metrics compare images by."""

from torch import Tensor, nn


class Classifier(nn.Module):
    """Three convolutions and two linear layers, for images of 28 x 28.

    Args:
        channels: Of an image.
        num_classes: What it tells apart.
        num_features: Width of the layer before the last.
        dropout: Chance of a feature to be dropped in training.
    """

    def __init__(
        self, *, channels: int = 1, num_classes: int = 10, num_features: int = 32, dropout: float = 0.25
    ) -> None:
        super().__init__()
        self.num_features, self.num_classes = num_features, num_classes
        layers: list[nn.Module] = []
        for before, after, stride in ((channels, 32, 1), (32, 64, 2), (64, 64, 2)):
            layers += [nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 7 * 7, num_features))
        self.features.append(nn.BatchNorm1d(num_features, affine=False))  # each of mean 0 and variance 1
        self.head = nn.Sequential(nn.ReLU(), nn.Dropout(dropout), nn.Linear(num_features, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, 28, 28) in [-1, 1] to logits (N, num_classes); ``features`` gives (N, num_features)."""
        return self.head(self.features(images))
