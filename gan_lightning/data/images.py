"""Images in memory, and the order in which a run sees them."""

import math
from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchvision.transforms.functional import pil_to_tensor

from gan_lightning.seeding import fold


def normalise(pixels: Tensor) -> Tensor:
    """Map bytes 0..255 to floats in [-1, 1], any shape."""
    return pixels.float().div_(127.5).sub_(1)


def to_pixels(images: Tensor) -> Tensor:
    """Map floats in [-1, 1] to the nearest bytes 0..255, any shape; the inverse of :func:`normalise`."""
    return images.add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


class InMemoryImages(Dataset[tuple[Tensor, Tensor]]):
    """Labelled images kept as bytes, on any device, indexed by one number or by a tensor of many.

    Args:
        images: (N, C, H, W), uint8.
        labels: (N,), int64.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    @classmethod
    def of(cls, dataset: Any) -> "InMemoryImages":
        """Read a whole torchvision-style data set: PIL images of one size, with whole numbers for labels."""
        untouched = getattr(dataset, "transform", None) is None
        if untouched and isinstance(getattr(dataset, "data", None), Tensor) and dataset.data.ndim == 3:  # MNIST's kin
            return cls(dataset.data.unsqueeze(1), dataset.targets)
        return cls(*StreamedImages(dataset, len(dataset))[torch.arange(len(dataset))])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int | Tensor | slice) -> tuple[Tensor, Tensor]:
        if isinstance(index, Tensor):  # index_select copies whole rows, three times as fast as indexing
            index = index.to(self.images.device, non_blocking=True)
            return self.images.index_select(0, index), self.labels.index_select(0, index)
        return self.images[index], self.labels[index]

    def to(self, device: torch.device) -> "InMemoryImages":
        """Move to a device, unless that takes more than half of its free memory."""
        if device.type == "cuda" and self.images.nbytes > torch.cuda.mem_get_info(device)[0] / 2:
            return self
        return InMemoryImages(self.images.to(device), self.labels.to(device))

    def parts(self, size: int = 1000) -> Iterator[Tensor]:
        """Yield all images in order, (size, C, H, W) at a time."""
        yield from self.images.split(size)


class StreamedImages(Dataset[tuple[Tensor, Tensor]]):
    """Labelled images read from their source each time, indexed by a tensor of many; for more than memory holds.

    Args:
        dataset: Gives PIL images of one size, with whole numbers for labels.
        size: How many of its images, from the first on.
    """

    def __init__(self, dataset: Any, size: int) -> None:
        self.dataset, self.size = dataset, size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor]:
        images, labels = zip(*(self.dataset[i] for i in index.tolist()), strict=True)
        return torch.stack([pil_to_tensor(image) for image in images]), torch.tensor(labels)

    def parts(self, size: int = 1000) -> Iterator[Tensor]:
        """Yield all images in order, (size, C, H, W) at a time."""
        yield from (self[index][0] for index in torch.arange(self.size).split(size))


class ShuffledBatches(Sampler[Tensor]):
    """Indices in an order that is a function of the seed and the step, so that it survives a resume.

    The data is shuffled anew for each pass over it. Ranks get disjoint parts of every step's indices. What is left at
    the end of a pass and does not fill a step is not seen in that pass.

    Args:
        size: How many images there are.
        batch_size: Indices of a step, on each rank.
        seed: Fixes the order.
        steps: The indices of how many steps come at once; that does not change the order.
        step: Tells how many steps have been taken before, asked at the start of each iteration.
        rank: This process.
        world_size: The number of processes.
    """

    def __init__(
        self,
        *,
        size: int,
        batch_size: int,
        seed: int,
        steps: int = 1,
        step: Callable[[], int] = lambda: 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.size, self.batch_size, self.seed, self.steps = size, batch_size, seed, steps
        self.step, self.rank, self.world_size = step, rank, world_size
        self.steps_in_pass = size // (batch_size * world_size)

    def __len__(self) -> int:
        """How often indices come in a pass over the data; with several steps at once, in about a pass."""
        return math.ceil(self.steps_in_pass / self.steps)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield as many indices (steps * batch_size,) as a pass has, from the current step on."""
        one_by_one = self.from_step(self.step())
        for _ in range(len(self)):
            yield torch.cat(list(islice(one_by_one, self.steps)))

    def from_step(self, first: int) -> Iterator[Tensor]:
        """Yield each step's indices (batch_size,), for ever."""
        pass_now = -1
        for step in count(first):
            pass_, batch = divmod(step, self.steps_in_pass)
            if pass_ != pass_now:
                generator = torch.Generator().manual_seed(fold(self.seed, pass_))
                order, pass_now = torch.randperm(self.size, generator=generator), pass_
            start = (batch * self.world_size + self.rank) * self.batch_size
            yield order[start : start + self.batch_size]
