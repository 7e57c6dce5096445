"""The Parzen-window log-likelihood estimate of the paper's section 5."""

from collections.abc import Callable, Iterable
from itertools import chain
from math import log, pi

import torch
from torch import Tensor
from torchmetrics import Metric

SIGMAS = torch.logspace(-1, 0, 10).tolist()


class ParzenWindow(Metric):
    """Mean log-likelihood of held-out images under a Gaussian window around each generated one, in nats.

    LL(x) = log 1/n Σ_j N(x; μ_j, σ²I) with the n generated images μ_j as centres and pixels in [0, 1]. The width
    σ is the one of ten, 0.1 to 1, that serves 1,000 validation images best, as in the code behind Table 1.

    It is a weak measure: a set of averages can score above real images. Never read it alone.

    Args:
        num_validation: How many validation images choose σ.
        block_size: Images compared at a time with a batch of centres; bounds the memory, not the result.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    centres: list[Tensor]
    held_out: list[Tensor]

    def __init__(self, *, num_validation: int, block_size: int = 250) -> None:
        super().__init__()
        self.num_validation, self.block_size = num_validation, block_size
        self.sigma: float | None = None
        self.add_state("centres", default=[], dist_reduce_fx="cat")
        self.add_state("held_out", default=[], dist_reduce_fx="cat")

    def update(self, images: Tensor, *, real: bool) -> None:
        """Take in images (N, C, H, W) in [-1, 1]: held-out ones if real, else generated ones."""
        (self.held_out if real else self.centres).append(images)

    def tune(self, validation: Callable[[int], Tensor]) -> None:
        """Choose σ after all updates with generated images.

        Args:
            validation: Gives the first n validation images (n, C, H, W) in [-1, 1].
        """
        likelihoods = self._log_likelihoods([validation(self.num_validation)], SIGMAS).mean(dim=1)
        self.sigma = SIGMAS[int(likelihoods.argmax())]

    def compute(self) -> dict[str, Tensor]:
        """Give ``parzen_ll``, its standard error ``parzen_ll_se`` (both nats) and ``parzen_sigma``."""
        if self.sigma is None:
            raise RuntimeError("ParzenWindow: call tune() before compute()")
        (likelihoods,) = self._log_likelihoods(listed(self.held_out), [self.sigma])
        return {
            "parzen_ll": likelihoods.mean(),
            "parzen_ll_se": likelihoods.std(correction=0) / len(likelihoods) ** 0.5,
            "parzen_sigma": torch.tensor(self.sigma),
        }

    def _log_likelihoods(self, batches: Iterable[Tensor], sigmas: list[float]) -> Tensor:
        """Log-likelihoods (S, N), float64, of batches (M, C, H, W) of N images in [-1, 1] for each of S widths."""
        parts = [part.flatten(1) for part in listed(self.centres)]
        norms = [torch.linalg.vector_norm(part, dim=1).square() for part in parts]
        likelihoods = []
        for block in chain.from_iterable(batch.flatten(1).split(self.block_size) for batch in batches):  # (B, D)
            own = block.square().sum(1, keepdim=True)
            sums = []  # (S, B) for each part of the centres
            for part, norm in zip(parts, norms, strict=True):
                squares = torch.addmm(norm, block, part.T, alpha=-2).add_(own)  # ‖μ‖² - 2 x·μ + ‖x‖²
                # In [-1, 1] they are four times those of pixels in [0, 1], which σ is for.
                sums.append(torch.stack([(squares / (-8 * s**2)).logsumexp(1).double() for s in sigmas]))
            likelihoods.append(torch.stack(sums).logsumexp(0))
        n, dim = sum(map(len, parts)), parts[0].shape[1]
        widths = torch.tensor(sigmas, dtype=torch.float64, device=own.device).unsqueeze(1)
        return torch.cat(likelihoods, dim=1) - log(n) - dim * (widths.log() + log(2 * pi) / 2)


def listed(batches: Tensor | list[Tensor]) -> list[Tensor]:
    """Give a metric's batches as a list, which synchronising makes one tensor of."""
    return [batches] if isinstance(batches, Tensor) else batches
