"""Sweeps: each job in a process of its own, and a summary of all of them."""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from gan_lightning.checkpoints.trust import packages_to_trust
from gan_lightning.errors import InputError
from gan_lightning.run.config import config_flags, quoted, start_folder, to_dict, typed_overrides
from gan_lightning.run.jobs import DAMAGED, read_job
from gan_lightning.run.summary import summarize, write_html

INTERRUPTED = (128 + signal.SIGINT, 128 + signal.SIGTERM)


def run_job(name: str, config: DictConfig) -> float | None:
    """Run the current job of a multirun in its own process, so that jobs do not affect each other.

    A job that finished in an earlier sweep of the same folder is skipped, and one that was stopped is resumed. Only an
    interruption ends the sweep. Returns the metric that ranks it, for sweepers that optimize; None if not measured.
    """
    job = HydraConfig.get()
    folder, overrides = Path(job.runtime.output_dir), typed_overrides()
    metrics, checkpoint = folder / "metrics.json", folder / "checkpoints" / "last.ckpt"
    if metrics.exists() or checkpoint.exists():
        known = json.loads((folder / "job.json").read_text())["overrides"]
        if known != overrides:
            raise InputError(f"hydra.sweep.dir={folder.parent}: holds a sweep with other overrides; use a new folder")
    code = 0
    if read_job(folder, "").reason == DAMAGED:
        metrics.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    if not metrics.exists():
        task = overrides
        if checkpoint.exists():  # trust what this command would build itself
            task = [f"checkpoint={quoted(checkpoint)}", f"trust=[{','.join(packages_to_trust(to_dict(config)))}]"]
        write_job(folder, overrides, "running")
        chdir = ["hydra.job.chdir=true"] if job.job.chdir else []
        arguments = [*config_flags(), *task, *chdir, f"hydra.run.dir={quoted(folder)}"]
        code, last_line = run([sys.executable, "-m", f"gan_lightning.{name}", *arguments], cwd=start_folder())
        status = "finished" if not code else "interrupted" if code in INTERRUPTED else "failed"
        write_job(folder, overrides, status, last_line or f"exit code {code}" if status == "failed" else None)
    summary = summarize(folder.parent)
    if code in INTERRUPTED:
        sys.exit(code)
    return next((row.get(summary.monitor or "") for row in summary.rows if row["job"] == folder.name), None)


def write_job(folder: Path, overrides: list[str], status: str, reason: str | None = None) -> None:
    """Write a job's ``job.json``."""
    (folder / "job.json").write_text(json.dumps({"overrides": overrides, "status": status, "reason": reason}))


def run(command: Sequence[str], cwd: Path | None = None) -> tuple[int, str]:
    """Run a command in a folder, passing its output on; return its exit code and the last line of its standard error.

    The code is 128 plus the signal's number if a signal ended the command, as in a shell. SIGINT and SIGTERM are passed
    on, each once: the command does not receive the terminal's signals itself.
    """
    last_line = ""
    with subprocess.Popen(command, cwd=cwd, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        handlers = {
            number: signal.signal(number, lambda number, _: process.send_signal(number))
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            assert process.stderr is not None
            for line in process.stderr:
                sys.stderr.write(line)
                if line.strip() and "HYDRA_FULL_ERROR" not in line:
                    last_line = line.strip()
            code = process.wait()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return 128 - code if code < 0 else code, last_line


class Summary(Callback):
    """Print a sweep's summary at its end."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table and where it is; exit with code 1 if every job has failed."""
        folder = Path(config.hydra.sweep.dir)
        if (folder / "summary.csv").exists():
            summary = summarize(folder)
            page = write_html(folder)
            print(f"{summary.table}\nSummary: {folder}/summary.md, summary.csv{', summary.html' if page else ''}")
            if all(row["status"] == "failed" for row in summary.rows):
                sys.exit("every job failed")
            print(f"Best run: {folder / summary.rows[0]['job']}")
