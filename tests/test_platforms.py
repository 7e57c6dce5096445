"""What Windows and macOS lack: no command but a sweep needs it."""

import re
import sys
from pathlib import Path

import pytest

from gan_lightning.errors import InputError
from gan_lightning.run import sweep
from gan_lightning.run.config_files import PACKAGE
from tests.helpers import ROOT, call

# Removed once the libraries, which know their platforms, have been imported
PREAMBLE = """
import os, signal, sys
import filelock, hydra, matplotlib.pyplot, PIL.Image, pytorch_lightning, rich.progress, tensorboard, torch, torchmetrics
import torch.utils.tensorboard, torchvision
for module, names in (
    (os, "sched_getaffinity sysconf killpg getpgid getuid fork forkpty setsid register_at_fork statvfs"),
    (signal, "pthread_sigmask sigwaitinfo sigtimedwait setitimer alarm"),
):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
for name in ("fcntl", "resource", "pwd", "termios"):
    sys.modules[name] = None
sys.platform = "darwin"
from pathlib import Path
from tests.helpers import ROOT, SMALL, command
for typed in (
    ("train", *SMALL, "hydra.run.dir=run", f"data.root={ROOT / 'data'}"),
    ("sample", "checkpoint=run", "num_images=4"),
    ("evaluate", "checkpoint=run", "num_images=100", *(a for a in SMALL if a.startswith("metrics."))),
):
    done = command(*typed, cwd=Path())
    print(typed[0], done.returncode, done.stderr)
"""


def test_train_sample_and_evaluate_without_what_linux_has(tmp_path: Path) -> None:
    done = call("-c", PREAMBLE, cwd=tmp_path, OMP_NUM_THREADS="1")
    assert done.stdout.split() == ["train", "0", "sample", "0", "evaluate", "0"], done.stdout + done.stderr
    assert (tmp_path / "samples.png").exists()


@pytest.mark.parametrize(
    ("name", "typed"), [("train", ["-m", "k=1,2"]), ("train", ["--multirun", "sweep=lr"]), ("search", ["k=1,2"])]
)
def test_a_sweep_on_windows_is_one_line(name: str, typed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(InputError, match=r"sweeps and searches need the signals of Linux or macOS; use WSL$"):
        sweep.arguments_for(name, typed)
    assert sweep.arguments_for("train", ["k=1"]) == ["k=1"]


def test_names_of_files_are_allowed_on_windows() -> None:
    for path in [*PACKAGE.rglob("*"), *(ROOT / "conf").rglob("*")]:
        assert not re.search(r'[<>:"|?*\\]', path.name), path
    config = (ROOT / "conf" / "train.yaml").read_text(encoding="utf-8")
    (time,) = re.findall(r"\$\{now:([^}]+)\}", config)
    assert ":" not in time


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_text_is_utf8_on_every_platform(path: Path) -> None:
    """Windows' default encoding is another one, and conf/ has Greek letters."""
    for call_ in re.findall(r"\.(?:read_text|write_text)\([^\n]*", path.read_text(encoding="utf-8")):
        if path.stem not in ("openmp", "processes"):  # files of Linux, in ASCII
            assert 'encoding="utf-8"' in call_ or "json.dumps" in call_, call_


def test_the_output_of_windows_code_pages(tmp_path: Path) -> None:
    typed = ("--help", "penalty=wgan_gp")
    done = call("-m", "gan_lightning.train", *typed, cwd=tmp_path, PYTHONIOENCODING="cp1252")
    assert "weight, the paper's ?" in done.stdout, done.stderr
