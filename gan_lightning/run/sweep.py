"""Sweeps: each job in a process of its own, wherever a launcher runs it; a sweep that was stopped is continued."""

import hashlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from gan_lightning.errors import InputError, as_typed, file_error, one_line
from gan_lightning.run import job, processes, resources
from gan_lightning.run.config import (
    argument,
    command_line,
    config_dirs,
    quoted,
    shorten,
    start_folder,
    typed_overrides,
)
from gan_lightning.run.config_files import CONF
from gan_lightning.run.files import acquire, read_json, write_json
from gan_lightning.run.job import ENDED
from gan_lightning.run.ranking import read_jobs
from gan_lightning.run.suggest import choices_of
from gan_lightning.run.summary import summarize, write_html

SWEEPS = Path("outputs/sweeps")
RECORD = "sweep.json"  # in a sweep's folder: its command, and whether it has ended
BASIC = "BasicLauncher"  # runs one job after the other, in this process
SOME_FAILED = 3  # exit code
LAUNCHER = ("hydra/launcher=", "hydra.launcher.")
CHANGEABLE = (*LAUNCHER, "retry_failed=")  # arguments that do not change the jobs
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
    folder, launcher = Path(hydra.runtime.output_dir), launcher_of(hydra)
    overrides = [typed for typed in typed_overrides() if not typed.startswith(CHANGEABLE)]
    trainer = config.get("trainer") or {"accelerator": config.get("device", "cpu")}
    shared = None
    if launcher in ("JoblibLauncher", "LocalLauncher"):  # whose jobs share this machine
        jobs = hydra.launcher.get("n_jobs") or resources.jobs_at_once(trainer)
        slots = sweep / ".slots" if launcher == "LocalLauncher" else None  # it starts all jobs together
        shared = resources.share(trainer, jobs=jobs if jobs > 0 else resources.cores(), folder=slots)
    retry, is_basic = config.get("retry_failed", True), launcher == BASIC
    result = job.run(name, overrides, folder, config, retry=retry, share=shared, show=is_basic)
    if not job.is_first_task():
        return None
    summary, own = summarize(sweep), str(folder.relative_to(sweep))
    if not is_basic:
        print(": ".join(filter(None, (f"Job {own} {result['status']}", result["reason"]))))
    if result["status"] == "interrupted" and (is_basic or launcher == "SlurmLauncher"):
        sys.exit(128 + signal.Signals[result["reason"]])
    row = next((row for row in summary.rows if row["job"] == own), {})
    return row.get(summary.monitor or "")


def launcher_of(hydra: Any) -> str:
    """Return the name of the launcher's class."""
    return hydra.launcher._target_.rpartition(".")[2]


