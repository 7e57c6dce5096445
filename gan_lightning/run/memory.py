"""Estimates of the memory that a config needs, made before anything large is allocated."""

import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.errors import InputError, as_typed
from gan_lightning.metrics.base import THUMBNAIL
from gan_lightning.run.fill_in import locate

DATASETS = {  # bytes by size
    "gan_lightning.data.gaussian.Gaussian": lambda size: 16 * size,
    "gan_lightning.data.points.Points": lambda size: 50 * size,
    "gan_lightning.data.stacked.StackedMNIST": lambda size: 50 * size,
}
SAMPLED = 1000  # noise vectors sampled at a time
PROCESS = 3 * 10**8  # bytes of another process that has imported torch, at least


def machine_memory() -> int | None:
    """Return this machine's memory in bytes, or None if the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not on this system
        return None


def require(typed: str, needed: int) -> None:
    """Raise InputError that begins with ``typed`` if this machine has less than the needed bytes of memory."""
    total = machine_memory()
    if total is not None and needed > total:
        raise InputError(
            f"{typed}: needs about {format_bytes(needed)} of memory, and this machine has {format_bytes(total)}"
        )


def format_bytes(size: int) -> str:
    """Return a number of bytes, at least 1, with a unit."""
    units = ("bytes", "KB", "MB", "GB", "TB", "PB", "EB")
    power = min((len(str(size)) - 1) // 3, len(units) - 1)
    return f"{min(size, 10**30) / 1000**power:.3g} {units[power]}"


def check_networks(config: DictConfig, build: Callable[[DictConfig, str], Any]) -> None:
    """Raise InputError if weights, gradients, optimizer states and the EMA need too much memory.

    Args:
        config: A training config.
        build: Builds the part at a key. It is called on torch's "meta" device, which allocates nothing; a network that
            cannot be built there, or that a function returns, which might keep it, is left out.
    """
    require(f"model.image_shape={as_typed(config.model.get('image_shape'))}", 4 * pixels(config))
    for name in ("generator", "discriminator"):
        key, node = f"model.{name}", config.model[name]
        if not inspect.isclass(locate(key, node)):
            continue
        size = 0
        with suppress(Exception), torch.random.fork_rng(devices=[]), torch.device("meta"):
            size = training_bytes(config, name, build(config, key))
        require(key, size)
    size = 0
    with suppress(Exception):
        size = build(config, "model.prior")(1, device="meta").nbytes
    require("model.prior", size * SAMPLED)
    if isinstance(number := config.algorithm.get("num_fixed_latents"), int):
        check_images("algorithm.num_fixed_latents", number, config)


def training_bytes(config: DictConfig, name: str, network: nn.Module) -> int:
    """Return the bytes of a network's weights, gradients and optimizer states, and of the EMA's weights."""
    optimizer = config.optimizer[name]
    copies = 2 + 2 * ("betas" in optimizer) + ("momentum" in optimizer) + bool(config.ema and name == "generator")
    return copies * sum(value.nbytes for value in network.state_dict().values())


def pixels(config: Mapping[Any, Any]) -> int:
    """Return the number of a training image's pixels in all channels; 1 if the config does not tell."""
    shape = config["model"].get("image_shape")
    return math.prod(size for size in shape if isinstance(size, int)) if isinstance(shape, Sequence) else 1


def check_images(key: str, number: int, config: Mapping[Any, Any], *, images: int = 1) -> None:
    """Raise InputError if images of the model's shape, ``images`` for each of a key's number, need too much memory."""
    require(f"{key}={number}", 4 * number * images * pixels(config))


def check_samples(key: str, number: int, config: Mapping[Any, Any]) -> None:
    """Raise InputError if what metrics keep of a key's number of generated images needs too much memory."""
    require(f"{key}={number}", 4 * number * min(pixels(config), 3 * THUMBNAIL**2))


def check_devices(trainer: Mapping[Any, Any]) -> None:
    """Raise InputError if the processes of a trainer on the CPU need too much memory."""
    on_cpu = trainer["accelerator"] == "cpu" or not torch.accelerator.is_available()
    if on_cpu and str(devices := trainer["devices"]).isdecimal():
        require(f"trainer.devices={devices}", PROCESS * int(devices))


def check_data(data: ImageDataModule, config: DictConfig) -> None:
    """Raise InputError if a step's images, the data set or its worker processes need too much memory."""
    counts = {
        "data.batch_size": data.batch_size,
        "k": config.k,
        "trainer.accumulate_grad_batches": config.trainer.accumulate_grad_batches,
    }
    key = max(counts, key=counts.__getitem__)
    check_images(key, counts[key], config, images=math.prod(counts.values()) // counts[key])
    if data.in_memory is False:
        require(f"data.num_workers={data.num_workers}", PROCESS * data.num_workers)
    estimate, arguments = DATASETS.get(config.data.dataset._target_), getattr(data.dataset, "keywords", {})
    if estimate and "size" in arguments:
        require(f"data.dataset.size={arguments['size']}", estimate(arguments["size"]))
