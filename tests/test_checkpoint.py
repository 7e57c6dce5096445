import random
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import torch

from gan_lightning import checkpoint, config
from gan_lightning.errors import InputError
from gan_lightning.sampling import draw
from tests.helpers import SMALL, last, same, tiny_gan


def test_load_needs_the_file_alone(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "copy.ckpt"
    copy.write_bytes((run / "checkpoints" / "last.ckpt").read_bytes())
    monkeypatch.chdir(tmp_path)
    gan = checkpoint.load(copy)
    assert same(dict(gan.state_dict()), dict(last(run)["state_dict"]))
    assert not gan.training
    assert next(draw(gan, 3, seed=0)).shape == (3, 1, 28, 28)
    assert len(checkpoint.load_data(copy).dataset.keywords) == 0


def test_holds_the_resolved_config_as_plain_data(run: Path) -> None:
    saved = last(run)["hyper_parameters"]
    assert saved["config"]["gan"]["generator"]["latent_dim"] == 100
    assert saved["config"]["optimizer"]["generator"]["lr"] == 0.002
    assert saved["overrides"] == [*SMALL, "optimizer/scheduler=linear"]


def test_missing_or_foreign_files_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        checkpoint.load(tmp_path / "absent.ckpt")
    for content in (b"", b"text", random.Random(0).randbytes(1000)):
        (tmp_path / "foreign").write_bytes(content)
        with pytest.raises(InputError, match="not a checkpoint"):
            checkpoint.load(tmp_path / "foreign")
    for value in ([1], {"state_dict": {}}, torch.nn.Linear(1, 1)):
        torch.save(value, tmp_path / "foreign")
        with pytest.raises(InputError, match="not a checkpoint"):
            checkpoint.load(tmp_path / "foreign")


def test_a_checkpoint_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    io = checkpoint.AtomicCheckpointIO()
    hyper_parameters = {"config": {"gan": {}}, "overrides": []}
    io.save_checkpoint({"hyper_parameters": hyper_parameters, "state_dict": {}, "global_step": 0, "n": 1}, path)
    with pytest.raises(Exception, match="pickle"):
        io.save_checkpoint({"n": 2, "unpicklable": lambda: None}, path)
    assert io.load_checkpoint(path)["n"] == 1


def test_resume_puts_the_runs_overrides_first(run: Path) -> None:
    path = run / "checkpoints" / "last.ckpt"
    arguments = checkpoint.resume([f"checkpoint={path}", "trainer.log_every_n_steps=3", "trainer.max_epochs=2"])
    assert arguments[0] == "trainer.accelerator=cpu"
    assert "trainer.log_every_n_steps=2" not in arguments
    assert "trainer.max_steps=12" not in arguments
    assert arguments[-3:] == [f"checkpoint={path}", "trainer.log_every_n_steps=3", "trainer.max_epochs=2"]
    flagged = checkpoint.resume(["--cfg", "job", f"checkpoint={path}"])
    assert flagged[:3] == ["--cfg", "job", "trainer.accelerator=cpu"]
    assert flagged[-1] == f"checkpoint={path}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.latent_dim=50", "model.latent_dim=50: the checkpoint has 100"),
        ("optimizer.lr=2e-4", "optimizer.lr=0.0002: the checkpoint has 0.001"),
        ("optimizer.generator.fused=false", "optimizer.generator.fused=False: the checkpoint has True"),
        ("loss=minimax", r"loss._target_=.*Minimax: the checkpoint has .*NonSaturating"),
        ("k=2", "k=2: the checkpoint has 1"),
        ("algorithm=simultaneous", r"algorithm._target_=.*SimultaneousGAN: the checkpoint has .*gan.GAN"),
        ("penalty=none", r"penalty._target_=null: the checkpoint has .*R1"),
        ("average=none", r"average._target_=null: the checkpoint has .*ExponentialAverage"),
        ("optimizer/scheduler=constant", r"optimizer.scheduler._target_=null: the checkpoint has .*linear"),
        ("model.discriminator.widths=[16,8]", r"model.discriminator.widths\[1\]=8: the checkpoint has null"),
        ("model.generator.widths=[16]", r"model.generator.widths\[1\]=null: the checkpoint has 16"),
        ("trainer.devices=2", "trainer.devices=2: the checkpoint has 1"),
        ("trainer.accumulate_grad_batches=2", "trainer.accumulate_grad_batches=2: the checkpoint has 1"),
        ("trainer.max_steps=99", "trainer.max_steps=99: allowed: 12; the learning rates fall over the whole run"),
    ],
)
def test_what_a_resume_cannot_change(run: Path, override: str, message: str) -> None:
    typed = checkpoint.resume([f"checkpoint={run}/checkpoints/last.ckpt", override])
    with pytest.raises(InputError, match=message):
        checkpoint.verify(config.compose("train", typed))


def test_what_a_resume_can_change(run: Path, tmp_path: Path) -> None:
    typed = checkpoint.resume([f"checkpoint={run}/checkpoints/last.ckpt", "logger=none", f"data.root={tmp_path}"])
    assert checkpoint.verify(config.compose("train", typed)) == 12


def test_devices() -> None:
    assert checkpoint.pick_device("cpu") == torch.device("cpu")
    there = torch.accelerator.is_available()
    assert (checkpoint.pick_device("auto").type != "cpu") == there
    with pytest.raises(InputError, match="device=warp: this machine has none; allowed: auto, cpu"):
        checkpoint.pick_device("warp")
    for beyond in (f"cpu:{torch.accelerator.device_count()}", "cpu:x"):
        with pytest.raises(InputError, match=f"device={beyond}: this machine has none"):
            checkpoint.pick_device(beyond)


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    state = {"callbacks": {"best": np.float64(3)}}
    with pytest.raises(
        InputError, match=r"^checkpoint: a callback's state has numpy\S+scalar; allowed: tensors, numbers"
    ):
        checkpoint.AtomicCheckpointIO().save_checkpoint(state, tmp_path / "last.ckpt")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_in_a_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(state: dict[str, int], file: IO[bytes]) -> None:
        file.write(b"half")
        raise RuntimeError("unexpected pos 4 vs 8")

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(InputError, match=r"last.ckpt: could not be written; is the disk full\?"):
        checkpoint.AtomicCheckpointIO().save_checkpoint({"step": 1}, tmp_path / "last.ckpt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", ["state_dict", "global_step", "hyper_parameters"])
def test_a_checkpoint_that_lacks_a_part_is_refused(run: Path, tmp_path: Path, part: str) -> None:
    content = last(run)
    del content[part]
    torch.save(content, tmp_path / "less.ckpt")
    with pytest.raises(InputError, match=r"less.ckpt: not a checkpoint written by gan_lightning.train"):
        checkpoint.read(tmp_path / "less.ckpt")


def test_weights_that_do_not_fit_are_told_in_a_line() -> None:
    gan = tiny_gan()
    weights = gan.state_dict()
    weights["generator.extra"] = weights.pop("generator.layers.0.weight")
    told = r"^checkpoint=a\.ckpt: its networks are not .*generator\.layers\.0\.weight"
    with pytest.raises(InputError, match=told), checkpoint.weights_of("a.ckpt"):
        gan.load_state_dict(weights)
