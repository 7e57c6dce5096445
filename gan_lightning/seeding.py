"""Randomness that depends on where a run stands, and on nothing that came before."""

import numpy as np
import torch


def fold(*numbers: int) -> int:
    """Mix whole numbers >= 0, such as (seed, rank, step), into one seed of 63 bits."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def reseed(device: torch.device, *numbers: int) -> None:
    """Seed torch's own generators, the CPU's and the device's, by whole numbers >= 0.

    ``torch.manual_seed`` would do, but takes a millisecond where CUDA is there and not in use.
    """
    seed = fold(*numbers)
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
