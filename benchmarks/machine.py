"""What is measured on: the GPU if there is one, or else the CPU."""

import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

Run = Callable[[int], None]  # takes so many training steps
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def processor() -> str:
    """Name the device, and the processor beside it."""
    told = Path("/proc/cpuinfo")  # Linux alone has it
    lines = told.read_text().splitlines() if told.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    gpu = [torch.cuda.get_device_name()] if DEVICE.type == "cuda" else []
    return " and ".join(gpu + (names[:1] or [platform.processor()]))


def seconds(work: Callable[[], object]) -> float:
    """Time some work, until the device has done it."""
    synchronise()
    since = time.perf_counter()
    work()
    synchronise()
    return time.perf_counter() - since


def synchronise() -> None:
    """Wait for the GPU, if there is one."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
