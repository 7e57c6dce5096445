"""The jobs of a sweep, or of a search, from its folder, and their ranking."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

from gan_lightning.run.files import read_json

COLUMNS = ("fid", "precision", "recall", "parzen_ll", "modes", "good_samples", "train_seconds")  # besides the monitor
MODES = ("modes", "good_samples")  # the columns of these are shown where they say something
MONITORS = {"fid": "min", "parzen_ll": "max", "coverage": "max", "loss_generator": "min"}  # of jobs without a monitor
DAMAGED = "metrics.json is damaged; remove it, and evaluate or resume the run"


@dataclass(frozen=True)
class Job:
    """A job, as its folder describes it.

    Attributes:
        name: Of its folder, relative to the sweep's.
        folder: With its ``job.json``.
        overrides: Values as typed, by key.
        status: "finished", "running", "failed", "interrupted" or "pruned".
        reason: Why it did not finish, if it is known.
        metrics: Those values of its ``metrics.json`` that are finite numbers; empty if it was not measured.
    """

    name: str
    folder: Path
    overrides: dict[str, str]
    status: str
    reason: str | None
    metrics: dict[str, float]


@dataclass(frozen=True)
class Ranking:
    """The jobs of a sweep, best first.

    Attributes:
        jobs: First those with the ranking metric, then those with other metrics, then those without any.
        monitor: The ranking metric, on validation images if it was measured there; None if there are no metrics.
        mode: "min" or "max".
        swept: The keys whose overrides differ between jobs.
    """

    jobs: list[Job]
    monitor: str | None
    mode: str
    swept: list[str]

    @property
    def over_seeds(self) -> bool:
        """Return whether there are means over seeds to show."""
        return "seed" in self.swept and self.monitor is not None

    @property
    def columns(self) -> list[str]:
        """Return the metrics that tables show."""
        measured = dict.fromkeys(name for job in self.jobs for name in job.metrics)
        shown = [name for name in dict.fromkeys((self.monitor, *COLUMNS)) if name in measured]
        equal = {name for name in MODES if len({job.metrics.get(name) for job in self.jobs if job.metrics}) == 1}
        hidden = equal - {self.monitor} if "fid" in measured else set()
        return [name for name in shown if name and name not in hidden]

    @property
    def settings(self) -> list[list[Job]]:
        """Return the jobs in groups that differ in nothing but the seed, ranked by the mean of the ranking metric."""
        groups: dict[tuple[tuple[str, str], ...], list[Job]] = {}
        for job in self.jobs:
            key = tuple(sorted((key, value) for key, value in job.overrides.items() if key != "seed"))
            groups.setdefault(key, []).append(job)
        sign = -1 if self.mode == "max" else 1
        means = {key: sign * mean(self.values(jobs) or [sign * math.inf]) for key, jobs in groups.items()}
        return [groups[key] for key in sorted(groups, key=lambda key: means[key])]

    def values(self, jobs: Sequence[Job], name: str | None = None) -> list[float]:
        """Return the values of a metric, by default the ranking one, of those jobs that have it."""
        name = name or self.monitor
        return [job.metrics[name] for job in jobs if name in job.metrics]


def read_jobs(folder: Path) -> list[Job]:
    """Return the jobs in a sweep's folder, at any depth: the folders with a ``job.json``; job 9 comes before job 10."""
    folders = []
    for path, inner, files in os.walk(folder):
        if "job.json" in files and Path(path) != folder:
            folders.append(Path(path))
            inner.clear()  # not its checkpoints and logs
    jobs = [read_job(job, str(job.relative_to(folder))) for job in folders]
    return sorted(jobs, key=lambda job: (len(job.name), job.name))


def read_job(folder: Path, name: str) -> Job:
    """Return the job of a folder. A damaged file makes it one that failed."""
    content, values = read_json(folder / "job.json"), read_json(folder / "metrics.json")
    if not isinstance(content.get("overrides"), list):
        content = {"overrides": [], "status": "failed", "reason": "job.json is damaged"}
    status, reason = str(content.get("status")), content.get("reason")
    if not values and (folder / "metrics.json").exists():
        status, reason = "failed", DAMAGED
    pairs = [printable(text).partition("=") for text in content["overrides"] if isinstance(text, str) and "=" in text]
    return Job(
        name=printable(name),
        folder=folder,
        overrides={key.lstrip("+"): value for key, _, value in pairs},
        status=printable(status),
        reason=printable(" ".join(str(reason).split())) if reason else None,
        metrics={printable(key): value for key, value in values.items() if is_finite(value)},
    )


def is_finite(value: Any) -> bool:
    """Return whether a value is a number that is neither nan nor infinite, also as a float."""
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:
        return False


def printable(text: str) -> str:
    """Return a text without the halves of characters that file names and JSON may have, but no file may hold."""
    return text.encode(errors="backslashreplace").decode()


def rank(jobs: Sequence[Job]) -> Ranking:
    """Return the jobs ranked by the metric that they monitor."""
    measured = [job for job in jobs if job.metrics]
    monitor, mode = find_monitor(measured)
    sign = -1 if mode == "max" else 1

    def order(job: Job) -> tuple[bool, bool, float, float]:
        value = job.metrics.get(monitor or "", math.nan)
        return not job.metrics, math.isnan(value), -samples(job), sign * value  # of other numbers: not comparable

    overrides = [job.overrides for job in jobs if job.overrides]  # a damaged file has none
    swept = [key for given in overrides for key in given if len({other.get(key) for other in overrides}) > 1]
    return Ranking(sorted(jobs, key=order), monitor, mode, list(dict.fromkeys(swept)))


def find_monitor(measured: Sequence[Job]) -> tuple[str | None, str]:
    """Return the ranking metric, None if there are no metrics, and "min" or "max".

    The first config with a monitor decides. Where none has one, as in a sweep of evaluations, or it was not measured,
    it is what training would monitor by default.
    """
    names = {name for job in measured for name in job.metrics}
    configs = (read_yaml(job.folder / ".hydra" / "config.yaml") for job in measured)
    monitored = ((str(c["monitor"]), str(c.get("monitor_mode"))) for c in configs if c.get("monitor"))
    for monitor, mode in (*islice(monitored, 1), *MONITORS.items()):
        name = monitor.removeprefix("validation/")
        if found := next((n for n in (f"val_{name}", name) if n in names), None):
            return found, "max" if mode == "max" else "min"
    return None, "min"


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the content of a config; empty if there is none or it is damaged."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def samples(job: Job) -> int:
    """Return how many samples a job's metrics are of; 0 if it has none."""
    return int(job.metrics.get("num_images", 0))


def sample_numbers(jobs: Sequence[Job]) -> list[int]:
    """Return the numbers of samples that the metrics of jobs are of."""
    return sorted({samples(job) for job in jobs} - {0})


def short(keys: Sequence[str]) -> list[str]:
    """Return the last part of each key, or all of it where that is not clear."""
    last = [key.rpartition(".")[2] for key in keys]
    return [part if last.count(part) == 1 else key for part, key in zip(last, keys, strict=True)]
