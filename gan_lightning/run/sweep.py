"""Sweeps: each job in a process of its own, wherever a launcher runs it; a sweep that was stopped is continued."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from gan_lightning.errors import InputError, as_typed
from gan_lightning.run import job, processes, resources
from gan_lightning.run.config import argument, command_line, quoted, shorten, start_folder, typed_overrides
from gan_lightning.run.job import ENDED, write_json
from gan_lightning.run.ranking import read_jobs, read_json
from gan_lightning.run.suggest import choices_of
from gan_lightning.run.summary import summarize, write_html

SWEEPS = Path("outputs/sweeps")
RECORD = "sweep.json"  # in a sweep's folder: its command, and whether it has ended
ALONE = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"  # one job after the other, in this process
SOME_FAILED = 3  # exit code
FREE = ("-m", "--multirun", "hydra.sweep.dir=", "hydra/launcher=", "hydra.launcher.", "retry_failed=")  # may change
LOCKS: list[FileLock] = []  # of the sweep that this process runs


def run_job(name: str, config: DictConfig) -> float | None:
    """Run the current job of a multirun in its own process, so that jobs do not affect each other.

    Only an interruption ends the sweep. Returns the metric that ranks the job, for sweepers that optimize; None if it
    was not measured.

    Raises:
        InputError: If the job's folder holds another one.
    """
    hydra = HydraConfig.get()
    sweep = Path(os.path.abspath(start_folder() / hydra.sweep.dir))  # noqa: PTH100
    folder = Path(hydra.runtime.output_dir)
    overrides = [typed for typed in typed_overrides() if not typed.startswith(FREE)]
    own, alone, shared = str(folder.relative_to(sweep)), hydra.launcher._target_ == ALONE, None
    if hydra.launcher._target_.endswith((".JoblibLauncher", ".LocalLauncher")):  # whose jobs share this machine
        trainer = config.get("trainer") or {}
        jobs = hydra.launcher.get("n_jobs") or resources.jobs_at_once(trainer)
        shared = resources.share(trainer, jobs=jobs if jobs > 0 else resources.cores(), folder=sweep / ".slots")
    retry = config.get("retry_failed", True)
    result = job.run(name, overrides, folder, config, retry=retry, share=shared, show=alone)
    if not job.is_first_task():
        return None
    summary = summarize(sweep)
    if not alone:
        print(": ".join(filter(None, (f"Job {own} {result['status']}", result["reason"]))))
    elif result["status"] == "interrupted":
        sys.exit(128 + signal.Signals[result["reason"]])
    row = next((row for row in summary.rows if row["job"] == own), {})
    return row.get(summary.monitor or "")


def arguments_for(name: str, typed: Sequence[str]) -> list[str]:
    """Return a command's arguments with those of the sweep that it continues, if any.

    With ``sweep=FOLDER`` that is the sweep of this folder, and otherwise one with the same arguments that was stopped.

    Raises:
        InputError: If a folder holds no sweep, or another command's.
    """
    arguments = [*typed]
    if name == "search":  # its own keys, and those of training
        if several := [a for a in typed if a in ("-m", "--multirun", "hydra.mode=MULTIRUN")]:
            raise InputError(f"{several[0]}: a search tries several values of a key by itself; remove it")
        own = [a for a in typed if a.startswith("-") or a.lstrip("+~").startswith(("hydra", "search.", "search="))]
        overrides = ",".join(quoted(a) for a in typed if a not in own)
        return [*own, f"search.command_line=[{overrides}]"] if overrides else own
    given = next((a for a in typed if a.startswith("sweep=") and a[6:] not in choices_of("sweep")), "")
    quotes = "\"'" if given[6:7] == given[-1:] else ""  # for Hydra
    if given and (folder := Path(given[6:].strip(quotes) if quotes else given[6:])).is_dir():
        record = read_json(folder / RECORD)
        if record.get("command") != name:
            other = f"a sweep of gan_lightning.{record['command']}" if record else f"no sweep: it has no {RECORD}"
            raise InputError(f"{given}: this folder holds {other}")
        rest = [a for a in typed if a != given and a not in ("-m", "--multirun")]
        return ["-m", *record["arguments"], *rest, f"hydra.sweep.dir={quoted(folder)}"]
    if not {"-m", "--multirun"} & {*typed} or any(a.startswith("hydra.sweep.dir=") for a in typed):
        return arguments
    for path in sorted(SWEEPS.glob(f"*/{RECORD}"), reverse=True):
        record = read_json(path)
        if record == {"command": name, "arguments": own_arguments(typed), "ended": False} and not is_held(path.parent):
            print(f"Continuing {path.parent}, which was stopped; for a new sweep, give hydra.sweep.dir=FOLDER")
            return [*arguments, f"hydra.sweep.dir={quoted(path.parent)}"]
    return arguments


def own_arguments(typed: Sequence[str]) -> list[str]:
    """Return the arguments that determine a sweep's jobs."""
    return [argument for argument in typed if not argument.startswith(FREE)]


