"""Nearest-neighbor metrics: precision, recall, density, coverage, and the distance to the nearest training image."""

from collections.abc import Callable, Iterable
from math import lgamma
from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from gan_lightning.metrics.base import FeatureMetric, ImageMetric, thumbnails

MAX_K = 1000
BLOCK = 250  # rows compared with all others at a time; bounds the memory, does not change the result


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return squared Euclidean distances (N, M) between the rows of (N, D) and (M, D), by one matrix product."""
    products = torch.addmm(torch.linalg.vector_norm(b, dim=1).square(), a, b.T, alpha=-2)
    return products.add_(a.square().sum(1, keepdim=True)).clamp_(min=0)


class NeighborMetric(FeatureMetric, ImageMetric):
    """Base class of metrics that compare the features of images with balls around those of other images.

    Args:
        features: Maps images (N, C, H, W) in [-1, 1] to features (N, F).
        k: A ball reaches to the k-th nearest neighbor of the same kind, or to the farthest image if there are fewer.

    Raises:
        ValueError: If k is less than 1 or more than ``MAX_K``.
    """

    def __init__(self, *, features: Callable[[Tensor], Tensor], k: int) -> None:
        super().__init__(features=features)
        if not 1 <= k <= MAX_K:
            raise ValueError(f"k={k}: must be from 1 to {MAX_K}")
        self.k = k

    def _radii(self, features: Tensor) -> Tensor:
        """Return the squared distance (N,) of each row of (N, F) to its k-th nearest other row."""
        k = min(self.k + 1, len(features))  # the nearest is the row itself
        return torch.cat(
            [squared_distances(b, features).topk(k, largest=False).values[:, -1] for b in features.split(BLOCK)]
        )


class PrecisionRecall(NeighborMetric):
    """Precision and recall (Kynkäänniemi et al., 2019), density and coverage (Naeem et al., 2020), on features.

    The ball around an image reaches to its k-th nearest neighbor of the same kind, real or generated. Precision is
    the share of generated images that lie in the ball of a real image, recall the share of real images that lie in the
    ball of a generated one. Density is the mean number of real balls that a generated image lies in, divided by k;
    coverage is the share of real images whose ball contains a generated image.

    Args:
        features: See :class:`NeighborMetric`.
        k: See there.

    Raises:
        ValueError: If k is less than 1.
    """

    values: ClassVar[dict[str, bool | None]] = {"precision": True, "recall": True, "density": True, "coverage": True}

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


class ClippedDensityCoverage(NeighborMetric):
    """Clipped density and clipped coverage (Salvy et al., 2026) on features: each is a share of good images.

    The ball around each of N real images reaches to its k-th nearest other real image.

    For density, no radius exceeds the median one, so that outliers among the real images have no large balls. Density
    is the mean over M generated images of min(1, c / k), where c is the number of balls that the image lies in,
    relative to the same mean over the real images, each without its own ball, and at most 1. If a share of the
    generated images lies far from the data, density is lower by that share.

    For coverage, let u be the mean over the real images of min(1, c / k), where c is the number of generated images in
    the ball. If m generated images follow the distribution of the real ones and the others lie far from it, the
    expected u is that of :func:`expected_coverage`. Coverage is the largest m of at most M that does not exceed u, as a
    share of M.

    Args:
        features: See :class:`NeighborMetric`.
        k: See there.

    Raises:
        ValueError: If k is less than 1.
    """

    values: ClassVar[dict[str, bool | None]] = {"clipped_density": True, "clipped_coverage": True}

    def compute(self) -> dict[str, Tensor]:
        """Return both values; nan if there are fewer than two real images, or features that are not finite."""
        real, fake = dim_zero_cat(self.real), dim_zero_cat(self.fake)
        k = min(self.k, len(real) - 1)
        if k < 1 or not fake.isfinite().all():
            return dict.fromkeys(self.values, torch.tensor(torch.nan))
        all_radii = self._radii(real)  # (N,)
        largest = all_radii.median()
        in_real = torch.zeros(len(fake), device=fake.device)  # number of balls that contain each generated image
        among_real = torch.zeros(len(real), device=real.device)  # the same of each real image
        covered = []
        for block, radii in zip(real.split(BLOCK), all_radii.split(BLOCK), strict=True):
            squares = squared_distances(block, fake)  # (B, M)
            clipped = radii.clamp(max=largest).unsqueeze(1)
            in_real += (squares <= clipped).sum(0)
            among_real += (squared_distances(block, real) <= clipped).sum(0)
            covered.append((squares <= radii.unsqueeze(1)).sum(1).clamp(max=k))
        density = in_real.clamp(max=k).mean() / (among_real - 1).clamp(0, k).mean()  # a real image is in its own ball
        expected = expected_coverage(len(fake), num_real=len(real), k=k).to(fake.device)
        return {
            "clipped_density": density.clamp(max=1),
            "clipped_coverage": (expected <= torch.cat(covered).double().mean() / k).float().mean(),
        }


def expected_coverage(num_images: int, *, num_real: int, k: int) -> Tensor:
    """Return E[min(1, X / k)] (M,), where X of m = 1, ..., M images lie in the ball of a real image.

    If all are independent samples of one distribution, the k-th nearest of the other N - 1 real images is at a distance
    within which a share p ~ Beta(k, N - k) of the distribution lies, so that X ~ BetaBinomial(m, k, N - k).

    Args:
        num_images: M.
        num_real: N, more than k.
        k: The ball reaches to the k-th nearest other real image.
    """
    m = torch.arange(1, num_images + 1, dtype=torch.float64)
    x = torch.arange(k, dtype=torch.float64).unsqueeze(1)  # (k, 1); from k on, min(1, X / k) is 1
    choices = (m + 1).lgamma() - (x + 1).lgamma() - (m - x + 1).lgamma()  # log of m over x, -inf for x > m
    beta = (x + k).lgamma() + (m - x + num_real - k).clamp(min=1).lgamma() - (m + num_real).lgamma()
    probabilities = (choices + beta - lgamma(k) - lgamma(num_real - k) + lgamma(num_real)).exp()  # (k, M)
    return 1 - ((1 - x / k) * probabilities).sum(0)


class NearestTraining(ImageMetric):
    """Mean Euclidean distance to the nearest training image, pixels in [0, 1]: a test for memorized images.

    Copies of training images have distance 0. Images as new as the held-out ones have the distance of those, which is
    computed beside it. Images of more than 32 x 32 pixels are compared as :func:`thumbnails`.

    Args:
        stride: One image in ``stride`` is compared with the whole training set.

    Raises:
        ValueError: If the stride is less than 1.
    """

    values: ClassVar[dict[str, bool | None]] = {"nearest_training": None, "nearest_training_real": None}
    uses_training_images = True
    real: list[Tensor]
    fake: list[Tensor]
    seen: Tensor

    def __init__(self, *, stride: int) -> None:
        super().__init__()
        if stride < 1:
            raise ValueError(f"stride={stride}: must be at least 1")
        self.stride = stride
        self.nearest: dict[str, Tensor] = {}
        self.add_state("real", default=[], dist_reduce_fx="cat")
        self.add_state("fake", default=[], dist_reduce_fx="cat")
        self.add_state("seen", default=torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")  # generated, real

    def update(self, images: Tensor, *, real: bool) -> None:
        """Add one in ``stride`` of the images (N, C, H, W) in [-1, 1], however they are split into batches."""
        kept = thumbnails(images[int(-self.seen[int(real)] % self.stride) :: self.stride])
        self.seen[int(real)] += len(images)
        if len(kept):
            (self.real if real else self.fake).append(kept.clone())  # a view would keep the whole batch

    def prepare(self, *, validation: Callable[[int], Iterable[Tensor]], train: Callable[[], Iterable[Tensor]]) -> None:
        """Search the training images; see :meth:`ImageMetric.prepare`."""
        images = {"fake": self.fake, "real": self.real}
        squares = {kind: [torch.full((len(b),), torch.inf, device=b.device) for b in images[kind]] for kind in images}
        for candidates in map(thumbnails, train()):
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
