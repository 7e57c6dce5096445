"""The Parzen-window log-likelihood estimate of section 5 of the paper (Goodfellow et al., 2014)."""

from collections.abc import Callable, Iterable
from itertools import chain
from math import log, pi
from typing import ClassVar

import torch
from torch import Tensor

from gan_lightning.metrics.base import THUMBNAIL, ImageMetric

SIGMAS = torch.logspace(-1, 0, 10).tolist()  # the grid of the code behind the paper's Table 1


class ParzenWindow(ImageMetric):
    """Mean log-likelihood of held-out images under a Gaussian window around each generated image, in nats.

    LL(x) = log 1/n Σ_j N(x; μ_j, σ²I), where the centers μ_j are the n generated images, with pixels in [0, 1]. As in
    the code behind the paper's Table 1, σ is the one of ten values from 0.1 to 1 with the highest likelihood on 1,000
    validation images.

    The estimate is a weak measure: cluster means can get a higher value than real images (Theis et al., 2016). Report
    other metrics beside it.

    Args:
        num_validation: Number of validation images that σ is chosen on; all of them if there are fewer.
        block_size: Images compared with a batch of centers at a time; bounds the memory, does not change the result.

    Raises:
        ValueError: If an argument is less than 1.
    """

    values: ClassVar[dict[str, bool | None]] = {"parzen_ll": True, "parzen_ll_se": None, "parzen_sigma": None}
    max_values = 3 * THUMBNAIL**2  # it keeps all images
    centers: list[Tensor]
    held_out: list[Tensor]

    def __init__(self, *, num_validation: int, block_size: int = 250) -> None:
        super().__init__()
        if num_validation < 1:
            raise ValueError(f"num_validation={num_validation}: must be at least 1")
        if block_size < 1:
            raise ValueError(f"block_size={block_size}: must be at least 1")
        self.num_validation, self.block_size = num_validation, block_size
        self.sigma: float | None = None
        self.add_state("centers", default=[], dist_reduce_fx="cat")
        self.add_state("held_out", default=[], dist_reduce_fx="cat")

    def update(self, images: Tensor, *, real: bool) -> None:
        """Add images (N, C, H, W) in [-1, 1]: held-out ones if ``real``, else centers."""
        (self.held_out if real else self.centers).append(images)

    def prepare(self, *, validation: Callable[[int], Iterable[Tensor]], train: Callable[[], Iterable[Tensor]]) -> None:
        """Choose σ on validation images; see :meth:`ImageMetric.prepare`."""
        likelihoods = self._log_likelihoods(validation(self.num_validation), SIGMAS).mean(dim=1)
        self.sigma = SIGMAS[int(likelihoods.argmax())]

    def compute(self) -> dict[str, Tensor]:
        """Return ``parzen_ll``, its standard error ``parzen_ll_se`` (both in nats) and ``parzen_sigma``.

        Raises:
            RuntimeError: If ``prepare`` has not been called.
        """
        if self.sigma is None:
            raise RuntimeError("ParzenWindow: call prepare() before compute()")
        (likelihoods,) = self._log_likelihoods(_as_list(self.held_out), [self.sigma])
        return {
            "parzen_ll": likelihoods.mean(),
            "parzen_ll_se": likelihoods.std(correction=0) / len(likelihoods) ** 0.5,
            "parzen_sigma": torch.tensor(self.sigma),
        }

    def _log_likelihoods(self, batches: Iterable[Tensor], sigmas: list[float]) -> Tensor:
        """Return log-likelihoods (S, N), float64, of batches (M, C, H, W) of N images in all, for each of S widths."""
        centers = [batch.flatten(1) for batch in _as_list(self.centers)]
        norms = [torch.linalg.vector_norm(batch, dim=1).square() for batch in centers]
        likelihoods = []
        for block in chain.from_iterable(batch.flatten(1).split(self.block_size) for batch in batches):  # (B, D)
            block_norms = block.square().sum(1, keepdim=True)
            sums = []  # (S, B) for each batch of centers
            for batch, norm in zip(centers, norms, strict=True):
                squares = torch.addmm(norm, block, batch.T, alpha=-2).add_(block_norms)  # ‖μ‖² - 2 x·μ + ‖x‖²
                # σ is for pixels in [0, 1]; squared distances in [-1, 1] are four times as large: 2σ² becomes 8σ².
                sums.append(torch.stack([(squares / (-8 * s**2)).logsumexp(1).double() for s in sigmas]))
            likelihoods.append(torch.stack(sums).logsumexp(0))
        n, dim = sum(map(len, centers)), centers[0].shape[1]
        widths = torch.tensor(sigmas, dtype=torch.float64, device=block.device).unsqueeze(1)
        return torch.cat(likelihoods, dim=1) - log(n) - dim * (widths.log() + log(2 * pi) / 2)


def _as_list(batches: Tensor | list[Tensor]) -> list[Tensor]:
    """Return the batches of a metric's state as a list; synchronizing ranks concatenates them to one tensor."""
    return [batches] if isinstance(batches, Tensor) else batches
