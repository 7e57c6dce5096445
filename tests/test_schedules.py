import math
from collections.abc import Callable

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from gan_lightning.schedules import (
    CosineSchedule,
    ExponentialSchedule,
    LinearSchedule,
    cosine_decay,
    exponential_decay,
    linear_decay,
)


def test_linear_is_flat_outside() -> None:
    schedule = LinearSchedule(start=2.0, end=1.0, first=10, last=20)
    assert [schedule(step) for step in (0, 10, 15, 20, 99)] == [2.0, 2.0, 1.5, 1.0, 1.0]


def test_cosine_is_half_a_cosine() -> None:
    schedule = CosineSchedule(start=1.0, end=0.0, first=0, last=8)
    assert [schedule(s) for s in range(9)] == pytest.approx([(1 + math.cos(math.pi * s / 8)) / 2 for s in range(9)])


def test_exponential_has_a_floor() -> None:
    schedule = ExponentialSchedule(start=0.1, base=2.0, end=0.03)
    assert [schedule(step) for step in range(3)] == pytest.approx([0.1, 0.05, 0.03])


def test_exponential_does_not_overflow() -> None:
    assert ExponentialSchedule(start=1.0, base=1.1, end=1e-5)(10**6) == 1e-5


def optimizer() -> SGD:
    return SGD([torch.zeros(1, requires_grad=True)], lr=0.5)


def run(scheduler: LRScheduler, steps: int) -> list[float]:
    """Return the learning rate of each of the next steps."""
    rates = []
    for _ in range(steps):
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return rates


def test_linear_decay_keeps_the_rate_then_lowers_it() -> None:
    rates = run(linear_decay(optimizer(), 8, flat=0.5), 9)
    assert rates == pytest.approx([0.5] * 5 + [0.375, 0.25, 0.125, 0.0])


def test_cosine_decay_is_torchs() -> None:
    expected = run(CosineAnnealingLR(optimizer(), 8), 9)
    assert run(cosine_decay(optimizer(), 8, flat=0.0), 9) == pytest.approx(expected)


def test_exponential_decay() -> None:
    rates = run(exponential_decay(optimizer(), math.inf, base=2.0, end=0.2), 4)
    assert rates == pytest.approx([0.5, 0.25, 0.125, 0.1])


@pytest.mark.parametrize("decay", [linear_decay, cosine_decay])
def test_a_run_resumed_with_more_steps_gets_the_new_schedule(decay: Callable[..., LRScheduler]) -> None:
    first, second = decay(optimizer(), 8, flat=0.5), decay(optimizer(), 16, flat=0.5)
    run(first, 6)
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.load_state_dict(first.state_dict())
    assert first.state_dict()["lr_lambdas"] == [None]
    second.optimizer.step()
    second.step()
    assert run(second, 9) == run(decay(optimizer(), 16, flat=0.5), 16)[7:]
