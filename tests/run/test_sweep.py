import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from gan_lightning.run import job, sweep
from gan_lightning.run.files import read_json
from tests import helpers
from tests.helpers import SMALL, call, command, last, metrics, resume, same

ODD = "it's a=b, é"


def rows(folder: Path) -> dict[str, dict[str, str]]:
    """Read a sweep's summary: its rows by job."""
    with (folder / "summary.csv").open() as file:
        return {row["job"]: row for row in csv.DictReader(file)}


def results(run: Path) -> dict[str, float]:
    """Read a run's metrics, without those of the clock."""
    return {name: value for name, value in metrics(run).items() if "second" not in name}


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sweep in the usual way: two jobs, in a folder with an odd name, and one that is impossible."""
    folder = tmp_path_factory.mktemp("basic")
    typed = ("-m", *SMALL, "optimizer.lr=1e-4,-1,4e-4", f'hydra.sweep.dir="{ODD}"')
    done = command("train", *typed, cwd=folder)
    assert done.returncode == sweep.SOME_FAILED, done.stderr
    (folder / "out.txt").write_text(done.stdout)
    return folder / ODD


def test_sweep(basic: Path) -> None:
    """The possible jobs have the results that they would have by themselves; the impossible one is a row."""
    assert {p.name for p in basic.iterdir()} >= {"0", "1", "2", "summary.csv", "summary.md", "summary.html"}
    found = rows(basic)
    assert list(found)[-1] == "1"
    assert found["1"]["reason"] == "optimizer.lr=-1: must be a number of at least 0 and below 2**32"
    assert [found[name]["status"] for name in "012"] == ["finished", "failed", "finished"]
    best = max(("0", "2"), key=lambda name: float(found[name]["val_parzen_ll"]))  # FID is not measured
    assert next(iter(found)) == best
    out = (basic.parent / "out.txt").read_text()
    assert f"Best run: {ODD}/{best}" in out
    assert "Of 3 jobs: 1 failed" in out
    single = helpers.run(basic.parent / "single", "optimizer.lr=4e-4")
    assert same(last(basic / "2")["state_dict"], last(single)["state_dict"])
    assert same(last(basic / "2")["optimizer_states"], last(single)["optimizer_states"])


def test_a_sweep_is_continued(basic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command, or its folder, runs nothing again; a failed job is only run again if asked for."""
    ran: list[Any] = []
    monkeypatch.setattr(job, "execute", lambda name, overrides, folder, *_, **__: ran.append(folder.name) or (1, "no"))
    folder = basic.parent
    typed = ("-m", *SMALL, "optimizer.lr=1e-4,-1,4e-4", f'hydra.sweep.dir="{ODD}"')
    for again in (typed, (f"sweep={ODD}",), (f"sweep={ODD}", "retry_failed=true")):
        assert command("train", *again, cwd=folder).returncode == sweep.SOME_FAILED
    assert ran == ["1"]
    assert rows(basic)["1"]["reason"] == "no"

    other = command("train", "-m", *SMALL, "optimizer.lr=2e-4", f'hydra.sweep.dir="{ODD}"', cwd=folder)
    assert other.returncode == 1
    assert other.stderr.startswith(f"hydra.sweep.dir={ODD}: holds another sweep, of {SMALL[0]} ")
    with FileLock(basic / ".lock"):
        held = command("train", f"sweep={ODD}", cwd=folder)
    assert held.stderr == f"hydra.sweep.dir={ODD}: another process is running this sweep\n"
    for value, reason in (
        ("single", "this folder holds no sweep: it has no sweep.json"),
        ("none", "no such choice; allowed: lr, recipe"),
    ):
        done = command("train", f"sweep={value}", cwd=folder)
        assert (done.returncode, done.stderr) == (1, f"sweep={value}: {reason}\n")
    done = command("evaluate", f"sweep={ODD}", cwd=folder)
    assert done.stderr == f"sweep={ODD}: this folder holds a sweep of gan_lightning.train\n"


