"""Paths with any characters, with ``~``, and with ``hydra.job.chdir=true``."""

import os
import re
import shlex
import string
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from gan_lightning.run import config
from tests.helpers import ROOT, SMALL, command, last

# Everything that Hydra or a shell reads in another way
NAME = "~ é " + string.punctuation.replace("/", "").replace("${", "{$") + "\\"
KILLER = "+callbacks.signal={_target_: tests.helpers.SignalAt, step: 4, signum: 15}"


def typed(key: str, path: Path | str) -> str:
    """Return an override as a command receives it from a shell."""
    (word,) = shlex.split(config.argument(key, path))
    return word


def paste(line: str, cwd: Path) -> None:
    """Run a printed command in a shell."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path}
    done = subprocess.run(["bash", "-c", line], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", ["a/b-1.ckpt", "-x", "~/x", "~x", "a\nb", NAME, *"\\\"'$,=[{"])
def test_a_printed_argument_is_read_as_it_is(path: str) -> None:
    composed = config.compose("sample", [config.expand_home(typed("checkpoint", path))])
    assert Path(composed.checkpoint) == Path(path)
    assert config.argument("checkpoint", "a/b-1.ckpt") == "checkpoint=a/b-1.ckpt"


@pytest.mark.slow
def test_a_run_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every printed command runs in a shell, and the commands read what Hydra's escapes spell."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    cwd, run = tmp_path / NAME, tmp_path / NAME / "-é" / NAME
    (cwd / NAME).mkdir(parents=True)
    (cwd / NAME / "data=1").symlink_to(ROOT / "data")
    arguments = [typed("hydra.run.dir", f"-é/{NAME}"), typed("data.root", f"{NAME}/data=1"), KILLER]
    stopped = command("train", *SMALL, *arguments, cwd=cwd)
    assert stopped.returncode == 143, stopped.stderr
    (resume,) = re.findall(r"To resume:\n  (.*)$", stopped.stdout, re.MULTILINE)
    paste(resume, cwd)
    assert last(run)["global_step"] == 12
    log = (run / "train.log").read_text()
    printed = dict(re.findall(r"INFO (more samples|evaluate|train longer) +(.*)$", log, re.MULTILINE))
    slow = " ".join(f"metrics.{name}=null" for name in ("parzen", "fid", "kid", "precision_recall", "modes"))
    paste(f"{printed['more samples']} && {printed['evaluate']} {slow} metrics.nearest_training=null", cwd)
    assert (cwd / "samples.png").exists()
    paste(printed["train longer"], cwd)
    assert last(run)["global_step"] == 24
    assert list((run / "tensorboard").iterdir())

    (cwd / "k=1").symlink_to(run)
    for name, *more in (("sample", "out=a\\=1/b.png"), ("train", "trainer.max_steps=26"), ("export", "out=c\\,d.onnx")):
        done = command(name, "checkpoint=k\\=1/checkpoints/last.ckpt", "trust=tests", *more, cwd=cwd)
        assert done.returncode == 0, done.stderr
    assert (cwd / "a=1" / "b.png").exists()
    assert (cwd / "c,d.onnx").exists()
    assert last(run)["global_step"] == 26


@pytest.mark.slow
def test_a_sweep_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in its first job, it is resumed by the same command; a relative path is that of the command's folder."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    folder = tmp_path / NAME
    folder.mkdir()
    (folder / "here").symlink_to(ROOT / "data")
    arguments = ("-m", *SMALL, typed("hydra.sweep.dir", NAME), "seed=3", "data.root=here", KILLER)
    stopped = command("train", *arguments, "hydra.job.chdir=true", cwd=folder)
    assert stopped.returncode == 143, stopped.stderr
    done = command("train", *arguments, "hydra.job.chdir=true", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f"Best run: {NAME}/0\n" in done.stdout
    assert (folder / NAME / "summary.csv").exists()
    assert last(folder / NAME / "0")["global_step"] == 12
    assert {path.name for path in folder.iterdir()} == {NAME, "here"}


def test_what_hydra_cannot_do_is_one_line(tmp_path: Path) -> None:
    refused = command("train", "hydra.run.dir='a/${x}'", cwd=tmp_path)
    assert (refused.returncode, refused.stderr) == (1, "hydra.run.dir: Interpolation key 'x' not found\n")
    (tmp_path / "${x}").mkdir()
    refused = command("train", cwd=tmp_path / "${x}")
    assert refused.returncode == 1
    assert re.fullmatch(r".*/\$\{x\}: .*\$\{ in its name.*\n", refused.stderr), refused.stderr


@pytest.mark.parametrize(
    ("home", "argument", "value"),
    [
        ("/home/me", "out=~/x.png", "/home/me/x.png"),
        ("/home/me", "out=~/k\\=1.png", "/home/me/k=1.png"),
        ("/home/mé", "out=~/x.png", "/home/mé/x.png"),
        ("/home/mé", "out='~/a b'", "/home/mé/a b"),
        ("/home/me", 'out="~/a\'b"', "/home/me/a'b"),
        ("/home/me", "out='~x/y'", "~x/y"),
        ("/home/me", "out=a~/y", None),
    ],
)
def test_the_home_folder_is_typed_as_a_tilde(
    monkeypatch: pytest.MonkeyPatch, home: str, argument: str, value: str | None
) -> None:
    monkeypatch.setenv("HOME", home)
    expanded = config.expand_home(argument)
    if value is None:
        assert expanded == argument
    else:
        (override,) = OverridesParser.create().parse_overrides([expanded])
        assert str(override.value()) == value


def test_the_home_folder_in_commands(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run").symlink_to(run)
    (tmp_path / "data").symlink_to(ROOT / "data")
    (tmp_path / "cwd").mkdir()
    arguments = ("checkpoint=~/run", "data.root=~/data", "out='~/a b.png'", "show=nearest", "num_images=4")
    done = command("sample", *arguments, cwd=tmp_path / "cwd")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "a b.png").exists()
    assert not list((tmp_path / "cwd").iterdir())


def test_paths_in_a_file_of_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may begin with ``~/``, and do not change with the folder of a job."""
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "own.safetensors").touch()
    paths = {
        "data": {"root": "~/data"},
        "features": {"weights": "own.safetensors"},
        "out": "a.json",
        "checkpoint": None,
    }
    metric = {"metrics": {"fid": {"features": {"weights": "mnist.safetensors"}}}}
    resolved = config.resolve_paths(OmegaConf.create(paths | metric))
    assert resolved == paths | metric | {"data": {"root": "/home/me/data"}}
    monkeypatch.setattr(config, "start_folder", lambda: tmp_path / "start")
    resolved = config.resolve_paths(OmegaConf.create(paths | metric))
    assert resolved.data.root == "/home/me/data"
    assert resolved.features.weights == f"{tmp_path}/start/own.safetensors"
    assert resolved.metrics.fid.features.weights == "mnist.safetensors"  # one of the package's
    assert (resolved.out, resolved.checkpoint) == (f"{tmp_path}/start/a.json", None)


