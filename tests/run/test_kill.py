"""Runs that are killed at random moments, in the middle of writing a checkpoint too."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gan_lightning.run.checkpoint import Checkpoint
from tests import helpers
from tests.helpers import ROOT, SMALL, last, same

KILLS = int(os.environ.get("KILLS", "50"))  # of each of the four runs
OVERRIDES = [
    *(option for option in SMALL if not option.startswith(("trainer.max_steps", "trainer.val_check"))),
    "trainer.max_steps=1500",
    "trainer.val_check_interval=700",
    "trainer.log_every_n_steps=50",
    "callbacks.checkpoints.interval=0.001",  # a checkpoint after each step
    "callbacks.sample_grid=null",
    "logger=none",
]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_run_that_is_killed_again_and_again_gives_the_same_bits(tmp_path: Path, seed: int) -> None:
    chance, cut = random.Random(seed), tmp_path / "cut"
    newest, killed, writing, steps = cut / "checkpoints" / "last.ckpt", 0, 0, [0]
    while True:
        typed = ["checkpoint=cut"] if newest.exists() else [*OVERRIDES, f"seed={seed}", "hydra.run.dir=cut"]
        command, started = [sys.executable, "-m", "gan_lightning.train", *typed], time.time()
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            if killed < KILLS:
                before = newest.stat().st_mtime_ns if newest.exists() else None
                while process.poll() is None and (newest.stat().st_mtime_ns if newest.exists() else None) == before:
                    if chance.random() < 0.0005:
                        break  # sometimes before the first step
                    time.sleep(0.005)
                time.sleep(chance.random() * 0.6)
                process.send_signal(signal.SIGKILL)
                killed += 1
            _, errors = process.communicate(timeout=600)
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, errors.decode()
            break
        unfinished = newest.parent / ".last.ckpt.unfinished"
        writing += unfinished.exists() and unfinished.stat().st_mtime > started
        if newest.exists():
            steps.append(Checkpoint(newest).step)  # it is intact
            assert steps[-1] >= steps[-2]
    print(f"{killed} kills, {writing} of them while a checkpoint was written, at steps {steps}")
    assert writing or KILLS < 20
    helpers.run(tmp_path / "whole", *OVERRIDES[len(SMALL) - 2 :], f"seed={seed}")
    a, b = last(tmp_path / "whole"), last(cut)
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
        assert same(a[key], b[key]), key
