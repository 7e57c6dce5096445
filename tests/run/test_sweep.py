import csv
import json
import sys
from pathlib import Path

import pytest

from gan_lightning.run.sweep import run
from tests import helpers
from tests.helpers import SMALL, command, last, resume, same


def test_run_returns_the_exit_code_and_the_last_line() -> None:
    program = "import sys; print('out'); sys.stderr.write('first\\nlast\\n\\nset HYDRA_FULL_ERROR\\n'); sys.exit(7)"
    assert run([sys.executable, "-c", program]) == (7, "last")
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    assert run([sys.executable, "-c", killed]) == (143, "")


def test_sweep(tmp_path: Path) -> None:
    """Three jobs, one of which is impossible: the others have the results that they would have by themselves."""
    typed = ("-m", *SMALL, "optimizer.lr=1e-4,-1,4e-4", "hydra.sweep.dir=sweep")
    done = command("train", *typed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    sweep = tmp_path / "sweep"
    assert {p.name for p in sweep.iterdir()} >= {"0", "1", "2", "summary.csv", "summary.md"}
    with (sweep / "summary.csv").open() as file:
        rows = {row["job"]: row for row in csv.DictReader(file)}
    assert list(rows)[-1] == "1"
    assert rows["1"]["reason"] == "optimizer.lr=-1: must be a number of at least 0 and below 2**32"
    assert rows["0"]["reason"] == rows["2"]["reason"] == ""
    best = max(("0", "2"), key=lambda job: float(rows[job]["val_parzen_ll"]))  # FID is not measured
    assert next(iter(rows)) == best
    assert "Ranked by val_parzen_ll, best first." in done.stdout
    assert f"Best run: sweep/{best}" in done.stdout
    single = helpers.run(tmp_path / "single", "optimizer.lr=4e-4")
    assert same(last(sweep / "2")["state_dict"], last(single)["state_dict"])
    assert same(last(sweep / "2")["optimizer_states"], last(single)["optimizer_states"])

    # The same command again: finished jobs are skipped, the failed one fails again.
    before = {path: path.stat().st_mtime_ns for path in sweep.glob("[02]/**/*") if path.is_file()}
    again = command("train", *typed, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert again.stdout.splitlines()[-2:] == done.stdout.splitlines()[-2:]

    # Other overrides in the same folder are refused, and nothing changes.
    other = command("train", "-m", *SMALL, "optimizer.lr=2e-4", "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert other.returncode == 1
    assert other.stderr == f"hydra.sweep.dir={sweep}: holds a sweep with other overrides; use a new folder\n"
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_sweep_in_which_every_job_fails(tmp_path: Path) -> None:
    done = command("train", *SMALL, "-m", "optimizer.lr=-1,-2", "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "every job failed"
    assert "optimizer.lr=-2: must be" in (tmp_path / "sweep" / "summary.md").read_text()
    job = json.loads((tmp_path / "sweep" / "1" / "job.json").read_text())
    assert job["reason"].startswith("optimizer.lr=-2: must be")


KILLER = "+callbacks.signal={_target_: tests.helpers.SignalAt, step: 4, signum: 15}"


def test_a_stopped_sweep_is_resumed_by_the_same_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(helpers.ROOT))
    typed = ("-m", *SMALL, "seed=3,4", "hydra.sweep.dir=sweep", KILLER)
    sweep = tmp_path / "sweep"
    done = command("train", *typed, cwd=tmp_path)
    assert done.returncode == 143
    assert json.loads((sweep / "0" / "job.json").read_text())["status"] == "interrupted"
    assert "| interrupted |" in (sweep / "summary.md").read_text()
    assert not (sweep / "1").exists()
    assert last(sweep / "0")["global_step"] == 5

    again = command("train", *typed, cwd=tmp_path)  # completes the first job and stops in the second
    assert again.returncode == 143
    assert last(sweep / "0")["global_step"] == 12
    assert last(sweep / "1")["global_step"] == 5
    whole = helpers.run(tmp_path / "whole", "seed=3")
    assert same(last(sweep / "0")["state_dict"], last(whole)["state_dict"])

    resume(sweep / "1", "+callbacks.signal=null")  # a job can also be resumed by itself
    summary = (sweep / "summary.md").read_text()
    assert "interrupted" not in summary
    assert "Ranked by val_parzen_ll" in summary


def test_a_mistyped_key_stops_a_sweep_before_it_starts(tmp_path: Path) -> None:
    done = command("train", "-m", "optimizer.rate=1,2", "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("optimizer.rate=1,2: no such key; optimizer has")
    assert not list(tmp_path.glob("sweep/*/checkpoints"))