def test_a_stopped_sweep_is_found_by_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def execute(name: str, overrides: list[str], folder: Path, *_: Any, **__: Any) -> tuple[int, str]:
        ran.append(f"{folder.parent.name} {folder.name}")
        return (143 if len(ran) in (2, 3) else 0), ""

    monkeypatch.setattr(job, "execute", execute)
    first = command("train", "-m", "seed=0,1", cwd=tmp_path)
    assert first.returncode == 143  # in the second job
    other = command("train", "-m", "seed=0,1,2", cwd=tmp_path)
    assert other.returncode == 143  # in its first job: not the same sweep
    again = command("train", "-m", "seed=0,1", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "Continuing outputs/sweeps/" in again.stdout
    new = command("train", "-m", "seed=0,1", cwd=tmp_path)
    assert new.returncode == 0, new.stderr
    folders = [name.split()[0] for name in ran]
    assert [name.split()[1] for name in ran] == ["0", "1", "0", "1", "0", "1"]
    assert folders[0] == folders[1] == folders[3]
    assert folders[4] == folders[5]
    assert len({*folders}) == 3


def test_a_sweep_with_other_configs_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(job, "execute", lambda _, o, folder, *__, **___: ran.append(str(folder)) or (143, ""))
    config = tmp_path / "mine" / "loss" / "other.yaml"
    config.parent.mkdir(parents=True)
    for text in ("_target_: gan_lightning.losses.Hinge\n", "_target_: gan_lightning.losses.Wasserstein\n"):
        config.write_text(text)
        for flags in (("--config-dir=mine", "-m"), ("-m", "--config-dir", "mine")):  # in any order
            typed = ("seed=0,1", "loss=other", "penalty=r1")
            assert command("train", *typed, *flags, cwd=tmp_path).returncode == 143
    assert ran[0] == ran[1] != ran[2] == ran[3]


def test_errors_of_the_folder_end_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra would only warn of them."""
    monkeypatch.setattr(job, "execute", lambda *_, **__: (0, ""))
    (tmp_path / "file").write_text("")
    done = command("train", "-m", "seed=0,1", "hydra.sweep.dir=file", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "The sweep's folder: file: File exists\n")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", "summary.html")

    monkeypatch.setattr(sweep, "write_html", full)
    done = command("train", "-m", "seed=0,1", "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "The sweep's folder: summary.html: No space left on device\n")


def test_an_interrupted_job_leaves_the_sweep_unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the launcher goes on with the others."""
    (tmp_path / "0").mkdir()
    job.write_job(tmp_path / "0", ["seed=0"], "interrupted", "SIGTERM")
    (tmp_path / "1").mkdir()
    job.write_job(tmp_path / "1", ["seed=1"], "finished")
    composed = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}, "job": {"name": "sample"}}})
    with pytest.raises(SystemExit) as end:
        sweep.Sweep().on_multirun_end(composed)
    assert end.value.code == sweep.SOME_FAILED
    assert json.loads((tmp_path / "sweep.json").read_text())["ended"] is False


def test_a_launcher_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: Any, **__: Any) -> None:
        raise RuntimeError("a worker process was terminated")

    plugins = Plugins.instance().class_name_to_class
    monkeypatch.setattr(plugins["hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"], "launch", lost)
    done = command("train", "-m", "seed=0,1", "hydra/launcher=joblib", cwd=tmp_path)
    line = "hydra/launcher: RuntimeError: a worker process was terminated; the same command continues the sweep\n"
    assert (done.returncode, done.stderr) == (1, line)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # that of sweeps is gone


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_ctrl_c_saves_the_jobs_of_any_launcher(launcher: str, tmp_path: Path) -> None:
    options = [option for option in SMALL if not option.startswith(("trainer.max_steps", "trainer.val_check"))]
    options += ["trainer.max_steps=100000", "trainer.val_check_interval=100000", f"hydra/launcher={launcher}"]
    typed = ["-m", "gan_lightning.train", "-m", *options, "seed=0,1", "hydra.sweep.dir=sweep"]
    environment = os.environ | {"PYTHONPATH": str(helpers.ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, *typed], cwd=tmp_path, env=environment, start_new_session=True)
    logs = [tmp_path / "sweep" / name / "samples.png" for name in "01"]
    end = time.monotonic() + 120
    while not all(path.exists() for path in logs):  # both are training
        assert time.monotonic() < end
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130
    while {read_json(path.parent / "job.json")["status"] for path in logs} != {"interrupted"}:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert all(last(path.parent)["global_step"] > 0 for path in logs)


KILLER = "+callbacks.signal={_target_: tests.helpers.SignalAt, step: 4, signum: 15}"


