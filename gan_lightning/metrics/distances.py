"""FID and KID: distances between the distributions of features of real and generated images."""

import warnings

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance


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
