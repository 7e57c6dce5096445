"""The interface of metrics that compare generated images with real ones."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from torchmetrics import Metric

THUMBNAIL = 32  # pixels


def thumbnails(images: Tensor) -> Tensor:
    """Return images (N, C, H, W) with their sides reduced, by averaging, to at most ``THUMBNAIL``.

    Metrics that keep pixels, and not features, keep these, so that their memory does not grow with the images' size.
    """
    height, width = (min(side, THUMBNAIL) for side in images.shape[2:])
    return images if images.shape[2:] == (height, width) else adaptive_avg_pool2d(images, (height, width))


class ImageMetric(Metric):
    """Base class of metrics that return several named values or need more than the two sets of images.

    Attributes:
        values: Name of each value that ``compute()`` returns -> whether higher is better (None: neither).
        uses_training_images: Whether ``prepare`` reads the training images.
        max_values: Values of the largest images (C x H x W) that it is computed of; None: any.
        uses_classes: Whether the features must be of a classifier, with ``classify`` and ``num_classes``.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None
    values: ClassVar[dict[str, bool | None]]
    uses_training_images: ClassVar[bool] = False
    uses_classes: ClassVar[bool] = False
    max_values: ClassVar[int | None] = None

    @abstractmethod
    def update(self, images: Tensor, *, real: bool) -> None:
        """Add a batch of images.

        Args:
            images: (N, C, H, W) in [-1, 1].
            real: Whether they are held-out real images or generated ones.
        """

    def prepare(self, *, validation: Callable[[int], Iterable[Tensor]], train: Callable[[], Iterable[Tensor]]) -> None:
        """Run what needs other images, after all updates and before ``compute()``.

        Args:
            validation: Returns batches (N, C, H, W) in [-1, 1] of the first n validation images, for choosing a
                parameter.
            train: Returns batches of all training images, likewise.
        """

    @abstractmethod
    def compute(self) -> dict[str, Tensor]:
        """Return a scalar for each name in ``values``."""


class FeatureMetric(Metric):
    """Base class of metrics that keep the features of all images.

    Args:
        features: Maps images (N, C, H, W) in [-1, 1] to features (N, F).
    """

    full_state_update = False
    is_differentiable = False
    real: list[Tensor]
    fake: list[Tensor]

    def __init__(self, *, features: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.features = features
        self.add_state("real", default=[], dist_reduce_fx="cat")
        self.add_state("fake", default=[], dist_reduce_fx="cat")

    def update(self, images: Tensor, *, real: bool) -> None:
        """Add the features of images (N, C, H, W) in [-1, 1]."""
        (self.real if real else self.fake).append(self.features(images))
