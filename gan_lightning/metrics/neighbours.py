"""Measures by nearest neighbours: precision, recall, density and coverage; the nearest training image."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from gan_lightning.metrics.features import Features

BLOCK = 250  # rows compared with all others at a time; bounds the memory, not the result


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances (N, M) between rows (N, D) and (M, D), in one matrix product."""
    products = torch.addmm(torch.linalg.vector_norm(b, dim=1).square(), a, b.T, alpha=-2)
    return products.add_(a.square().sum(1, keepdim=True)).clamp_(min=0)


class PrecisionRecall(Metric):
    """Precision and recall (Kynkäänniemi et al., 2019), density and coverage (Naeem et al., 2020), on features.

    Around each image of one kind lies a ball that reaches to its k-th nearest neighbour of the same kind. Precision
    is the share of generated images within a real image's ball, recall that of real ones within a generated one's.
    Density counts the real balls that a generated image lies in, over k; coverage is the share of real images whose
    ball holds a generated one.

    Args:
        features: Maps images (N, C, H, W) in [-1, 1] to features (N, F).
        k: Which neighbour a ball reaches to, or the furthest where there are fewer.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    real: list[Tensor]
    fake: list[Tensor]

    def __init__(self, *, features: Features, k: int) -> None:
        super().__init__()
        self.features, self.k = features, k
        self.add_state("real", default=[], dist_reduce_fx="cat")
        self.add_state("fake", default=[], dist_reduce_fx="cat")

    def update(self, images: Tensor, *, real: bool) -> None:
        """Take in images (N, C, H, W) in [-1, 1]."""
        (self.real if real else self.fake).append(self.features(images))

    def compute(self) -> dict[str, Tensor]:
        """Give ``precision``, ``recall``, ``density`` and ``coverage``."""
        real, fake = dim_zero_cat(self.real), dim_zero_cat(self.fake)
        real_radii, fake_radii = self._radii(real), self._radii(fake)  # (N,), (M,)
        in_real = torch.zeros(len(fake), device=fake.device)  # how many real balls hold each generated image
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
        """Squared distance (N,) of each row of (N, F) to its k-th nearest other row."""
        within = min(self.k + 1, len(features))  # the nearest is the row itself
        return torch.cat(
            [squared_distances(b, features).topk(within, largest=False).values[:, -1] for b in features.split(BLOCK)]
        )


class NearestTraining(Metric):
    """Distance to the nearest training image, to tell memorising from generating.

    Euclidean, pixels in [0, 1], the mean over images. Copies of training images have 0; ones that are as new as held-
    out images have what those have.

    Args:
        every: One image in so many is looked for, as each is compared with the whole training set.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None
    real: list[Tensor]
    fake: list[Tensor]

    def __init__(self, *, every: int) -> None:
        super().__init__()
        self.every = every
        self.nearest: dict[str, Tensor] = {}
        self.add_state("real", default=[], dist_reduce_fx="cat")
        self.add_state("fake", default=[], dist_reduce_fx="cat")

    def update(self, images: Tensor, *, real: bool) -> None:
        """Take in images (N, C, H, W) in [-1, 1]."""
        (self.real if real else self.fake).append(images[:: self.every].clone())  # a view would keep them all

    def search(self, train: Iterable[Tensor]) -> None:
        """Look through the training images, batches (N, C, H, W) in [-1, 1], after all updates."""
        kinds = {"fake": self.fake, "real": self.real}
        nearest = {k: [torch.full((len(i),), torch.inf, device=i.device) for i in given] for k, given in kinds.items()}
        for batch in train:
            for kind, given in kinds.items():
                for images, least in zip(given, nearest[kind], strict=True):
                    squares = squared_distances(images.flatten(1), batch.flatten(1)).amin(1)
                    torch.minimum(least, squares, out=least)
        self.nearest = {kind: torch.cat(found) for kind, found in nearest.items()}

    def compute(self) -> dict[str, Tensor]:
        """Give ``nearest_training`` for generated images and ``nearest_training_real`` for held-out ones."""
        if not self.nearest:
            raise RuntimeError("NearestTraining: call search() before compute()")
        return {
            "nearest_training": self.nearest["fake"].sqrt().mean() / 2,
            "nearest_training_real": self.nearest["real"].sqrt().mean() / 2,
        }
