"""Runs on a folder of pictures: stopped, resumed, evaluated, and with files that have changed meanwhile."""

import itertools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import helpers
from tests.helpers import SMALL, assert_same_run, command, last, resume

CHANGED = "pictures have been added, removed or renamed since the checkpoint was saved"
EXTENSIONS = (".jpg", ".JPG", ".jpeg", ".png", ".PNG", ".webp", ".gif", ".bmp")
STOP = "+callbacks.signal={_target_: tests.helpers.SignalAt, step: 5, signum: 15}"


def typed(root: Path | str, *overrides: str) -> list[str]:
    options = ["data=folder", f"data.root={root}", "data.image_size=8", "data.batch_size=4"]
    streamed = ["data.in_memory=false", "data.num_workers=2"]
    return [*options, *streamed, "data.flip=true", "metrics.parzen.num_validation=2", *overrides]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of 20 pictures."""
    noise = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for i in range(20):
        Image.fromarray(noise.integers(0, 256, (9 + i, 40, 3), np.uint8)).save(tmp_path / "pictures" / f"{i}.jpg")
    return tmp_path / "pictures"


def stopped(run: Path, *overrides: str) -> Path:
    with pytest.raises(SystemExit):
        helpers.run(run, *overrides, STOP)
    assert last(run)["global_step"] == 6
    return run


def test_an_interrupted_run_on_streamed_pictures_gives_the_same_bits(
    pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = helpers.run(tmp_path / "whole", *typed(pictures))
    cut = resume(stopped(tmp_path / "cut", *typed(pictures)), "+callbacks.signal=null")
    assert_same_run(whole, cut)
    assert CHANGED not in caplog.text


def test_a_folder_may_move(pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = helpers.run(tmp_path / "whole", *typed(pictures))
    cut = stopped(tmp_path / "cut", *typed(pictures))
    moved = shutil.move(pictures, tmp_path / "moved")
    resume(cut, "+callbacks.signal=null", f"data.root={moved}", "data.num_workers=0")
    assert_same_run(whole, cut)
    assert CHANGED not in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: shutil.copy(folder / "3.jpg", folder / "20.jpg"),
        lambda folder: (folder / "3.jpg").unlink(),
        lambda folder: (folder / "3.jpg").rename(folder / "three.jpg"),
    ],
    ids=["added", "removed", "renamed"],
)
def test_a_changed_folder_is_noticed(
    pictures: Path, tmp_path: Path, change: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    run = stopped(tmp_path / "run", *typed(pictures))
    change(pictures)
    resume(run, "+callbacks.signal=null")
    (line,) = [record.getMessage() for record in caplog.records if CHANGED in record.getMessage()]
    assert line.startswith(f"data.root={pictures}: ")
    assert "\n" not in line
    assert last(run)["global_step"] == 12


def test_a_damaged_picture_can_be_left_out_when_a_run_is_resumed(pictures: Path, tmp_path: Path) -> None:
    (pictures / "5.jpg").write_bytes((pictures / "5.jpg").read_bytes()[:-200])
    overrides = [*SMALL, *typed("pictures"), "data.val_size=1", "hydra.run.dir=run"]
    refused = command("train", *overrides, cwd=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.startswith("pictures/5.jpg: cannot be read as a picture: ")
    assert refused.stderr.count("\n") == 1
    shutil.copy(pictures / "4.jpg", pictures / "5.jpg")
    run = stopped(tmp_path / "other", *typed(pictures))
    (pictures / "5.jpg").write_bytes(b"")
    resume(run, "+callbacks.signal=null", "data.on_error=skip")
    assert last(run)["global_step"] == 12


def test_a_run_on_pictures_is_sampled_and_evaluated(pictures: Path, tmp_path: Path) -> None:
    done = command("train", *SMALL, *typed("pictures"), "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "20 pictures: 20 resized and cropped" in done.stdout
    for arguments in ("num_images=4", "num_images=4 show=nearest"):
        done = command("sample", "checkpoint=run", *arguments.split(), "out=samples.png", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    broken = (pictures / "0.jpg").read_bytes()
    (pictures / "0.jpg").write_bytes(b"")
    done = command("evaluate", "checkpoint=run", "num_images=20", cwd=tmp_path)
    assert re.fullmatch(r"pictures/0\.jpg: cannot be read as a picture: .*; data\.on_error=skip .*\n", done.stderr)
    for name in ("evaluate", "sample"):
        done = command(name, "checkpoint=run", "num_images=4", "data.on_error=skip", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    (pictures / "0.jpg").write_bytes(broken)
    evaluate = ("evaluate", "checkpoint=run", "num_images=20")
    done = command(*evaluate, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (pictures / "3.jpg").unlink()
    done = command(*evaluate, cwd=tmp_path)
    assert done.returncode == 0
    assert CHANGED in done.stdout + done.stderr


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 60 pictures of the endings, modes and sizes that people have, and of other files."""
    folder, noise = tmp_path_factory.mktemp("mixed"), np.random.default_rng(0)
    for i, extension in zip(range(60), itertools.cycle(EXTENSIONS), strict=False):
        image = Image.fromarray(noise.integers(0, 256, (40 + 3 * i, 120 - i, 3), np.uint8))
        modes = {".png": "RGBA", ".PNG": "L", ".gif": "P"}
        image.convert(modes.get(extension, "RGB")).save(folder / f"{i}{extension}")
    (folder / "._0.png").write_bytes(b"\0\5\26\7")
    (folder / "notes.txt").touch()
    return folder


