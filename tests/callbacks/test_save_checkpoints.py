import os
import re
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, Trainer

from gan_lightning.callbacks.save_checkpoints import SaveCheckpoints, validation_is_due
from tests.callbacks.conftest import Train


class Metric(Callback):
    """Log a metric at each validation."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        pl_module.log("metric", self.values.pop(0), logger=False)


class SignalAt(Callback):
    """Send this process signals at the beginning of a step."""

    def __init__(self, step: int, *signums: int) -> None:
        self.step, self.signums = step, signums

    def on_train_batch_start(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step == self.step:
            for signum in self.signums:
                os.kill(os.getpid(), signum)


def step(path: Path) -> int:
    return torch.load(path, weights_only=True)["global_step"]


def checkpoints(folder: Path) -> dict[str, int]:
    """Return the step of each checkpoint in a run's folder."""
    return {path.name: step(path) for path in (folder / "checkpoints").iterdir()}


def test_mode_is_validated() -> None:
    with pytest.raises(ValueError, match=r"^mode=best: must be min or max$"):
        SaveCheckpoints(monitor="metric", mode="best")


@pytest.mark.parametrize(("mode", "best"), [("max", 3), ("min", 6)])
def test_saves_the_best_and_the_newest(train: Train, tmp_path: Path, mode: str, best: int) -> None:
    train(Metric(2.0, 1.0), SaveCheckpoints(monitor="metric", mode=mode), enable_checkpointing=True, max_steps=7)
    assert checkpoints(tmp_path) == {f"best-{best}.ckpt": best, "last.ckpt": 7}


def test_the_interval_is_validated() -> None:
    with pytest.raises(ValueError, match=r"^interval=0: must be above 0, or null$"):
        SaveCheckpoints(monitor="metric", mode="max", interval=0)


class Record(Callback):
    """Remember the step of the last checkpoint after each step, and let time pass."""

    def __init__(self, clock: list[float], folder: Path) -> None:
        self.clock, self.path, self.steps = clock, folder / "checkpoints" / "last.ckpt", []

    def on_train_batch_start(self, *_: object) -> None:
        self.clock[0] += 10
        self.steps.append(step(self.path) if self.path.exists() else None)


def test_saves_by_time_too(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    record = Record(clock, tmp_path)
    save = SaveCheckpoints(monitor="metric", mode="max", interval=50)
    train(record, save, enable_checkpointing=True, max_steps=14, limit_val_batches=0)
    assert record.steps == [None, None, None, 3, 3, 3, 3, 3, 8, 8, 8, 8, 8, 13]  # after half a minute, then every 50 s
    assert step(record.path) == 14


def test_saves_that_follow_a_validation_delay_the_next(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    record = Record(clock, tmp_path)
    save = SaveCheckpoints(monitor="metric", mode="max", interval=25)
    train(record, save, enable_checkpointing=True, max_steps=7, val_check_interval=2)
    assert record.steps == [None, None, 2, 2, 4, 4, 6]


def test_the_best_one_is_of_as_many_images(train: Train, tmp_path: Path) -> None:
    class FewImages(Metric):
        compared = (5, 5)

    train(Metric(2.0, 1.0), SaveCheckpoints(monitor="metric", mode="max"), enable_checkpointing=True)
    save = SaveCheckpoints(monitor="metric", mode="max")
    train(
        FewImages(1.0), save, enable_checkpointing=True, max_steps=9, ckpt_path=tmp_path / "checkpoints" / "last.ckpt"
    )
    assert save.best == {"file": "best-9.ckpt", "value": 1.0, "compared": (5, 5)}  # and not 2.0 of other images


@pytest.mark.parametrize("moved", [False, True])
def test_the_best_one_is_remembered_wherever_the_run_is(train: Train, tmp_path: Path, moved: bool) -> None:
    train(Metric(2.0, 1.0), SaveCheckpoints(monitor="metric", mode="max"), enable_checkpointing=True)
    folder = tmp_path
    if moved:
        folder = tmp_path / "elsewhere"
        folder.mkdir()
        (tmp_path / "checkpoints").rename(folder / "checkpoints")
        (tmp_path / "link").symlink_to(folder)
        folder = tmp_path / "link"
    for length, value, best in ((9, 1.5, 3), (12, 3.0, 12)):
        save = SaveCheckpoints(monitor="metric", mode="max")
        path = folder / "checkpoints" / "last.ckpt"
        options = {"enable_checkpointing": True, "default_root_dir": str(folder)}
        train(Metric(value), save, max_steps=length, ckpt_path=path, **options)
        assert checkpoints(folder) == {f"best-{best}.ckpt": best, "last.ckpt": length}
        assert save.best == {"file": f"best-{best}.ckpt", "value": max(value, 2.0), "compared": []}


def test_a_run_resumed_from_its_best_or_an_earlier_checkpoint_has_one_best(train: Train, tmp_path: Path) -> None:
    options: dict[str, Any] = {"enable_checkpointing": True, "val_check_interval": 1}
    train(Metric(1.0, 2.0, 1.5, 1.7), SaveCheckpoints(monitor="metric", mode="max"), max_steps=4, **options)
    best = tmp_path / "checkpoints" / "best-2.ckpt"
    earlier = best.read_bytes()
    train(Metric(3.0), SaveCheckpoints(monitor="metric", mode="max"), max_steps=3, ckpt_path=best, **options)
    assert checkpoints(tmp_path) == {"best-3.ckpt": 3, "last.ckpt": 3}
    best.write_bytes(earlier)
    save = SaveCheckpoints(monitor="metric", mode="max")
    train(Metric(1.0, 2.5), save, max_steps=4, ckpt_path=best, **options)
    assert checkpoints(tmp_path) == {"best-4.ckpt": 4, "last.ckpt": 4}


def test_a_run_resumed_elsewhere_starts_without_a_best_one(train: Train, tmp_path: Path) -> None:
    train(Metric(2.0, 1.0), SaveCheckpoints(monitor="metric", mode="max"), enable_checkpointing=True)
    (tmp_path / "new").mkdir()
    path = tmp_path / "checkpoints" / "last.ckpt"
    options = {"enable_checkpointing": True, "default_root_dir": str(tmp_path / "new")}
    train(Metric(1.5), SaveCheckpoints(monitor="metric", mode="max"), max_steps=9, ckpt_path=path, **options)
    assert checkpoints(tmp_path / "new") == {"best-9.ckpt": 9, "last.ckpt": 9}
    assert checkpoints(tmp_path) == {"best-3.ckpt": 3, "last.ckpt": 6}


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, r"monitor=FID is not measured; allowed: .*accuracy"),
        ({"limit_val_batches": 0}, r"no validation .*trainer\.limit_val_batches"),
    ],
)
def test_warns_once_if_the_monitored_metric_is_not_measured(
    train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture, options: dict[str, Any], line: str
) -> None:
    train(SaveCheckpoints(monitor="FID", mode="max"), enable_checkpointing=True, **options)
    assert checkpoints(tmp_path) == {"last.ckpt": 6}
    (record,) = (record for record in caplog.records if record.name.startswith("gan_lightning"))
    assert record.levelname == "WARNING"
    assert re.search(line, record.message)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("at", "stops"), [(0, 1), (1, 2), (2, 3), (4, 5)])  # at step 3 after a validation
