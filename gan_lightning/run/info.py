"""What ``--info`` prints: the versions, the machine, and what a run would be, without training."""

import os
import platform
from importlib.metadata import version
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

import gan_lightning
from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.errors import InputError
from gan_lightning.run import build, memory, resources
from gan_lightning.run.checkpoint import OFFICIAL, to_resume
from gan_lightning.run.config import silence_lightning
from gan_lightning.run.fill_in import fill_in

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "hydra-core", "omegaconf", "numpy")


def describe_run(config: DictConfig, overrides: list[str], folder: str) -> str:
    """Return a page on the run of a validated training config.

    Args:
        config: The config.
        overrides: As on the command line.
        folder: Of the run.

    Raises:
        InputError: If a part refuses a value.
    """
    silence_lightning()
    checkpoint = to_resume(config)
    config = fill_in(checkpoint.resume_config(config, overrides) if checkpoint else config, overrides)
    with torch.random.fork_rng(devices=[]):
        gan, data = build.gan(config), build.data(config)
    networks = {name: getattr(gan, name) for name in build.NETWORKS}
    needed = sum(memory.training_bytes(config, name, network) for name, network in networks.items())
    batch, k, trainer = config.data.get("batch_size"), config.k, config.trainer
    length = f"{trainer.max_steps:,} steps" if trainer.max_steps != -1 else f"{trainer.max_epochs} passes over the data"
    seen = ""
    if trainer.max_steps != -1 and isinstance(batch, int) and isinstance(trainer.devices, int):
        count = trainer.max_steps * k * batch * trainer.accumulate_grad_batches * trainer.devices * trainer.num_nodes
        seen = f": {count:,} images"
    rows = {
        "gan-lightning": gan_lightning.__version__,
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "python": f"{platform.python_version()} on {platform.platform()}",
        "device": device_of(trainer),
        "precision": trainer.precision,
        "data": size_of(data, config),
        **{name: counted(network) for name, network in networks.items()},
        "memory": f"{memory.format_bytes(needed)} of weights, gradients, optimizer states and averages",
        "training": f"{length} of k={k} x {batch} images{seen}",
        "monitor": f"{config.monitor} ({config.monitor_mode})",
        "folder": folder,
    }
    return "\n".join(f"{name:15}{text}" for name, text in rows.items())


def device_of(trainer: DictConfig) -> str:
    """Return what a trainer computes on, in words."""
    found = torch.accelerator.current_accelerator(check_available=True)
    if trainer.accelerator == "cpu" or found is None:
        threads = f"threads: {torch.get_num_threads()}, on {resources.cores()} of {os.cpu_count()} cores"
        return f"{trainer.devices} x CPU, {threads}"
    name = found.type
    if name == "cuda":
        card = torch.cuda.get_device_properties(0)
        name = f"{card.name} ({memory.format_bytes(card.total_memory)}), CUDA {torch.version.cuda}"
    return f"{trainer.devices} x {name}"


def size_of(data: Any, config: DictConfig) -> str:
    """Return what and where the data set is, and how large, if it is there."""
    name = str(config.data.dataset._target_).rpartition(".")[2]
    if not isinstance(data, ImageDataModule):
        return name
    where, data.download = f"{name} in {data.root}", False
    try:
        data.prepare_data()
        data.setup()
    except InputError:
        if not str(config.data.dataset._target_).startswith(OFFICIAL):  # nothing could download it
            raise
        return f"{where}: not there, or not unpacked, until the run begins"
    sizes = f"{len(data.train):,} to train, {len(data.val):,} to validate, {len(data.test):,} to test"
    return f"{where}: {sizes}; {' x '.join(map(str, config.image_shape or ()))}"


def counted(network: nn.Module) -> str:
    """Return the class of a network and the number of its parameters."""
    kind = type(network)
    number = sum(parameter.numel() for parameter in network.parameters())
    return f"{kind.__module__}.{kind.__name__}, {number:,} parameters"
