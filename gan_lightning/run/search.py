"""A search for hyperparameters: Optuna proposes values, and each trial is a training run in a process of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import hydra
from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from gan_lightning.errors import InputError, as_typed, third_party_errors
from gan_lightning.metrics.evaluation import directions
from gan_lightning.run import job, processes, resources
from gan_lightning.run.config import start_folder, to_dict
from gan_lightning.run.files import read_json, write_json
from gan_lightning.run.fill_in import fill_in, usable_metrics
from gan_lightning.run.sweep import RECORD, report

try:
    import optuna
    import sqlalchemy
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
    from optuna.trial import FrozenTrial, Trial, TrialState

    from gan_lightning.run.search_space import (
        choices,
        parse_bounds,
        parse_objectives,
        parse_overrides,
        suggest,
        training_config,
    )
except ImportError as error:
    raise InputError("search: needs optuna; pip install 'gan-lightning[sweep]'") from error

WORKER = "GAN_LIGHTNING_WORKER"  # environment variable of processes that share a search's work
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # of heartbeats, since 2021
warnings.filterwarnings("ignore", "Heartbeat of storage is supposed")  # ours outlast a locked database

HEARTBEAT_INTERVAL = 20  # seconds between a trial's heartbeats
GRACE_PERIOD = 300  # seconds without one until the trial is run again: more than a pause of the machine or the network
MARK = "gan_lightning"  # user attribute: of a study the record, of a trial its number once it has a heartbeat


class Search:
    """A study, and what its trials are.

    Args:
        settings: The keys of ``conf/search/``.
        name: Of the search.

    Raises:
        InputError: If a value is wrong, or there is another search of this name.
    """

    def __init__(self, settings: Mapping[str, Any], name: str) -> None:
        self.settings, self.folder = settings, start_folder() / "outputs" / "searches" / name
        self.workers = min(settings["workers"], settings["num_trials"])
        self.fixed, self.space = parse_overrides(settings)
        config = fill_in(training_config([*self.fixed, *(f"{k}={next(choices(o))}" for k, o in self.space.items())]))
        self.trainer = config.trainer
        monitored = config.monitor.removeprefix("validation/")
        higher = directions(usable_metrics(config)) | {monitored: config.monitor_mode == "max"}
        self.objectives = parse_objectives(settings["objectives"] or [monitored], higher)
        self.bounds = parse_bounds(settings["constraints"], higher)
        self.prunes = bool(settings["pruner"]) and self.objectives == [monitored]
        self.folder.mkdir(parents=True, exist_ok=True)
        url = storage_url(settings["storage"] or "", str(self.folder / "study.db"))
        self.access = {"study_name": name, "storage": url.render_as_string(hide_password=False)}
        with third_party_errors("search.pruner"):  # used by the trials' processes
            hydra.utils.instantiate(settings["pruner"])
        with third_party_errors("search.sampler"):
            sampler = hydra.utils.instantiate(settings["sampler"])
        wanted = ["maximize" if higher[metric] else "minimize" for metric in self.objectives]
        record = {
            "command": "search",
            "arguments": [*self.fixed, *(str(o.input_line) for o in self.space.values())],
            "objectives": self.objectives,
            "directions": wanted,
            "constraints": settings["constraints"],
        }
        with FileLock(self.folder / ".lock"), third_party_errors(f"search.storage={url.render_as_string()}"):
            self.storage = RDBStorage(
                self.access["storage"],
                heartbeat_interval=HEARTBEAT_INTERVAL,
                grace_period=GRACE_PERIOD,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
            )
            self.study = optuna.create_study(
                study_name=name,
                storage=self.storage,
                directions=wanted,  # type: ignore[arg-type]
                sampler=sampler,
                load_if_exists=True,
            )
            self.claim(record)

    def claim(self, record: dict[str, Any]) -> None:
        """Write what the search is into its folder and its study; InputError if one of them holds another search."""
        actual = {"directions": [direction.name.lower() for direction in self.study.directions]}
        in_study = self.study.user_attrs.get(MARK, record) | actual
        for former in (read_json(self.folder / RECORD) or record, in_study):
            if other := [key for key in record if former.get(key) != record[key]]:
                raise InputError(
                    f"search.name={self.folder.name}: there is a search of this name with other {other[0]}, "
                    f"{as_typed(former.get(other[0]))}; use another name"
                )
        self.study.set_user_attr(MARK, record)
        write_json(self.folder / RECORD, record)

    def run(self) -> None:
        """Run trials until there are ``num_trials``, and wait for those of other processes, or replace lost ones.

        Raises:
            KeyboardInterrupt: After SIGINT or SIGTERM; the trial will be run again.
        """
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            self.run_trials()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def run_trials(self) -> None:
        """Do the work of :meth:`run`."""
        while True:
            with FileLock(self.folder / ".lock"):  # else several processes would begin the last trial
                begun = self.begun()
                trial = self.begin() if len(begun) < self.settings["num_trials"] else None
            if trial:
                self.run_trial(trial)
            elif any(t.state == TrialState.RUNNING for t in begun):
                time.sleep(GRACE_PERIOD / 60)
            else:
                return

    def begun(self) -> list[FrozenTrial]:
        """Return the trials that have begun, but for those that were, or are to be, run again.

        Lost trials are put in the queue: those without a heartbeat during the grace period.
        """
        for trial in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            if trial.user_attrs.get(MARK) != trial.number:  # Optuna would wait forever for a first heartbeat
                self.heartbeat(trial)
        optuna.storages.fail_stale_trials(self.study)
        trials = self.study.get_trials(deepcopy=False)
        retried = {n for trial in trials for n in RetryHeartbeatStaleTrialCallback.retry_history(trial)}
        return [t for t in trials if t.state != TrialState.WAITING and t.number not in retried]

    def begin(self) -> Trial:
        """Return a trial of the queue, or a new one."""
        trial = self.study.ask()
        self.heartbeat(trial)
        return trial

    def heartbeat(self, trial: Trial | FrozenTrial) -> None:
        """Record a heartbeat of a trial, and that it has one, unless the trial has ended."""
        with suppress(UpdateFinishedTrialError):
            self.storage.record_heartbeat(trial._trial_id)
            self.storage.set_trial_user_attr(trial._trial_id, MARK, trial.number)

    @contextmanager
    def heartbeats(self, trial: Trial) -> Iterator[None]:
        """Record heartbeats of a trial within the context."""
        ended = threading.Event()

        def record() -> None:
            while not ended.wait(HEARTBEAT_INTERVAL):
                with suppress(Exception):  # the database is locked or out of reach; the next one may succeed
                    self.storage.record_heartbeat(trial._trial_id)

        thread = threading.Thread(target=record, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def run_trial(self, trial: Trial) -> None:
        """Run a trial and record its end. An interrupted one is put in the queue, and KeyboardInterrupt raised."""
        try:
            with self.heartbeats(trial):
                state, values = self.train(trial)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                for number in (signal.SIGINT, signal.SIGTERM):  # those of the terminal and of the search may both come
                    signal.signal(number, signal.SIG_IGN)
                RetryHeartbeatStaleTrialCallback()(self.study, self.stored(trial))
            self.record_end(trial, TrialState.FAIL)
            raise
        self.record_end(trial, state, values)

    def train(self, trial: Trial) -> tuple[TrialState, list[float] | None]:
        """Train with the values that Optuna proposes; return the trial's state and the objectives, if it is complete.

        Raises:
            KeyboardInterrupt: If the run was interrupted.
        """
        name = folder_name(self.stored(trial))
        overrides = [*self.fixed, *(f"{key}={suggest(trial, key, o)}" for key, o in self.space.items())]
        config = training_config(overrides)
        result = job.run("train", overrides, self.folder / name, config, share=self.share(trial), show=False)
        status, reason = result["status"], result["reason"]
        metrics = read_json(self.folder / name / "metrics.json")
        needed = (*self.objectives, *self.bounds)
        found = {metric: metrics[f"val_{metric}"] for metric in needed if f"val_{metric}" in metrics}
        missing = {*needed} - found.keys() if status == "finished" else ()
        if missing:
            status, reason = "failed", f"{min(missing)} was not measured, or is not finite"
        print(": ".join(filter(None, (f"Trial {name} {status}", reason))), flush=True)
        if status == "interrupted":
            raise KeyboardInterrupt
        if status != "finished":
            return TrialState.PRUNED if status == "pruned" else TrialState.FAIL, None
        with suppress(UpdateFinishedTrialError):
            for metric, (sign, bound) in self.bounds.items():
                trial.set_constraint(metric, sign * (found[metric] - bound))
        return TrialState.COMPLETE, [found[metric] for metric in self.objectives]

    def record_end(self, trial: Trial, state: TrialState, values: list[float] | None = None) -> None:
        """Record the end of a trial, unless another process has: it took the trial for lost, and runs it again."""
        with suppress(UpdateFinishedTrialError):
            self.study.tell(trial, values, state=state, skip_if_finished=True)

    def stored(self, trial: Trial) -> FrozenTrial:
        """Return a trial as the study has it now."""
        return self.study.get_trials(deepcopy=False)[trial.number]

    @contextmanager
    def share(self, trial: Trial) -> Iterator[dict[str, str]]:
        """Hold a trial's share of the machine, and yield the variables of its process."""
        access = self.access | {"trial_id": trial._trial_id, "pruner": self.settings["pruner"]}
        with resources.share(self.trainer, jobs=self.workers) as variables:
            yield variables | ({job.TRIAL: json.dumps(access)} if self.prunes else {})

    def best(self) -> list[str]:
        """Return the names of the best trials' folders: all of the Pareto front, if there are several objectives."""
        return [folder_name(trial) for trial in self.study.best_trials]

    def figures(self) -> list[Any]:
        """Return Optuna's own figures of the study, as plotly figures; none of more than three objectives."""
        if not optuna.visualization.is_available() or len(self.objectives) > 3:
            return []
        if len(self.objectives) == 1:
            return [optuna.visualization.plot_optimization_history(self.study)]
        return [optuna.visualization.plot_pareto_front(self.study, target_names=self.objectives)]


