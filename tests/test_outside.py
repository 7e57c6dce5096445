"""Parts in a package of a user's own: what README.md and CONTRIBUTING.md show, done in an empty folder."""

import math
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from tests.helpers import ROOT, SMALL, call, command, last, metrics

DOCUMENTS = (ROOT / "README.md").read_text(), (ROOT / "CONTRIBUTING.md").read_text()
HEAD = re.compile(r"(?:# @package _global_\n)?# (my(?:gan|conf)/\S+)\n")
BLOCKS = [block for document in DOCUMENTS for block in re.findall(r"```\w+\n(.*?)```", document, re.DOTALL)]
FILES = {found[1]: block for block in BLOCKS if (found := HEAD.match(block))}
COMMANDS = [shlex.split(line)[2:] for b in BLOCKS if "--config-dir=myconf" in b for line in b.splitlines()]
LOSS, TRAIN, RESUME, SAMPLE, EVALUATE = COMMANDS
SMALL_ANYWHERE = [typed for typed in SMALL if ".widths=" not in typed]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a folder with the files that the documents show, importable as in the folder where a command runs."""
    for name, block in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(block)
    forget()
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    forget()


def forget() -> None:
    """Make the next test import its own copy of the package."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "mygan"]:
        del sys.modules[name]


def contents(file: str) -> dict[str, Any]:
    """Return what a file of the package defines."""
    names: dict[str, Any] = {}
    exec(FILES[file], names)
    return names


def only_run(folder: Path) -> Path:
    (run,) = (folder / "outputs").glob("*/*")
    return run


def test_the_documents_show_one_of_each() -> None:
    parts = ("losses", "penalties", "networks", "data", "metrics")
    groups = ("loss", "penalty", "model", "data", "metrics", "experiment")
    assert {name.rpartition("/")[0] for name in FILES} == {"mygan", *(f"myconf/{group}" for group in groups)}
    assert {Path(name).stem for name in FILES if name.endswith(".py")} == set(parts)


def test_a_loss_is_short() -> None:
    """At most 15 lines of Python and 3 of YAML."""
    for file, most in (("mygan/losses.py", 15), ("myconf/loss/dual_contrastive.yaml", 3)):
        assert len([line for line in FILES[file].splitlines() if line.strip()]) <= most


def test_the_loss_is_its_equation() -> None:
    loss = contents("mygan/losses.py")["DualContrastive"]()
    real, fake = (torch.randn(n, 1, dtype=torch.float64, requires_grad=True) for n in (4, 3))
    x, g = real.flatten().tolist(), fake.flatten().tolist()
    expected = -sum(math.log(math.exp(a) / (math.exp(a) + sum(map(math.exp, g)))) for a in x) / 4
    expected -= sum(math.log(math.exp(-b) / (math.exp(-b) + sum(math.exp(-a) for a in x))) for b in g) / 3
    assert loss.discriminator(real, fake).item() == pytest.approx(expected, rel=1e-12)
    assert loss.generator(fake, real).item() == pytest.approx(-expected, rel=1e-12)
    gradients = torch.autograd.grad(loss.discriminator(real, fake), [real, fake])
    assert (gradients[0] < 0).all()
    assert (gradients[1] > 0).all()


@pytest.mark.parametrize(("slope", "excess"), [(0.0, 0.0), (0.9, 0.0), (3.0, 2.0)])
def test_the_penalty_is_one_sided(slope: float, excess: float) -> None:
    penalty = contents("mygan/penalties.py")["OneSided"](gamma=10.0)
    images = torch.randn(2, 5, 1, 4, 4, dtype=torch.float64)
    value = penalty(lambda x: slope * x.sum((1, 2, 3)).unsqueeze(1) / 4, *images)  # 16 pixels: the norm is the slope
    assert value.item() == pytest.approx(10 * excess**2)


def test_the_data_set_is_bars() -> None:
    bars = contents("mygan/data.py")["Bars"]("", train=True, size=50)
    for index in range(50):
        image, label = bars[index]
        pixels = np.asarray(image) > 0
        assert pixels.all(axis=1 - label).sum() == 1
        assert pixels.sum() == 8


@pytest.mark.parametrize(
    ("choice", "key", "name"),
    [
        ("penalty=one_sided", "penalty", "OneSided"),
        ("model=two_layers", "model.generator", "Generator"),
        ("data=bars", "data.dataset", "Bars"),
        ("metrics=with_brightness", "metrics.brightness_gap", "BrightnessGap"),
    ],
)
def test_each_by_itself(project: Path, choice: str, key: str, name: str) -> None:
    typed = [*(SMALL_ANYWHERE if choice.startswith("model") else SMALL), f"data.root={ROOT / 'data'}"]
    done = command("train", "--config-dir=myconf", choice, *typed, cwd=project)
    assert done.returncode == 0, done.stderr
    config = OmegaConf.load(only_run(project) / ".hydra" / "config.yaml")
    assert OmegaConf.select(config, f"{key}._target_").endswith(f".{name}")


