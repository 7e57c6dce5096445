"""Signals to all processes of a run, as a terminal and a scheduler send them, and a worker that dies."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning import Callback, LightningModule, Trainer

from tests.helpers import ROOT, SMALL, last

ENDLESS = [
    *(option for option in SMALL if not option.startswith(("trainer.max_steps", "trainer.val_check"))),
    "trainer.max_steps=1000000",
    "trainer.val_check_interval=1000000",
    "callbacks.checkpoints.interval=0.5",
    "hydra.run.dir=run",
]
WORKERS = ["data.in_memory=false", "data.num_workers=2", "data.val_size=500"]
RANKS = ["trainer.devices=2", "trainer.strategy=ddp"]
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a run as a process group of its own, and wait for its first checkpoint."""
    started = []

    def start(*overrides: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "gan_lightning.train", *ENDLESS, *overrides],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists():
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.05)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def members(group: int) -> list[int]:
    """Return the processes of a group that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, process_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has ended meanwhile
            continue
        if int(process_group) == group and state not in "ZX":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("processes", "signum"),
    [
        pytest.param(WORKERS, signal.SIGINT, id="workers-SIGINT"),
        pytest.param(WORKERS, signal.SIGTERM, id="workers-SIGTERM", marks=pytest.mark.slow),
        pytest.param(RANKS, signal.SIGINT, id="ranks-SIGINT", marks=pytest.mark.slow),
        pytest.param(RANKS, signal.SIGTERM, id="ranks-SIGTERM", marks=pytest.mark.slow),
        pytest.param([*RANKS, *WORKERS], signal.SIGINT, id="both-SIGINT", marks=pytest.mark.slow),
        pytest.param([*RANKS, *WORKERS], signal.SIGTERM, id="both-SIGTERM"),
    ],
)
def test_a_signal_to_all_processes(start: Start, tmp_path: Path, processes: list[str], signum: int) -> None:
    process = start(*processes)
    os.killpg(process.pid, signum)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signum, output
    found = re.search(rf"Stopped by {signal.Signals(signum).name} at step (\d+)\. To resume:", output)
    assert found, output
    assert last(tmp_path / "run")["global_step"] == int(found[1])
    assert "Traceback" not in output
    assert "exited unexpectedly" not in output
    deadline = time.monotonic() + 10
    while members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not members(process.pid)


class Stuck(Callback):
    """Take a minute for a step."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == 5:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt")
            time.sleep(60)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_does_not_wait_for_the_step(start: Start, tmp_path: Path, signum: int) -> None:
    process = start("+callbacks.stuck._target_=tests.run.test_signals.Stuck", "callbacks.checkpoints.interval=null")
    for _ in range(2):
        os.killpg(process.pid, signum)
        time.sleep(1.2)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 128 + signum, output
    assert f"Stopped by {signal.Signals(signum).name} at step 5. To resume:" in output


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_that_dies(start: Start, tmp_path: Path) -> None:
    process = start(*WORKERS)
    (worker, *_) = [pid for pid in members(process.pid) if pid != process.pid]
    os.kill(worker, signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.search(r"^data\.num_workers=2: .*died.*checkpoint=", output, re.MULTILINE), output
    assert last(tmp_path / "run")["global_step"] > 0


@pytest.mark.slow
def test_two_runs_in_one_folder(start: Start, tmp_path: Path) -> None:
    start()
    command = [sys.executable, "-m", "gan_lightning.train", "checkpoint=run"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"hydra\.run\.dir=\S+run: another process is training in this folder\n", done.stderr)