@pytest.mark.parametrize("overrides", [(), ("data.image_size=[48,64]", "model=dcgan")], ids=["alone", "dcgan"])
def test_a_folder_is_all_that_must_be_said(mixed: Path, tmp_path: Path, overrides: tuple[str, ...]) -> None:
    short = ("trainer.max_steps=2", "trainer.accelerator=cpu", "num_images=50", "callbacks.validation_metrics=null")
    done = command("train", "data=folder", f"data.root={mixed}", *overrides, *short, "hydra.run.dir=run", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "60 pictures: " in done.stdout
    assert "left out: 1 hidden, 1 with the extension .txt" in done.stdout
    assert "50 samples; 6 test and 5 validation images." in " ".join(done.stdout.split())
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {"fid", "kid", "precision", "recall", "clipped_coverage", "sliced_wasserstein", "val_fid"} <= metrics.keys()
    assert metrics["num_images"] == 50
    assert "parzen_ll" not in metrics
    with Image.open(tmp_path / "run" / "samples.png") as samples:
        assert samples.mode == "RGB"


def test_classes_of_pictures_can_be_requested(tmp_path: Path) -> None:
    for name, level in (("cats", 50), ("dogs", 200)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(8):
            Image.new("L", (9, 9), level + i).save(tmp_path / "pictures" / name / f"{i}.png")
    options = ["data=folder", "data.root=pictures", "data.image_size=8", "model.num_classes=2", "hydra.run.dir=run"]
    assert command("train", *SMALL, *options, cwd=tmp_path).returncode == 0
    assert command("sample", "checkpoint=run", "num_images=4", "label=1", "out=dogs.png", cwd=tmp_path).returncode == 0
    done = command("sample", "checkpoint=run", "num_images=4", "label=2", "out=cows.png", cwd=tmp_path)
    assert done.stderr == "label=2: must be 0 to 1\n", done.stderr
    done = command("train", *SMALL, *options[:-2], "model.num_classes=1", cwd=tmp_path)
    assert done.returncode == 1


def test_features_can_be_changed(pictures: Path, tmp_path: Path) -> None:
    run = stopped(tmp_path / "run", *typed(pictures), "metrics.fid=null")
    resume(run, "+callbacks.signal=null", "features=none")
    done = command("evaluate", f"checkpoint={run}", "num_images=20", cwd=tmp_path)
    assert "Features of" not in done.stdout
    done = command("evaluate", f"checkpoint={run}", "num_images=20", "features=random", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "random convolutions" in done.stdout
    done = command("evaluate", f"checkpoint={run}", "num_images=20", "features=mnist", cwd=tmp_path)
    assert done.stderr.startswith("metrics.fid: its features are of images of 28 x 28 pixels"), done.stderr


@pytest.mark.slow  # 3 minutes
def test_evaluation_of_10_000_large_samples_takes_less_than_2_gib(pictures: Path, tmp_path: Path) -> None:
    small = ["model=dcgan", "model.generator.width=4", "model.discriminator.width=4", "callbacks.final_evaluation=null"]
    options = [*typed(pictures), "data.image_size=256", *small, "trainer.max_steps=1", "hydra.run.dir=run"]
    options = [option for option in options if not option.startswith("metrics.parzen")]
    assert command("train", *options, "callbacks.paper_figures=null", cwd=tmp_path).returncode == 0
    code = (
        "import resource, runpy, sys; sys.argv[1:] = ['checkpoint=run'];"
        "runpy.run_module('gan_lightning.evaluate', run_name='__main__', alter_sys=False);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 2 * 2**20  # KiB
