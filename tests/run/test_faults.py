"""What goes wrong on the machine: full disks, folders that cannot be written, moved runs, clocks that go backwards."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import helpers
from tests.helpers import ROOT, SMALL, assert_same_run, call, grids, last, resume, same, scalars

LIMIT = 60_000  # bytes


def train_with_full_disk(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    """Train where no file can be larger than a limit, which is a full disk that needs no privileges."""
    return subprocess.run(
        [sys.executable, "-m", "gan_lightning.train", *SMALL, "hydra.run.dir=run", *overrides],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT)),
    )


def test_a_full_disk_for_checkpoints(tmp_path: Path) -> None:
    done = train_with_full_disk(
        tmp_path, *(f"callbacks.{n}=null" for n in ("sample_grid", "animations", "paper_figures"))
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"{tmp_path}/run/checkpoints/best-5.ckpt: could not be written: ")
    assert done.stderr.count("\n") == 1
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_a_full_disk_for_tensorboard(tmp_path: Path) -> None:
    often = ("callbacks.checkpoints=null", "callbacks.sample_grid.every_n_steps=1", "trainer.max_steps=1000")
    done = train_with_full_disk(tmp_path, *often)
    assert done.returncode == 1
    assert done.stderr == f"{tmp_path}/run: File too large\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_for_the_log(tmp_path: Path) -> None:
    done = call(
        *("-m", "gan_lightning.train", *SMALL, "hydra.run.dir=run"),
        "hydra.job_logging.handlers.file.filename=/dev/full",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert last(tmp_path / "run")["global_step"] == 12


@pytest.mark.parametrize("folder", ["/sys/run", "/dev/null/run"])  # not even root can write there
def test_a_folder_that_cannot_be_written(tmp_path: Path, folder: str) -> None:
    done = call("-m", "gan_lightning.train", *SMALL, f"hydra.run.dir={folder}", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(folder.rpartition("/")[0])
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("how", ["renamed", "copied", "linked"])
def test_a_run_that_is_moved_between_stop_and_resume(run: Path, tmp_path: Path, how: str) -> None:
    cut, moved = tmp_path / "cut", tmp_path / "else" / "where"
    killer = "+callbacks.signal={_target_: tests.helpers.SignalAt, step: 7, signum: 15}"
    with pytest.raises(SystemExit):
        helpers.run(cut, "optimizer/scheduler=linear", killer)
    moved.parent.mkdir()
    if how == "linked":
        moved.symlink_to(cut)
    else:
        subprocess.run(
            ["cp" if how == "copied" else "mv", *(["-r"] if how == "copied" else []), cut, moved], check=True
        )
    before = {path.name for path in moved.glob("checkpoints/best-*")}
    assert before == {"best-5.ckpt"}
    resume(moved, "+callbacks.signal=null")
    assert_same_run(run, moved)
    assert {path.name for path in moved.glob("checkpoints/*")} == {path.name for path in run.glob("checkpoints/*")}


def test_a_clock_that_goes_backwards(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both within a run, and between a run and its resumption."""
    now, passed = time.time(), [0.0]

    def backwards() -> float:
        passed[0] += 0.01
        return now + 86_400 - passed[0]

    killer = f"+callbacks.signal={{_target_: tests.helpers.SignalAt, step: 7, signum: {int(signal.SIGTERM)}}}"
    with monkeypatch.context() as patch:
        patch.setattr("time.time", backwards)
        with pytest.raises(SystemExit):
            helpers.run(tmp_path / "cut", "optimizer/scheduler=linear", killer)
    time.sleep(1.1)  # event files are ordered by the second
    resume(tmp_path / "cut", "+callbacks.signal=null")
    assert same(last(run)["state_dict"], last(tmp_path / "cut")["state_dict"])
    assert grids(run) == grids(tmp_path / "cut")
    found, expected = (scalars(path) for path in (tmp_path / "cut", run))
    assert found["loss/generator"] == expected["loss/generator"]
    assert json.loads((tmp_path / "cut" / "metrics.json").read_text())["train_seconds"] > 0
