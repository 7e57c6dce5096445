"""What the processes (ranks) of a run do together, so that they train as one process on the global batch.

The global batch consists of the ranks' minibatches, in the order of the ranks. With one process, nothing here changes
or costs anything.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from gan_lightning.seeding import fold, reseed

_common: list[torch.Generator] = []  # the stream of random numbers that all ranks share, within a training step


def world_size() -> int:
    """Return the number of processes of this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@contextmanager
def random_step(device: torch.device, seed: int, step: int) -> Iterator[None]:
    """Make the random numbers of a training step a function of (seed, step).

    One process draws them from torch's default generators. Several draw the noise of the global batch from a generator
    that they share, see :func:`own_rows`; their default generators, which dropout uses, differ.
    """
    if world_size() == 1:
        reseed(device, seed, 0, step)
        yield
        return
    reseed(device, seed, dist.get_rank() + 1, step)
    _common.append(torch.Generator(device).manual_seed(fold(seed, 0, step)))
    try:
        yield
    finally:
        _common.clear()


def own_rows(draw: Callable[..., Tensor], n: int, **options: Any) -> Tensor:
    """Return this rank's n rows of what ``draw(N, **options)`` returns for the N rows of the global batch.

    Args:
        draw: ``draw(n, generator=..., **options)`` returns n rows of random numbers.
        n: Number of rows of each rank.
        options: Further arguments of ``draw``.
    """
    if not _common:
        return draw(n, **options)
    first = dist.get_rank() * n
    return draw(world_size() * n, generator=_common[0], **options)[first : first + n]


def rand_like(x: Tensor) -> Tensor:
    """Return numbers of U(0, 1) in the shape of x (N, ...): this rank's rows of those of the global batch."""

    def draw(n: int, **options: Any) -> Tensor:
        return torch.rand(n, *x.shape[1:], dtype=x.dtype, device=x.device, **options)

    return own_rows(draw, len(x))


def gather(*logits: Tensor) -> tuple[Tensor, ...]:
    """Return the logits of all ranks, (ranks * N, 1) for each (N, 1), with gradients, for a loss that all compute.

    A logit's gradient is that of the loss times the number of ranks. The average over ranks, which DDP takes, is then
    the gradient of the loss.
    """
    if world_size() == 1:
        return logits
    return AllGather.apply(torch.cat(logits, 1), False).flatten(0, 1).split(1, 1)


def stack(x: Tensor) -> Tensor:
    """Return the tensors of all ranks, (ranks, ...), with gradients of the sum of all ranks' losses."""
    return x[None] if world_size() == 1 else AllGather.apply(x, True)


class AllGather(torch.autograd.Function):
    """See :func:`gather` and :func:`stack`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, losses_differ: bool) -> Tensor:
        """Return the tensors of all ranks, (ranks, ...)."""
        ctx.losses_differ = losses_differ
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.stack(parts)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the sum of all ranks' gradients of this rank's tensor; without an exchange if all have the same."""
        if not ctx.losses_differ:
            return world_size() * gradient[dist.get_rank()], None
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient[dist.get_rank()], None
