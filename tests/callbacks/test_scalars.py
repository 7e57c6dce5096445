import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gan_lightning.callbacks import scalars
from gan_lightning.callbacks.scalars import Scalars
from gan_lightning.losses import NonSaturating, Relativistic
from tests.callbacks.conftest import Train
from tests.helpers import tiny_gan


class Logger:
    """A logger that records its calls."""

    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        self.logged.append((step, values))


def fake_trainer(device: str = "cpu") -> Any:
    return SimpleNamespace(
        global_step=0,
        log_every_n_steps=10,
        world_size=1,
        is_global_zero=True,
        sanity_checking=False,
        callback_metrics={},
        loggers=[Logger()],
        datamodule=SimpleNamespace(batch_size=5, minibatches_per_step=2),
        strategy=SimpleNamespace(root_device=torch.device(device)),
    )


def outputs(loss: float = 1.0) -> dict[str, torch.Tensor]:
    return {
        "loss/discriminator": torch.tensor(loss),
        "loss/generator": torch.tensor(2.0),
        "logits/real": torch.tensor([[0.0], [2.0]]),
        "logits/fake": torch.tensor([[-1.0], [-3.0]]),
    }


def run(monkeypatch: pytest.MonkeyPatch, seconds: list[float], trainer: Any, gan: Any = None, **values: float) -> None:
    """Call the callback as a run would, with one measurement per number of seconds."""
    clock = [0.0]
    monkeypatch.setattr(scalars.time, "perf_counter", lambda: clock[0])
    callback, gan = Scalars(), gan or SimpleNamespace(loss=NonSaturating())
    callback.on_train_start(trainer, gan)
    for duration in seconds:
        clock[0] += duration
        trainer.global_step += 10
        callback.on_train_batch_end(trainer, gan, outputs(**values), None, 0)


def test_logs_means_throughput_and_images_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = fake_trainer()
    run(monkeypatch, [4.0], trainer)
    ((step, values),) = trainer.loggers[0].logged
    assert step == 10
    assert values == pytest.approx(
        {
            "loss/discriminator": 1.0,
            "loss/generator": 2.0,
            "probability/real": (0.5 + 0.880797) / 2,
            "probability/fake": (0.268941 + 0.047426) / 2,
            "throughput/images_per_second": 25.0,
            "images_seen": 100,
        }
    )


def test_logs_logits_if_a_loss_has_no_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = fake_trainer()
    run(monkeypatch, [4.0], trainer, SimpleNamespace(loss=Relativistic()))
    ((_, values),) = trainer.loggers[0].logged
    assert (values["logits/real"], values["logits/fake"]) == (1.0, -2.0)
    assert not any(name.startswith("probability/") for name in values)


def test_nothing_is_logged_between_log_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = fake_trainer()
    callback = Scalars()
    callback.on_train_start(trainer, tiny_gan())
    trainer.global_step = 9
    callback.on_train_batch_end(trainer, tiny_gan(), None, None, 0)
    assert trainer.loggers[0].logged == []


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_warns_once_if_throughput_stays_low(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, device: str
) -> None:
    run(monkeypatch, [1.0] * 5 + [3.0] * 3 + [1.0] + [3.0] * 5, fake_trainer(device))
    (record,) = caplog.records
    assert record.message.startswith("step 80: ")
    assert "from 100 to 33 images/s" in record.message
    assert ("omp_wait_policy=passive" in record.message) == (device == "cpu")


@pytest.mark.parametrize(
    "seconds",
    [
        [1.0] * 4 + [3.0] * 3 + [1.0],  # too early to know
        [1.0] * 5 + [3.0, 3.0, 1.0] * 3,  # never three in a row
        [1.0] * 5 + [2.0] * 9,  # not that slow
        [9.0] * 2 + [1.0] * 9,  # slow at first: compilation
    ],
)
def test_does_not_warn_of_short_or_small_changes_of_throughput(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, seconds: list[float]
) -> None:
    run(monkeypatch, seconds, fake_trainer())
    assert not caplog.records


def test_validations_are_logged_and_not_counted_as_training(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [0.0]
    monkeypatch.setattr(scalars.time, "perf_counter", lambda: clock[0])
    caplog.set_level(logging.INFO)
    trainer, gan, callback = fake_trainer(), SimpleNamespace(loss=NonSaturating()), Scalars()
    callback.on_train_start(trainer, gan)
    clock[0], trainer.global_step = 100.0, 5
    trainer.callbacks, trainer.datamodule.val = [SimpleNamespace(compared=[2000, 50])], range(70)
    trainer.callback_metrics = {"validation/accuracy": torch.tensor(0.75), "fid": torch.tensor(1.5)}
    callback.on_validation_end(trainer, gan)
    clock[0], trainer.global_step = 101.0, 10
    callback.on_train_batch_end(trainer, gan, outputs(), None, 0)
    (at_5, validation), (_, training) = trainer.loggers[0].logged
    assert (at_5, validation) == (5, {"validation/accuracy": 0.75})
    assert training["throughput/images_per_second"] == 50.0
    assert [record.message for record in caplog.records] == [
        "step 5, 70 validation images: accuracy 0.75; 2,000 samples, 50 validation images: fid 1.5"
    ]


def test_validation_line_does_not_need_the_progress_bar(train: Train, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    train(Scalars())
    lines = [record.message for record in caplog.records if record.name == scalars.__name__]
    assert [line.split(":")[0] for line in lines] == ["step 3, 10 validation images", "step 6, 10 validation images"]
    assert "loss_generator " in lines[0]
