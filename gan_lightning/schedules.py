"""Numbers that change with the step: schedules of a value, and learning-rate schedulers."""

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, isfinite, pi

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


@dataclass(kw_only=True)
class LinearSchedule:
    """From ``start`` to ``end`` in a straight line between the steps ``first`` and ``last``, constant outside."""

    start: float
    end: float
    first: float
    last: float

    def __call__(self, step: int) -> float:
        """Return the value at a step."""
        progress = min(max((step - self.first) / max(self.last - self.first, 1), 0), 1)
        return self.start + (self.end - self.start) * self.shape(progress)

    def shape(self, progress: float) -> float:
        """Return the share of the change at a progress of 0 to 1 between the two steps."""
        return progress


class CosineSchedule(LinearSchedule):
    """From ``start`` to ``end`` along half a cosine between the steps ``first`` and ``last``, constant outside."""

    def shape(self, progress: float) -> float:
        """Return the share of the change at a progress of 0 to 1 between the two steps."""
        return (1 - cos(pi * progress)) / 2


@dataclass(kw_only=True)
class ExponentialSchedule:
    """``start * base ** -step``, never below ``end``."""

    start: float
    base: float
    end: float

    def __call__(self, step: int) -> float:
        """Return the value at a step."""
        return max(self.start * self.base**-step, self.end)


def linear_decay(optimizer: Optimizer, steps: float, *, flat: float) -> LambdaLR:
    """Return a scheduler that keeps the learning rates for the share ``flat`` of the steps, then lowers them to 0.

    Args:
        optimizer: Its learning rates are scaled, all by the same factor.
        steps: Length of the run; must be finite.
        flat: Share of the steps at the full rate, 0 to 1.

    Raises:
        ValueError: If an argument is out of range.
    """
    return _decay(LinearSchedule, optimizer, steps, flat)


def cosine_decay(optimizer: Optimizer, steps: float, *, flat: float) -> LambdaLR:
    """Return a scheduler like :func:`linear_decay` that lowers the rates along half a cosine."""
    return _decay(CosineSchedule, optimizer, steps, flat)


def exponential_decay(optimizer: Optimizer, steps: float, *, base: float, end: float) -> LambdaLR:
    """Return a scheduler that divides the learning rates by ``base`` every step, down to the share ``end`` of them.

    It does not depend on the length of the run.

    Raises:
        ValueError: If ``base`` is below 1 or ``end`` not between 0 and 1.
    """
    if not base >= 1:
        raise ValueError(f"base={base}: must be at least 1")
    if not 0 <= end <= 1:
        raise ValueError(f"end={end}: must be between 0 and 1")
    return _scheduler(optimizer, ExponentialSchedule(start=1.0, base=base, end=end))


def _decay(schedule: type[LinearSchedule], optimizer: Optimizer, steps: float, flat: float) -> LambdaLR:
    if not 0 <= flat <= 1:
        raise ValueError(f"flat={flat}: must be between 0 and 1")
    if not isfinite(steps):
        raise ValueError("the learning rates decay until the end of the run: set trainer.max_steps")
    return _scheduler(optimizer, schedule(start=1.0, end=0.0, first=flat * steps, last=steps))


def _scheduler(optimizer: Optimizer, factor: Callable[[int], float]) -> LambdaLR:
    # A function's state is not saved in checkpoints, so a run that is resumed with more steps gets the new schedule.
    return LambdaLR(optimizer, lambda step: factor(step))  # noqa: PLW0108
