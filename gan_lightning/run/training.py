"""One training run, from a config to its report."""

import json
import logging
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_only

from gan_lightning import perf
from gan_lightning.callbacks.save_checkpoints import SaveCheckpoints
from gan_lightning.checkpoints.file import CheckpointIO
from gan_lightning.errors import InputError, as_typed, file_error, one_line, out_of_memory
from gan_lightning.run import build, sweep
from gan_lightning.run.checkpoint import FORMAT_VERSION, Checkpoint, to_resume
from gan_lightning.run.config import (
    argument,
    command_line,
    shorten,
    silence_lightning,
    start_folder,
    to_dict,
    trust_arguments,
)
from gan_lightning.run.fill_in import fill_in
from gan_lightning.run.job import PRUNED, TRIAL

log = logging.getLogger(__name__)


@contextmanager
def restored_flags() -> Iterator[None]:
    """Restore what ``trainer.deterministic`` and ``trainer.benchmark`` set in torch, for what the process does next."""
    deterministic, benchmark = torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(deterministic)
        torch.backends.cudnn.benchmark = benchmark


@restored_flags()
def train(config: DictConfig, run: Path, overrides: list[str]) -> None:
    """Train a GAN in the folder ``run``, from a validated config and the overrides given on the command line.

    Raises:
        InputError: If a value turns out to be wrong, or the folder belongs to another run.
    """
    silence_lightning()
    if config.trust and not config.checkpoint:
        raise InputError(f"trust={as_typed(config.trust)}: only a checkpoint needs it; add checkpoint=PATH")
    checkpoint = to_resume(config)
    config = fill_in(checkpoint.resume_config(config, overrides) if checkpoint else config, overrides)
    refuse_other_runs(config, run, checkpoint)
    torch.set_float32_matmul_precision(config.matmul_precision)
    pl.seed_everything(config.seed, workers=True, verbose=False)

    gan, data, metrics = build.gan(config), build.data(config), build.metrics(config)
    if checkpoint:
        data.download = checkpoint.may_download_to(config.data.root)
    logger = build.logger(config, run, checkpoint.step if checkpoint else 0)
    plugins = [CheckpointIO(checkpoint.content if checkpoint else None)]
    saved = run / ".hydra" / "overrides.yaml"  # of a run that is resumed
    typed = [*OmegaConf.load(saved), *overrides] if checkpoint and saved.exists() else overrides
    callbacks = [*build.callbacks(config, metrics, typed), SaveConfig(config, run, overrides)]
    if trial := os.environ.get(TRIAL):
        callbacks.append(build.prune(config, json.loads(trial)))
    trainer = build.trainer(config, run, callbacks, logger=logger, plugins=plugins)
    gan.save_hyperparameters({"format_version": FORMAT_VERSION, "config": to_dict(config)}, logger=False)
    perf.apply(gan, trainer, cpu_tuning=config.cpu_tuning, compile=config.compile, cuda_graphs=config.cuda_graphs)
    if trainer.is_global_zero and checkpoint:
        old, new = checkpoint.config["trainer"]["max_steps"], config.trainer.max_steps
        if "flat" in (config.optimizer.scheduler or {}) and new not in (old, -1):
            log.info("The learning rates now fall until step %d instead of step %d", new, old)
        if checkpoint.step == new:
            log.info("Nothing is left to train at step %d of %d: only the final evaluation follows", new, new)
    with run_lock(run, trainer), reported_errors(config, trainer, checkpoint):
        trainer.fit(gan, data, ckpt_path=str(checkpoint.path) if checkpoint else None)
    if trainer.is_global_zero:
        log_outputs(config, run, trainer)
        sweep.finish_job(run)


