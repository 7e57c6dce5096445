from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_lightning.penalties import DRAGAN, R1, R1R2, R2, WGANGP, GradientPenalty, WeightClipping, ZeroCentered

DRAGAN_HALF = {"scale": 0.5}
PENALTIES: list[tuple[type[GradientPenalty], dict[str, Any]]] = [
    (R1, {}),
    (R2, {}),
    (R1R2, {}),
    (ZeroCentered, {}),
    (WGANGP, {}),
    (DRAGAN, DRAGAN_HALF),
]
every_penalty = pytest.mark.parametrize(("kind", "arguments"), PENALTIES)


def discriminator() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Softplus(), nn.Linear(5, 1)).double()


def linear(slope: list[float]) -> nn.Sequential:
    """Return a discriminator with this gradient everywhere."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False)).double()
    network[1].weight.data = torch.tensor([slope], dtype=torch.float64)
    return network


def images() -> tuple[Tensor, Tensor]:
    """Return six real and six generated images."""
    torch.manual_seed(4)
    return torch.randn(6, 1, 2, 2, dtype=torch.float64), torch.randn(6, 1, 2, 2, dtype=torch.float64)


def norms(network: nn.Module, points: Tensor) -> Tensor:
    """Return the norm of the logit's gradient at each image, one after the other."""
    found = []
    for point in points:
        x = point.unsqueeze(0).requires_grad_()
        (gradient,) = torch.autograd.grad(network(x)[0, 0], x)
        found.append(sum(value**2 for value in gradient.flatten().tolist()) ** 0.5)
    return torch.tensor(found, dtype=torch.float64)


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
    network, (real, fake) = discriminator(), images()
    expected = 3.0 / 2 * (on_real * by_differences(network, real) + on_fake * by_differences(network, fake))
    torch.testing.assert_close(penalty(gamma=3.0)(network, real, fake), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("penalty", "target"), [(ZeroCentered, 0), (WGANGP, 1)])
def test_penalties_on_interpolates_are_their_formulas(penalty: type[GradientPenalty], target: float) -> None:
    network, (real, fake) = discriminator(), images()
    torch.manual_seed(7)
    value = penalty(gamma=3.0)(network, real, fake)
    torch.manual_seed(7)
    share = torch.rand(6, 1, 1, 1, dtype=torch.float64)  # one for all pixels of an image
    expected = 3.0 * ((norms(network, share * real + (1 - share) * fake) - target) ** 2).mean()
    torch.testing.assert_close(value, expected)


def test_dragan_is_its_authors() -> None:
    network, (real, fake) = discriminator(), images()
    torch.manual_seed(7)
    value = DRAGAN(gamma=3.0, scale=0.5)(network, real, fake)
    torch.manual_seed(7)
    std = ((real - real.mean()) ** 2).mean() ** 0.5
    noisy = real + 0.5 * std * torch.rand(6, 1, 2, 2, dtype=torch.float64)
    share = torch.rand(6, 1, 1, 1, dtype=torch.float64)
    expected = 3.0 * ((norms(network, real + share * (noisy - real)) - 1) ** 2).mean()
    torch.testing.assert_close(value, expected)


def test_dragans_points_lie_around_the_real_images() -> None:
    real, _ = images()
    penalty = DRAGAN(gamma=1.0, scale=0.5)
    moved = penalty.points(real, torch.full_like(real, float("nan"))) - real
    assert (moved > 0).all()
    assert (moved < 0.5 * real.std(correction=0)).all()
    assert torch.equal(DRAGAN(gamma=1.0, scale=0.0).points(real, real), real)


def test_interpolates_lie_between_the_images_of_a_pair() -> None:
    real, fake = images()
    for kind in (ZeroCentered, WGANGP):
        share = (kind(gamma=1.0).points(real, fake) - fake) / (real - fake)
        assert (share > 0).all()
        assert (share < 1).all()
        shares = share.flatten(1)
        torch.testing.assert_close(shares, shares[:, :1].expand_as(shares))  # on the line from one to the other
        assert shares[:, 0].unique().numel() == 6


@every_penalty
def test_points_come_from_the_default_generator(kind: type[GradientPenalty], arguments: dict[str, Any]) -> None:
    real, fake = images()
    network, penalty, values = discriminator(), kind(gamma=1.0, **arguments), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(penalty(network, real, fake).item())
    assert values[0] == values[1]
    assert (values[1] != values[2]) == (kind not in (R1, R2, R1R2))


@every_penalty
def test_lazy_penalties_are_scaled(kind: type[GradientPenalty], arguments: dict[str, Any]) -> None:
    network, (real, fake) = discriminator(), images()
    torch.manual_seed(7)
    every_step = kind(gamma=3.0, **arguments)(network, real, fake)
    torch.manual_seed(7)
    lazy = kind(gamma=3.0, interval=4, **arguments)(network, real, fake)
    torch.testing.assert_close(lazy, 4 * every_step)
    assert every_step > 0


