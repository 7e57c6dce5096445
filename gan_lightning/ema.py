"""Exponential moving average (EMA) of the generator's weights."""

import copy

import torch
from torch import Tensor, nn


class EMA(nn.Module):
    """A copy of a network whose weights and buffers are exponential moving averages with a given half-life.

    Early in the run the half-life is limited to a share of the steps taken, as in StyleGAN2-ADA (Karras et al.,
    Training Generative Adversarial Networks with Limited Data, 2020).

    Args:
        network: The network to average.
        half_life: In steps, above 0.
        rampup_ratio: Upper bound on the half-life, as a share of the steps taken; above 0.
        update_interval: Steps from one update to the next; the half-life does not depend on it.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, network: nn.Module, *, half_life: float, rampup_ratio: float, update_interval: int = 4) -> None:
        for name, value in (("half_life", half_life), ("rampup_ratio", rampup_ratio)):
            if not value > 0:
                raise ValueError(f"{name}={value}: must be above 0")
        if update_interval < 1:
            raise ValueError(f"update_interval={update_interval}: must be at least 1")
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.half_life, self.rampup_ratio, self.update_interval = half_life, rampup_ratio, update_interval

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the averaged network's output for noise (N, latent_dim) and labels (N,)."""
        return self.network(z, labels)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move the averages toward a network's weights after training step ``step``, if an update is due."""
        if step % self.update_interval:
            return
        decay = 0.5 ** (self.update_interval / min(self.half_life, self.rampup_ratio * step))
        pairs = list(zip(tensors(self.network), tensors(network), strict=True))
        floats = [(mean, new) for mean, new in pairs if mean.is_floating_point()]
        torch._foreach_lerp_([mean for mean, _ in floats], [new for _, new in floats], 1 - decay)
        for count, new in pairs:
            if not count.is_floating_point():
                count.copy_(new)


def tensors(network: nn.Module) -> list[Tensor]:
    """Return a network's parameters and buffers, shared ones once."""
    return [*network.parameters(), *network.buffers()]
