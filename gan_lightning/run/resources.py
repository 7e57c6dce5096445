"""The share of a machine that each of several jobs gets: GPUs of its own, or some of the CPU's cores."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock

from gan_lightning.errors import InputError, as_typed
from gan_lightning.run.files import acquire

MOST_JOBS = 8  # simultaneous ones on the CPU: each needs a gigabyte of memory


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """Return the NVIDIA GPUs of this machine: what CUDA_VISIBLE_DEVICES names, or the UUIDs of all."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in map(str.strip, visible.split(",")) if name and name != "-1"]
    if not (program := shutil.which("nvidia-smi")):
        return []
    listed = subprocess.run(
        [program, "--query-gpu=uuid", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    return listed.stdout.split() if listed.returncode == 0 else []


def count_devices(devices: Any) -> int | None:
    """Return how many devices of a node ``trainer.devices`` means; None if that depends on the machine, or is wrong."""
    if isinstance(devices, str) and "," in devices:
        devices = [device for device in devices.split(",") if device.strip()]
    if isinstance(devices, Sequence) and not isinstance(devices, str):
        return len(devices)
    return int(devices) if str(devices).isdecimal() and int(devices) > 0 else None


def number_of_processes(trainer: Mapping[Any, Any]) -> int:
    """Return how many processes, one per device, Lightning's trainer uses; InputError if they cannot be counted."""
    import torch

    devices, number = trainer["devices"], count_devices(trainer["devices"])
    if str(devices) in ("auto", "-1"):
        on_cpu = trainer["accelerator"] == "cpu" or not torch.accelerator.is_available()
        number = 1 if on_cpu else torch.accelerator.device_count()
    if number is None:
        raise InputError(f"trainer.devices={as_typed(devices)}: must be a number of at least 1, a list, or auto")
    return number * trainer["num_nodes"]


def gpus_of_a_job(trainer: Mapping[str, Any]) -> int:
    """Return how many NVIDIA GPUs a job uses: 0 on the CPU, or if it names them itself.

    Args:
        trainer: Arguments of Lightning's Trainer.
    """
    if trainer.get("accelerator") not in ("auto", "gpu", "cuda") or not (number := len(gpus())):
        return 0
    devices = str(trainer.get("devices", 1))
    if devices in ("auto", "-1"):
        return number
    return min(int(devices), number) if devices.isdecimal() else 0


def devices_of_a_job(trainer: Mapping[str, Any]) -> int:
    """Return how many devices of a node, on any machine, a job uses; ValueError if that depends on the machine."""
    devices = trainer.get("devices", 1)
    if (number := count_devices(devices)) is None:
        raise ValueError(f"trainer.devices={devices}: must be a number, as SLURM reserves so many GPUs")
    return number


def jobs_at_once(trainer: Mapping[str, Any]) -> int:
    """Return how many jobs this machine runs simultaneously.

    One for each GPU, or for each CPU core but at most eight; one on a Mac, whose GPU they would share.
    """
    if number := gpus_of_a_job(trainer):
        return len(gpus()) // number
    if sys.platform == "darwin" and trainer.get("accelerator") in ("auto", "gpu", "mps"):
        return 1
    return min(cores(), MOST_JOBS)


@contextmanager
def share(trainer: Mapping[str, Any], *, jobs: int, folder: Path | None = None) -> Iterator[dict[str, str]]:
    """Wait for a share of this machine, hold it within the context, and yield its environment variables.

    A GPU is held by a file that all processes of this user share, so that jobs of unequal length, and those of other
    sweeps, do not meet on it. Variables that the user or the launcher has set stay as they are.

    Args:
        trainer: Arguments of Lightning's Trainer.
        jobs: How many jobs run simultaneously on the CPU.
        folder: Of the sweep, for those whose launcher starts all jobs together; None: no waiting for the CPU.
    """
    number = gpus_of_a_job(trainer)
    names = gpus() if number else [str(i) for i in range(jobs)]
    user = os.getuid() if hasattr(os, "getuid") else 0
    place = Path(tempfile.gettempdir(), f"gan_lightning-{user}-gpus") if number else folder
    with held(names, number or 1, place) if place else nullcontext(names[:1]) as own:
        threads = max(cores() * len(own) // len(names), 1)
        variables = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(threads)}
        yield variables | ({"CUDA_VISIBLE_DEVICES": ",".join(own)} if number else {})


@contextmanager
def held(names: Sequence[str], number: int, folder: Path) -> Iterator[list[str]]:
    """Wait until that many of the names are free, and hold them within the context.

    One process waits at a time, and keeps what it has found: so those that need several do not wait for ever.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        own: list[str] = []
        queue = FileLock(folder / "queue.lock")
        acquire(queue, timeout=-1)
        try:
            while len(own) < number:
                for name in names:
                    lock = FileLock(folder / f"{name.replace('/', '_')}.lock")
                    if name not in own and len(own) < number and acquire(lock):
                        stack.callback(lock.release)
                        own.append(name)
                time.sleep(0.1 if len(own) < number else 0)
        finally:
            queue.release()
        yield own