def search(config: DictConfig) -> None:
    """Run a search, by as many processes as asked for, and report it."""
    settings = to_dict(config.search)
    name = settings["name"] or HydraConfig.get().runtime.choices["search"]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found = Search(settings, name)
    if WORKER in os.environ:
        found.run()
        return
    processes.mark_sweep()
    failed: list[int] = []
    if found.workers > 1:
        failed = [code for code in run_workers(found.workers) if code]
    else:
        found.run()
    message = f"search.workers={settings['workers']}: {len(failed)} failed, with exit codes {as_typed(failed)}"
    if len(failed) == found.workers:
        sys.exit(message)
    best = found.best()
    if found.bounds and not best:
        print(f"No run meets search.constraints={as_typed(settings['constraints'])}")
    report(found.folder, figures=found.figures(), best=best)
    if failed:
        sys.exit(message)


def run_workers(number: int) -> list[int]:
    """Run this command in several processes that share its work; return their exit codes."""
    command = [sys.executable, "-m", "gan_lightning.search", *sys.argv[1:]]
    workers = [subprocess.Popen(command, env=os.environ | {WORKER: "1"}) for _ in range(number)]
    try:
        return [worker.wait() for worker in workers]
    finally:
        for worker in workers:  # after Ctrl-C, which they have received, too
            worker.wait()


def folder_name(trial: FrozenTrial) -> str:
    """Return the name of a trial's folder: its number, or that of the trial that it runs again."""
    first = RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)
    return str(trial.number if first is None else first)


def storage_url(typed: str, path: str) -> sqlalchemy.URL:
    """Return the URL of the storage as typed, or of an SQLite file; InputError without its password if it is wrong."""
    if not typed:
        return sqlalchemy.URL.create("sqlite", database=path)
    with third_party_errors(f"search.storage={re.sub('//.*@', '//***@', typed)}"):
        return sqlalchemy.make_url(typed)