def arguments_for(name: str, typed: Sequence[str]) -> list[str]:
    """Return a command's arguments with those of the sweep that it continues, if any.

    With ``sweep=FOLDER`` that is the sweep of this folder, and otherwise one with the same arguments that was stopped.

    Raises:
        InputError: If a folder holds no sweep, or another command's, or on Windows.
    """
    arguments = [*typed]
    multirun = next((a for a in typed if a in ("-m", "--multirun", "hydra.mode=MULTIRUN")), "")
    if sys.platform == "win32" and (multirun or name == "search"):
        raise InputError(f"{multirun or name}: sweeps and searches need the signals of Linux or macOS; use WSL")
    if name == "search":  # its own keys, and those of training
        if multirun:
            raise InputError(f"{multirun}: a search tries several values of a key by itself; remove it")
        own = [a for a in typed if a.startswith("-") or a.lstrip("+~").startswith(("hydra", "search.", "search="))]
        overrides = ",".join(quoted(a) for a in typed if a not in own)
        return [*own, f"search.command_line=[{overrides}]"] if overrides else own
    given = next((a for a in typed if a.startswith("sweep=") and a[6:] not in choices_of("sweep")), "")
    if given and (folder := Path(unquoted(given[6:]))).is_dir():
        record = read_json(folder / RECORD)
        if record.get("command") != name:
            other = f"a sweep of gan_lightning.{record['command']}" if record else f"no sweep: it has no {RECORD}"
            raise InputError(f"{given}: this folder holds {other}")
        rest = [a for a in typed if a != given and a not in ("-m", "--multirun")]
        former = [a for a in record.get("arguments", []) if not a.startswith(LAUNCHER) or not any_of(rest, LAUNCHER)]
        print(f"Continuing {folder}: {' '.join(former)}")
        return ["-m", *former, *rest, f"hydra.sweep.dir={quoted(folder)}"]
    if not {"-m", "--multirun"} & {*typed} or any_of(typed, "hydra.sweep.dir="):
        return arguments
    same = {
        "command": name,
        "arguments": without(CHANGEABLE, recorded(typed)),
        "configs": fingerprint(),
        "ended": False,
    }
    for path in sorted(SWEEPS.glob(f"*/{RECORD}"), reverse=True):
        record = read_json(path)
        record["arguments"] = without(CHANGEABLE, record.get("arguments", ()))
        if record == same and not is_held(path.parent):
            print(f"Continuing {path.parent}, which was stopped; for a new sweep, give hydra.sweep.dir=FOLDER")
            return [*arguments, f"hydra.sweep.dir={quoted(path.parent)}"]
    return arguments


def any_of(arguments: Iterable[str], start: str | tuple[str, ...]) -> bool:
    """Return whether one of the arguments begins in that way."""
    return any(argument.startswith(start) for argument in arguments)


def without(start: tuple[str, ...], arguments: Iterable[str]) -> list[str]:
    """Return the arguments that do not begin in that way."""
    return [argument for argument in arguments if not argument.startswith(start)]


def recorded(typed: Sequence[str]) -> list[str]:
    """Return the arguments of a sweep that its record has."""
    return without(("-m", "--multirun", "hydra.sweep.dir=", "retry_failed="), typed)


def unquoted(text: str) -> str:
    """Return a value without Hydra's quotes, if it has any."""
    if text[:1] not in ("'", '"'):
        return text
    return str(OverridesParser.create().parse_override(f"key={text}").value())


def fingerprint() -> str:
    """Return a hash of all configs: a sweep is not continued with others."""
    found = hashlib.sha256()
    for folder in (CONF, *config_dirs()):
        for path in sorted(folder.rglob("*.yaml")):
            found.update(path.read_bytes())
    return found.hexdigest()[:16]


def finish_job(run: Path) -> None:
    """Record that a job of a sweep has finished, and summarize its sweep if the job was resumed by itself."""
    if content := read_json(run / job.JOB):
        job.write_job(run, content["overrides"], "finished")
        sweeps = [folder for folder in run.parents if (folder / RECORD).exists()]
        if sweeps and processes.SWEEP not in os.environ:
            summarize(sweeps[0])


def is_held(sweep: Path) -> bool:
    """Return whether a process of this machine is running a sweep."""
    lock = FileLock(sweep / ".lock")
    is_free = acquire(lock)
    lock.release()
    return not is_free


