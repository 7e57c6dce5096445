"""The same seed gives the same bits, however the images are read, whatever is logged, and wherever a run is resumed."""

import signal
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from tests import helpers
from tests.helpers import assert_same_run, assert_same_training, resume

LINEAR = "optimizer/scheduler=linear"  # of the run to compare with


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_how_images_are_read(run: Path, tmp_path: Path, workers: int) -> None:
    streamed = helpers.run(tmp_path / "run", LINEAR, "data.in_memory=false", f"data.num_workers={workers}")
    assert_same_run(run, streamed)


@pytest.mark.parametrize(
    "overrides",
    [
        (
            *(f"callbacks.{name}=null" for name in ("progress_bar", "stop_on_nan", "scalars", "sample_grid")),
            *("callbacks.validation_metrics=null", "callbacks.final_evaluation=null"),
            *("logger=none", "trainer.limit_val_batches=0"),
        ),
        (
            *("trainer.val_check_interval=1", "trainer.log_every_n_steps=1", "callbacks.sample_grid.every_n_steps=1"),
            *("callbacks.checkpoints.interval=1e-9", "callbacks.validation_metrics.num_images=70", "monitor=parzen_ll"),
            f"+callbacks.noise={{_target_: {__name__}.Noise}}",
        ),
    ],
    ids=["none", "all"],
)
def test_what_callbacks_do(run: Path, tmp_path: Path, overrides: tuple[str, ...]) -> None:
    assert_same_training(run, helpers.run(tmp_path / "run", LINEAR, *overrides))


class Noise(Callback):
    """Uses torch's random numbers in every step."""

    def on_train_batch_end(self, *_: Any) -> None:
        torch.rand(7)


@pytest.mark.slow
def test_a_run_resumed_at_every_step(run: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    with pytest.raises(SystemExit):
        helpers.run(cut, LINEAR, f"+callbacks.stop={{_target_: {__name__}.StopAtOnce}}")
    for step in range(2, 12):
        with pytest.raises(SystemExit):
            resume(cut)
        assert helpers.last(cut)["global_step"] == step
    resume(cut)
    assert_same_run(run, cut)


class StopAtOnce(Callback):
    """Sends this process SIGTERM in every step."""

    def on_train_batch_start(self, *_: Any) -> None:
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(("deterministic", "mode"), [("true", 2), ("warn", 1)])
def test_deterministic_algorithms(run: Path, tmp_path: Path, deterministic: str, mode: int) -> None:
    benchmark = torch.backends.cudnn.benchmark
    flags = f"+callbacks.flags={{_target_: {__name__}.Flags}}"
    again = helpers.run(tmp_path / "run", LINEAR, f"trainer.deterministic={deterministic}", flags)
    assert Flags.in_training == (mode, False)
    assert torch_flags() == (0, benchmark)
    assert_same_run(run, again)


def torch_flags() -> tuple[int, bool]:
    return torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark


class Flags(Callback):
    """Remembers how torch chooses algorithms in training."""

    in_training: ClassVar[tuple[int, bool]]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        Flags.in_training = torch_flags()
