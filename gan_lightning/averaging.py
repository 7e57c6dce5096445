"""The generator's exponential moving average."""

import copy

import torch
from torch import Tensor, nn


class ExponentialAverage(nn.Module):
    """A network whose weights and buffers follow another's, forgetting half of the past every ``half_life`` steps.

    At the start, when there is little past, the half-life is ``ramp`` of the steps gone, as in StyleGAN2-ADA
    (Karras et al., Training Generative Adversarial Networks with Limited Data, 2020).

    Args:
        network: The one to follow.
        half_life: In steps.
        ramp: Bound on the half-life, as a share of the steps gone.
        latent_scale: What the noise is multiplied by. Averaged weights give images that vary less than the data, which
            noise above 1 makes up for: the truncation trick of BigGAN (Brock et al., Large Scale GAN Training for High
            Fidelity Natural Image Synthesis, 2019), the other way round.
        every_n_steps: Between two updates; the half-life stays what it is.
    """

    def __init__(
        self, network: nn.Module, *, half_life: float, ramp: float, latent_scale: float, every_n_steps: int = 4
    ) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.half_life, self.ramp, self.every_n_steps = half_life, ramp, every_n_steps
        self.latent_scale = latent_scale

    def forward(self, z: Tensor) -> Tensor:
        """Apply the averaged network to noise (N, latent_dim), scaled."""
        return self.network(self.latent_scale * z)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Follow a network after its step number ``step``, if it is time."""
        if step % self.every_n_steps:
            return
        decay = 0.5 ** (self.every_n_steps / min(self.half_life, self.ramp * step))
        pairs = list(zip(tensors(self.network), tensors(network), strict=True))
        floats = [(mean, new) for mean, new in pairs if mean.is_floating_point()]
        torch._foreach_lerp_([mean for mean, _ in floats], [new for _, new in floats], 1 - decay)
        for count, new in pairs:
            if not count.is_floating_point():
                count.copy_(new)


def tensors(network: nn.Module) -> list[Tensor]:
    """List a network's parameters and buffers, each once, wherever it is used."""
    return [*network.parameters(), *network.buffers()]