@every_penalty
def test_gamma_may_change(kind: type[GradientPenalty], arguments: dict[str, Any]) -> None:
    (real, fake), penalty = images(), kind(gamma=3.0, **arguments)
    penalty.gamma = 0.5
    expected = kind(gamma=0.5, **arguments)(linear([1, 2, 3, 4]), real, fake)
    assert penalty(linear([1, 2, 3, 4]), real, fake) == expected


@pytest.mark.parametrize(("kind", "arguments"), [(WGANGP, {}), (DRAGAN, DRAGAN_HALF)])
def test_norm_1_is_free(kind: type[GradientPenalty], arguments: dict[str, Any]) -> None:
    real, fake = images()
    penalty = kind(gamma=10.0, **arguments)
    assert penalty(linear([0.5, -0.5, 0.5, -0.5]), real, fake).item() == pytest.approx(0, abs=1e-15)
    assert penalty(linear([3.0, 0, 0, 4.0]), real, fake).item() == pytest.approx(10 * 4**2)
    assert penalty(linear([0, 0, 0.25, 0]), real, fake).item() == pytest.approx(10 * 0.75**2)


@pytest.mark.parametrize(
    ("kind", "expected"), [(R1, 5**2 / 2), (R2, 5**2 / 2), (R1R2, 5**2), (ZeroCentered, 5**2), (WGANGP, 4**2)]
)
def test_the_mean_over_the_images_is_taken(kind: type[GradientPenalty], expected: float) -> None:
    real, fake = images()
    for n in (1, 3, 6):
        value = kind(gamma=2.0)(linear([3.0, 0, 0, 4.0]), real[:n], fake[:n])
        assert value.item() == pytest.approx(2 * expected)


@every_penalty
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_finite_at_a_gradient_of_zero(
    kind: type[GradientPenalty], arguments: dict[str, Any], dtype: torch.dtype
) -> None:
    network, (real, fake) = linear([0, 0, 0, 0]).to(dtype), images()
    value = kind(gamma=2.0, **arguments)(network, real.to(dtype), fake.to(dtype))
    assert value.item() == 2 * kind.target**2
    value.backward()
    assert torch.equal(network[1].weight.grad, torch.zeros(1, 4, dtype=dtype))  # type: ignore[arg-type]


@every_penalty
def test_right_in_bf16(kind: type[GradientPenalty], arguments: dict[str, Any]) -> None:
    (real, fake), penalty = images(), kind(gamma=2.0, **arguments)
    for slope in ([3.0, 0, 0, 4.0], [3e4, 0, 0, 4e4], [3e-4, 0, 0, 4e-4]):
        value = penalty(linear(slope).bfloat16(), real.bfloat16(), fake.bfloat16())
        expected = penalty(linear(slope), real, fake)
        torch.testing.assert_close(value.double(), expected, rtol=0.02, atol=0)
        assert value.dtype == torch.bfloat16


def test_gradient_of_a_penalty() -> None:
    """For a linear discriminator w·x the penalty is γ/2 ‖w‖², and its gradient γ w."""
    network = linear([0.3, -0.2, 0.7, 1.1])
    real, _ = images()
    R1(gamma=0.5)(network, real, real).backward()
    weight = network[1].weight
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, 0.5 * weight.detach())


def test_gradient_of_a_penalty_with_a_target() -> None:
    """For a linear discriminator w·x the penalty is γ (‖w‖ - 1)², and its gradient 2 γ (‖w‖ - 1) w / ‖w‖."""
    network, (real, fake) = linear([3.0, 0, 0, 4.0]), images()
    WGANGP(gamma=0.5)(network, real, fake).backward()
    weight = network[1].weight
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, 2 * 0.5 * 4 * weight.detach() / 5)


@every_penalty
def test_penalties_do_not_reach_the_generator(kind: type[GradientPenalty], arguments: dict[str, Any]) -> None:
    network, (real, fake) = discriminator(), images()
    real.requires_grad_()
    fake.requires_grad_()
    kind(gamma=1.0, **arguments)(network, real, fake).backward()
    assert real.grad is fake.grad is None
    assert network[1].weight.grad is not None


def test_weight_clipping_adds_nothing() -> None:
    real, fake = images()
    value = WeightClipping(bound=0.1)(discriminator(), real, fake)
    assert value.shape == ()
    assert value.dtype == torch.float64
    assert value == 0


def test_weight_clipping_clips() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1))
    before = [parameter.detach().clone() for parameter in network.parameters()]
    assert max(parameter.abs().max() for parameter in before) > 0.1
    assert min(parameter.abs().min() for parameter in before) < 0.1
    parameters = [*network.parameters()]
    WeightClipping(bound=0.1).constrain(network)
    assert all(a is b for a, b in zip(parameters, network.parameters(), strict=True))  # in place
    for parameter, old in zip(parameters, before, strict=True):
        expected = [min(max(value, -0.1), 0.1) for value in old.flatten().tolist()]
        assert parameter.flatten().tolist() == pytest.approx(expected)
        assert parameter.requires_grad
        assert parameter.is_leaf


def test_which_need_independent_images() -> None:
    assert all(kind.needs_independent_images for kind, _ in PENALTIES)
    assert not WeightClipping.needs_independent_images