def test_the_command_of_the_loss(project: Path) -> None:
    done = call(*("-m", LOSS[0], *LOSS[1:]), *SMALL, f"data.root={ROOT / 'data'}", cwd=project)
    assert done.returncode == 0, done.stderr
    loss = OmegaConf.load(only_run(project) / ".hydra" / "config.yaml").loss
    assert loss == OmegaConf.create(FILES["myconf/loss/dual_contrastive.yaml"])


def test_all_together(project: Path) -> None:
    """Train, resume, sample and evaluate, by the commands of CONTRIBUTING.md but for their length."""

    def run(typed: list[str], *short: str) -> str:
        name, arguments = (
            typed[0].rpartition(".")[2],
            [f"checkpoint={only_run(project)}" if t == "checkpoint=RUN" else t for t in typed[1:]],
        )
        done = command(name, *arguments, *short, cwd=project)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(TRAIN, *SMALL_ANYWHERE)
    assert "brightness_gap" in metrics(only_run(project))
    run(RESUME, "trainer.max_steps=15")
    assert last(only_run(project))["global_step"] == 15
    assert "samples.png" in run(SAMPLE)
    assert "brightness_gap" in run(EVALUATE, "num_images=100", "metrics.nearest_training=null")


@pytest.mark.parametrize(
    ("precision", "devices"),
    [
        pytest.param("bf16-mixed", 2, marks=pytest.mark.slow),
        pytest.param("32-true", 2, marks=pytest.mark.slow),
        ("bf16-mixed", 1),
    ],
)
def test_precisions_and_processes(project: Path, precision: str, devices: int) -> None:
    options = [f"trainer.precision={precision}", f"trainer.devices={devices}", "trainer.strategy=ddp"]
    done = call("-m", TRAIN[0], *TRAIN[1:], *SMALL_ANYWHERE, *options, cwd=project)
    assert done.returncode == 0, done.stderr
    assert last(only_run(project))["global_step"] == 12
    values = metrics(only_run(project))
    assert all(map(math.isfinite, values.values()))
    assert values["images_seen"] == 12 * 64 * devices


@pytest.mark.parametrize(
    ("files", "typed", "line"),
    [
        # the file's place
        (
            {},
            "loss=dual_contrastive",
            "no such choice; to use myconf/loss/dual_contrastive.yaml, add --config-dir=myconf",
        ),
        (
            {},
            "--config-dir=myconf/loss loss=dual_contrastive",
            r"no such choice; use --config-dir=myconf, the folder that holds loss/",
        ),
        (
            {"myconf/mine.yaml": ""},
            "--config-dir=myconf loss=mine",
            "no such choice; myconf/mine.yaml must be myconf/loss/mine.yaml",
        ),
        (
            {"myconf/losses/mine.yaml": ""},
            "--config-dir=myconf loss=mine",
            "no such choice; myconf/losses/mine.yaml must be myconf/loss/mine.yaml",
        ),
        (
            {"myconf/loss/mine.yml": ""},
            "--config-dir=myconf loss=mine",
            "no such choice; myconf/loss/mine.yml must be myconf/loss/mine.yaml",
        ),
        ({}, "--config-dir=myconf loss=mine", "no such choice; allowed: dual_contrastive, hinge"),
        ({}, "--config-dir myconf loss=mine", "no such choice; allowed: dual_contrastive, hinge"),
        ({}, "--config-dir", "--config-dir: a folder is required"),
        ({}, "--config-dir=other loss=mine", "Additional config directory '.*other' not found"),
        (
            {"myconf/loss/hinge.yaml": "_target_: mygan.losses.DualContrastive"},
            "--config-dir=myconf loss=hinge",
            "loss=hinge: myconf/loss/hinge.yaml has the name of a choice of gan-lightning; rename it",
        ),
        # its contents
        (
            {"myconf/loss/mine.yaml": ""},
            "--config-dir=myconf loss=mine",
            r"loss=\{\}: its class is missing; .*_target_",
        ),
        (
            {"myconf/loss/mine.yaml": "a: 1"},
            "--config-dir=myconf loss=mine",
            "loss=.*: its class is missing; .*_target_",
        ),
        (
            {"myconf/loss/mine.yaml": "_target_: a.B\n\ta: 1"},
            "--config-dir=myconf loss=mine",
            ".*myconf/loss/mine.yaml, line 2: not valid YAML: found character",
        ),
        # the class
        (
            {},
            "loss._target_=mygan.losses.DualContrastiv",
            "mygan.losses has no DualContrastiv; did you mean mygan.losses.DualContrastive?",
        ),
        ({}, "loss._target_=mygan.loses.DualContrastive", r"mygan has no loses; did you mean mygan.losses\?"),
        ({}, "loss._target_=mygans.losses.X", "No module named 'mygans' in this folder or on PYTHONPATH"),
        ({}, "loss._target_=mygan.losses", "must be a class or a function, and is a module"),
        ({}, "loss._target_=DualContrastive", "must be MODULE.CLASS"),
        ({}, "loss._target_=mygan/losses.py", "must be MODULE.CLASS"),
        (
            {"mygan/mine.py": "import nonsense"},
            "loss._target_=mygan.mine.X",
            "cannot be imported: ModuleNotFoundError: No module named 'nonsense'",
        ),
        ({"mygan/mine.py": "class X:"}, "loss._target_=mygan.mine.X", r"cannot be imported: \w+: .*mine.py, line 1"),
        ({}, "--config-dir=myconf loss=dual_contrastive +loss.a=1", "loss.a=1: no such key; loss takes none"),
    ],
)
def test_mistakes(project: Path, files: dict[str, str], typed: str, line: str) -> None:
    for name, text in files.items():
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(text)
    done = command("train", "trainer.accelerator=cpu", "trainer.max_steps=1", *typed.split(), cwd=project)
    assert done.returncode == 1
    assert re.match(f"(loss[^ ]*: )?{line}", done.stderr), done.stderr
    assert done.stderr.count("\n") == 1
    assert not [path for path in project.glob("outputs/**/*") if path.is_file()]


