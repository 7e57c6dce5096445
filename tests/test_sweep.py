import csv
import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from PIL import Image

from gan_lightning.sweep import run, summarise
from tests import helpers
from tests.helpers import SMALL, call, last, resume, same


def job(folder: Path, number: int | str, overrides: list[str], **files: Any) -> None:
    """Write a job's folder."""
    (folder / str(number) / ".hydra").mkdir(parents=True)
    OmegaConf.save(overrides, folder / str(number) / ".hydra" / "overrides.yaml")
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / str(number) / {"metrics": "metrics.json", "error": "error.txt"}[name]).write_text(text)


@pytest.mark.parametrize(("mode", "order"), [("max", ["2", "0", "3", "1"]), ("min", ["0", "2", "3", "1"])])
def test_summary_is_best_first_and_failures_last(tmp_path: Path, mode: str, order: list[str]) -> None:
    job(tmp_path, 0, ["lr=1", "k=1"], metrics={"parzen_ll": 9.0, "val_parzen_ll": 1.0})
    job(tmp_path, 1, ["lr=2", "k=1"], error="lr=2: too much | really")
    job(tmp_path, 2, ["lr=3", "k=1"], metrics={"parzen_ll": 0.0, "val_parzen_ll": 2.0})
    job(tmp_path, 3, ["lr=4", "k=1"], metrics={"parzen_ll": 0.0, "val_parzen_ll": float("nan")})
    rows = summarise(tmp_path, monitor="parzen_ll", mode=mode)
    assert [row["job"] for row in rows] == order
    with (tmp_path / "summary.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["job"] for row in table] == order
    assert table[-1]["error"] == "lr=2: too much | really"
    assert table[0]["k"] == "1"
    head, _, first, *_ = (tmp_path / "summary.md").read_text().splitlines()
    assert head == "| job | lr | val_parzen_ll | parzen_ll | error |"
    assert first.startswith(f"| {order[0]} | ")
    with Image.open(tmp_path / "summary.png") as picture:
        assert picture.width == 4 * 320


def test_a_failed_sweep_has_a_summary(tmp_path: Path) -> None:
    job(tmp_path, 0, ["lr=1"], error="no")
    assert summarise(tmp_path, monitor="parzen_ll", mode="max") == [{"job": "0", "lr": "1", "error": "no"}]


def test_what_is_monitored_by_its_name_in_tensorboard_ranks_a_sweep(tmp_path: Path) -> None:
    for number, accuracy in enumerate((0.7, 0.5, 0.9)):
        job(tmp_path, number, [], metrics={"accuracy": 1 - accuracy, "val_accuracy": accuracy})
    rows = summarise(tmp_path, monitor="validation/accuracy", mode="max")
    assert [row["job"] for row in rows] == ["2", "0", "1"]


def test_jobs_may_have_names(tmp_path: Path) -> None:
    for name in ("10", "9", "lr=1"):
        job(tmp_path, name, [])
    assert [row["job"] for row in summarise(tmp_path, monitor="parzen_ll", mode="max")] == ["9", "10", "lr=1"]


def test_run_gives_the_exit_code_and_the_last_word() -> None:
    import sys

    program = "import sys; print('out'); sys.stderr.write('first\\nlast\\n\\nset HYDRA_FULL_ERROR\\n'); sys.exit(7)"
    assert run([sys.executable, "-c", program]) == (7, "last")
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    assert run([sys.executable, "-c", killed]) == (143, "")


def test_sweep(tmp_path: Path) -> None:
    """Three jobs, one of which cannot be: the others are as they would be alone."""
    rates = "optimizer.lr=1e-4,-1,4e-4"
    done = call("-m", "gan_lightning.train", "-m", *SMALL, rates, "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    sweep = tmp_path / "sweep"
    assert {p.name for p in sweep.iterdir()} >= {"0", "1", "2", "summary.csv", "summary.md", "summary.png"}
    with (sweep / "summary.csv").open() as file:
        rows = {row["job"]: row for row in csv.DictReader(file)}
    assert rows["1"]["error"] == "optimizer.lr=-1: allowed: at least 0"
    assert rows["0"]["error"] == rows["2"]["error"] == ""
    best = max(("0", "2"), key=lambda job: float(rows[job]["val_parzen_ll"]))
    assert next(iter(rows)) == best
    assert (sweep / "summary.md").read_text() in done.stdout
    alone = helpers.run(tmp_path / "alone", "optimizer.lr=4e-4")
    assert same(last(sweep / "2")["state_dict"], last(alone)["state_dict"])
    assert same(last(sweep / "2")["optimizer_states"], last(alone)["optimizer_states"])
    before = {path: path.read_bytes() for path in sweep.rglob("*") if path.is_file()}
    again = call("-m", "gan_lightning.train", "-m", *SMALL, rates, "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert again.returncode == 1
    where = f"hydra.sweep.dir={sweep}: holds a run, which checkpoint= goes on with; allowed: a new folder"
    assert again.stderr == f"{where}\n"
    assert {path: path.read_bytes() for path in before} == before


def test_a_sweep_of_failures_fails(tmp_path: Path) -> None:
    rates = "optimizer.lr=-1,-2"
    done = call("-m", "gan_lightning.train", "-m", *SMALL, rates, "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "every job failed"
    assert "optimizer.lr=-2: allowed: at least 0" in (tmp_path / "sweep" / "summary.md").read_text()


def test_a_sweeps_job_that_was_stopped_can_go_on(tmp_path: Path) -> None:
    killer = "+callbacks.signal={_target_: tests.helpers.SignalAt, step: 4, signum: 15}"
    typed = ("-m", *SMALL, "optimizer/scheduler=constant", "seed=0,1", "hydra.sweep.dir=sweep", killer)
    done = call("-m", "gan_lightning.train", *typed, cwd=tmp_path)
    assert done.returncode == 143
    assert "| interrupted |" in (tmp_path / "sweep" / "summary.md").read_text()
    resume(tmp_path / "sweep" / "0", "callbacks.signal=null")
    summary = (tmp_path / "sweep" / "summary.md").read_text()
    assert "parzen_ll" in summary
    assert "interrupted" not in summary


def test_a_mistyped_key_stops_a_sweep_before_it_starts(tmp_path: Path) -> None:
    done = call("-m", "gan_lightning.train", "-m", "optimizer.rate=1,2", "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert done.returncode == 1
    assert "optimizer.rate=1,2: no such key; optimizer has" in done.stderr
    assert not list(tmp_path.glob("sweep/*/checkpoints"))
