"""Numbers that change with the step."""

from dataclasses import dataclass
from math import cos, pi

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


@dataclass(kw_only=True)
class Linear:
    """From ``start`` to ``end`` in a straight line between the steps ``first`` and ``last``, constant outside."""

    start: float
    end: float
    first: float
    last: float

    def __call__(self, step: int) -> float:
        """Give the number at a step."""
        done = min(max((step - self.first) / max(self.last - self.first, 1), 0), 1)
        return self.start + (self.end - self.start) * self.shape(done)

    def shape(self, done: float) -> float:
        """Map the share of the way gone, 0 to 1, to the share of the change."""
        return done


class Cosine(Linear):
    """The same along half a cosine."""

    def shape(self, done: float) -> float:
        """Map the share of the way gone, 0 to 1, to the share of the change."""
        return (1 - cos(pi * done)) / 2


@dataclass(kw_only=True)
class Exponential:
    """``start * base ** -step``, never below ``end``."""

    start: float
    base: float
    end: float

    def __call__(self, step: int) -> float:
        """Give the number at a step."""
        return max(self.start * self.base**-step, self.end)


# Learning-rate schedulers, made from an optimizer and the run's number of steps


def linear(optimizer: Optimizer, steps: float, *, flat: float) -> LambdaLR:
    """Keep the learning rates for the share ``flat`` of the steps, then let them fall to 0 in a line."""
    return LambdaLR(optimizer, Linear(start=1.0, end=0.0, first=flat * steps, last=steps))


def cosine(optimizer: Optimizer, steps: float, *, flat: float) -> LambdaLR:
    """Keep the learning rates for the share ``flat`` of the steps, then let them fall to 0 along half a cosine."""
    return LambdaLR(optimizer, Cosine(start=1.0, end=0.0, first=flat * steps, last=steps))


def exponential(optimizer: Optimizer, steps: float, *, base: float, end: float) -> LambdaLR:
    """Divide the learning rates by ``base`` each step, down to the share ``end`` of them, however long the run is."""
    return LambdaLR(optimizer, Exponential(start=1.0, base=base, end=end))
