"""The commands under one name: python -m gan_lightning COMMAND."""

import re
from pathlib import Path

import pytest

import gan_lightning
from gan_lightning.__main__ import overview
from gan_lightning.run.completion import commands
from tests.helpers import call


def test_the_overview_has_every_command() -> None:
    assert {"train", "search", "sample", "evaluate", "export", "train_classifier"} <= set(commands())
    for name in commands():
        assert re.search(rf"^  {name} +[A-Z].*\.$", overview(), re.MULTILINE), name


@pytest.mark.parametrize(
    ("typed", "code", "output"),
    [
        ("--version", 0, f"gan-lightning {gan_lightning.__version__}\n"),
        ("", 0, f"{overview()}\n"),
        ("trian loss=hinge", 1, "trian: no such command; did you mean train?\n"),
        ("xyz", 1, f"xyz: no such command; there are {', '.join(commands())}\n"),
        (
            "train --help k",
            0,
            "  k=2                             updates of D per step, as in the paper's Algorithm 1\n",
        ),
        ("train seed=x", 1, "seed=x: must be a whole number\n"),
    ],
)
def test_commands(typed: str, code: int, output: str, tmp_path: Path) -> None:
    done = call("-m", "gan_lightning", *typed.split(), cwd=tmp_path, COLUMNS="110")
    assert (done.returncode, done.stdout + done.stderr) == (code, output)


def test_other_processes_find_the_command(tmp_path: Path) -> None:
    """Lightning starts further ranks, and joblib its workers, by the name of the main module."""
    program = "import sys; print(sys.modules['__main__'].__spec__.name, sys.argv[1:])"
    (tmp_path / "own.py").write_text(program)
    run = (
        "import sys, gan_lightning.__main__ as m, runpy; sys.argv = ['gan-lightning', 'train', 'k=1']\n"
        "run = runpy.run_module; runpy.run_module = lambda name, **options: run('own', **options)\n"
        "m.main()"
    )
    assert call("-c", run, cwd=tmp_path).stdout == "own ['k=1']\n"
