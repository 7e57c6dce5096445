"""Distances between the distributions of features of real and generated images: FID, KID and sliced Wasserstein."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance
from torchmetrics.utilities import dim_zero_cat

from gan_lightning.metrics.base import FeatureMetric

BLOCK = 100  # directions that features are projected on at a time; bounds the memory, does not change the result


class FID(FrechetInceptionDistance):
    """Fréchet distance between Gaussians fitted to features of real and generated images.

    ‖μ - ν‖² + tr(A + B - 2 (A B)^½) with means μ, ν and covariances A, B (Heusel et al., 2017, equation 6).

    Args:
        features: Maps images (N, C, H, W) in [-1, 1] to features (N, F).
    """

    def __init__(self, *, features: nn.Module) -> None:
        super().__init__(feature=features)

    def compute(self) -> Tensor:
        """Return the distance; nan if fewer than two images of a kind were added or generated images are not finite."""
        too_few = min(self.real_features_num_samples, self.fake_features_num_samples) < 2
        return torch.tensor(torch.nan) if too_few or self.fake_features_sum.isnan().any() else super().compute()


class KID(KernelInceptionDistance):
    """Squared maximum mean discrepancy of features, with the kernel (x·y / F + 1)³ (Bińkowski et al., 2018).

    Args:
        features: Maps images (N, C, H, W) in [-1, 1] to features (N, F).
        subsets: Number of random subsets whose values are averaged.
        subset_size: Images in a subset; all of them if there are fewer.

    Raises:
        ValueError: If ``subsets`` or ``subset_size`` is less than 1.
    """

    def __init__(self, *, features: nn.Module, subsets: int, subset_size: int) -> None:
        if subsets < 1:
            raise ValueError(f"subsets={subsets}: must be at least 1")
        if subset_size < 1:
            raise ValueError(f"subset_size={subset_size}: must be at least 1")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*large memory footprint.*")  # 10,000 features of 32 floats: 1.3 MB
            super().__init__(feature=features, subsets=subsets, subset_size=subset_size)
        self.max_subset_size = subset_size

    def compute(self) -> Tensor:  # type: ignore[override]
        """Return the mean over the subsets, which are the same in every call."""
        num_images = min(sum(map(len, features)) for features in (self.real_features, self.fake_features))
        self.subset_size = min(self.max_subset_size, num_images)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # the CPU's only, which chooses the subsets
            return super().compute()[0]


class SlicedWasserstein(FeatureMetric):
    """Sliced Wasserstein distance of features (Rabin et al., 2012; Bonneel et al., 2015).

    (1/P Σ_p ∫₀¹ (F_p⁻¹(t) - G_p⁻¹(t))² dt)^½, where F_p⁻¹ and G_p⁻¹ are the quantile functions of real and generated
    features, projected on the p-th of P random unit vectors. The integral is the mean over t = (i + ½) / n,
    i = 0, ..., n - 1, where n is the number of images of the kind that has fewer: with as many of both, the mean
    squared difference of sorted projections.

    On Inception's features, 5,000 images distinguish models as well as 50,000 do by FID (Berthet et al., Monge
    Inception Distance for Generative Models Evaluation, 2026).

    Args:
        features: Maps images (N, C, H, W) in [-1, 1] to features (N, F).
        projections: Number of unit vectors, which are the same in every call.

    Raises:
        ValueError: If ``projections`` is less than 1.
    """

    higher_is_better = False

    def __init__(self, *, features: Callable[[Tensor], Tensor], projections: int) -> None:
        super().__init__(features=features)
        if projections < 1:
            raise ValueError(f"projections={projections}: must be at least 1")
        self.projections = projections

    def compute(self) -> Tensor:
        """Return the distance; nan or infinite if features are not finite."""
        real, fake = dim_zero_cat(self.real), dim_zero_cat(self.fake)
        n = min(len(real), len(fake))
        generator = torch.Generator().manual_seed(0)
        directions = torch.randn(self.projections, real.shape[1], generator=generator).to(real)
        directions /= torch.linalg.vector_norm(directions, dim=1, keepdim=True)
        total = torch.zeros((), dtype=torch.float64, device=real.device)
        for block in directions.split(BLOCK):  # (B, F)
            total += (quantiles(block @ real.T, n) - quantiles(block @ fake.T, n)).square().mean(1).sum()
        return (total / self.projections).sqrt()


def quantiles(values: Tensor, n: int) -> Tensor:
    """Return n equally spaced quantiles (R, n), (i + ½) / n, of each row of (R, N): if n = N, the sorted values."""
    indices = (2 * torch.arange(n, device=values.device) + 1) * values.shape[1] // (2 * n)
    return values.sort(1).values[:, indices]
