import math

import pytest
import torch

from gan_lightning.schedules import Cosine, Exponential, Linear, cosine, exponential, linear


def test_linear_is_flat_outside() -> None:
    schedule = Linear(start=2.0, end=1.0, first=10, last=20)
    assert [schedule(step) for step in (0, 10, 15, 20, 99)] == [2.0, 2.0, 1.5, 1.0, 1.0]


def test_cosine_is_half_a_cosine() -> None:
    schedule = Cosine(start=1.0, end=0.0, first=0, last=8)
    assert [schedule(s) for s in range(9)] == pytest.approx([(1 + math.cos(math.pi * s / 8)) / 2 for s in range(9)])


def test_exponential_has_a_floor() -> None:
    schedule = Exponential(start=0.1, base=2.0, end=0.03)
    assert [schedule(step) for step in range(3)] == pytest.approx([0.1, 0.05, 0.03])


def test_exponential_goes_on_for_ever() -> None:
    assert Exponential(start=1.0, base=1.1, end=1e-5)(10**6) == 1e-5


def rates(make: object, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler = make(optimizer)  # type: ignore[operator]
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_linear_decay_keeps_the_rate_then_lets_it_fall() -> None:
    assert rates(lambda o: linear(o, 8, flat=0.5), 9) == pytest.approx([0.5] * 5 + [0.375, 0.25, 0.125, 0.0])


def test_cosine_decay_is_torch_s_own() -> None:
    ours = rates(lambda o: cosine(o, 8, flat=0.0), 9)
    assert ours == pytest.approx(rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 8), 9))


def test_exponential_decay() -> None:
    assert rates(lambda o: exponential(o, 9, base=2.0, end=0.2), 4) == pytest.approx([0.5, 0.25, 0.125, 0.1])
