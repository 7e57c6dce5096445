"""Train: ``python -m gan_lightning.train [group=choice] [key=value] [-m]``."""

import inspect
import logging
import shlex
import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from gan_lightning.config import (
    as_argument,
    choose_precision,
    leave_out_featureless,
    leaves,
    make_metrics,
    plain,
    rates_end_with_the_run,
    run_of,
    typed_search_path,
)
from gan_lightning.doors import door
from gan_lightning.errors import InputError, refuse_used
from gan_lightning.sweep import summarise

if TYPE_CHECKING:
    from pytorch_lightning import Trainer
    from pytorch_lightning.callbacks import Timer

    from gan_lightning.gan import GAN

log = logging.getLogger(__name__)

BY_THE_GAN = ("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm")


def resumed(arguments: list[str]) -> list[str]:
    """Add a checkpoint's overrides to the command line's, if it names one."""
    arguments = [a[1:] if a.startswith("+checkpoint=") else a for a in arguments]
    if not any(a.startswith("checkpoint=") and a != "checkpoint=null" for a in arguments):
        return arguments
    from gan_lightning.checkpoint import resume

    return resume(arguments)


@door("train", prepare=resumed)
def main(config: DictConfig) -> None:
    """Train, measure, and tell where everything is."""
    job, step, own = HydraConfig.get(), 0, None
    run = Path(job.runtime.output_dir)
    if config.checkpoint:
        from gan_lightning.checkpoint import verify

        step, own = verify(config), run_of(config.checkpoint).resolve()
    if run.resolve() != own:
        refuse_used(run, f"hydra.run.dir={run}")
        if step and step == config.trainer.max_steps:
            raise InputError(f"trainer.max_steps={step}: the checkpoint's run has ended there; allowed: more")
    train(config, run, list(job.overrides.task), step)


