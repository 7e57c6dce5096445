"""Checkpoints: a GAN rebuilt from the file alone, and a run gone on with."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import hydra
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from omegaconf import DictConfig

from gan_lightning.config import as_typed, leaves, plain
from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN

FIXED = ("seed", "k", "model", "loss", "penalty", "average", "optimizer", "data", "algorithm")  # fixed on resuming
FIXED_OF_TRAINER = ("trainer.devices", "trainer.num_nodes", "trainer.accumulate_grad_batches")  # they set a step's size
LENGTHS = ("trainer.max_steps", "trainer.max_epochs")
FREE = (  # but for these
    "data.root",
    "data.device",
    "data.in_memory",
    "data.num_workers",
)


def read(path: Path | str) -> dict[str, Any]:
    """Read a checkpoint onto the CPU as plain data, without unpickling code.

    Raises:
        InputError: If there is no such file, or it is no checkpoint of this project.
    """
    if not Path(path).is_file():
        raise InputError(f"checkpoint={path}: no such file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint["hyper_parameters"]["config"]["gan"], checkpoint["hyper_parameters"]["overrides"]
        checkpoint["state_dict"], checkpoint["global_step"]
    except Exception as error:  # a foreign file can break the reader in any way
        raise InputError(f"checkpoint={path}: not a checkpoint written by gan_lightning.train") from error
    return checkpoint


def load(path: Path | str) -> GAN:
    """Rebuild a GAN, networks and weights, from a checkpoint alone; on the CPU, in evaluation mode.

    The file names the classes to build: load those you trust.
    """
    checkpoint = read(path)
    gan: GAN = hydra.utils.instantiate(checkpoint["hyper_parameters"]["config"]["gan"], _convert_="all")
    with weights_of(path):
        gan.load_state_dict(checkpoint["state_dict"])
    return gan.eval()


@contextmanager
def weights_of(path: Path | str) -> Iterator[None]:
    """Tell in one line if a checkpoint's weights, loaded within, do not fit.

    Raises:
        InputError: If they do not.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("Error(s) in loading state_dict"):
            raise
        (_, what, *_) = [line.strip() for line in str(error).splitlines()]
        raise InputError(f"checkpoint={path}: its networks are not what their classes are now: {what[:200]}") from error


def load_data(path: Path | str, *, root: str | None = None) -> ImageDataModule:
    """Rebuild the data module of a checkpoint's run, with another root folder if one is given."""
    config = read(path)["hyper_parameters"]["config"]["data"]
    return hydra.utils.instantiate(config | ({"root": root} if root else {}), _convert_="all")


def pick_device(name: str) -> torch.device:
    """Find a device by name; "auto" is an accelerator if there is one.

    Raises:
        InputError: If there is no such device here.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    there = ["cpu", *([accelerator.type] if accelerator else [])]
    if name == "auto":
        return torch.device(there[-1])
    kind, _, number = name.partition(":")
    if kind not in there or (number and not (number.isdigit() and int(number) < torch.accelerator.device_count())):
        raise InputError(f"device={name}: this machine has none; allowed: auto, {', '.join(there)}")
    return torch.device(name)


def resume(arguments: list[str]) -> list[str]:
    """Put the overrides of the run that ``checkpoint=PATH`` names before the present command-line arguments.

    Of two overrides of one key the present one is kept, and a present length of training replaces the former.
    """
    path = next(a.partition("=")[2] for a in arguments if a.startswith("checkpoint="))
    typed = {a.partition("=")[0] for a in arguments}
    if typed & {*LENGTHS}:
        typed |= {*LENGTHS}
    saved = read(path.strip("'\""))["hyper_parameters"]["overrides"]
    first = next(i for i, a in enumerate(arguments) if "=" in a and a[0] != "-")  # flags stay in front
    kept = [override for override in saved if override.partition("=")[0] not in typed]
    return arguments[:first] + kept + arguments[first:]


def verify(config: DictConfig) -> int:
    """Make sure that a config goes on with the run of ``config.checkpoint``; give the step it was written at.

    Raises:
        InputError: If a value differs that a resumed run cannot change.
    """
    checkpoint = read(config.checkpoint)
    was, now = (dict(leaves(c)) for c in (checkpoint["hyper_parameters"]["config"], plain(config)))
    if "optimizer.scheduler.flat" in was:
        for key in LENGTHS:
            if now[key] != was[key]:
                raise InputError(f"{key}={now[key]}: allowed: {was[key]}; the learning rates fall over the whole run")
    for key in now | was:
        fixed = (key.partition(".")[0] in FIXED and key not in FREE) or key.startswith(FIXED_OF_TRAINER)
        if fixed and now.get(key) != was.get(key):
            raise InputError(
                f"{key}={as_typed(now.get(key))}: the checkpoint has {as_typed(was.get(key))}; what can change: "
                "callbacks, logger, metrics, where the data is, and trainer but for devices, num_nodes and "
                "accumulate_grad_batches"
            )
    if now["trainer.max_epochs"] and not was["trainer.max_epochs"]:  # whose batches may have held several steps
        epochs = now["trainer.max_epochs"]
        raise InputError(f"trainer.max_epochs={epochs}: allowed: null, as at the start; max_steps sets a length")
    if -1 < now["trainer.max_steps"] < checkpoint["global_step"]:
        least = f"at least {checkpoint['global_step']}, the checkpoint's step, or -1"
        raise InputError(f"trainer.max_steps={now['trainer.max_steps']}: allowed: {least}")
    return checkpoint["global_step"]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoint files that are there whole or not at all, and that are read without unpickling code.

    Args:
        steps_per_batch: Of the run that reads.
    """

    def __init__(self, steps_per_batch: int = 1) -> None:
        self.steps_per_batch = steps_per_batch

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write beside ``path`` and move into place.

        Raises:
            InputError: If it could not be read again.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.unfinished")
        try:
            with unfinished.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:  # torch's own, if it cannot write
            unfinished.unlink(missing_ok=True)
            raise InputError(f"{path}: could not be written; is the disk full? ({error})") from error
        try:
            torch.load(unfinished, weights_only=True, mmap=True)
        except UnpicklingError as error:
            unfinished.unlink()
            found = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))
            raise InputError(
                f"checkpoint: a callback's state has {found[1] if found else 'an object'}; allowed: tensors, numbers, "
                "text, and lists and dicts of them"
            ) from error
        unfinished.replace(path)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read onto the CPU; Lightning's counts of batches become those that this run would have."""
        checkpoint = read(path)
        if "loops" in checkpoint:
            counts = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
            was, now = counts["total"]["ready"], checkpoint["global_step"] // self.steps_per_batch
            for part in (counts["total"], counts["current"]):
                more = part["ready"] * now // max(was, 1) - part["ready"]
                part.update({name: number + more for name, number in part.items()})
        return checkpoint
