"""Completion in a shell."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gan_lightning.run.completion import BASH, answers
from tests.helpers import ROOT, call


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("python -m gan_lightning.tr", ["gan_lightning.train ", "gan_lightning.train_classifier "]),
        ("python -m gan_lightning ev", ["evaluate "]),
        ("/opt/python3 -m gan_lightning train loss=hi", ["loss=hinge "]),
        ("gan-lightning train lo", ["logger.", "logger=", "loss.", "loss="]),
        ("gan-lightning train -m loss=hinge,w", ["loss=hinge,wasserstein "]),
        ("gan-lightning train optimizer/", ["optimizer/scheduler="]),
        (
            "gan-lightning train optimizer/scheduler=co",
            ["optimizer/scheduler=constant ", "optimizer/scheduler=cosine "],
        ),
        ("gan-lightning train trainer.max_s", ["trainer.max_steps="]),
        ("gan-lightning train model.gen", ["model.generator."]),
        ("gan-lightning train compile=", ["compile=false ", "compile=true "]),
        ("gan-lightning train experiment=ring data.dataset.la", ["data.dataset.layout="]),
        ("gan-lightning train --in", ["--info "]),
        ("gan-lightning sample --in", []),
        ("gan-lightning train --help lo", ["logger ", "loss "]),
        ("gan-lightning search sear", ["search.", "search="]),
        ("gan-lightning search loss=hi", ["loss=hinge "]),
        ("gan-lightning train checkpoint=ou", []),  # a shell completes files
        ("gan-lightning trian lo", []),
        ("python script.py lo", []),
    ],
)
def test_answers(line: str, expected: list[str]) -> None:
    assert answers(line) == expected


def test_a_sample_has_no_loss() -> None:
    assert "show=" in answers("gan-lightning sample ")
    assert not [word for word in answers("gan-lightning sample ") if word.startswith("loss")]


@pytest.mark.skipif(not shutil.which("bash"), reason="completes for bash")
@pytest.mark.parametrize(
    ("line", "expected"),
    [("python -m gan_lightning.train loss=hi", ["hinge "]), ("python -m gan_lightning sam", ["sample "])],
)
def test_bash(line: str, expected: list[str], tmp_path: Path) -> None:
    (tmp_path / "python").symlink_to(sys.executable)
    words = line.replace("=", " = ").split()
    script = f'{BASH}\nCOMP_LINE="{line}"; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=({" ".join(words)})\n'
    script += "_gan_lightning; printf '%s\\n' \"${COMPREPLY[@]}\""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == expected, done.stderr


def test_neither_torch_nor_hydra_is_imported(tmp_path: Path) -> None:
    program = (
        "import sys, runpy; sys.argv = ['gan-lightning', 'complete', 'gan-lightning train loss=hi']\n"
        "runpy.run_module('gan_lightning', run_name='__main__')\n"
        "print({'torch', 'hydra', 'omegaconf'} & set(sys.modules))"
    )
    assert call("-c", program, cwd=tmp_path).stdout == "loss=hinge \nset()\n"
