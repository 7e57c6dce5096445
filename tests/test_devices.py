"""Two devices: two processes on the CPU, set up by the keys that several GPUs need."""

import copy
import json
import signal
from pathlib import Path

import pytest
import torch
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer

from gan_lightning.run.config import quoted
from gan_lightning.seeding import fold
from tests.helpers import SMALL, assert_same_run, call, last, same, scalars

TWO = ["trainer.devices=2", "trainer.strategy=ddp", "trainer.accelerator=cpu"]


class Gradients(Callback):
    """Keep, for one step, the discriminator's weights before and after, and this rank's own gradient."""

    def __init__(self, *, folder: str) -> None:
        self.folder = folder

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: tuple, *_: object) -> None:
        gan = copy.deepcopy({"g": pl_module.generator, "d": pl_module.discriminator})
        torch.manual_seed(fold(0, trainer.global_rank, 0))
        fake = gan["g"](torch.randn(64, 100)).detach()
        loss = pl_module.loss.discriminator(gan["d"](batch[0]), gan["d"](fake))
        names, values = zip(*gan["d"].named_parameters(), strict=True)
        self.own = dict(zip(names, torch.autograd.grad(loss, values), strict=True))
        self.before = {name: value.detach().clone() for name, value in gan["d"].named_parameters()}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        after = {name: value.detach() for name, value in pl_module.discriminator.named_parameters()}
        state = {"own": self.own, "before": self.before, "after": after}
        state["generator"] = dict(pl_module.generator.named_parameters())
        torch.save(state, Path(self.folder) / f"{trainer.global_rank}.grad")


def train(run: str, *overrides: str, cwd: Path, code: int = 0) -> Path:
    """Train in processes of their own."""
    done = call("-m", "gan_lightning.train", *overrides, cwd=cwd)
    assert done.returncode == code, done.stderr
    return cwd / run


def test_two_devices(tmp_path: Path) -> None:
    spy = f"+callbacks.spy={{_target_: tests.helpers.Spy, folder: '{tmp_path}'}}"
    run = train("whole", *SMALL, *TWO, "hydra.run.dir=whole", spy, cwd=tmp_path)
    a, b = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    shared = (a["batch"].flatten(1)[:, None] == b["batch"].flatten(1)[None]).all(2)
    assert not shared.any()  # disjoint images
    assert not torch.equal(a["fake_logits"], b["fake_logits"])  # different noise
    trained = [name for name in a["weights"] if "running" not in name]
    assert all(torch.equal(a["weights"][name], b["weights"][name]) for name in trained)  # averaged gradients
    assert json.loads((run / "metrics.json").read_text())["images_seen"] == 12 * 64 * 2
    assert [step for step, _ in scalars(run)["loss/generator"]] == [2, 4, 6, 8, 10, 12]
    assert {p.name for p in run.iterdir()} == {
        ".hydra",
        "checkpoints",
        "metrics.json",
        "samples.png",
        "tensorboard",
        "train.log",
    }

    streamed = train(
        "streamed", *SMALL, *TWO, "data.in_memory=false", "data.num_workers=1", "hydra.run.dir=streamed", cwd=tmp_path
    )
    assert_same_run(run, streamed)

    signalled = f"+callbacks.signal={{_target_: tests.helpers.SignalAt, step: 6, signum: {int(signal.SIGTERM)}}}"
    name = "a 'cut' \"é\\"  # Lightning passes it on to the other process
    cut = train(name, *SMALL, *TWO, f"hydra.run.dir={quoted(name)}", signalled, cwd=tmp_path, code=143)
    assert last(cut)["global_step"] == 8  # the ranks agree at the next log
    train(name, f"checkpoint={quoted(cut)}", "trust=tests", "+callbacks.signal=null", cwd=tmp_path)
    assert_same_run(run, cut)


@pytest.mark.parametrize("algorithm", ["alternating", "simultaneous"])
def test_gradients_are_averaged(tmp_path: Path, algorithm: str) -> None:
    """After one step of gradient descent without momentum, D has moved by the mean of the two gradients.

    The generators, whose noise differs, are still equal.
    """
    small = [option for option in SMALL if not option.startswith("trainer.max_steps")]
    options = [*small, "trainer.max_steps=1", "optimizer=sgd", "optimizer.momentum=0", "penalty=none"]
    options += ["trainer.precision=32-true", f"algorithm={algorithm}"]
    grads = f"+callbacks.spy={{_target_: tests.test_devices.Gradients, folder: '{tmp_path}'}}"
    train("two", *options, *TWO, "hydra.run.dir=two", grads, cwd=tmp_path)
    a, b = (torch.load(tmp_path / f"{rank}.grad", weights_only=True) for rank in (0, 1))
    assert a["before"].keys() == b["before"].keys()
    assert same(a["generator"], b["generator"])
    for name, before in a["before"].items():
        assert torch.equal(before, b["before"][name])
        mean = (a["own"][name] + b["own"][name]) / 2
        assert not torch.allclose(a["own"][name], b["own"][name])
        torch.testing.assert_close(a["after"][name], before - 0.1 * mean, rtol=1e-4, atol=1e-6)


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
