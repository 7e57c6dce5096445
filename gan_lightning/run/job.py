"""A job of a sweep or a search: a command in a process and a folder of its own, which is resumed if it was stopped."""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from gan_lightning.checkpoints.trust import modules_to_trust
from gan_lightning.errors import InputError
from gan_lightning.run import processes
from gan_lightning.run.config import config_flags, quoted, shorten, start_folder, to_dict
from gan_lightning.run.files import acquire, read_json, write_json

JOB = "job.json"  # in a job's folder: its overrides, and how it stands
TRIAL = "GAN_LIGHTNING_TRIAL"  # environment variable of a job that is a search's trial: where its study is, as JSON
PRUNED = 4  # exit code of a trial that a search has ended early
ENDED = ("finished", "pruned")
PATIENCE = 60.0  # seconds that a job waits for another process in its folder
BUSY = "another process is training in this folder"


def run(
    command: str,
    overrides: Sequence[str],
    folder: Path,
    config: DictConfig,
    *,
    retry: bool = False,
    share: AbstractContextManager[Mapping[str, str]] | None = None,
    show: bool = True,
) -> dict[str, Any]:
    """Run a job, or resume one that was stopped, unless it has ended; record how it stands, and return that.

    Where SLURM runs this in several tasks, which train together, only the first one writes.

    Args:
        command: The command's name.
        overrides: Of its config.
        folder: Of the job.
        config: What the overrides compose to.
        retry: Whether to run a job again that has failed.
        share: Held while the process runs: yields environment variables for it.
        show: Whether to pass on the process's output.

    Returns:
        ``overrides``; ``status``: "finished", "failed", "interrupted" or "pruned"; ``reason``, a line, the signal's
        name for an interruption, or None.

    Raises:
        InputError: If the folder holds another job.
    """
    if is_first_task() and not wait_for_run(folder):
        return read_json(folder / JOB) or {"overrides": [*overrides], "status": "running", "reason": BUSY}
    former = read_json(folder / JOB)
    if former and former["overrides"] != overrides:
        raise InputError(f"{shorten(folder)}: holds a job with other overrides; use another folder")
    status = former.get("status")
    if status in ENDED or (status == "failed" and not retry):
        return former
    has_ended = command == "train" and status != "failed" and bool(read_json(folder / "metrics.json"))
    folder.mkdir(parents=True, exist_ok=True)
    if not is_first_task():
        if not has_ended:
            execute(command, overrides, folder, config, show=False)
        return former
    if has_ended:  # and what started it was killed before it wrote that
        return write_job(folder, overrides, "finished")
    with share or nullcontext({}) as environment:
        write_job(folder, overrides, "running")
        code, last_line = execute(command, overrides, folder, config, environment=environment, show=show)
    if code in (0, PRUNED):
        return write_job(folder, overrides, "pruned" if code else "finished")
    if code in processes.INTERRUPTED:
        return write_job(folder, overrides, "interrupted", signal.Signals(code - 128).name)
    if code == 128 + signal.SIGKILL:
        last_line = "ended by SIGKILL, possibly for lack of memory"
    return write_job(folder, overrides, "failed", last_line or f"exit code {code}")


def is_first_task() -> bool:
    """Return whether this process is the first task, or the only one, of a job that submitit has given to SLURM."""
    return os.environ.get("SUBMITIT_EXECUTOR") != "slurm" or os.environ.get("SLURM_PROCID", "0") == "0"


def execute(
    command: str, overrides: Sequence[str], folder: Path, config: DictConfig, **options: Any
) -> tuple[int, str]:
    """Run a command in a process of its own, resuming it from a checkpoint in its folder; see :func:`processes.run`."""
    arguments, checkpoint = [*overrides], folder / "checkpoints" / "last.ckpt"
    if command == "train" and checkpoint.exists():  # trust what this command would build itself
        arguments = [f"checkpoint={quoted(checkpoint)}", f"trust=[{','.join(modules_to_trust(to_dict(config)))}]"]
    elif "out" in config and (out := config.out or {"evaluate": "metrics.json"}.get(command)):
        arguments.append(f"out={quoted(folder / out)}")
    if HydraConfig.get().job.chdir:
        arguments.append("hydra.job.chdir=true")
    arguments = [*config_flags(), *arguments, f"hydra.run.dir={quoted(folder)}"]
    return processes.run([sys.executable, "-m", f"gan_lightning.{command}", *arguments], cwd=start_folder(), **options)


def wait_for_run(folder: Path) -> bool:
    """Wait for a process that trains in a folder, such as a job that is being stopped; return whether it has ended."""
    path = folder / ".hydra" / "lock"
    if not path.exists():
        return True
    lock = FileLock(path)
    has_ended = acquire(lock, PATIENCE)
    lock.release()
    return has_ended


def write_job(folder: Path, overrides: Sequence[str], status: str, reason: str | None = None) -> dict[str, Any]:
    """Write how a job stands into its folder, and return what was written."""
    content = {"overrides": [*overrides], "status": status, "reason": reason}
    write_json(folder / JOB, content)
    return content