@contextmanager
def running() -> Iterator[None]:
    """Release what a sweep that the context runs has taken; InputError if its launcher fails, and not a job."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except Exception as error:
        (*_, (frame, _)) = traceback.walk_tb(error.__traceback__)
        if not LOCKS or frame.f_globals["__name__"].startswith(("hydra.", "omegaconf.", "gan_lightning.")):
            raise
        line = f"{type(error).__name__}: {one_line(error)}"  # as of one whose process was killed
        raise InputError(f"hydra/launcher: {line}; the same command continues the sweep") from error
    finally:
        if signal.getsignal(signal.SIGINT) is stop:
            signal.signal(signal.SIGINT, handler)
        while LOCKS:
            LOCKS.pop().release()


class Sweep(Callback):
    """Keep two processes from running one sweep, and summarize it at its end.

    Hydra makes a warning of any error of a callback, which would let the sweep go on; so errors are exits.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Exit with one line if the sweep's folder holds another sweep, or all jobs would write one file."""
        with errors_as_exits():
            start(config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the summary; see :func:`report`."""
        with errors_as_exits():
            folder, name = Path(config.hydra.sweep.dir), config.hydra.job.name
            statuses = {each.status for each in read_jobs(folder)}
            write_json(folder / RECORD, read_json(folder / RECORD) | {"ended": statuses <= {*ENDED, "failed"}})
            retry = ["retry_failed=true"] if "retry_failed" in config else []
            report(folder, again=command_line(name, argument("sweep", folder), *retry))


@contextmanager
def errors_as_exits() -> Iterator[None]:
    """Exit with one line for any error within the context."""
    try:
        yield
    except Exception as error:
        sys.exit(f"The sweep's folder: {file_error(error) or f'{type(error).__name__}: {one_line(error)}'}")


def start(config: DictConfig) -> None:
    """Hold the lock of a sweep's folder, and write its record; exit with one line if that cannot be."""
    folder, name = Path(config.hydra.sweep.dir), config.hydra.job.name
    if "out" in config and not OmegaConf.is_interpolation(config, "out") and Path(config.out or "").is_absolute():
        sys.exit(f"out={config.out}: every job would write it; a relative path is in each job's own folder")
    record, own, configs = read_json(folder / RECORD), recorded(sys.argv[1:]), fingerprint()
    if record:
        former = record.get("arguments", [])
        if (record.get("command"), without(CHANGEABLE, former)) != (name, without(CHANGEABLE, own)):
            line = as_typed(" ".join(former))
            sys.exit(f"hydra.sweep.dir={folder}: holds another sweep, of {line}; use a new folder")
        if record.get("configs") != configs:
            print("The configs are not those with which this sweep began; its finished jobs are kept", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    if not acquire(lock):
        sys.exit(f"hydra.sweep.dir={folder}: another process is running this sweep")
    LOCKS.append(lock)
    processes.mark_sweep()
    write_json(folder / RECORD, {"command": name, "arguments": own, "configs": configs, "ended": False})
    if launcher_of(config.hydra) != BASIC and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, stop)


def stop(signum: int, frame: Any) -> None:
    """End the sweep at once; its jobs then stop by themselves. Launchers would kill them, before they save anything."""
    print("Interrupted; the jobs save a checkpoint and stop", file=sys.stderr, flush=True)
    os._exit(128 + signum)


def report(folder: Path, *, again: str = "", figures: Sequence[Any] = (), best: Sequence[str] | None = None) -> None:
    """Print the summary of a sweep or a search; exit with code 1 if every job has failed, and 3 if some have.

    Args:
        folder: Of the sweep.
        again: The command that runs failed jobs again, to print; "" if there is none.
        figures: More of them for ``summary.html``; see :func:`write_html`.
        best: Names of the best jobs; None: the first of the summary.
    """
    summary, jobs = summarize(folder), read_jobs(folder)
    files = ["summary.md", "summary.csv"]
    if write_html(folder, figures):
        files.insert(0, "summary.html")
    print(f"{summary.table}\nSummary: {shorten(folder)}/{', '.join(files)}")
    statuses = [each.status for each in jobs if each.status not in ENDED]
    if jobs and statuses == ["failed"] * len(jobs):
        sys.exit("every job failed")
    if best is None:
        best = [row["job"] for row in summary.rows[:1] if summary.monitor in row]
    for name in best:
        print(f"Best run: {shorten(folder) / name}")
    if statuses:
        counts = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
        print(f"Of {len(jobs)} jobs: {counts}" + (f". To run them again:\n  {again}" if again else ""))
        sys.exit(SOME_FAILED)
