"""Nearest-neighbor metrics: precision, recall, density, coverage, and the distance to the nearest training image."""

from collections.abc import Callable, Iterable
from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from gan_lightning.metrics.base import ImageMetric

BLOCK = 250  # rows compared with all others at a time; bounds the memory, does not change the result


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return squared Euclidean distances (N, M) between the rows of (N, D) and (M, D), by one matrix product."""
    products = torch.addmm(torch.linalg.vector_norm(b, dim=1).square(), a, b.T, alpha=-2)
    return products.add_(a.square().sum(1, keepdim=True)).clamp_(min=0)


class PrecisionRecall(ImageMetric):
    """Precision and recall (Kynkäänniemi et al., 2019), density and coverage (Naeem et al., 2020), on features.

    The ball around an image reaches to its k-th nearest neighbor of the same kind, real or generated. Precision is
    the share of generated images that lie in the ball of a real image, recall the share of real images that lie in the
    ball of a generated one. Density is the mean number of real balls that a generated image lies in, divided by k;
    coverage is the share of real images whose ball contains a generated image.

    Args:
        features: Maps images (N, C, H, W) in [-1, 1] to features (N, F).
        k: A ball reaches to the k-th nearest neighbor, or to the farthest image if there are fewer.

    Raises:
        ValueError: If k is less than 1.
    """

    values: ClassVar[dict[str, bool | None]] = {"precision": True, "recall": True, "density": True, "coverage": True}
    real: list[Tensor]
    fake: list[Tensor]

    def __init__(self, *, features: Callable[[Tensor], Tensor], k: int) -> None:
        super().__init__()
        if k < 1:
            raise ValueError(f"k={k}: must be at least 1")
        self.features, self.k = features, k
        self.add_state("real", default=[], dist_reduce_fx="cat")
        self.add_state("fake", default=[], dist_reduce_fx="cat")

    def update(self, images: Tensor, *, real: bool) -> None:
        """Add the features of images (N, C, H, W) in [-1, 1]."""
        (self.real if real else self.fake).append(self.features(images))

    def compute(self) -> dict[str, Tensor]:
        """Return ``precision``, ``recall``, ``density`` and ``coverage``."""
        real, fake = dim_zero_cat(self.real), dim_zero_cat(self.fake)
        real_radii, fake_radii = self._radii(real), self._radii(fake)  # (N,), (M,)
        in_real = torch.zeros(len(fake), device=fake.device)  # number of real balls that contain each generated image
        in_fake, covered = [], []
        for block, radii in zip(real.split(BLOCK), real_radii.split(BLOCK), strict=True):
            squares = squared_distances(block, fake)  # (B, M)
            inside = squares <= radii.unsqueeze(1)
            in_real += inside.sum(0)
            covered.append(inside.any(1))
            in_fake.append((squares <= fake_radii).any(1))
        return {
            "precision": (in_real > 0).float().mean(),
            "recall": torch.cat(in_fake).float().mean(),
            "density": in_real.mean() / self.k,
            "coverage": torch.cat(covered).float().mean(),
        }

    def _radii(self, features: Tensor) -> Tensor:
        """Return the squared distance (N,) of each row of (N, F) to its k-th nearest other row."""
        k = min(self.k + 1, len(features))  # the nearest is the row itself
        return torch.cat(
            [squared_distances(b, features).topk(k, largest=False).values[:, -1] for b in features.split(BLOCK)]
        )


class NearestTraining(ImageMetric):
    """Mean Euclidean distance to the nearest training image, pixels in [0, 1]: a test for memorized images.

    Copies of training images have distance 0. Images as new as the held-out ones have the distance of those, which is
    computed beside it.

    Args:
        stride: One image in ``stride`` is compared with the whole training set.

    Raises:
        ValueError: If the stride is less than 1.
    """

    values: ClassVar[dict[str, bool | None]] = {"nearest_training": None, "nearest_training_real": None}
    uses_training_images = True
    real: list[Tensor]
    fake: list[Tensor]

    def __init__(self, *, stride: int) -> None:
        super().__init__()
        if stride < 1:
            raise ValueError(f"stride={stride}: must be at least 1")
        self.stride = stride
        self.nearest: dict[str, Tensor] = {}
        self.add_state("real", default=[], dist_reduce_fx="cat")
        self.add_state("fake", default=[], dist_reduce_fx="cat")

    def update(self, images: Tensor, *, real: bool) -> None:
        """Add one in ``stride`` of the images (N, C, H, W) in [-1, 1]."""
        (self.real if real else self.fake).append(images[:: self.stride].clone())  # a view would keep the whole batch

    def prepare(self, *, validation: Callable[[int], Tensor], train: Callable[[], Iterable[Tensor]]) -> None:
        """Search the training images; see :meth:`ImageMetric.prepare`."""
        images = {"fake": self.fake, "real": self.real}
        squares = {kind: [torch.full((len(b),), torch.inf, device=b.device) for b in images[kind]] for kind in images}
        for candidates in train():
            for kind, batches in images.items():
                for batch, smallest in zip(batches, squares[kind], strict=True):
                    found = squared_distances(batch.flatten(1), candidates.flatten(1)).amin(1)
                    torch.minimum(smallest, found, out=smallest)
        self.nearest = {kind: torch.cat(smallest).sqrt() for kind, smallest in squares.items()}

    def compute(self) -> dict[str, Tensor]:
        """Return ``nearest_training`` of the generated images and ``nearest_training_real`` of the held-out ones.

        Raises:
            RuntimeError: If ``prepare`` has not been called.
        """
        if not self.nearest:
            raise RuntimeError("NearestTraining: call prepare() before compute()")
        return {  # half of the distance in [-1, 1]
            "nearest_training": self.nearest["fake"].mean() / 2,
            "nearest_training_real": self.nearest["real"].mean() / 2,
        }
