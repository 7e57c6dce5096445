"""FID and KID on the features of a classifier."""

import warnings

import torch
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from gan_lightning.metrics.features import Features


class FID(FrechetInceptionDistance):
    """The Fréchet distance (Heusel et al., 2017) between Gaussians fitted to features of real and generated images.

    Args:
        features: Maps images (N, C, H, W) in [-1, 1] to features (N, F).
    """

    def __init__(self, *, features: Features) -> None:
        super().__init__(feature=features)

    def compute(self) -> Tensor:
        """Give the distance; nan for fewer than two images of a kind, and for images that are not finite."""
        few = min(self.real_features_num_samples, self.fake_features_num_samples) < 2
        return torch.tensor(torch.nan) if few or self.fake_features_sum.isnan().any() else super().compute()


class KID(KernelInceptionDistance):
    """The squared maximum mean discrepancy (Bińkowski et al., 2018) of features, by a cubic kernel.

    Args:
        features: Maps images (N, C, H, W) in [-1, 1] to features (N, F).
        subsets: How many random subsets are averaged.
        subset_size: Images in one, at most as many as there are.
    """

    def __init__(self, *, features: Features, subsets: int, subset_size: int) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*large memory footprint.*")  # 10,000 features are small
            super().__init__(feature=features, subsets=subsets, subset_size=subset_size)
        self.at_most = subset_size

    def compute(self) -> Tensor:  # type: ignore[override]
        """Give the mean over the subsets, which are always the same ones."""
        there = min(sum(map(len, features)) for features in (self.real_features, self.fake_features))
        self.subset_size = min(self.at_most, there)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return super().compute()[0]
