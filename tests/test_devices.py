"""Two devices: two processes on the CPU, set up by the keys that several GPUs need."""

import json
import signal
from pathlib import Path

import pytest
import torch
from PIL import Image

from gan_lightning.run.config import quoted
from tests import helpers
from tests.helpers import SMALL, assert_same_run, call, last, metrics, same, scalars

TWO = ["trainer.devices=2", "trainer.strategy=ddp", "trainer.accelerator=cpu"]


def train(run: str, *overrides: str, cwd: Path, code: int = 0) -> Path:
    """Train in processes of their own."""
    done = call("-m", "gan_lightning.train", *overrides, cwd=cwd)
    assert done.returncode == code, done.stderr
    return cwd / run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train on two devices; the folder above has what each of them did."""
    folder = tmp_path_factory.mktemp("devices")
    spy = f"+callbacks.spy={{_target_: tests.helpers.Spy, folder: '{folder}'}}"
    return train("whole", *SMALL, *TWO, "hydra.run.dir=whole", spy, cwd=folder)


def test_two_devices(run: Path) -> None:
    a, b = (torch.load(run.parent / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    shared = (a["batch"].flatten(1)[:, None] == b["batch"].flatten(1)[None]).all(2)
    assert not shared.any()  # disjoint images
    assert a["fake_logits"].shape == (2 * 64, 1)
    assert torch.equal(a["fake_logits"], b["fake_logits"])  # those of both
    assert same(a["weights"], b["weights"])  # averaged gradients, synchronized batch normalization
    assert same(a["optimizers"], b["optimizers"])
    assert json.loads((run / "metrics.json").read_text())["images_seen"] == 12 * 64 * 2
    assert [step for step, _ in scalars(run)["loss/generator"]] == [2, 4, 6, 8, 10, 12]
    assert {p.name for p in run.iterdir()} == {
        ".hydra",
        "frames",
        "training.webp",
        "walk.webp",
        "checkpoints",
        "metrics.json",
        "samples.png",
        "tensorboard",
        "train.log",
    }


@pytest.mark.slow
def test_streamed_images_on_two_devices(run: Path, tmp_path: Path) -> None:
    streamed = train(
        "streamed", *SMALL, *TWO, "data.in_memory=false", "data.num_workers=1", "hydra.run.dir=streamed", cwd=tmp_path
    )
    assert_same_run(run, streamed)


@pytest.mark.slow
def test_a_signal_on_two_devices(run: Path, tmp_path: Path) -> None:
    signalled = f"+callbacks.signal={{_target_: tests.helpers.SignalAt, step: 6, signum: {int(signal.SIGTERM)}}}"
    name = "a 'cut' \"é\\"  # Lightning passes it on to the other process
    cut = train(name, *SMALL, *TWO, f"hydra.run.dir={quoted(name)}", signalled, cwd=tmp_path, code=143)
    assert last(cut)["global_step"] == 8  # the ranks agree at the next log
    train(name, f"checkpoint={quoted(cut)}", "trust=tests", "+callbacks.signal=null", cwd=tmp_path)
    assert_same_run(run, cut)


@pytest.mark.slow
def test_a_run_resumes_with_another_number_of_devices(tmp_path: Path) -> None:
    """The losses and all states are those of the run on one device, but for rounding."""
    small = [option for option in SMALL if not option.startswith(("k=", "trainer.max_steps", "data.batch_size"))]
    small += ["k=2", "trainer.accumulate_grad_batches=2", "optimizer/scheduler=constant", "trainer.precision=64-true"]
    half, whole = "trainer.max_steps=6", "trainer.max_steps=12"
    one = helpers.run(tmp_path / "one", *small, whole, "data.batch_size=32")
    more = helpers.run(tmp_path / "more", *small, half, "data.batch_size=32")
    train("more", "checkpoint=more", whole, "trainer.devices=2", cwd=tmp_path)
    less = train("less", *small, *TWO, half, "data.batch_size=16", "hydra.run.dir=less", cwd=tmp_path)
    assert last(less)["ImageDataModule"] == {"step": 6, "global_batch_size": 32}
    helpers.resume(less, whole, "trainer.devices=1")
    for run, batch_size, strategy in ((more, 16, "ddp_find_unused_parameters_true"), (less, 32, "auto")):
        found, expected = last(run), last(one)
        config = found["hyper_parameters"]["config"]
        assert (config["data"]["batch_size"], config["trainer"]["strategy"]) == (batch_size, strategy)
        for key in ("state_dict", "optimizer_states"):
            torch.testing.assert_close(found[key], expected[key], rtol=1e-5, atol=1e-8)
        for tag in ("loss/discriminator", "loss/generator", "probability/fake"):
            torch.testing.assert_close(scalars(run)[tag], scalars(one)[tag], rtol=1e-5, atol=0)
        assert metrics(run)["images_seen"] == metrics(one)["images_seen"]


@pytest.mark.slow
def test_pictures_on_two_devices(tmp_path: Path) -> None:
    """Streamed and mirrored pictures, of which an odd number are for validation."""
    (tmp_path / "pictures").mkdir()
    for i in range(24):
        Image.new("RGB", (9, 9), (i, 5 * i, 10 * i)).save(tmp_path / "pictures" / f"{i}.png")
    options = [*SMALL, *TWO, "data=folder", "data.root=pictures", "data.image_size=8", "data.val_size=5"]
    options += ["data.in_memory=false", "data.num_workers=1", "data.flip=true", "data.batch_size=4"]
    run = train("run", *options, "hydra.run.dir=run", cwd=tmp_path)
    accuracies = [value for _, value in scalars(run)["validation/accuracy"]]
    assert accuracies == pytest.approx([round(value, 1) for value in accuracies])  # shares of 10 images
    assert 0 <= min(accuracies) <= max(accuracies) <= 1
