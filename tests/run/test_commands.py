"""The commands as they are typed, and every command in the README."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torchmetrics import Metric

import gan_lightning
from gan_lightning import sampling
from gan_lightning.data.images import to_pixels
from gan_lightning.run import config, sweep
from tests.helpers import ROOT, SMALL, call, command

README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"```(?:bash|sh)\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.strip() and not line.lstrip().startswith("#")
]


def test_garbage_is_collected_again_after_the_imports(run: Path, tmp_path: Path) -> None:
    program = (
        "import gc, sys\n"
        "from gan_lightning.run.cli import command\n"
        f"sys.argv = ['export', 'checkpoint={run}']\n"
        "command('export')(lambda config: print('torch' in sys.modules, gc.isenabled()))()"
    )
    assert call("-c", program, cwd=tmp_path).stdout == "True True\n"


def test_sample(run: Path, tmp_path: Path) -> None:
    done = command("sample", f"checkpoint={run}", "num_images=600", "seed=5", "out=a/samples.npz", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "a/samples.npz\n", "")
    array = np.load(tmp_path / "a" / "samples.npz")["arr_0"]
    assert (array.shape, array.dtype) == ((600, 28, 28, 1), np.uint8)
    images = torch.cat(list(sampling.sample(gan_lightning.load(run), 600, seed=5)))
    assert np.array_equal(array, to_pixels(images).permute(0, 2, 3, 1).numpy())
    for n, out in ((9, "grid.png"), (3, "folder")):
        done = command("sample", f"checkpoint={run}", f"num_images={n}", "seed=5", f"out={out}", cwd=tmp_path)
        assert done.stdout == f"{out}\n"
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.size == (92, 92)
    names = sorted(p.name for p in (tmp_path / "folder").iterdir())
    assert names == ["000000.png", "000001.png", "000002.png"]
    with Image.open(tmp_path / "folder" / "000002.png") as picture:
        assert np.array_equal(np.asarray(picture), array[2, :, :, 0])


@pytest.mark.parametrize(("show", "n", "size"), [("nearest", 4, (234, 32)), ("interpolation", 2, (362, 62))])
def test_sample_makes_the_papers_figures(run: Path, tmp_path: Path, show: str, n: int, size: tuple[int, int]) -> None:
    typed = (f"checkpoint={run}", f"show={show}", f"num_images={n}", "out=figure.png")
    assert command("sample", *typed, cwd=tmp_path).returncode == 0
    with Image.open(tmp_path / "figure.png") as picture:
        assert picture.size == size


def test_export(run: Path, tmp_path: Path) -> None:
    done = command("export", f"checkpoint={run}", "out=a/generator.onnx", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "a/generator.onnx\n", "")
    session = onnxruntime.InferenceSession(tmp_path / "a" / "generator.onnx")
    gan = gan_lightning.load(run)
    for n in (1, 7):  # neither is the number that it was exported with
        z = gan.prior(n)
        (images,) = session.run(["images"], {"latents": z.numpy()})
        assert torch.allclose(torch.from_numpy(images), sampling.generate(gan, z), atol=1e-5)


def test_evaluate_has_the_metrics_of_training(run: Path, tmp_path: Path) -> None:
    slow = ("fid", "kid", "precision_recall", "modes", "nearest_training")
    typed = (f"checkpoint={run}", "num_images=200", *(f"metrics.{metric}=null" for metric in slow))
    done = command("evaluate", *typed, "metrics.parzen.num_validation=100", "out=a/metrics.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "a" / "metrics.json").read_text())
    trained = json.loads((run / "metrics.json").read_text())
    assert found == pytest.approx({name: trained[name] for name in found}, rel=1e-5)
    assert {"parzen_ll", "val_parzen_ll", "accuracy", "val_accuracy", "seed"} <= set(found)
    assert "Parzen LL (nats)" in done.stdout


class Broken(Metric):
    """A user's metric with a fault."""

    def update(self, images: torch.Tensor, real: bool) -> None:
        raise KeyError(real)

    def compute(self) -> torch.Tensor:
        return torch.zeros(())


def test_a_users_metric_that_fails_is_one_line(run: Path, tmp_path: Path) -> None:
    done = command("evaluate", f"checkpoint={run}", f"+metrics.own._target_={__name__}.Broken", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "metrics.own: Broken failed: KeyError: False\n")


