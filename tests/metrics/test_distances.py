import math

import pytest
import torch
from torch import Tensor

from gan_lightning.metrics import distances
from gan_lightning.metrics.distances import SlicedWasserstein


def flat(images: Tensor) -> Tensor:
    return images.flatten(1)


def sliced_wasserstein(real: Tensor, fake: Tensor, *, batch: int = 1000, projections: int = 1000) -> float:
    metric = SlicedWasserstein(features=flat, projections=projections)
    for images, are_real in ((fake, False), (real, True)):
        for part in images.split(batch):
            metric.update(part, real=are_real)
    return float(metric.compute())


def test_it_equals_its_definition_on_other_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "BLOCK", 300)
    real, fake = torch.randn(40, 3, 1, 1), torch.randn(40, 3, 1, 1) * 2 + 0.3
    squares = []
    for direction in torch.randn(4000, 3):
        unit = direction / direction.norm()
        a, b = (sorted((images.flatten(1) @ unit).tolist()) for images in (real, fake))
        squares.append(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / 40)
    assert sliced_wasserstein(real, fake) == pytest.approx((sum(squares) / 4000) ** 0.5, rel=0.03)


@pytest.mark.parametrize(("a", "b", "quantiles"), [(4, 4, [0, 1, 2, 3]), (2, 6, [1, 4]), (2, 5, [1, 3])])
def test_numbers_are_compared_at_equal_quantiles(a: int, b: int, quantiles: list[int]) -> None:
    """With one feature, all directions give the distance itself."""
    few, many = torch.randn(a, 1, 1, 1).sort(0).values, torch.randn(b, 1, 1, 1).sort(0).values
    expected = (few - many[quantiles]).square().mean().sqrt().item()
    assert sliced_wasserstein(few, many) == pytest.approx(expected, rel=1e-5)
    assert sliced_wasserstein(many, few) == pytest.approx(expected, rel=1e-5)


def test_it_is_zero_for_copies() -> None:
    real = torch.randn(30, 5, 1, 1)
    assert sliced_wasserstein(real, real[torch.randperm(30)]) == pytest.approx(0, abs=1e-6)
    assert sliced_wasserstein(real, real.repeat(3, 1, 1, 1)) == pytest.approx(0, abs=1e-6)


def test_of_a_shift_it_is_the_length_over_the_root_of_the_dimension() -> None:
    real, shift = torch.randn(100, 16, 1, 1), torch.randn(16, 1, 1)
    assert sliced_wasserstein(real, real + shift) == pytest.approx(shift.norm().item() / 4, rel=0.1)


def test_it_is_deterministic_and_does_not_depend_on_batches() -> None:
    real, fake = torch.randn(70, 4, 1, 1), torch.randn(50, 4, 1, 1)
    state = torch.get_rng_state()
    value = sliced_wasserstein(real, fake)
    assert torch.equal(torch.get_rng_state(), state)
    assert sliced_wasserstein(real, fake) == value
    assert sliced_wasserstein(real, fake, batch=7) == pytest.approx(value)


def test_edge_cases() -> None:
    real = torch.randn(9, 2, 1, 1)
    assert sliced_wasserstein(real, torch.full((1, 2, 1, 1), 9.0), projections=1) > 0
    assert math.isnan(sliced_wasserstein(real, torch.full((9, 2, 1, 1), torch.nan)))


def test_it_validates_its_argument() -> None:
    with pytest.raises(ValueError, match=r"^projections=0: .*at least 1"):
        SlicedWasserstein(features=flat, projections=0)
