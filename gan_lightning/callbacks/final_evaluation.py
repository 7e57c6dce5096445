"""The final evaluation of a run."""

import json
import logging
import math
import re
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from rich.progress import BarColumn, Progress, TextColumn
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams
from torchmetrics import Metric

from gan_lightning.callbacks.scalars import images_per_step
from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.gan import GAN
from gan_lightning.metrics.evaluation import directions, evaluate, feature_extractors, flatten_splits
from gan_lightning.metrics.reference import REFERENCE_IMAGES, reference_for
from gan_lightning.metrics.tables import results_table

log = logging.getLogger(__name__)

FEW_IMAGES = 500
# Values that explain another one rather than rank runs; those of validation images are left out of HPARAMS, too.
SECONDARY = re.compile(
    r"val_|num_|kid|density|clipped_|sliced_|nearest_|.*_(se|sigma|min)$|seed|images_seen|images_per_second"
)


class FinalEvaluation(Callback):
    """After training, evaluate on validation and test images; write ``metrics.json``, log the table and the metrics.

    A fast development run is not evaluated. On several devices the first one does the work.

    Args:
        metrics: Metrics by name; see :func:`gan_lightning.metrics.evaluation.compute_metrics`.
        num_images: Number of generated images.
        seed: Seed of their noise.
        hyperparameters: For the loggers, by name.
        columns: Those for TensorBoard's HPARAMS tab, which shows them with the final metrics; None: all of them.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        *,
        metrics: Mapping[str, Metric],
        num_images: int,
        seed: int,
        hyperparameters: Mapping[str, Any],
        columns: Mapping[str, Any] | None = None,
    ) -> None:
        if num_images < 1:
            raise ValueError(f"num_images={num_images}: must be at least 1")
        self.metrics, self.num_images, self.seed = metrics, num_images, seed
        self.hyperparameters, self.columns = hyperparameters, hyperparameters if columns is None else columns

    @rank_zero_only
    def on_fit_start(self, trainer: Trainer, pl_module: GAN) -> None:
        """Log the hyperparameters; TensorBoard takes them together with the final metrics."""
        # MLflow refuses names with brackets
        values = {re.sub(r"\[(\d+)\]", r".\1", name): value for name, value in self.hyperparameters.items()}
        for logger in trainer.loggers:
            if not isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(values)

    @rank_zero_only
    def on_fit_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Evaluate, write and log."""
        timer = next((c for c in trainer.callbacks if isinstance(c, Timer)), None)
        if trainer.global_step < trainer.max_steps and trainer.max_epochs == -1 and not trainer.fast_dev_run:
            remaining = timer.time_remaining() if timer else None
            cause = "trainer.max_time" if remaining is not None and remaining <= 0 else "a callback"
            log.info("Ended by %s at step %d of %d", cause, trainer.global_step, trainer.max_steps)
        values: dict[str, float] = {}
        if not trainer.fast_dev_run:
            log.info("Evaluating %s samples", f"{self.num_images:,}")
            with sigterm_raises():
                values, table = evaluate_with_progress(
                    pl_module, trainer.datamodule, self.metrics, num_images=self.num_images, seed=self.seed
                )
            log.info("\n%s\n", table)
        images_seen = trainer.global_step * images_per_step(trainer)
        seconds = timer.time_elapsed("train") if timer else math.nan
        steps, images = trainer.global_step, f"{images_seen:,}"
        log.info("%d steps, %s images, %.0f s of training, including validation", steps, images, seconds)
        values |= {"images_seen": images_seen, "train_seconds": seconds, "seed": self.seed}
        values["images_per_second"] = images_seen / seconds if seconds else math.nan
        path = Path(trainer.default_root_dir) / "metrics.json"
        unfinished = path.with_name(".metrics.json.unfinished")  # a sweep takes a job with metrics.json as finished
        save_metrics(values, unfinished)
        unfinished.replace(path)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(dict(self.hyperparameters), {})  # for its hparams.yaml
                shown = {f"test/{name}": value for name, value in values.items() if not SECONDARY.match(name)}
                log_to_hparams_tab(Path(logger.log_dir) / "hparams", self.columns, shown, step=trainer.global_step)
            else:
                logger.log_metrics({f"final/{name}": value for name, value in values.items()}, step=trainer.global_step)


def log_to_hparams_tab(
    folder: Path, hyperparameters: Mapping[str, Any], metrics: Mapping[str, float], *, step: int
) -> None:
    """Write what TensorBoard's HPARAMS tab shows of a run, in place of an earlier report.

    The tab has a column for each scalar of the folder that holds the hyperparameters, hence a folder without those of
    training. Torch's own function would also add a list of columns, which TensorBoard takes from any one run; without
    it, they are those of all runs, in which jobs of a sweep may differ.
    """
    shutil.rmtree(folder, ignore_errors=True)
    simple = {
        name: value if isinstance(value, int | float | str) else str(value) for name, value in hyperparameters.items()
    }
    with SummaryWriter(str(folder)) as writer:
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)
        for summary in hparams(simple, dict(metrics))[1:]:  # the first one is that list
            writer.file_writer.add_summary(summary, step)


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Raise SystemExit on SIGTERM within the context, so that the end of the run is reported."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, lambda signum, _: sys.exit(128 + signum))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def evaluate_with_progress(
    gan: GAN, data: ImageDataModule, metrics: Mapping[str, Metric], *, num_images: int, seed: int
) -> tuple[dict[str, float], str]:
    """Evaluate a GAN with a progress bar; see :func:`gan_lightning.metrics.evaluation.evaluate`.

    Returns:
        The values on test images by name and those on validation images as ``val_<name>``; and a table of them next to
        reference results.
    """
    with Progress(TextColumn("{task.description:32}"), BarColumn(bar_width=None), transient=True, expand=True) as bar:
        task = bar.add_task("", total=1.0)

        def show(what: str, done: float) -> None:
            bar.update(task, description=what, completed=done)

        results = evaluate(gan, data, metrics, num_images=num_images, seed=seed, on_progress=show)
    note = [f"{num_images:,} samples; {len(data.test):,} test and {len(data.val):,} validation images."]
    if min(len(data.test), len(data.val)) < FEW_IMAGES:
        note.append("So few real images give rough values.")
    extractors = feature_extractors(metrics)
    descriptions = dict.fromkeys(part.description for part in extractors.values())
    for description in descriptions:
        names = [name for name, part in extractors.items() if part.description == description]
        of = f" of {', '.join(names)}" if len(descriptions) > 1 else ""
        note.append(f"Features{of}: {description}.")
    references = reference_for(getattr(data.dataset, "func", data.dataset), extractors.values())
    if references and num_images != REFERENCE_IMAGES:
        references = {}
        note.append(f"With num_images={REFERENCE_IMAGES}, references are shown.")
    if any(math.isnan(value) for values in results.values() for value in values.values()):
        note.append("nan: there are too few images, or the generator has diverged.")
    numbers = {"num_images": num_images, "num_test": len(data.test), "num_validation": len(data.val)}
    return flatten_splits(results) | numbers, results_table(results, references, directions(metrics), " ".join(note))


def save_metrics(metrics: Mapping[str, float], path: Path) -> None:
    """Write metrics as one JSON object, without those that are not finite, which JSON does not have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
    path.write_text(json.dumps(finite, indent=2) + "\n", encoding="utf-8")
