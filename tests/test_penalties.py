import pytest
import torch
from torch import Tensor, nn

from gan_lightning.penalties import R1, R1R2, R2


def discriminator() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Softplus(), nn.Linear(5, 1)).double()


def by_differences(network: nn.Module, images: Tensor, step: float = 1e-5) -> Tensor:
    """Return the mean squared norm of the gradient by the image, from central differences."""
    squares = torch.zeros(len(images), dtype=torch.float64)
    with torch.no_grad():
        for i in range(4):
            nudge = torch.zeros(4, dtype=torch.float64)
            nudge[i] = step
            nudge = nudge.view(1, 1, 2, 2)
            slope = (network(images + nudge) - network(images - nudge)).squeeze(1) / (2 * step)
            squares += slope**2
    return squares.mean()


@pytest.mark.parametrize(("penalty", "on_real", "on_fake"), [(R1, 1, 0), (R2, 0, 1), (R1R2, 1, 1)])
def test_penalties_are_their_formulas(penalty: type[R1], on_real: int, on_fake: int) -> None:
    network = discriminator()
    real, fake = (torch.randn(6, 1, 2, 2, dtype=torch.float64) for _ in range(2))
    expected = 3.0 / 2 * (on_real * by_differences(network, real) + on_fake * by_differences(network, fake))
    torch.testing.assert_close(penalty(gamma=3.0)(network, real, fake), expected, rtol=1e-6, atol=1e-9)
    lazy = penalty(gamma=3.0, interval=4)(network, real, fake)
    torch.testing.assert_close(lazy, 4 * expected, rtol=1e-6, atol=1e-9)


def test_gradient_of_a_penalty() -> None:
    """For a linear discriminator w·x the penalty is γ/2 ‖w‖², and its gradient γ w."""
    linear = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False)).double()
    real = torch.randn(6, 1, 2, 2, dtype=torch.float64)
    R1(gamma=0.5)(linear, real, real).backward()
    weight = linear[1].weight
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, 0.5 * weight.detach())


def test_penalties_do_not_reach_the_generator() -> None:
    fake = torch.randn(6, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    for penalty in (R2, R1R2):
        penalty(gamma=1.0)(discriminator(), fake.detach(), fake).backward()
        assert fake.grad is None
