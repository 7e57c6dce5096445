"""The device that is measured, the GPU if there is one and else the CPU; and a clock."""

import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

Run = Callable[[int], None]  # runs a number of training steps
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def processor() -> str:
    """Return the names of the GPU, if there is one, and of the processor."""
    table = Path("/proc/cpuinfo")  # only on Linux
    lines = table.read_text(encoding="utf-8").splitlines() if table.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    gpu = [torch.cuda.get_device_name()] if DEVICE.type == "cuda" else []
    return " and ".join(gpu + (names[:1] or [platform.processor()]))


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds that some work takes, until the device has finished."""
    synchronize()
    since = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - since


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
