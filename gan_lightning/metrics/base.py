"""The interface of metrics that compare generated images with real ones."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar

from torch import Tensor
from torchmetrics import Metric


class ImageMetric(Metric):
    """Base class of metrics that return several named values or need more than the two sets of images.

    Attributes:
        values: Name of each value that ``compute()`` returns -> whether higher is better (None: neither).
        uses_training_images: Whether ``prepare`` reads the training images.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None
    values: ClassVar[dict[str, bool | None]]
    uses_training_images: ClassVar[bool] = False

    @abstractmethod
    def update(self, images: Tensor, *, real: bool) -> None:
        """Add a batch of images.

        Args:
            images: (N, C, H, W) in [-1, 1].
            real: Whether they are held-out real images or generated ones.
        """

    def prepare(self, *, validation: Callable[[int], Tensor], train: Callable[[], Iterable[Tensor]]) -> None:
        """Run what needs other images, after all updates and before ``compute()``.

        Args:
            validation: Returns the first n validation images (n, C, H, W) in [-1, 1], for choosing a parameter.
            train: Returns batches of all training images (N, C, H, W) in [-1, 1].
        """

    @abstractmethod
    def compute(self) -> dict[str, Tensor]:
        """Return a scalar for each name in ``values``."""