def test_a_signal_stops_the_run_after_its_step(train: Train, tmp_path: Path, signum: int, at: int, stops: int) -> None:
    previous = signal.getsignal(signum)
    callback, metric = SaveCheckpoints(monitor="metric", mode="max"), Metric(1.0, 2.0)
    with pytest.raises(SystemExit):
        train(SignalAt(at, signum), metric, callback, enable_checkpointing=True)
    assert callback.stopped_by is signal.Signals(signum)
    assert step(tmp_path / "checkpoints" / "last.ckpt") == stops
    assert (tmp_path / "checkpoints" / "best-3.ckpt").exists() == (stops >= 3)  # a validation that is due comes first
    assert signal.getsignal(signum) is previous


def test_a_signal_in_the_last_step_changes_nothing(train: Train, tmp_path: Path) -> None:
    callback = SaveCheckpoints(monitor="metric", mode="max")
    trainer = train(SignalAt(5, signal.SIGTERM), Metric(1.0, 2.0), callback, enable_checkpointing=True)
    assert trainer.global_step == 6
    assert callback.stopped_by is None


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_stops_at_once(monkeypatch: pytest.MonkeyPatch, signum: int) -> None:
    clock = [10.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    callback = SaveCheckpoints(monitor="metric", mode="max")
    callback.request_stop(signum, None)
    clock[0] += 0.5
    callback.request_stop(signum, None)  # the same key press, sent twice
    clock[0] += 2
    with pytest.raises(KeyboardInterrupt):
        callback.request_stop(signum, None)
    assert callback.stopped_by is None


def trainer_after(step: int, **changes: Any) -> Any:
    """Return a trainer after a step of a run with 10 steps per epoch."""
    defaults = {"enable_validation": True, "check_val_every_n_epoch": None, "val_check_batch": 4}
    return SimpleNamespace(global_step=step, current_epoch=(step - 1) // 10, **(defaults | changes))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [4, 8, 12, 16, 20, 24, 28, 32, 36, 40]),
        ({"check_val_every_n_epoch": 1}, [4, 8, 14, 18, 24, 28, 34, 38]),
        ({"check_val_every_n_epoch": 1, "val_check_batch": 10}, [10, 20, 30, 40]),
        ({"check_val_every_n_epoch": 2, "val_check_batch": 10}, [20, 40]),
        ({"enable_validation": False}, []),
        ({"val_check_batch": None}, []),
        ({"val_check_batch": float("inf")}, []),
    ],
)
def test_validation_is_due(changes: dict[str, Any], expected: list[int]) -> None:
    steps = range(1, 41)
    assert [n for n in steps if validation_is_due(trainer_after(n, **changes), (n - 1) % 10)] == expected


@pytest.mark.parametrize(
    "options",
    [
        {"check_val_every_n_epoch": None, "val_check_interval": 3},
        {"check_val_every_n_epoch": 1, "val_check_interval": 0.4},
        {"check_val_every_n_epoch": 1, "val_check_interval": 1.0},
        {"check_val_every_n_epoch": 2, "val_check_interval": 2},
    ],
)
def test_validation_is_due_when_lightning_validates(train: Train, options: dict[str, Any]) -> None:
    due, done = [], []

    class Spy(Callback):
        def on_train_batch_end(self, trainer: Trainer, module: Any, out: Any, batch: Any, batch_idx: int) -> None:
            if validation_is_due(trainer, batch_idx):
                due.append(trainer.global_step)

        def on_validation_end(self, trainer: Trainer, module: Any) -> None:
            done.append(trainer.global_step)

    train(Spy(), max_steps=20, **options)
    assert due == done
    assert done