def finish_job(run: Path) -> None:
    """Record that a job of a sweep has finished, and summarize its sweep if the job was resumed by itself."""
    if content := read_json(run / job.JOB):
        job.write_job(run, content["overrides"], "finished")
        sweeps = [folder for folder in run.parents if (folder / RECORD).exists()]
        if sweeps and processes.SWEEP not in os.environ:
            summarize(sweeps[0])


def write_record(sweep: Path, name: str, *, ended: bool) -> None:
    """Write the command and arguments of a sweep, which are those of this process, and whether it has ended."""
    write_json(sweep / RECORD, {"command": name, "arguments": own_arguments(sys.argv[1:]), "ended": ended})


def is_held(sweep: Path) -> bool:
    """Return whether a process is running a sweep."""
    lock = FileLock(sweep / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False


def release() -> None:
    """Release the lock of the sweep that this process runs."""
    while LOCKS:
        LOCKS.pop().release()


class Sweep(Callback):
    """Keep two processes from running one sweep, and summarize it at its end."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Exit with one line if the sweep's folder holds another sweep, or all jobs would write one file."""
        folder, name = Path(config.hydra.sweep.dir), config.hydra.job.name
        out = config.get("out")
        if out and Path(out).is_absolute() and any(argument == f"out={out}" for argument in sys.argv):
            sys.exit(f"out={out}: every job would write it; a relative path is in each job's own folder")
        record = read_json(folder / RECORD)
        if record and (record["command"], record["arguments"]) != (name, own_arguments(sys.argv[1:])):
            former = as_typed(" ".join(record["arguments"]))
            sys.exit(f"hydra.sweep.dir={folder}: holds another sweep, of {former}; use a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            sys.exit(f"hydra.sweep.dir={folder}: another process is running this sweep")
        LOCKS.append(lock)
        processes.mark_sweep()
        write_record(folder, name, ended=False)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the summary; see :func:`report`."""
        folder, name = Path(config.hydra.sweep.dir), config.hydra.job.name
        write_record(folder, name, ended=True)
        retry = ["retry_failed=true"] if "retry_failed" in config else []
        report(folder, again=command_line(name, argument("sweep", folder), *retry))


def report(folder: Path, *, again: str, figures: Sequence[Any] = (), best: Sequence[str] | None = None) -> None:
    """Print the summary of a sweep or a search; exit with code 1 if every job has failed, and 3 if some have.

    Args:
        folder: Of the sweep.
        again: The command that runs failed jobs again, to print; "" if there is none.
        figures: More of them for ``summary.html``; see :func:`write_html`.
        best: Folders of the best jobs; None for the first of the summary.
    """
    summary, jobs = summarize(folder), read_jobs(folder)
    files = ["summary.md", "summary.csv"]
    if write_html(folder, figures):
        files.insert(0, "summary.html")
    print(f"{summary.table}\nSummary: {shorten(folder)}/{', '.join(files)}")
    failed = [each for each in jobs if each.status not in ENDED]
    if jobs and len(failed) == len(jobs):
        sys.exit("every job failed")
    if best is None:
        best = [summary.rows[0]["job"]] if summary.rows and summary.monitor in summary.rows[0] else []
    for job_name in best:
        print(f"Best run: {shorten(folder) / job_name}")
    if failed:
        print(f"{len(failed)} of {len(jobs)} jobs failed" + (f". To run them again:\n  {again}" if again else ""))
        sys.exit(SOME_FAILED)
