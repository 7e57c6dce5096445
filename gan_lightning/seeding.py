"""Random seeds that depend only on the position in a run, as NVlabs' EDM2 seeds by (seed, rank, images seen)."""

import numpy as np
import torch


def fold(*numbers: int) -> int:
    """Return one seed of 63 bits for whole numbers >= 0, such as (seed, rank, step)."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def reseed(device: torch.device, *numbers: int) -> None:
    """Seed torch's default generators of the CPU and of a device by whole numbers >= 0.

    ``torch.manual_seed`` does the same, but takes a millisecond where CUDA is available and not in use.
    """
    seed = fold(*numbers)
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