@pytest.mark.parametrize(
    ("name", "typed", "line"),
    [
        ("sample", "out=samples.gif", r"out=samples\.gif: must end in \.png .*\.npz"),
        ("sample", "show=tree", "show=tree: must be one of samples, nearest, interpolation"),
        ("sample", "show=walk", "show=walk: must be one of samples, nearest, interpolation"),
        ("sample", "show=interpolation out=lines.npz", r"out=lines\.npz: .*must end in \.png"),
        ("sample", "num_images=0", "num_images=0: .*at least 1"),
        ("sample", "num_image=3", r"num_image=3: no such key; did you mean num_images\?"),
        ("sample", "device=warp", "device=warp: .*must be auto, cpu"),
        ("sample", f"out={ROOT}/Makefile", f"out={ROOT}/Makefile: .*new or empty folder"),
        ("sample", f"out={ROOT}/tests", f"out={ROOT}/tests: .*new or empty folder"),
        ("export", "out=generator.pt", r"out=generator\.pt: must end in \.onnx .*\.html"),
        ("evaluate", "out=metrics.txt", r"out=metrics\.txt: must end in \.json"),
        ("evaluate", "metrics=unheard", "metrics=unheard: no such choice; allowed: default, inception"),
        ("train_classifier", "out=weights.pt", r"out=weights\.pt: must end in \.safetensors"),
        ("train_classifier", "lr=x", "lr=x: must be a number"),
        ("train_classifier", "lr=0", "lr=0.*: must be above 0"),
        ("train_classifier", "weight_decay=-1", "weight_decay=-1.*: must be at least 0"),
        ("sample", "out=null", "out=null: must be a file"),
        ("train_classifier", "out=null", "out=null: must be a file"),
        ("export", "data=kmnist", "data=kmnist: no such key"),
        ("sample", "loss=minimax", "loss=minimax: no such key; --help lists all keys"),
        ("export", "device=cuda", "device=cuda: no such key; --help lists all keys"),
    ],
)
def test_mistakes(run: Path, tmp_path: Path, name: str, typed: str, line: str) -> None:
    checkpoint = [] if name == "train_classifier" else [f"checkpoint={run}"]
    done = command(name, *checkpoint, *typed.split(), cwd=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(f"{line}.*\n", done.stderr), done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["sample", "evaluate", "export", "train"])
def test_a_folder_without_a_checkpoint(name: str, tmp_path: Path) -> None:
    done = command(name, f"checkpoint={tmp_path}", cwd=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(f"checkpoint={tmp_path}: .*no checkpoints/last.ckpt\n", done.stderr), done.stderr


@pytest.mark.parametrize("name", ["sample", "evaluate", "export"])
def test_a_checkpoint_is_required(name: str, tmp_path: Path) -> None:
    done = command(name, cwd=tmp_path)
    assert re.fullmatch(r"checkpoint=\?\?\?: a value is required.*\n", done.stderr), done.stderr
    done = command(name, "checkpoint=null", cwd=tmp_path)
    assert done.stderr == "checkpoint=null: must be a file\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a Linux device that is always full")
