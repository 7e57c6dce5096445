"""Sweeps: each job in a process of its own, and a summary of them all."""

import csv
import json
import math
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from gan_lightning.config import typed_search_path
from gan_lightning.errors import refuse_used

INTERRUPTED = (128 + signal.SIGINT, 128 + signal.SIGTERM)


def run_job(config: DictConfig) -> float | None:
    """Run the present job of a multirun by itself, so that it gives what it would give alone.

    Whatever becomes of it, the sweep's summary is brought up to date; only an interruption ends the sweep.

    Returns:
        The monitored figure, for sweepers that optimise; None if the job failed.

    Raises:
        InputError: If the job's folder holds a run.
    """
    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    refuse_used(folder, f"hydra.sweep.dir={folder.parent}")
    flags = [a for a in sys.argv[1:] if a[:1] == "-" or "=" not in a]  # and the values that stand by themselves
    flags = [a for a in flags if a not in ("-m", "--multirun") and a[:1] != "~"]
    module = sys.modules["__main__"].__spec__.name  # type: ignore[union-attr]
    command = [sys.executable, "-m", module, *flags, *typed_search_path(), *job.overrides.task]
    command.append(f"hydra.run.dir='{folder}'")
    (folder / "error.txt").unlink(missing_ok=True)  # of an earlier sweep in the same folder
    code, last_line = run(command)
    if code:
        (folder / ".hydra").mkdir(parents=True, exist_ok=True)
        OmegaConf.save(job.overrides.task, folder / ".hydra" / "overrides.yaml")
        (folder / "error.txt").write_text("interrupted" if code in INTERRUPTED else last_line or f"exit {code}")
    figure = None
    if "monitor" in config:
        rows = summarise(folder.parent, monitor=config.monitor, mode=config.monitor_mode)
        figure = next(row.get(monitored(row, config.monitor)) for row in rows if row["job"] == folder.name)
    if code in INTERRUPTED:
        sys.exit(code)
    return figure


def run(command: Sequence[str]) -> tuple[int, str]:
    """Run a command, its output passed on; give its exit code and the last line of its standard error.

    The code is 128 and the signal's number if a signal ended the command, as in a shell. SIGINT and SIGTERM are passed
    on too, each once: the command does not hear the terminal itself.
    """
    last_line = ""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
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
            code = 128 - code if code < 0 else code
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return code, last_line


class Summary(Callback):
    """Show a sweep's summary at its end."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print ``summary.md`` and say where it is; exit with code 1 if no job has come to its end."""
        folder = Path(config.hydra.sweep.dir)
        if (folder / "summary.md").exists():
            print((folder / "summary.md").read_text(), f"Summary: {folder}/summary.md, .csv, .png", sep="\n")
            if not any(folder.glob("*/metrics.json")):
                sys.exit("every job failed")


def monitored(row: dict[str, Any], monitor: str) -> str:
    """Name the figure that ranks a job: the monitored one, on validation images where there is such."""
    on_validation = f"val_{monitor.removeprefix('validation/')}"
    return on_validation if on_validation in row else monitor


def summarise(folder: Path, *, monitor: str, mode: str) -> list[dict[str, Any]]:
    """Gather the jobs below a sweep's folder in ``summary.csv``, ``.md`` and ``.png``, best first.

    Args:
        folder: Holds a folder a job, with its overrides and its ``metrics.json`` or ``error.txt``.
        monitor: The figure that ranks them.
        mode: "max" if a larger one is better, else "min".

    Returns:
        A row a job: its folder's name, its overrides, its figures or its error. The Markdown table leaves out overrides
        that all jobs share, and validation figures but the monitored one.
    """
    jobs = [job for job in folder.iterdir() if (job / ".hydra").is_dir()]
    overrides = {job.name: read_overrides(job) for job in jobs}
    rows = [{"job": job.name} | overrides[job.name] | read_figures(job) for job in jobs]

    def rank(row: dict[str, Any]) -> tuple[bool, float, int, str]:
        figure = row.get(monitored(row, monitor), math.nan)
        order = math.inf if math.isnan(figure) else -figure if mode == "max" else figure
        return "error" in row, order, len(row["job"]), row["job"]  # 9 before 10

    rows.sort(key=rank)
    columns = sorted(dict.fromkeys(key for row in rows for key in row), key=lambda key: key == "error")
    with (folder / "summary.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    first = monitored(rows[0], monitor)
    swept = [key for key in columns if len({job.get(key) for job in overrides.values()}) > 1]
    known = {key for job in overrides.values() for key in job}
    figures = [key for key in columns if key not in known and not key.startswith("val_") and key != "job"]
    shown = ["job", *swept, *([first] if first in columns and first not in figures else []), *figures]
    (folder / "summary.md").write_text(markdown(rows, shown))
    draw(rows, folder, [*swept, first])
    return rows


def read_overrides(folder: Path) -> dict[str, str]:
    """Read what was typed for a job."""
    overrides = OmegaConf.load(folder / ".hydra" / "overrides.yaml")
    return dict(str(override).split("=", 1) for override in overrides if "=" in str(override))


def read_figures(folder: Path) -> dict[str, Any]:
    """Read what a job gave, or why it failed."""
    metrics, error = folder / "metrics.json", folder / "error.txt"
    if metrics.exists():
        return json.loads(metrics.read_text())
    return {"error": error.read_text()} if error.exists() else {}


def cell(value: Any) -> str:
    """Write a value for people to read."""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def markdown(rows: list[dict[str, Any]], columns: list[str]) -> str:
    """Lay rows out as a Markdown table."""
    lines = [columns, ["---"] * len(columns), *([cell(row.get(c, "")) for c in columns] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def draw(rows: list[dict[str, Any]], folder: Path, titles: list[str]) -> None:
    """Put the jobs' sample grids side by side, best first, each under the named columns of its row."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    across = min(4, len(rows))
    down = math.ceil(len(rows) / across)
    figure, axes = plt.subplots(down, across, figsize=(3.2 * across, 3.7 * down), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, row in zip(axes.flat, rows, strict=False):
        axis.set_title("\n".join(f"{key} {cell(row[key])}" for key in titles if key in row), fontsize=9)
        samples = folder / row["job"] / "samples.png"
        if samples.exists():
            axis.imshow(plt.imread(samples), cmap="gray")
        else:
            axis.text(0.5, 0.5, row.get("error", ""), ha="center", va="center", wrap=True, fontsize=8)
    figure.tight_layout()
    figure.savefig(folder / "summary.png", dpi=100)
    plt.close(figure)