@pytest.mark.slow
def test_a_stopped_job_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(helpers.ROOT))
    typed = ("-m", *SMALL, "seed=3", "hydra.sweep.dir=sweep", KILLER)
    folder, alone = tmp_path / "sweep", tmp_path / "alone"
    assert command("train", *typed, cwd=tmp_path).returncode == 143
    assert rows(folder)["0"]["status"] == "interrupted"
    assert last(folder / "0")["global_step"] == 5
    shutil.copytree(folder, alone)

    again = command("train", *typed, cwd=tmp_path)  # the signal comes before the step at which it resumes
    assert again.returncode == 0, again.stderr
    whole = helpers.run(tmp_path / "whole", "seed=3")
    assert same(last(folder / "0")["state_dict"], last(whole)["state_dict"])

    resume(alone / "0", "+callbacks.signal=null")  # a job can also be resumed by itself
    assert rows(alone)["0"]["status"] == "finished"


@pytest.mark.parametrize("launcher", ["joblib", pytest.param("submitit_local", marks=pytest.mark.slow)])
def test_launchers(launcher: str, basic: Path, tmp_path: Path) -> None:
    """Jobs at once, in folders that are named by their overrides, have the results of jobs in turn."""
    keys = ",".join(option.partition("=")[0] for option in SMALL)
    named = f"hydra.job.config.override_dirname.exclude_keys=[{keys}]"
    swept = ("optimizer.lr=1e-4,-1,4e-4", "optimizer/scheduler=linear")
    subdir = "hydra.sweep.subdir=${hydra.job.override_dirname}"
    where = f'hydra.sweep.dir="{ODD}"'
    done = call(
        "-m",
        "gan_lightning.train",
        "-m",
        *SMALL,
        *swept,
        f"hydra/launcher={launcher}",
        named,
        subdir,
        where,
        cwd=tmp_path,
    )
    assert done.returncode == sweep.SOME_FAILED, done.stderr
    assert "Traceback" not in done.stderr
    assert "ConfigStore" not in done.stderr  # a warning of Hydra's
    found = rows(tmp_path / ODD)
    assert sorted(row["status"] for row in found.values()) == ["failed", "finished", "finished"]
    for lr, name in (("0.0001", "0"), ("0.0004", "2")):
        folder = tmp_path / ODD / f"optimizer.lr={lr},optimizer" / "scheduler=linear"
        assert results(folder) == results(basic / name)
        assert same(last(folder)["state_dict"], last(basic / name)["state_dict"])