@pytest.mark.parametrize(("name", "out"), [("sample", "grid.png"), ("evaluate", "metrics.json")])
def test_a_full_disk(run: Path, tmp_path: Path, name: str, out: str) -> None:
    (tmp_path / out).symlink_to("/dev/full")
    slow = ("kid", "precision_recall", "nearest_training", "parzen", "fid", "modes")
    fast = [f"metrics.{metric}=null" for metric in slow] if name == "evaluate" else []
    done = command(name, f"checkpoint={run}", f"out={out}", "num_images=64", *fast, cwd=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(".*: No space left on device\n", done.stderr), done.stderr


def test_train_prints_commands_that_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default recipe, whose rates fall over the whole run, and with PYTHONPATH set."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = command("train", *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "outputs" / "default").iterdir()
    printed = dict(re.findall(r"^(run folder|\w[\w ]+?) {2,}(.*)$", done.stdout, re.MULTILINE))
    where = run.relative_to(tmp_path)
    assert printed["run folder"] == str(where)
    assert printed["samples"] == f"{where}/samples.png"
    assert printed["TensorBoard"] == "tensorboard --logdir outputs"
    log = (run / "train.log").read_text()
    commands = [printed[name] for name in ("more samples", "evaluate", "train longer", "a page")]
    for line in commands:
        assert line in log
        assert line.startswith(f"PYTHONPATH={ROOT} python -m gan_lightning.")
        assert f" checkpoint={where}/checkpoints/last.ckpt" in line
    assert commands[2].endswith("trainer.max_steps=24")

    sample, evaluate = (shlex.split(line)[3:] for line in commands[:2])
    slow = [
        f"metrics.{name}=null" for name in ("fid", "kid", "precision_recall", "modes", "nearest_training", "parzen")
    ]
    for name, *typed in (sample, [*evaluate, *slow]):
        again = command(name.removeprefix("gan_lightning."), *typed, cwd=tmp_path)
        assert again.returncode == 0, again.stderr
    assert (tmp_path / "samples.png").exists()
    pasted = commands[2].replace(" python ", f" {sys.executable} ")
    again = subprocess.run(pasted, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "The learning rates now fall until step 24 instead of step 12" in again.stdout
    assert json.loads((run / "metrics.json").read_text())["images_seen"] == 24 * 64


def test_train_log_has_the_validations(tmp_path: Path) -> None:
    done = command("train", *SMALL, "name=mine", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "outputs" / "mine").iterdir()
    log = (run / "train.log").read_text()
    for step in (5, 10):
        line = rf"step {step}, .*loss_discriminator [\d.]+.*parzen_ll -?[\d.]+"
        assert re.search(rf"^\d{{4}}-\d\d-\d\d \S+ INFO {line}", log, re.MULTILINE)
        assert re.search(f"^{line}", done.stdout, re.MULTILINE)
    assert "Parzen LL (nats)" in log


def test_a_run_is_not_overwritten(run: Path, tmp_path: Path) -> None:
    before = (run / "metrics.json").read_bytes()
    done = command("train", *SMALL, f"hydra.run.dir={run}", cwd=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(f"hydra.run.dir={run}: .*holds a run.*checkpoint={run}.*\n", done.stderr)
    assert (run / "metrics.json").read_bytes() == before


def test_a_key_that_only_the_resumed_run_has(run: Path, tmp_path: Path) -> None:
    done = command("train", f"checkpoint={run}", "callbacks.mine=null", cwd=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(r"callbacks.mine=null: no such key; .*type \+callbacks.mine=null\n", done.stderr), done.stderr


def test_a_run_that_has_ended_is_not_resumed_elsewhere(run: Path, tmp_path: Path) -> None:
    done = command("train", f"checkpoint={run}", "hydra.run.dir=elsewhere", cwd=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch("trainer.max_steps=12: .*must be more than 12\n", done.stderr), done.stderr


def test_readme_has_commands() -> None:
    assert len(COMMANDS) >= 8
    assert COMMANDS[:2] == ["make train", "make test"]


@pytest.mark.parametrize("line", sorted(set(COMMANDS)))
def test_readme_commands(line: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each with a small run's settings, in this process.

    What needs data or devices that this machine may lack is only composed, a make target is checked for the recipe that
    it would run, and a sweep for its jobs.
    """
    words = shlex.split(line)
    if words[0] == "make":
        dry = subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=True)
        assert {"train": "gan_lightning.train", "test": "pytest", "tensorboard": "tensorboard.main"}[
            words[1]
        ] in dry.stdout
        return
    assert words[:2] == ["python", "-m"], line
    if {"label=7", "--config-dir=myconf"} & set(words):
        return  # tests/run/test_labels.py and tests/test_outside.py
    module, typed = words[2], words[3:]
    if module == "gan_lightning.train":
        resumed = "checkpoint=RUN" in typed
        if resumed:
            shutil.copytree(run, tmp_path / "RUN")
        small = [] if resumed else SMALL
        others = {"experiment=resnet": ("model.",), "experiment=ring": ("model.", "metrics.")}  # which have other keys
        for experiment in others.keys() & set(typed):
            small = [word for word in small if not word.startswith(others[experiment])]
        slow = ("data=", "trainer.accelerator=gpu", "model.num_classes")
        if any(word.startswith(slow) for word in typed):
            typed.insert(0, "--cfg=job")
        typed = [
            word for word in typed if not word.startswith("hydra/launcher=")
        ]  # the jobs of others are not seen here
        keys = {word.split("=")[0] for word in typed}
        typed += [word for word in small if word.split("=")[0] not in keys]
    elif module == "gan_lightning.search":
        typed.insert(0, "--cfg=job")
    else:
        shutil.copytree(run, tmp_path / "RUN")
        slow = [f"metrics.{name}=null" for name in ("fid", "kid", "precision_recall", "parzen", "nearest_training")]
        typed += ["num_images=200", *slow] if module == "gan_lightning.evaluate" else []
    jobs: list[str] = []
    monkeypatch.setattr(sweep, "run_job", lambda name, config: jobs.append(name))
    done = command(module.removeprefix("gan_lightning."), *typed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(jobs) == (0 if "-m" not in typed else 6 if "sweep=lr" in typed else 3)


def test_every_command_has_help(tmp_path: Path) -> None:
    for name in ("train", "search", "sample", "evaluate", "export", "train_classifier"):
        done = command(name, "--help", cwd=tmp_path)
        assert f"python -m gan_lightning.{name} " in done.stdout
        assert (config.CONF / f"{name}.yaml").exists()


def test_info(tmp_path: Path) -> None:
    typed = ("trainer.accelerator=cpu", "k=3", "data.batch_size=10", "trainer.max_steps=7", "name=mine")
    done = command("train", *typed, "--info", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    found = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert found["gan-lightning"] == gan_lightning.__version__
    assert f"torch {torch.__version__.partition('+')[0]}" in found["packages"]
    assert found["data"].endswith("50,000 to train, 10,000 to validate, 10,000 to test; 1 x 28 x 28")
    assert found["discriminator"] == "gan_lightning.networks.mlp.Discriminator, 533,505 parameters"
    assert found["memory"].startswith("38.8 MB of weights")  # 1.51 x 5 + 0.53 x 4 million numbers, and buffers
    assert found["training"] == "7 steps of k=3 x 10 images: 210 images"
    assert found["folder"] == "outputs/mine/DATE_TIME"
    assert not list(tmp_path.iterdir())


def test_info_of_a_run(run: Path, tmp_path: Path) -> None:
    done = command("train", f"checkpoint={run}", "--info", cwd=tmp_path)
    assert f"folder         {run}\n" in done.stdout, done.stderr
    assert "12 steps" in done.stdout
    done = command("train", "--info", "model.latent_dim=-1", cwd=tmp_path)
    assert done.stderr.startswith("model.generator.latent_dim=-1: must be")