ODD = """
import torch
from torchmetrics import Metric

def two_arguments(discriminator, real): ...
def per_image(discriminator, real, fake): return discriminator(real).square()
def nothing(discriminator, real, fake): ...

class Text(Metric):
    def update(self, images, *, real): ...
    def compute(self): return "much"
"""


@pytest.mark.parametrize(
    ("files", "typed", "line"),
    [
        (
            {"myconf/penalty/odd.yaml": "_target_: mygan.odd.two_arguments\n_partial_: true"},
            "penalty=odd",
            r"penalty: fails on D and images of each kind: two_arguments\(\) takes 2",
        ),
        (
            {"myconf/penalty/odd.yaml": "_target_: mygan.odd.per_image\n_partial_: true"},
            "penalty=odd",
            "penalty: must return a scalar",
        ),
        (
            {"myconf/penalty/odd.yaml": "_target_: mygan.odd.nothing\n_partial_: true"},
            "penalty=odd",
            "penalty: must return a scalar",
        ),
        ({}, "penalty.gamma=-1", "penalty.gamma=-1.0: must be at least 0"),
        ({}, "model.image_shape=[1,9,9]", r"model.image_shape=\[1, 9, 9\]: must be \[1, 8, 8\] for this data set"),
        ({}, "model.num_classes=1", "model.num_classes=1: must be at least 2 for this data set"),
        (
            {"myconf/data/bars.yaml": FILES["myconf/data/bars.yaml"].replace("# @package _global_", "")},
            "",
            "data/bars.yaml: must begin with # @package _global_",
        ),
        (
            {"myconf/data/bars.yaml": "defaults:\n  - mnist\ndata:\n  dataset:\n    _target_: mygan.data.Bars\n"},
            "",
            "data.data=.*must begin with # @package _global_",
        ),
        (
            {"myconf/experiment/bars.yaml": FILES["myconf/experiment/bars.yaml"].replace("# @package _global_", "")},
            "",
            "experiment/bars.yaml: must begin with # @package _global_",
        ),
        (
            {"myconf/data/bars.yaml": FILES["myconf/data/bars.yaml"].replace("features: random", "features: mnist")},
            "",
            "metrics.fid: its features are of images of 28 x 28 pixels, and image_shape has 8 x 8; use features=random",
        ),
    ],
)
def test_parts_that_do_not_fit(project: Path, files: dict[str, str], typed: str, line: str) -> None:
    for name, text in ({"mygan/odd.py": ODD} | files).items():
        (project / name).write_text(text)
    small = ("trainer.accelerator=cpu", "trainer.max_steps=1")
    done = command("train", "--config-dir=myconf", "experiment=bars", *small, *typed.split(), cwd=project)
    assert done.returncode == 1
    assert re.match(line, done.stderr), done.stderr
    assert done.stderr.count("\n") == 1


def test_a_metric_is_a_number(project: Path) -> None:
    (project / "mygan" / "odd.py").write_text(ODD)
    typed = (
        "--config-dir=myconf",
        "experiment=bars",
        *SMALL_ANYWHERE,
        "metrics.brightness_gap._target_=mygan.odd.Text",
    )
    done = command("train", *typed, cwd=project)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("metrics.brightness_gap: compute() must return a number")


def test_a_folder_with_the_files_of_this_project(project: Path) -> None:
    """Files of the same name are the same file."""
    (project / "link").symlink_to(ROOT / "conf")
    done = command("train", "--config-dir=link", "loss=hinge", "k=0", cwd=project)
    assert done.stderr.startswith("k=0: "), done.stderr
    shutil.copytree(ROOT / "conf", project / "copy")
    done = command("train", "--config-dir=copy", "loss=hinge", "k=0", cwd=project)
    assert "has the name of a choice of gan-lightning" in done.stderr