class SaveConfig(pl.Callback):
    """Write a run's ``.hydra/``, by which its folder is known, once its data has been read."""

    def __init__(self, config: DictConfig, run: Path, overrides: list[str]) -> None:
        self.config, self.overrides, self.folder = config, overrides, run / ".hydra"

    @rank_zero_only
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write the config, and the overrides unless the run is resumed; log where the pictures will be."""
        self.folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, self.folder / "config.yaml")
        if not (self.folder / "overrides.yaml").exists():
            OmegaConf.save(self.overrides, self.folder / "overrides.yaml")
        log.info("%-13s %s", "run folder", shorten(self.folder.parent))


def write_traceback(error: Exception) -> str:
    """Write an error's traceback to the run's log file, and not to the terminal; return where it is, for a message."""
    files = [h for h in logging.getLogger().handlers if isinstance(h, logging.FileHandler)]
    if not files or (isinstance(error, InputError) and not error.__cause__):
        return ""
    record = logging.makeLogRecord({"levelname": "ERROR", "msg": "".join(traceback.format_exception(error))})
    for file in files:
        file.handle(record)
    return f"; traceback: {shorten(Path(files[0].baseFilename))}"


def log_outputs(config: DictConfig, run: Path, trainer: pl.Trainer) -> None:
    """Log the paths of a run's outputs, and commands to sample, evaluate and resume."""
    outputs = Path("outputs") if run.is_relative_to(start_folder() / "outputs") else run
    checkpoint, samples = run / "checkpoints" / "last.ckpt", run / "samples.png"
    read = to_dict(config) | {"logger": None}  # which only a resumed run builds
    arguments, number = checkpoint_arguments(read, run), f"num_images={config.num_images}"
    longer = f"trainer.max_steps={2 * trainer.global_step}"
    of_points = [*(config.model.get("image_shape") or ())][1:] == [1, 1]
    lines: list[tuple[bool, str, object]] = [
        (True, "run folder", shorten(run)),
        (samples.exists(), "samples", shorten(samples)),
        ((run / "training.webp").exists(), "animation", shorten(run / "training.webp")),
        ((run / "tensorboard").exists(), "TensorBoard", f"tensorboard --logdir {shlex.quote(str(outputs))}"),
        (checkpoint.exists(), "more samples", command_line("sample", *arguments, "num_images=64", "out=samples.png")),
        (checkpoint.exists() and not of_points, "a page", command_line("export", *arguments, "out=page.html")),
        (checkpoint.exists(), "evaluate", command_line("evaluate", *arguments, number, f"seed={config.seed}")),
        (checkpoint.exists(), "train longer", resume_command(config, run, longer)),
    ]
    for exists, what, line in lines:
        if exists:
            log.info("%-13s %s", what, line)


def resume_command(config: DictConfig, run: Path, *arguments: str) -> str:
    """Return the command that resumes a run."""
    return command_line("train", *checkpoint_arguments(to_dict(config), run), *arguments, configs=True)


def checkpoint_arguments(config: dict[str, Any], run: Path) -> list[str]:
    """Return the arguments with which a command reads a run's last checkpoint, of whose config it uses this."""
    return [argument("checkpoint", shorten(run / "checkpoints" / "last.ckpt")), *trust_arguments(config)]


@contextmanager
def run_lock(run: Path, trainer: pl.Trainer) -> Iterator[None]:
    """Hold the lock of a run's folder, on the first rank; InputError if another process holds it."""
    if not trainer.is_global_zero:
        yield
        return
    (run / ".hydra").mkdir(parents=True, exist_ok=True)
    held = FileLock(run / ".hydra" / "lock")
    try:
        held.acquire(blocking=False)
    except Timeout as error:
        raise InputError(f"hydra.run.dir={run}: another process is training in this folder") from error
    except NotImplementedError:  # a file system without locks
        pass
    try:
        yield
    finally:
        held.release()
        if not (run / ".hydra" / "config.yaml").exists():  # the run has not begun
            with suppress(OSError):
                Path(held.lock_file).unlink()
                (run / ".hydra").rmdir()


