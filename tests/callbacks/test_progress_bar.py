import logging
import os
import pty
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import Callback
from rich.console import Console
from rich.progress import Progress

from gan_lightning.callbacks.progress_bar import ProgressBar
from tests.callbacks.conftest import Train
from tests.helpers import ROOT


class Spy(Callback):
    """Keep the bar's first and last state while it is shown."""

    def __init__(self, bar: ProgressBar) -> None:
        self.bar, self.states = bar, []

    def on_train_batch_end(self, *_: object) -> None:
        assert self.bar.bar
        task = self.bar.bar.tasks[0]
        self.states.append((task.completed, task.total))


class Fault(Callback):
    def on_train_batch_end(self, *_: object) -> None:
        raise ValueError("a bug")


def test_shows_rate_time_left_and_both_losses(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    train(ProgressBar(), enable_progress_bar=True)
    output = capsys.readouterr().out
    for text in ("6/6", "images/s", "left", "loss D", " G "):
        assert text in output


@pytest.mark.parametrize(
    ("width", "shown"),
    [(75, ""), (80, "fid 0.512"), (100, "fid 0.512 precision 0.815"), (120, "fid 0.512 precision 0.815 recall 0.627")],
)
def test_shows_the_metrics_that_there_is_room_for(width: int, shown: str) -> None:
    bar, console = ProgressBar(), Console(width=width, file=StringIO())
    bar.bar = Progress(console=console)
    bar.task = bar.bar.add_task("", metrics="")
    values = {"recall": torch.tensor(0.627), "fid": torch.tensor(0.51234), "precision": torch.tensor(0.815)}
    trainer = SimpleNamespace(
        callbacks=[SimpleNamespace(monitor="fid")], callback_metrics=values, sanity_checking=False
    )
    bar.on_validation_end(trainer, None)  # type: ignore[arg-type]
    assert bar.bar.tasks[0].fields["metrics"] == shown


@pytest.mark.parametrize(
    ("max_steps", "max_epochs", "total"), [(7, None, 7), (-1, 2, 10), (7, 2, 7), (12, 2, 10), (-1, -1, None)]
)
def test_total_is_the_end_of_the_run(train: Train, max_steps: int, max_epochs: int | None, total: int | None) -> None:
    bar = ProgressBar()
    spy = Spy(bar)
    limits = {"max_time": {"seconds": 1}} if total is None else {}
    train(bar, spy, enable_progress_bar=True, max_steps=max_steps, max_epochs=max_epochs, **limits)
    assert spy.states[0][1] == total
    assert [completed for completed, _ in spy.states][:4] == [0, 2, 2, 4]  # updated every log_every_n_steps


def test_a_resumed_run_starts_at_its_step(train: Train, tmp_path: Path) -> None:
    train().save_checkpoint(tmp_path / "last.ckpt")
    bar = ProgressBar()
    spy = Spy(bar)
    train(bar, spy, enable_progress_bar=True, max_steps=9, ckpt_path=tmp_path / "last.ckpt")
    assert spy.states == [(6, 9), (8, 9), (8, 9)]


def test_is_removed_on_an_exception(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Progress] = []
    start = Progress.start
    monkeypatch.setattr(Progress, "start", lambda self: (started.append(self), start(self)))
    bar = ProgressBar()
    with pytest.raises(ValueError, match="a bug"):
        train(bar, Fault(), enable_progress_bar=True)
    assert bar.bar is None
    assert not started[0].live.is_started


def test_shows_nothing_when_disabled(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    bar = ProgressBar()
    bar.disable()
    train(bar, enable_progress_bar=True)
    assert "6/6" not in capsys.readouterr().out


PROGRAM = """
import logging, sys
from pathlib import Path
from gan_lightning.callbacks.progress_bar import ProgressBar
from gan_lightning.callbacks.scalars import Scalars
from tests.callbacks.conftest import train_tiny_gan

logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
train_tiny_gan(Path(sys.argv[1]), ProgressBar(), Scalars(), enable_progress_bar=True)
logging.info("the end")
"""


def screen(output: str) -> list[str]:
    """Return the lines that a terminal shows after this output (carriage returns, lines cleared, cursor up)."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", output):
        if token == "\r":
            column = 0
        elif token == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif token == "\x1b[2K":
            lines[row] = ""
        elif re.fullmatch(r"\x1b\[\d*A", token):
            row -= int(token[2:-1] or 1)
        elif not token.startswith("\x1b"):
            lines[row] = lines[row][:column].ljust(column) + token + lines[row][column + len(token) :]
            column += len(token)
    return [line.rstrip() for line in lines if line.strip()]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_log_lines_are_printed_above_the_bar_on_a_terminal(tmp_path: Path) -> None:
    controller, terminal = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path)],
        stdout=terminal,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    os.close(terminal)
    output = b""
    try:
        while block := os.read(controller, 4096):
            output += block
    except OSError:  # Linux reports the end of the output so
        pass
    finally:
        os.close(controller)
    assert process.wait() == 0
    lines = screen(output.decode())
    assert [line.split(",")[0] for line in lines if line.startswith("step ")] == ["step 3", "step 6"]
    assert sum("images/s" in line for line in lines) == 1  # one bar, and no part of an earlier one
    assert "6/6" in lines[-2]
    assert lines[-1] == "the end"


def test_logging_is_restored(train: Train) -> None:
    handler = logging.StreamHandler(sys.stdout)
    logging.getLogger().addHandler(handler)
    try:
        train(ProgressBar(), enable_progress_bar=True)
        assert handler.stream is sys.stdout
    finally:
        logging.getLogger().removeHandler(handler)
