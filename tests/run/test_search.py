import json
import os
import re
import subprocess
import sys
import time
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import optuna
import pytest
import sqlalchemy
import torch
from filelock import FileLock, Timeout
from omegaconf import DictConfig

from gan_lightning.callbacks.prune import Prune
from gan_lightning.run import job
from gan_lightning.run import search as module
from gan_lightning.run.config import config_flags
from gan_lightning.run.ranking import read_jobs
from gan_lightning.run.search import training_config
from gan_lightning.run.training import reported_errors
from tests import helpers
from tests.helpers import SMALL, call, command, metrics

FEW = ("search.num_trials=3", "search.name=few", "search.pruner=null")
ONE = ("search.num_trials=1", *FEW[1:])
SPACE = ("optimizer.lr=tag(log,interval(1e-4,1e-2))", "k=1,2", "data.batch_size=range(32,65,32)", "ema=none,standard")


class Trainings:
    """Training runs that take no time: they write metrics that follow from their overrides."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []
        self.codes: dict[int, int] = {}  # exit codes by number of the run
        self.rates: list[float] = []  # by number of the run, instead of the proposed ones

    def __call__(self, name: str, overrides: list[str], folder: Path, config: Any, **options: Any) -> tuple[int, str]:
        values = dict(text.split("=", 1) for text in overrides)
        code = self.codes.get(len(self.seen), 0)
        self.seen.append(values | {"folder": folder.name})
        if code == 0:
            lr = self.rates[len(self.seen) - 1] if self.rates else float(values["optimizer.lr"])
            found = {"val_fid": abs(lr - 1e-3) * 1000, "val_recall": lr, "val_precision": 1 - 50 * lr}
            found["val_parzen_ll"] = 0
            (folder / "metrics.json").write_text(json.dumps(found))
        return code, f"error {code}"


@cache
def composed(overrides: tuple[str, ...], flags: tuple[str, ...]) -> DictConfig:
    return training_config([*overrides])


def composed_once(overrides: list[str]) -> DictConfig:
    """Compose what the trials of all tests differ in but for the learning rate, which no test reads from a config."""
    return composed(tuple(o for o in overrides if not o.startswith("optimizer.lr=")), tuple(config_flags()))


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    fake = Trainings()
    monkeypatch.setattr(job, "execute", fake)
    monkeypatch.setattr(module, "training_config", composed_once)
    monkeypatch.setattr(module.resources, "share", lambda *_, **__: nullcontext({}))
    return fake


def study(folder: Path, name: str = "few") -> optuna.Study:
    url = sqlalchemy.URL.create("sqlite", database=f"{folder}/outputs/searches/{name}/study.db")
    return optuna.load_study(study_name=name, storage=url.render_as_string(hide_password=False))


def best_runs(stdout: str) -> set[int]:
    """Return the numbers of the runs that a search prints as its best."""
    return {int(number) for number in re.findall(r"outputs/searches/few/(\d+)", stdout)}


def test_a_search(tmp_path: Path, trainings: Trainings) -> None:
    """In a folder whose name means something to SQLAlchemy."""
    trainings.codes = {1: 1}
    start = tmp_path / "what? #1 {it's} 100%25"
    start.mkdir()
    done = command("search", *SPACE, "latent_scale=1.1", *FEW, cwd=start)
    assert done.returncode == 3, done.stderr  # one of the runs failed
    assert len(trainings.seen) == 3
    for values in trainings.seen:
        assert values["latent_scale"] == "1.1"
        assert 1e-4 <= float(values["optimizer.lr"]) <= 1e-2
        assert values["k"] in "12"
        assert values["data.batch_size"] in ("32", "64")
        assert values["ema"] in ("none", "standard")
    found = study(start)
    assert [trial.state.name for trial in found.trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    best = min(trainings.seen[::2], key=lambda values: abs(float(values["optimizer.lr"]) - 1e-3))
    assert best_runs(done.stdout) == {int(best["folder"])}
    assert found.best_value == pytest.approx(abs(float(best["optimizer.lr"]) - 1e-3) * 1000)
    folder = start / "outputs" / "searches" / "few"
    assert (folder / "summary.html").stat().st_size > 10**6
    failed = [each for each in read_jobs(folder) if each.status == "failed"]
    assert [(each.name, each.reason) for each in failed] == [("1", "error 1")]

    again = command("search", *SPACE, "latent_scale=1.1", *FEW, cwd=start)  # nothing is left to do
    assert again.returncode == 3
    assert len(trainings.seen) == 3
    mistake = "search.name=few: there is a search of this name with other {}; use another name\n"
    for typed, different in (
        (SPACE[:-1], r"arguments, \[latent_scale=1.1,.*\]"),
        ((*SPACE, "search.objectives=[recall]"), r"objectives, \[fid\]"),
        ((*SPACE, 'search.constraints=["recall >= 1"]'), r"constraints, \[\]"),
    ):
        other = command("search", *typed, "latent_scale=1.1", *FEW, cwd=start)
        assert other.returncode == 1
        assert re.fullmatch(mistake.format(different), other.stderr), other.stderr


def test_a_study_that_another_machine_uses(tmp_path: Path, trainings: Trainings) -> None:
    url = f"search.storage=sqlite:///{tmp_path}/shared.db"
    for folder in "ab":
        (tmp_path / folder).mkdir()
    assert command("search", *SPACE, *ONE, url, cwd=tmp_path / "a").returncode == 0
    other = command("search", *SPACE[:2], *ONE, url, cwd=tmp_path / "b")
    assert other.stderr.startswith("search.name=few: there is a search of this name with other arguments, [")
    same = command("search", *SPACE, *FEW, url, cwd=tmp_path / "b")
    assert same.returncode == 0, same.stderr
    assert len(read_jobs(tmp_path / "b")) == 2
    optuna.create_study(study_name="few", storage=f"sqlite:///{tmp_path}/own.db", direction="maximize")
    own = command("search", *SPACE, *ONE, url.replace("shared", "own"), "search.name=few", cwd=tmp_path)
    assert own.stderr.startswith("search.name=few: there is a search of this name with other directions, [maximize]")


def test_the_recipe_with_other_overrides(tmp_path: Path, trainings: Trainings) -> None:
    done = command("search", "search=recipe", "k=1", "seed=3", *ONE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (seen,) = trainings.seen
    assert seen.pop("folder") == "0"
    assert (seen.pop("k"), seen.pop("seed"), seen.pop("trainer.val_check_interval")) == ("1", "3", "1000")
    assert seen.keys() == {"optimizer.lr", "penalty.gamma", "latent_scale"}


def test_configs_of_the_user(tmp_path: Path, trainings: Trainings) -> None:
    for folder, group, choice in (("own", "loss", "hinge"), ("other configs", "ema", "standard")):
        (tmp_path / folder / group).mkdir(parents=True)
        content = (helpers.ROOT / "conf" / group / f"{choice}.yaml").read_text()
        (tmp_path / folder / group / "mine.yaml").write_text(content)
    flags = (f"--config-dir={tmp_path}/own", f"hydra.searchpath=['file://{tmp_path}/other configs']")
    done = command("search", *flags, SPACE[0], "loss=mine", "ema=mine", *ONE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_stopped_search_continues_with_the_same_trial(tmp_path: Path, trainings: Trainings) -> None:
    trainings.codes = {1: 143}
    assert command("search", *SPACE, *FEW, cwd=tmp_path).returncode == 130
    assert len(trainings.seen) == 2
    done = command("search", *SPACE, *FEW, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [values["folder"] for values in trainings.seen] == ["0", "1", "1", "3"]
    assert trainings.seen[1] == trainings.seen[2]
    assert len(read_jobs(tmp_path / "outputs" / "searches" / "few")) == 3


def test_trials_of_killed_processes_are_run_again(
    tmp_path: Path, trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before a trial's first heartbeat, and after it."""
    monkeypatch.setattr(module, "HEARTBEAT_INTERVAL", 1)
    monkeypatch.setattr(module, "GRACE_PERIOD", 1)
    command("search", *SPACE, *ONE, cwd=tmp_path)
    found = study(tmp_path)
    found.ask()
    lost = found.ask()
    found._storage.record_heartbeat(lost._trial_id)  # type: ignore[attr-defined]
    lost.set_user_attr(module.MARK, lost.number)
    done = command("search", *SPACE, *FEW, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(values["folder"] for values in trainings.seen) == ["0", "1", "2"]
    assert sum(trial.state.name == "COMPLETE" for trial in found.trials) == 3


def test_a_trial_that_another_process_took_for_lost(
    tmp_path: Path, trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*arguments: Any, **options: Any) -> tuple[int, str]:
        if not trainings.seen:
            (trial,) = study(tmp_path).trials
            study(tmp_path).tell(trial.number, state=optuna.trial.TrialState.FAIL)
        return trainings(*arguments, **options)

    monkeypatch.setattr(job, "execute", train)
    bound = 'search.constraints=["recall >= 0"]'
    done = command("search", *SPACE, bound, "search.num_trials=2", *FEW[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [trial.state.name for trial in study(tmp_path).trials] == ["FAIL", "COMPLETE"]


def test_workers(tmp_path: Path, trainings: Trainings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their exit codes count, and there are no more of them than trials."""
    command("search", *SPACE, *ONE, cwd=tmp_path)
    codes: list[int] = []

    class Worker:
        def __init__(self, typed: list[str], env: dict[str, str]) -> None:
            assert typed[1:3] == ["-m", "gan_lightning.search"]
            assert env[module.WORKER]
            self.code = codes.pop()

        def wait(self) -> int:
            return self.code

    monkeypatch.setattr(module.subprocess, "Popen", Worker)
    for exit_codes, expected, message in (
        ([0, 0], 0, ""),
        ([-9, 0], 1, "search.workers=5: 1 failed, with exit codes [-9]\n"),
        ([1, 1], 1, "search.workers=5: 2 failed, with exit codes [1,1]\n"),
    ):
        codes[:] = exit_codes
        done = command("search", *SPACE, *FEW[1:], "search.num_trials=2", "search.workers=5", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (expected, message)
        assert ("Best run" in done.stdout) == (exit_codes != [1, 1])
        assert not codes


def test_trials_begin_under_a_lock(tmp_path: Path, trainings: Trainings, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that several processes do not all begin the last one."""
    begin = module.Search.begin

    def begin_locked(search: module.Search) -> Any:
        with pytest.raises(Timeout):
            FileLock(search.folder / ".lock").acquire(blocking=False)
        return begin(search)

    monkeypatch.setattr(module.Search, "begin", begin_locked)
    assert command("search", *SPACE, *ONE, cwd=tmp_path).returncode == 0
    assert len(trainings.seen) == 1


def test_several_objectives_and_constraints(tmp_path: Path, trainings: Trainings) -> None:
    trainings.rates = [0.0005, 0.0015, 0.003]
    options = ("search.objectives=[fid,recall]", 'search.constraints=["precision >= 0.9"]')
    done = command("search", *SPACE, *options, *FEW, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = study(tmp_path)
    assert [direction.name for direction in found.directions] == ["MINIMIZE", "MAXIMIZE"]
    for trial, lr in zip(found.trials, trainings.rates, strict=True):
        assert trial.values == pytest.approx([abs(lr - 1e-3) * 1000, lr])
        assert trial.constraints["precision"] == pytest.approx(0.9 - (1 - 50 * lr))
    assert best_runs(done.stdout) == {1}  # 0 is as good and has less recall; 2 violates the constraint


def test_more_objectives_than_a_figure_shows(tmp_path: Path, trainings: Trainings) -> None:
    options = ("search.objectives=[fid,recall,precision,parzen_ll]", 'search.constraints=["recall >= 1"]')
    done = command("search", *SPACE, *options, *ONE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "No run meets search.constraints=[recall >= 1]" in done.stdout
    assert not best_runs(done.stdout)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["k=1"], "search.space={}: nothing to search; give a key several values, as in k=1,2"),
        (["kk=1,2"], "kk: no such key; did you mean k"),
        (["k=0,1"], "k=0: must be a number of at least 1"),
        (
            ["k=1,2", "search.objectives=[fid,beauty]"],
            "search.objectives=[fid,beauty]: beauty is not measured; available are parzen_ll, fid, ",
        ),
        (["k=1,2", "search.objectives=fid"], "search.objectives=fid: must be like [fid,recall]"),
        (["k=1,2", "search.space=3"], "search.space=3: must be like {k: choice(1, 2)}"),
        (["k=1,2", "search.constraints=[fid]"], "search.constraints=[fid]: fid must be a metric, <= or >=, and a"),
        (["k=1,2", 'search.constraints=["fid <= x"]'], "search.constraints=[fid <= x]: fid <= x must be a"),
        (["k=1,2", "search.num_trials=0"], "search.num_trials=0: must be a number of at least 1"),
        (["k=1,2", "search.workers=two"], "search.workers=two: must be a whole number"),
        (["k=1,2", "search.rounds=2"], "search.rounds=2: no such key"),
        (["k=1,2", "search=bayes"], "search=bayes: no such choice; allowed: default, recipe"),
        (["k=1,2", "search.storage=no"], "search.storage=no: Could not parse"),
        (["k=1,2", "search.storage='no://me:secret@host/db'"], "search.storage=no://me:***@host/db: "),
        (["k=1,2", "search.sampler._target_=optuna.None"], "search.sampler: "),
        (["k=1,2", "+search.space.k='choice('"], "search.space.k=choice(: "),
        (["k=1,2", "search.overrides=['k=[']"], "search.overrides=[k=[]: "),
        (["k=1,2", "-m"], "-m: a search tries several values of a key by itself; remove it"),
        (["optimizer.lr=interval(2,1)"], "optimizer.lr=interval(2,1): `low <= high` must hold"),
    ],
)
def test_mistakes(typed: list[str], message: str, tmp_path: Path, trainings: Trainings) -> None:
    done = command("search", *typed, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(message), done.stderr
    assert not trainings.seen


@pytest.mark.parametrize("error", [optuna.exceptions.UpdateFinishedTrialError("ended"), RuntimeError("locked")])
def test_a_run_goes_on_when_the_study_cannot_be_reached(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    trial, trainer = MagicMock(), MagicMock(callback_metrics={"validation/fid": torch.tensor(2.0)}, global_step=5)
    trainer.max_steps, trainer.strategy.root_device = 10, "cpu"
    trainer.strategy.reduce = lambda ends, reduce_op: ends
    callback = Prune(trial=trial, monitor="validation/fid", code=job.PRUNED)
    with pytest.raises(SystemExit):
        callback.on_validation_end(trainer, MagicMock())
    trial.report.assert_called_once_with(2.0, 5)
    trial.report.side_effect = error
    with caplog.at_level("WARNING"):
        callback.on_validation_end(trainer, MagicMock())
    assert f"Step 5 was not reported to the search: {error}" in caplog.text


@pytest.mark.parametrize(("first", "code"), [(True, job.PRUNED), (False, 0)])
def test_the_exit_codes_of_several_devices(first: bool, code: int) -> None:
    with pytest.raises(SystemExit) as stop, reported_errors(MagicMock(), MagicMock(is_global_zero=first), None):
        sys.exit(job.PRUNED)
    assert stop.value.code == code


@pytest.mark.slow
def test_hopeless_runs_are_ended_early_and_a_killed_search_continues(tmp_path: Path) -> None:
    """By two processes that share one study, both killed once."""
    options = [o for o in SMALL if not o.startswith("trainer.val_check")] + ["trainer.val_check_interval=3"]
    own = ("search.num_trials=10", "search.workers=2", "search.pruner.n_startup_trials=2", "search.name=two")
    typed = ["-m", "gan_lightning.search", *options, *SPACE[:2], *own]
    environment = os.environ | {"PYTHONPATH": str(helpers.ROOT), "OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen([sys.executable, *typed], cwd=tmp_path, env=environment)
    folder = tmp_path / "outputs" / "searches" / "two"
    until = time.monotonic() + 200
    while len([each for each in read_jobs(folder) if (each.folder / "checkpoints").exists()]) < 3:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert killed.poll() is None
    killed.kill()
    killed.wait()
    done = call(*typed, cwd=tmp_path, timeout=600, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    trials = study(tmp_path, "two").trials
    assert any(optuna.storages.RetryHeartbeatStaleTrialCallback.retry_history(trial) for trial in trials)
    states = [trial.state.name for trial in trials]
    jobs = read_jobs(folder)
    assert len(jobs) == 10
    assert {each.status for each in jobs} == {"finished", "pruned"}
    assert states.count("COMPLETE") + states.count("PRUNED") == 10
    assert states.count("PRUNED") >= 1
    for each in jobs:
        if each.status == "finished":
            assert metrics(each.folder)["parzen_ll"]
