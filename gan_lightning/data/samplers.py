"""The order of the training images."""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from torch.utils.data import Sampler

from gan_lightning.seeding import fold

MIXED_BLOCKS = 8  # whose images are mixed with each other


def shuffled_order(size: int, *, seed: int, blocks: Sequence[int] = ()) -> Tensor:
    """Return a random order (size,) of the indices 0 to size - 1.

    With blocks, as of images in one file each, few blocks are in use at a time: the blocks are shuffled, and then every
    image moves back by a random number of places, at most as many as ``MIXED_BLOCKS`` blocks have on average.

    Args:
        size: Number of indices.
        seed: Determines the order.
        blocks: Numbers of consecutive indices that belong together, of at least ``size`` in all; none: each by itself.
    """
    generator = torch.Generator().manual_seed(seed)
    if not blocks:
        return torch.randperm(size, generator=generator)
    ranges = [range(start, min(end, size)) for start, end in pairwise((0, *accumulate(blocks))) if start < size]
    chosen = torch.randperm(len(ranges), generator=generator).tolist()
    order = torch.cat([torch.arange(ranges[i].start, ranges[i].stop) for i in chosen])
    places = torch.rand(size, generator=generator, dtype=torch.float64) * (MIXED_BLOCKS * size / len(ranges))
    return order[(torch.arange(size) + places).argsort(stable=True)]


class ShuffledBatches(Sampler[Tensor]):
    """Batches of indices, one per step, that depend only on the seed, the rank and the step.

    The data is reshuffled for every pass over it, and each rank takes its own part of each of a step's minibatches, so
    that any number of ranks with the same global batch trains on the same images. Images at the end of a pass that do
    not fill a step are left out of that pass. If there are fewer images than a step needs, every step is a pass, and
    repeats them. As the order is a function of the step, a run resumes without saved sampler state; NVlabs' EDM2 uses
    the same idea (InfiniteSampler, with its start index).

    Args:
        size: Number of images.
        batch_size: Indices per minibatch and rank.
        minibatches: Minibatches per step.
        seed: Determines the order.
        step: Returns the number of steps already taken; called at the start of each iteration.
        rank: Index of this process.
        world_size: Number of processes.
        blocks: See :func:`shuffled_order`.
    """

    def __init__(
        self,
        *,
        size: int,
        batch_size: int,
        minibatches: int = 1,
        seed: int,
        step: Callable[[], int] = lambda: 0,
        rank: int = 0,
        world_size: int = 1,
        blocks: Sequence[int] = (),
    ) -> None:
        self.size, self.minibatches, self.seed, self.blocks = size, minibatches, seed, blocks
        self.step, self.rank, self.world_size = step, rank, world_size
        self.per_step = batch_size * minibatches * world_size  # indices of all ranks

    def __len__(self) -> int:
        """Return the number of steps in a pass over the data."""
        return max(self.size // self.per_step, 1)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield indices (minibatches * batch_size,) for as many steps as a pass has, starting at the current step."""
        start, shuffled = self.step(), -1
        for step in range(start, start + len(self)):
            pass_, batch = divmod(step, len(self))
            if pass_ != shuffled:
                order = shuffled_order(self.size, seed=fold(self.seed, pass_), blocks=self.blocks)
                shuffled = pass_
                order = order.repeat(-(-self.per_step // self.size))  # if a step needs more
            of_step = order[batch * self.per_step : (batch + 1) * self.per_step]
            yield own_part(of_step, self.minibatches, self.rank, self.world_size)


def own_part(values: Tensor, minibatches: int, rank: int, world_size: int) -> Tensor:
    """Return a rank's values (n / world_size,), in the same order, of a step's (n,) that has several minibatches."""
    return values.view(minibatches, world_size, -1)[:, rank].flatten()