def test_a_job_may_change_its_folder(tmp_path: Path) -> None:
    """Paths that were typed, and those that are printed, are relative to the folder of the command."""
    (tmp_path / "here").symlink_to(ROOT / "data")
    chdir = "hydra.job.chdir=true"
    done = command("train", *SMALL, chdir, "hydra.run.dir=a/run", "data.root=here", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "a" / "run"
    printed = dict(re.findall(r"^(run folder|\w[\w ]+?) {2,}(.*)$", done.stdout, re.MULTILINE))
    assert (printed["run folder"], printed["samples"]) == ("a/run", "a/run/samples.png")
    words = shlex.split(printed["train longer"])
    again = command("train", *words[words.index("gan_lightning.train") + 1 :], chdir, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert last(run)["global_step"] == 24
    other = ("hydra.run.dir=elsewhere", "checkpoint=a/run", "num_images=4")
    done = command("sample", chdir, *other, "data.root=here", "show=nearest", "out=b/c.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b" / "c.png").exists()
    refused = command("train", chdir, "hydra.run.dir=refused", "loss=x", cwd=tmp_path)
    assert refused.returncode == 1
    refused = command("train", chdir, "hydra.run.dir=refused", "optimizer.lr=-1", cwd=tmp_path)
    assert refused.returncode == 1
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "here"}