def train(config: DictConfig, run: Path, overrides: list[str], step: int) -> None:
    """Train by a config, in a run's folder.

    Args:
        config: As ``conf/train.yaml`` composes it.
        run: The folder.
        overrides: What was typed to get the config.
        step: Where the run goes on from; 0 for a new one.
    """
    import pytorch_lightning as pl
    import torch
    from pytorch_lightning.callbacks import Timer
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

    from gan_lightning.callbacks.checkpoints import Interrupted
    from gan_lightning.checkpoint import AtomicCheckpointIO, weights_of
    from gan_lightning.overhead import keep_freed_memory, look_for_gpus_once, skip_empty_hooks, steps_per_batch

    quiet()
    keep_freed_memory()
    look_for_gpus_once()
    skip_empty_hooks()
    leave_out_featureless(config)
    choose_precision(config)
    torch.set_float32_matmul_precision(config.matmul_precision)
    pl.seed_everything(config.seed, workers=True, verbose=False)

    gan = build(config)
    resolved, callbacks = plain(config), make_callbacks(config)
    gan.save_hyperparameters({"config": resolved, "overrides": overrides}, logger=False)
    steps = gan.steps_per_batch = steps_per_batch(resolved, gan, callbacks, step)
    data = instantiate(
        config.data,
        minibatches_per_step=gan.minibatches_per_step,
        steps_per_batch=steps,
        image_shape=config.model.get("image_shape"),
        _convert_="all",
    )
    one_device = config.trainer.devices == 1 and config.trainer.num_nodes == 1
    timer = Timer(duration=config.trainer.max_time, verbose=False)
    trainer: Trainer = instantiate(
        {key: value for key, value in config.trainer.items() if key not in (*BY_THE_GAN, "max_time")},  # the timer's
        **({"val_check_interval": config.trainer.val_check_interval // steps} if steps > 1 else {}),
        # Where ours are left out, Lightning would put its own.
        enable_checkpointing=any(isinstance(c, pl.callbacks.Checkpoint) for c in callbacks),
        enable_progress_bar=any(isinstance(c, pl.callbacks.ProgressBar) for c in callbacks),
        # While one network is updated, DDP must not wait for gradients of the other's parameters.
        strategy="auto" if one_device else "ddp_find_unused_parameters_true",
        default_root_dir=str(run),
        logger=make_logger(config, run, step),
        callbacks=[timer, *callbacks],
        plugins=[AtomicCheckpointIO(steps)],
        _convert_="all",
    )
    if trainer.is_global_zero:
        (run / ".hydra").mkdir(exist_ok=True)
        OmegaConf.save(config, run / ".hydra" / "config.yaml")
        OmegaConf.save(overrides, run / ".hydra" / "overrides.yaml")
    try:
        with weights_of(config.checkpoint):
            trainer.fit(gan, data, ckpt_path=config.checkpoint)
    except (MisconfigurationException, RuntimeError) as error:
        if not (isinstance(error, MisconfigurationException) or str(error).startswith("Early stopping conditioned on")):
            raise
        raise InputError(f"trainer: {' '.join(str(error).split())}") from error
    except Interrupted as stop:
        if trainer.is_global_zero:
            log.info("Stopped by %s at step %d. To go on:\n  %s", stop, trainer.global_step, go_on(run))
            sys.exit(128 + stop.signum)
        sys.exit(0)  # Lightning kills the first rank if another one fails before it
    except SystemExit as stop:  # Lightning's own answer, where nobody saves a checkpoint or the user did not wait
        signum = signal.SIGINT if isinstance(stop.__context__, KeyboardInterrupt) else signal.SIGTERM
        log.info("Stopped by %s at step %d, without a checkpoint", signum.name, trainer.global_step)
        sys.exit(128 + signum)
    if trainer.is_global_zero:
        tell_if_early(config, trainer, timer)
        report(config, run, trainer, gan, seconds=timer.time_elapsed("train"))


def quiet() -> None:
    """Leave out what Lightning tells of itself, and warnings about what is meant so."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("pytorch_lightning.profilers").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", ".*is deprecated, use `isinstance.treespec, TreeSpec.*")
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*ended before the epoch ended and your dataloader is not resumable.*")
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty.")
    warnings.filterwarnings("ignore", "The dirpath has changed from .*")
    warnings.filterwarnings("ignore", "The number of training batches .* is smaller than the logging interval.*")


def build(config: DictConfig) -> "GAN":
    """Build the GAN, compiled and with its steps recorded if the config says so.

    Raises:
        InputError: If it cannot be compiled, or an optimizer does not take its arguments.
    """
    gan: GAN = instantiate(config.gan, _convert_="all")
    for name in ("generator", "discriminator"):
        try:
            optimizer = getattr(gan, f"{name}_optimizer")(getattr(gan, name).parameters())
            closure = inspect.signature(optimizer.step).parameters.get("closure")
            if closure and closure.default is inspect.Parameter.empty:
                raise ValueError(f"{type(optimizer).__name__} computes losses anew within a step; allowed: others")
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"optimizer.{name}: {error}") from error
    if config.compile:
        from gan_lightning.overhead import compile_networks

        compile_networks(gan)
    if config.cuda_graphs:
        from gan_lightning.cuda_graphs import graph_steps

        graph_steps(gan)
    return gan


def make_logger(config: DictConfig, run: Path, step: int) -> Any:
    """Build the logger in the run's folder; on a resume, what TensorBoard had beyond that step is dropped."""
    if config.logger is None:
        return False
    purge = {"purge_step": step + 1} if step and config.logger._target_.endswith(".TensorBoardLogger") else {}
    return instantiate(config.logger, save_dir=str(run), **purge)


def make_callbacks(config: DictConfig) -> list[Any]:
    """Build the callbacks that are not null; Lightning refuses a bar or checkpoints that its own switches forbid.

    Raises:
        InputError: If one is no callback.
    """
    from pytorch_lightning import Callback

    switches = {"progress_bar": "enable_progress_bar", "checkpoints": "enable_checkpointing"}
    callbacks = {
        name: instantiate(c, _convert_="all")
        for name, c in config.callbacks.items()
        if c is not None and (name not in switches or config.trainer[switches[name]])
    }
    for name, callback in callbacks.items():
        if not isinstance(callback, Callback):
            raise InputError(f"callbacks.{name}._target_={config.callbacks[name]._target_}: no Lightning callback")
    return list(callbacks.values())


def tell_if_early(config: DictConfig, trainer: "Trainer", timer: "Timer") -> None:
    """Say what ended a run before its last step."""
    if trainer.global_step < trainer.max_steps and config.trainer.max_epochs is None:
        by = "trainer.max_time" if (timer.time_remaining() or 1) <= 0 else "a callback"
        log.info("Ended by %s at step %d of %d", by, trainer.global_step, trainer.max_steps)


def go_on(run: Path) -> str:
    """Give the command that resumes a run."""
    folders: list[str] = []  # that the run's configs were in, besides conf/
    if HydraConfig.initialized():
        sources = HydraConfig.get().runtime.config_sources
        folders = [f"--config-dir={source.path}" for source in sources if source.provider == "command-line"]
        folders += typed_search_path()
    checkpoint = as_argument("checkpoint", shorten(run) / "checkpoints" / "last.ckpt")
    return shlex.join(["python", "-m", "gan_lightning.train", *folders]) + f" {checkpoint}"


def shorten(path: Path) -> Path:
    """Write a path below the working directory without it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def report(config: DictConfig, run: Path, trainer: "Trainer", gan: "GAN", seconds: float) -> None:
    """Measure on validation and test images, write ``metrics.json`` and the HPARAMS tab, print the table."""
    from pytorch_lightning.loggers import TensorBoardLogger

    from gan_lightning.callbacks.scalars import images_per_step
    from gan_lightning.overhead import keep_freed_memory
    from gan_lightning.scoring import evaluate, flatten, save, table

    checkpoint = shorten(run) / "checkpoints" / "last.ckpt"
    num_images, values = config.num_images, plain(config)
    argument = as_argument("checkpoint", checkpoint)
    again = f"; to do so again: python -m gan_lightning.evaluate {argument} num_images={num_images}"
    again += f" seed={config.seed}" if config.seed else ""
    log.info("Measuring %s samples%s", f"{num_images:,}", again if checkpoint.exists() else "")
    keep_freed_memory(False)
    metrics = make_metrics(config)
    gan.to(trainer.strategy.root_device)
    figures = evaluate(gan, trainer.datamodule, metrics, num_images=num_images, seed=config.seed)  # type: ignore[attr-defined]
    images_seen = trainer.global_step * images_per_step(trainer)
    final = flatten(figures) | {
        "images_seen": images_seen,
        "train_seconds": seconds,
        "images_per_second": images_seen / seconds,
        "seed": config.seed,
    }
    save(final, run / "metrics.json")
    if (run / "error.txt").exists():  # a sweep's job that was stopped, and has now come to its end
        (run / "error.txt").unlink()
        summarise(run.parent, monitor=config.monitor, mode=config.monitor_mode)
    hyperparameters = {
        key: value if isinstance(value, int | float | str) else str(value)
        for name in ("seed", "k", "algorithm", "model", "loss", "penalty", "average", "optimizer", "data", "trainer")
        for key, value in leaves(values[name], name)
    }
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(
                hyperparameters, {f"final/{k}": v for k, v in final.items()}, step=trainer.global_step
            )
            logger.finalize("success")
    log.info("\n%s\n", table(figures, values["reference"], num_images))
    log.info("%d steps, %d images, %.0f s of training", trainer.global_step, images_seen, seconds)
    where_to: dict[str, Path | str] = {
        "run folder": shorten(run),
        **({"samples": shorten(run) / "samples.png"} if (run / "samples.png").exists() else {}),
    }
    if any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers):
        folder = Path("outputs") if run.is_relative_to(Path("outputs").absolute()) else run
        where_to["TensorBoard"] = f"tensorboard --logdir {shlex.quote(str(folder))}"
    if checkpoint.exists():
        sample = "python -m gan_lightning.sample"
        where_to["more samples"] = f"{sample} {argument} num_images=64 out=samples.png"
        if not rates_end_with_the_run(config):
            where_to["go on"] = f"{go_on(run)} trainer.max_steps={2 * trainer.global_step}"
    for what, where in where_to.items():
        log.info("%-13s %s", what, where)


if __name__ == "__main__":
    main()