def test_a_launcher_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = Plugins.instance()
    for launcher, package, extra in (
        ("joblib", "joblib", "sweep"),
        ("submitit_slurm", "submitit", "sweep"),
        ("ray", "ray", "ray"),
    ):
        hidden = {name: kind for name, kind in plugins.class_name_to_class.items() if "launcher" not in name}
        monkeypatch.setattr(plugins, "class_name_to_class", hidden)
        done = command("train", "-m", "seed=0,1", f"hydra/launcher={launcher}", cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.endswith(f"needs hydra-{package}-launcher; pip install 'gan-lightning[{extra}]'\n")


def test_a_sweep_in_which_every_job_fails(tmp_path: Path) -> None:
    done = command("sample", "-m", "checkpoint=none,nothing", "num_images=4,5", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "every job failed"
    (folder,) = (tmp_path / "outputs" / "sweeps").iterdir()
    assert "checkpoint=nothing: no such file" in (folder / "summary.md").read_text()
    one_file = command("sample", "-m", "checkpoint=none", "seed=0,1", f"out={tmp_path}/all.png", cwd=tmp_path)
    assert one_file.returncode == 1
    assert one_file.stderr.startswith(f"out={tmp_path}/all.png: every job would write it")


def test_each_job_has_its_own_output(basic: Path, tmp_path: Path) -> None:
    options = ("num_images=20", "hydra.sweep.dir=sweep", "hydra/launcher=joblib")
    checkpoints = f'checkpoint="{basic}/0","{basic}/2"'
    done = call("-m", "gan_lightning.evaluate", "-m", checkpoints, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert metrics(tmp_path / "sweep" / "0") != metrics(tmp_path / "sweep" / "1")
    assert rows(tmp_path / "sweep")["0"]["parzen_ll"] == str(metrics(tmp_path / "sweep" / "0")["parzen_ll"])


def test_main_is_called_by_a_script(tmp_path: Path) -> None:
    """And ``train.py`` is run by its path; both sweep as ``python -m gan_lightning.train`` does."""
    script = tmp_path / "own.py"
    script.write_text("from gan_lightning.train import main\nif __name__ == '__main__':\n    main()\n")
    for path in (script, Path(sweep.__file__).parents[1] / "train.py"):
        done = call(str(path), "-m", "optimizer.lr=-1,-2", "hydra.sweep.dir=sweep", cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == "every job failed"


def test_only_the_first_of_slurms_tasks_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(job, "execute", lambda *_, **__: ran.append("ran") or (0, ""))
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SLURM_PROCID", "1")
    empty = OmegaConf.create()
    assert job.run("train", ["seed=1"], tmp_path / "0", empty) == {}
    assert not list((tmp_path / "0").iterdir())
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert job.run("train", ["seed=1"], tmp_path / "0", empty)["status"] == "finished"
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert job.run("train", ["seed=1"], tmp_path / "0", empty)["status"] == "finished"
    assert ran == ["ran", "ran"]


def test_a_mistyped_key_stops_a_sweep_before_it_starts(tmp_path: Path) -> None:
    done = command("train", "-m", "optimizer.rate=1,2", "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("optimizer.rate=1,2: no such key; optimizer has")
    assert not list(tmp_path.glob("sweep/*/checkpoints"))


@pytest.mark.slow
def test_all_launchers_give_the_same_metrics(tmp_path: Path) -> None:
    found = []
    with_ray = ["ray"] if find_spec("ray") else []
    for launcher in ("basic", "joblib", "submitit_local", *with_ray):
        options = ("optimizer.lr=1e-4,4e-4", "seed=0,1", f"hydra/launcher={launcher}", f"hydra.sweep.dir={launcher}")
        done = call("-m", "gan_lightning.train", "-m", *SMALL, *options, cwd=tmp_path, OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
        found.append([results(tmp_path / launcher / str(i)) for i in range(4)])
    assert all(each == found[0] for each in found)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_jobs_on_two_devices(launcher: str, tmp_path: Path) -> None:
    options = ("trainer.devices=2", "trainer.strategy=ddp", f"hydra/launcher={launcher}", "hydra.sweep.dir=sweep")
    done = call("-m", "gan_lightning.train", "-m", *SMALL, "seed=0,1", *options, cwd=tmp_path, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "sweep").iterdir() if (path / "checkpoints").exists()} == {"0", "1"}
    assert [path.name for path in tmp_path.iterdir()] == ["sweep"]
    assert [metrics(tmp_path / "sweep" / name)["images_seen"] for name in "01"] == [12 * 64 * 2] * 2
    assert len(rows(tmp_path / "sweep")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_sweep_that_is_killed_three_times(launcher: str, tmp_path: Path) -> None:
    """Has the results of an undisturbed one, and no job has run to its end twice."""
    options = [option for option in SMALL if not option.startswith(("trainer.max_steps", "trainer.val_check"))]
    options += ["trainer.max_steps=300", "trainer.val_check_interval=100", "callbacks.checkpoints.interval=1"]
    typed = ["-m", *options, "optimizer.lr=1e-4,2e-4,4e-4", "seed=0,1,2,3", f"hydra/launcher={launcher}"]
    start = [sys.executable, "-m", "gan_lightning.train", *typed]
    environment = os.environ | {"PYTHONPATH": str(helpers.ROOT), "OMP_NUM_THREADS": "1"}
    for _ in range(3):
        with (tmp_path / "log.txt").open("a") as log:
            killed = subprocess.Popen(
                [*start, "hydra.sweep.dir=cut"], cwd=tmp_path, env=environment, stdout=log, stderr=log
            )
            time.sleep(random.uniform(8, 25))
            assert killed.poll() is None
            killed.send_signal(signal.SIGKILL)
    done = call(*start[1:], "hydra.sweep.dir=cut", cwd=tmp_path, timeout=600, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    done = call(*start[1:], "hydra.sweep.dir=whole", cwd=tmp_path, timeout=600, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    for i in range(12):
        cut, whole = tmp_path / "cut" / str(i), tmp_path / "whole" / str(i)
        assert results(cut) == results(whole)
        assert same(last(cut)["state_dict"], last(whole)["state_dict"])
        assert (cut / "train.log").read_text().count("300 steps, ") == 1
        assert json.loads((cut / "job.json").read_text())["status"] == "finished"
