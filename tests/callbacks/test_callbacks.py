import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gan_lightning.callbacks.checkpoints import Checkpoints, Interrupted
from gan_lightning.callbacks.progress_bar import ProgressBar
from tests import helpers


def test_a_second_ctrl_c_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [10.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    checkpoints = Checkpoints(monitor="parzen_ll", mode="max")
    checkpoints.ask_to_stop(signal.SIGINT, None)
    clock[0] += 0.5
    checkpoints.ask_to_stop(signal.SIGINT, None)  # the same key press, sent twice
    clock[0] += 2
    with pytest.raises(KeyboardInterrupt):
        checkpoints.ask_to_stop(signal.SIGINT, None)


def test_interrupted_names_its_signal() -> None:
    assert str(Interrupted(signal.SIGTERM)) == "SIGTERM"


def test_bar_shows_rate_time_left_and_both_losses(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    helpers.run(tmp_path / "run", "trainer.log_every_n_steps=2")
    shown = capsys.readouterr().out
    for words in ("12/12", "images/s", "left", "loss D", " G ", "step 5: loss discriminator"):
        assert words in shown


def bar_of(**trainer: Any) -> ProgressBar:
    bar = ProgressBar(every_n_steps=1)
    bar.disable()
    bar.on_train_start(SimpleNamespace(**trainer), None)  # type: ignore[arg-type]
    return bar


@pytest.mark.parametrize(
    ("max_steps", "max_epochs", "total"), [(100, None, 100), (-1, 3, 30), (100, 3, 30), (20, 3, 20), (-1, -1, None)]
)
def test_bar_knows_the_end_of_the_run(max_steps: int, max_epochs: int | None, total: int | None) -> None:
    bar = bar_of(max_steps=max_steps, max_epochs=max_epochs, num_training_batches=10, global_step=0)
    assert bar.bar.tasks[0].total == total


def test_bar_is_put_away_on_an_exception() -> None:
    bar = ProgressBar(every_n_steps=1)
    bar.on_train_start(SimpleNamespace(max_steps=1, max_epochs=None, num_training_batches=10, global_step=0), None)  # type: ignore[arg-type]
    assert bar.bar.live.is_started
    bar.on_exception(None, None, ValueError())  # type: ignore[arg-type]
    assert not bar.bar.live.is_started


def test_nothing_is_kept_without_the_monitored_figure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = helpers.run(tmp_path / "run", "monitor=FID")
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["last.ckpt"]
    (said,) = (record.message for record in caplog.records if "monitor" in record.message)
    assert "monitor=FID: not measured; allowed: " in said
    assert "parzen_ll, " in said