def refuse_other_runs(config: DictConfig, run: Path, checkpoint: Checkpoint | None) -> None:
    """Raise InputError if the folder holds another run, or the run would be resumed elsewhere only to end at once."""
    if checkpoint and run.resolve() == checkpoint.path.absolute().parent.parent.resolve():
        for path in run.rglob("*"):
            if path.is_symlink() and not path.resolve().is_relative_to(run.resolve()):
                raise InputError(f"{path}: a link out of the run's folder, to which the run would write; remove it")
        return
    if (run / "checkpoints").exists() or (run / "metrics.json").exists():
        raise InputError(
            f"hydra.run.dir={run}: holds a run; use a new folder, or resume the run, if it has stopped, with "
            f"{argument('checkpoint', run)}"
        )
    if checkpoint and checkpoint.step == (steps := config.trainer.max_steps):
        raise InputError(f"trainer.max_steps={steps}: the checkpoint's run has reached it; must be more than {steps}")


def modules_of(error: Exception) -> list[str]:
    """Return the modules of an error's traceback."""
    return [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]


def worker_died(error: Exception) -> bool:
    """Return whether an error means that a process of the data loader has ended.

    torch raises it in a signal handler, so anywhere; or what the process had shared is gone, in many ways.
    """
    modules = modules_of(error)
    # torch._utils raises again what a worker has raised
    in_loader = "torch.utils.data.dataloader" in modules and "torch._utils" not in modules
    is_lost = in_loader and any(m.startswith(("multiprocessing.", "torch.multiprocessing.")) for m in modules)
    return is_lost or str(error).startswith("DataLoader worker")


@contextmanager
def reported_errors(config: DictConfig, trainer: pl.Trainer, checkpoint: Checkpoint | None) -> Iterator[None]:
    """Write the traceback of an error to the run's log; exit with 128 + its number after a signal.

    Raises:
        InputError: For weights that do not fit, too little memory, and what a part from outside of this package raises.
    """
    try:
        yield
    except Exception as error:
        if checkpoint and str(error).startswith("Error(s) in loading state_dict"):
            raise checkpoint.weights_error(error) from error
        where = write_traceback(error)
        if isinstance(error, InputError):
            raise
        if checkpoint and "pytorch_lightning.trainer.connectors.checkpoint_connector" in modules_of(error):
            message = f"checkpoint={checkpoint.path}: its training state cannot be restored: {one_line(error)}"
            raise InputError(message) from error
        if line := file_error(error, trainer.default_root_dir):
            raise InputError(line) from error
        if out_of_memory(error):
            size, reason = config.data.get("batch_size"), f"a smaller batch or network needs less ({one_line(error)})"
            raise InputError(f"data.batch_size={size}: out of memory; {reason}") from error
        if worker_died(error):
            reason = f"a process that reads images died, possibly out of memory ({one_line(error)})"
            how = resume_command(config, Path(trainer.default_root_dir), "data.num_workers=0")
            message = f"data.num_workers={config.data.get('num_workers')}: {reason}. To resume without: {how}"
            raise InputError(message) from error
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise InputError(f"compile=true: {one_line(error)}{where}") from error
        if line := build.user_part_error(config, error):
            raise InputError(line + where) from error
        raise
    except SystemExit as stop:  # Lightning's own, after a signal
        if not trainer.is_global_zero:
            sys.exit(0)  # Lightning kills the first rank when another one fails before it
        if stop.code == PRUNED:
            raise
        run, callbacks = Path(trainer.default_root_dir), trainer.callbacks  # type: ignore[attr-defined]
        received = next((c.stopped_by or c.received for c in callbacks if isinstance(c, SaveCheckpoints)), None)
        by_keyboard = isinstance(stop.__context__, KeyboardInterrupt)
        signum = signal.Signals(received or (signal.SIGINT if by_keyboard else signal.SIGTERM))
        saved = (run / "checkpoints" / "last.ckpt").exists()
        how = f". To resume:\n  {resume_command(config, run)}" if saved else ", without a checkpoint"
        log.info("Stopped by %s at step %d%s", signum.name, trainer.global_step, how)
        sys.exit(128 + signum)
