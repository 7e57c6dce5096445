"""Several processes: one run on several devices, and several jobs of a sweep at once. All have one thread each."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
TWO = ("trainer.devices=2", "trainer.accelerator=cpu")


def ranks(
    training_run: Callable[..., float], folder: Path, *typed: str, batch: int
) -> Mapping[str, Callable[[], float]]:
    """Return functions that measure images/s of one process, and of two with the same minibatch, or twice that.

    Args:
        training_run: Trains in a folder, with overrides and environment variables, and returns the images per second.
        folder: For the runs.
        typed: Overrides.
        batch: Images per minibatch of one process.
    """
    run = partial(training_run, folder, *typed, **ONE_THREAD)
    return {
        f"1 process, minibatches of {batch}": partial(run, f"data.batch_size={batch}"),
        f"2 processes, {batch // 2} each": partial(run, f"data.batch_size={batch // 2}", *TWO),
        f"2 processes, {batch} each": partial(run, f"data.batch_size={batch}", *TWO),
    }


def jobs(folder: Path, *typed: str) -> Mapping[str, Callable[[], float]]:
    """Return functions that measure the seconds of a sweep of two jobs, in turn and at once.

    Args:
        folder: For the sweeps.
        typed: Overrides.
    """

    def sweep(launcher: str) -> float:
        command = [sys.executable, "-m", "gan_lightning.train", "-m", *typed, "seed=0,1", f"hydra/launcher={launcher}"]
        where = folder / f"{launcher}-{time.time_ns()}"
        start = time.perf_counter()
        subprocess.run(
            [*command, f"hydra.sweep.dir={where}"],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | ONE_THREAD,
        )
        return time.perf_counter() - start

    return {launcher: partial(sweep, launcher) for launcher in ("basic", "joblib", "submitit_local")}
