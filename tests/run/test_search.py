import json
import os
import re
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import optuna
import pytest

from gan_lightning.run import job
from gan_lightning.run import search as module
from gan_lightning.run.ranking import read_jobs
from tests import helpers
from tests.helpers import SMALL, call, command, metrics

FEW = ("search.num_trials=4", "search.name=few", "search.pruner=null")
SPACE = ("optimizer.lr=tag(log,interval(1e-4,1e-2))", "k=1,2", "data.batch_size=range(32,65,32)", "ema=none,standard")


class Trainings:
    """Training runs that take no time: they write metrics that follow from their overrides."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []
        self.codes: dict[int, int] = {}  # exit codes by number of the run

    def __call__(self, name: str, overrides: list[str], folder: Path, config: Any, **options: Any) -> tuple[int, str]:
        values = dict(text.split("=", 1) for text in overrides)
        code = self.codes.get(len(self.seen), 0)
        self.seen.append(values | {"folder": folder.name})
        if code == 0:
            lr = float(values["optimizer.lr"])
            found = {"val_fid": abs(lr - 1e-3) * 1000, "val_recall": lr, "val_precision": 1 - 50 * lr}
            (folder / "metrics.json").write_text(json.dumps(found))
        return code, f"error {code}"


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    fake = Trainings()
    monkeypatch.setattr(job, "execute", fake)
    monkeypatch.setattr(module.resources, "share", lambda *_, **__: nullcontext({}))
    return fake


def study(folder: Path, name: str = "few") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/outputs/searches/{name}/study.db")


def test_a_search(tmp_path: Path, trainings: Trainings) -> None:
    trainings.codes = {1: 1}
    done = command("search", *SPACE, "latent_scale=1.1", *FEW, cwd=tmp_path)
    assert done.returncode == 3, done.stderr  # one of the runs failed
    assert len(trainings.seen) == 4
    for values in trainings.seen:
        assert values["latent_scale"] == "1.1"
        assert 1e-4 <= float(values["optimizer.lr"]) <= 1e-2
        assert values["k"] in "12"
        assert values["data.batch_size"] in ("32", "64")
        assert values["ema"] in ("none", "standard")
    found = study(tmp_path)
    assert [trial.state.name for trial in found.trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    best = min(trainings.seen[:1] + trainings.seen[2:], key=lambda values: abs(float(values["optimizer.lr"]) - 1e-3))
    assert f"Best run: outputs/searches/few/{best['folder']}" in done.stdout
    assert found.best_value == pytest.approx(abs(float(best["optimizer.lr"]) - 1e-3) * 1000)
    folder = tmp_path / "outputs" / "searches" / "few"
    assert (folder / "summary.html").stat().st_size > 10**6
    failed = [each for each in read_jobs(folder) if each.status == "failed"]
    assert [(each.name, each.reason) for each in failed] == [("1", "error 1")]

    again = command("search", *SPACE, "latent_scale=1.1", *FEW, cwd=tmp_path)  # nothing is left to do
    assert again.returncode == 3
    assert len(trainings.seen) == 4
    other = command("search", *SPACE[:-1], *FEW, cwd=tmp_path)
    assert other.returncode == 1
    assert re.match(r"search.name=few: .*/few holds a search of latent_scale=1.1 .*; use another name\n", other.stderr)


def test_a_stopped_search_continues_with_the_same_trial(tmp_path: Path, trainings: Trainings) -> None:
    trainings.codes = {2: 143}
    assert command("search", *SPACE, *FEW, cwd=tmp_path).returncode == 130
    assert len(trainings.seen) == 3
    done = command("search", *SPACE, *FEW, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [values["folder"] for values in trainings.seen] == ["0", "1", "2", "2", "4"]
    assert trainings.seen[2] == trainings.seen[3]
    assert len(read_jobs(tmp_path / "outputs" / "searches" / "few")) == 4


def test_trials_of_killed_processes_are_run_again(
    tmp_path: Path, trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT", 1)
    monkeypatch.setattr(module, "GRACE", 2)
    trainings.codes = {1: 143}
    command("search", *SPACE, *FEW, cwd=tmp_path)
    database = tmp_path / "outputs" / "searches" / "few" / "study.db"
    storage = optuna.storages.RDBStorage(f"sqlite:///{database}", heartbeat_interval=1, grace_period=2)
    lost = optuna.load_study(study_name="few", storage=storage).ask()  # as a process that is killed now leaves it
    storage.record_heartbeat(lost._trial_id)
    done = command("search", *SPACE, *FEW, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [values["folder"] for values in trainings.seen].count("1") == 2
    finished = [trial for trial in study(tmp_path).trials if trial.state.name == "COMPLETE"]
    assert len(finished) == 4


def test_several_objectives_and_constraints(tmp_path: Path, trainings: Trainings) -> None:
    options = ("search.objectives=[fid,recall]", 'search.constraints=["precision >= 0.9"]')
    done = command("search", *SPACE, *options, *FEW, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = study(tmp_path)
    assert [direction.name for direction in found.directions] == ["MINIMIZE", "MAXIMIZE"]
    for trial in found.trials:
        lr = float(f"{trial.params['optimizer.lr']:.6g}")
        assert trial.values == pytest.approx([abs(lr - 1e-3) * 1000, lr])
        assert trial.constraints["precision"] == pytest.approx(0.9 - (1 - 50 * lr))
    assert {trial.number for trial in found.best_trials} <= {
        trial.number for trial in found.trials if trial.constraints["precision"] <= 0
    } or not any(trial.constraints["precision"] <= 0 for trial in found.trials)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["k=1"], "search.space={}: nothing to search; give a key several values, as in k=1,2"),
        (["kk=1,2"], "kk: no such key; did you mean k"),
        (["k=0,1"], "k=0: must be a number of at least 1"),
        (
            ["k=1,2", "search.objectives=[fid,beauty]"],
            "search.objectives: beauty is not measured; available are parzen_ll, fid, ",
        ),
        (["k=1,2", "search.objectives=fid"], "search.objectives=fid: must be like [fid,recall]"),
        (["k=1,2", "search.space=3"], "search.space=3: must be like {k: choice(1, 2)}"),
        (["k=1,2", "search.constraints=[fid]"], "search.constraints: fid must be a metric, <= or >=, and a bound"),
        (["k=1,2", 'search.constraints=["fid <= x"]'], "search.constraints: fid <= x: could not convert string"),
        (["k=1,2", "search.num_trials=0"], "search.num_trials=0: must be a number of at least 1"),
        (["k=1,2", "search.workers=two"], "search.workers=two: must be a whole number"),
        (["k=1,2", "search.rounds=2"], "search.rounds=2: no such key"),
        (["k=1,2", "search=bayes"], "search=bayes: no such choice; allowed: default, recipe"),
        (["k=1,2", "search.storage=no"], "search.storage=no: Could not parse"),
        (["optimizer.lr=interval(2,1)"], "optimizer.lr=interval(2,1): `low <= high` must hold"),
    ],
)
def test_mistakes(typed: list[str], message: str, tmp_path: Path, trainings: Trainings) -> None:
    done = command("search", *typed, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(message), done.stderr
    assert not trainings.seen


@pytest.mark.slow
def test_hopeless_runs_are_ended_early_and_a_killed_search_continues(tmp_path: Path) -> None:
    """By two processes that share one study, both killed once."""
    options = [o for o in SMALL if not o.startswith("trainer.val_check")] + ["trainer.val_check_interval=3"]
    own = ("search.num_trials=10", "search.workers=2", "search.pruner.n_startup_trials=2", "search.name=two")
    typed = ["-m", "gan_lightning.search", *options, *SPACE[:2], *own]
    environment = os.environ | {"PYTHONPATH": str(helpers.ROOT), "OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen([sys.executable, *typed], cwd=tmp_path, env=environment)
    time.sleep(25)
    killed.kill()
    killed.wait()
    done = call(*typed, cwd=tmp_path, timeout=600, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    states = [trial.state.name for trial in study(tmp_path, "two").trials]
    jobs = read_jobs(tmp_path / "outputs" / "searches" / "two")
    assert len(jobs) == 10
    assert {each.status for each in jobs} == {"finished", "pruned"}
    assert states.count("COMPLETE") + states.count("PRUNED") == 10
    assert states.count("PRUNED") >= 1
    for each in jobs:
        if each.status == "finished":
            assert metrics(each.folder)["parzen_ll"]
