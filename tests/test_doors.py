"""The commands as a user types them, and every command that the README prints."""

import gc
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from gan_lightning import doors, sampling
from gan_lightning.checkpoint import load
from gan_lightning.data.images import to_pixels
from gan_lightning.sampling import draw
from tests.helpers import ROOT, SMALL, call

README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"```(?:bash|sh)\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.strip() and not line.lstrip().startswith("#")
]


def test_garbage_is_looked_for_as_usual_once_all_is_imported() -> None:
    gc.set_threshold(20_000, 1_000)
    doors.import_lightning()
    assert gc.get_threshold() == doors.THRESHOLD
    assert gc.isenabled()
    gc.unfreeze()


def checkpoint(run: Path) -> str:
    return f"checkpoint={run}/checkpoints/last.ckpt"


def sample(run: Path, *arguments: str, cwd: Path) -> None:
    done = call("-m", "gan_lightning.sample", checkpoint(run), *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr


def test_sample_draws_what_the_library_draws(run: Path, tmp_path: Path) -> None:
    sample(run, "num_images=600", "seed=5", "out=a/samples.npz", cwd=tmp_path)
    array = np.load(tmp_path / "a" / "samples.npz")["arr_0"]
    assert (array.shape, array.dtype) == ((600, 28, 28, 1), np.uint8)
    images = torch.cat(list(draw(load(run / "checkpoints" / "last.ckpt"), 600, seed=5)))
    assert np.array_equal(array, to_pixels(images).permute(0, 2, 3, 1).numpy())
    sample(run, "num_images=9", "seed=5", "out=grid.png", cwd=tmp_path)
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.size == (92, 92)
    sample(run, "num_images=3", "seed=5", "out=folder", cwd=tmp_path)
    names = sorted(p.name for p in (tmp_path / "folder").iterdir())
    assert names == ["000000.png", "000001.png", "000002.png"]
    with Image.open(tmp_path / "folder" / "000002.png") as picture:
        assert np.array_equal(np.asarray(picture), array[2, :, :, 0])


def test_sample_makes_the_papers_figures(run: Path, tmp_path: Path) -> None:
    for show, n, size in (("nearest", 4, (234, 32)), ("walk", 2, (362, 62))):
        sample(run, f"show={show}", f"num_images={n}", "out=figure.png", cwd=tmp_path)
        with Image.open(tmp_path / "figure.png") as picture:
            assert picture.size == size


def test_export_gives_the_networks_own_images(run: Path, tmp_path: Path) -> None:
    done = call("-m", "gan_lightning.export", checkpoint(run), "out=a/generator.onnx", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "a/generator.onnx\n", "")
    session = onnxruntime.InferenceSession(tmp_path / "a" / "generator.onnx")
    gan = load(run / "checkpoints" / "last.ckpt")
    for n in (1, 7):  # neither is the number that it was exported with
        latents = gan.latent(n)
        (images,) = session.run(["images"], {"latents": latents.numpy()})
        assert torch.allclose(torch.from_numpy(images), sampling.show(gan, latents), atol=1e-5)


@pytest.mark.parametrize(
    ("door", "argument", "line"),
    [
        ("sample", "out=samples.gif", "out=samples.gif: must end in .png (a grid) or .npz"),
        ("sample", "show=tree", "show=tree: allowed: samples, nearest, walk"),
        ("sample", "show=walk out=walk.npz", "out=walk.npz: show=walk makes one picture, so it must end in .png"),
        ("sample", "num_images=0", "num_images=0: allowed: at least 1"),
        ("sample", "device=warp", "device=warp: this machine has none; allowed: auto, cpu"),
        (
            "sample",
            f"out={ROOT}/Makefile",
            f"out={ROOT}/Makefile: a file; a name without an ending stands for a folder",
        ),
        ("export", "out=generator.pt", "out=generator.pt: must end in .onnx"),
        ("evaluate", "out=figures.txt", "out=figures.txt: must end in .json"),
        ("evaluate", "metrics=unheard", "metrics=unheard: no such choice; allowed: default"),
    ],
)
def test_mistakes(run: Path, tmp_path: Path, door: str, argument: str, line: str) -> None:
    done = call("-m", f"gan_lightning.{door}", checkpoint(run), *argument.split(), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux's disk that is always full")
@pytest.mark.parametrize(("door", "name"), [("sample", "grid.png"), ("evaluate", "figures.json")])
def test_a_full_disk_is_told_in_a_line(run: Path, tmp_path: Path, door: str, name: str) -> None:
    (tmp_path / name).symlink_to("/dev/full")
    done = call("-m", f"gan_lightning.{door}", checkpoint(run), f"out={name}", "num_images=64", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.endswith("No space left on device\n")
    assert "Traceback" not in done.stderr


def test_a_run_that_has_ended_is_not_gone_on_with_elsewhere(run: Path, tmp_path: Path) -> None:
    done = call("-m", "gan_lightning.train", checkpoint(run), "hydra.run.dir=elsewhere", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "trainer.max_steps=12: the checkpoint's run has ended there; allowed: more\n"


def test_the_flag_of_a_sweep_may_stand_anywhere(tmp_path: Path) -> None:
    done = call("-m", "gan_lightning.train", "seed=0", "-m", "k=0", "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert (tmp_path / "sweep" / "0" / "error.txt").read_text() == "k=0: allowed: at least 1"
    assert done.returncode == 1


@pytest.mark.parametrize("door", ["sample", "evaluate"])
def test_a_checkpoint_must_be_named(door: str, tmp_path: Path) -> None:
    done = call("-m", f"gan_lightning.{door}", cwd=tmp_path)
    assert done.stderr == "checkpoint=???: a value is needed, as in checkpoint=VALUE\n"


def test_evaluate_gives_the_figures_of_training(run: Path, tmp_path: Path) -> None:
    done = call("-m", "gan_lightning.evaluate", checkpoint(run), "num_images=1000", "out=figures.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    trained = json.loads((run / "metrics.json").read_text())
    # the run's small metrics choose σ by fewer images: compare what does not depend on it
    for name in ("loss_discriminator", "loss_generator", "probability_real", "accuracy", "val_accuracy"):
        assert figures[name] == pytest.approx(trained[name], rel=1e-5)
    assert "parzen_ll" in done.stdout


def test_train_ends_with_where_things_are(tmp_path: Path) -> None:
    done = call("-m", "gan_lightning.train", *SMALL, "optimizer/scheduler=constant", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "outputs" / "default").iterdir()
    where = run.relative_to(tmp_path)
    for words in (
        f"run folder    {where}",
        f"samples       {where}/samples.png",
        "tensorboard --logdir outputs",
        f"python -m gan_lightning.sample checkpoint={where}/checkpoints/last.ckpt",
        f"python -m gan_lightning.train checkpoint={where}/checkpoints/last.ckpt trainer.max_steps=24",
    ):
        assert words in done.stdout
        assert words in (run / "train.log").read_text()
    again = call(*shlex.split(done.stdout.splitlines()[-1].split("go on")[1])[1:], cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads((run / "metrics.json").read_text())["images_seen"] == 24 * 64


def test_a_run_is_not_written_over(run: Path, tmp_path: Path) -> None:
    before = (run / "metrics.json").read_bytes()
    done = call("-m", "gan_lightning.train", *SMALL, f"hydra.run.dir={run}", cwd=tmp_path)
    assert done.returncode == 1
    expected = f"hydra.run.dir={run}: holds a run, which checkpoint= goes on with; allowed: a new folder\n"
    assert done.stderr == expected
    assert (run / "metrics.json").read_bytes() == before


def test_readme_has_commands() -> None:
    assert len(COMMANDS) >= 8
    assert COMMANDS[:2] == ["make train", "make test"]


@pytest.mark.parametrize("command", sorted(set(COMMANDS)))
def test_readme_commands(command: str, run: Path, tmp_path: Path) -> None:
    """Run each with a small run's settings; a make target is checked for the recipe that it would run."""
    words = shlex.split(command)
    if words[0] == "make":
        import subprocess

        dry = subprocess.run(
            ["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        target = words[1] if len(words) > 1 else "help"
        assert {"train": "gan_lightning.train", "test": "pytest", "tensorboard": "tensorboard.main"}[target] in dry
        return
    assert words[:2] == ["python", "-m"], f"no test knows how to run {command!r}"
    module, arguments = words[2], words[3:]
    arguments = [checkpoint(run) if a.startswith("checkpoint=") else a for a in arguments]
    if module == "gan_lightning.train":
        small = [*SMALL, "trainer.max_steps=2"]
        typed = [a for a in arguments if not a.startswith(("trainer.accelerator", "trainer.max_", "checkpoint"))]
        if any(a.startswith("trainer.devices") for a in typed):
            typed = [a for a in typed if not a.startswith("trainer.devices")] + ["trainer.devices=2"]
        if any(a.startswith(("data=", "model=", "cuda_graphs=")) for a in typed):
            typed.insert(0, "--cfg=job")  # data or a GPU that is not here: compose only; flags stand before overrides
        if any(a.startswith("checkpoint") for a in arguments):
            shutil.copytree(run, tmp_path / "run")
            small, typed = [], [checkpoint(tmp_path / "run")]
        arguments = [*typed, *(a for a in small if a.split("=")[0] not in {t.split("=")[0] for t in typed})]
    if module == "gan_lightning.evaluate":  # all of it is tested above
        arguments += ["num_images=1000", "metrics.kid=null", "metrics.nearest_training=null"]
    done = call("-m", module, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
