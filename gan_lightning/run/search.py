"""A search for hyperparameters: Optuna proposes values, and each trial is a training run in a process of its own."""

import json
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import hydra
from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override
from omegaconf import DictConfig

from gan_lightning.errors import InputError, as_typed, third_party_errors
from gan_lightning.metrics.evaluation import directions
from gan_lightning.run import job, processes, resources
from gan_lightning.run.config import compose, config_flags, fill_in, start_folder, to_dict, usable_metrics
from gan_lightning.run.ranking import read_json
from gan_lightning.run.schema import validate
from gan_lightning.run.sweep import RECORD, report

try:
    import optuna
    from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
    from optuna.trial import BaseTrial, FixedTrial, FrozenTrial, Trial, TrialState
except ImportError as error:
    raise InputError("search: needs optuna; pip install 'gan-lightning[sweep]'") from error

WORKER = "GAN_LIGHTNING_WORKER"  # environment variable of processes that share a search's work
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # of heartbeats, since 2021

BEAT, GRACE = 5, 20  # seconds between signs of life of a trial, and without one until it is run again


class TrialFailedError(Exception):
    """A training run failed, or did not measure an objective."""


class Search:
    """A study, and what its trials are.

    Args:
        settings: The keys of ``conf/search/``.
        name: Of the search.

    Raises:
        InputError: If a value is wrong, or the folder holds another search.
    """

    def __init__(self, settings: Mapping[str, Any], name: str) -> None:
        self.settings, self.folder = settings, start_folder() / "outputs" / "searches" / name
        for key, kind, example in (("space", dict, "{k: choice(1, 2)}"), ("objectives", list, "[fid,recall]")):
            if not isinstance(value := settings[key], kind | None):
                raise InputError(f"search.{key}={as_typed(value)}: must be like {example}")
        lines = [f"{key}={values}" for key, values in (settings["space"] or {}).items()]
        parsed = OverridesParser.create().parse_overrides([*lines, *settings["overrides"]])
        overrides = {override.key_or_group: override for override in parsed}  # the last one of a key counts
        self.fixed = [str(o.input_line) for o in overrides.values() if not o.is_sweep_override()]
        self.space = {key: o for key, o in overrides.items() if o.is_sweep_override()}
        if not self.space:
            raise InputError("search.space={}: nothing to search; give a key several values, as in k=1,2")
        for key, override in self.space.items():
            with third_party_errors(str(override.input_line)):
                suggest(FixedTrial({key: next(choices(override))}), key, override)
        config = fill_in(training_config([*self.fixed, *(f"{k}={next(choices(o))}" for k, o in self.space.items())]))
        self.trainer = config.trainer
        higher = directions(usable_metrics(config))
        monitored = config.monitor.removeprefix("validation/")
        self.objectives = settings["objectives"] or [monitored]
        higher |= {monitored: config.monitor_mode == "max"}
        known = [metric for metric, direction in higher.items() if direction is not None]
        if unknown := [metric for metric in self.objectives if metric not in known]:
            raise InputError(f"search.objectives: {unknown[0]} is not measured; available are {', '.join(known)}")
        self.bounds = dict(parse_bound(text, higher) for text in settings["constraints"])
        self.prunes = bool(settings["pruner"]) and self.objectives == [monitored]
        self.claim({"command": "search", "arguments": [*self.fixed, *(str(o.input_line) for o in self.space.values())]})
        url = settings["storage"] or f"sqlite:///{self.folder}/study.db"
        with third_party_errors(f"search.storage={url}"):
            storage = RDBStorage(
                url,
                heartbeat_interval=BEAT,
                grace_period=GRACE,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
            )
        self.access = {"study_name": name, "storage": url}
        with third_party_errors("search"):
            self.study = optuna.create_study(
                study_name=name,
                storage=storage,
                directions=["maximize" if higher[metric] else "minimize" for metric in self.objectives],
                sampler=hydra.utils.instantiate(settings["sampler"]),
                load_if_exists=True,
            )

    def claim(self, record: dict[str, Any]) -> None:
        """Write what the search is into its folder; InputError if it holds another one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            former = read_json(self.folder / RECORD)
            if former and former != record:
                raise InputError(
                    f"search.name={self.folder.name}: {self.folder} holds a search of "
                    f"{as_typed(' '.join(former['arguments']))}; use another name"
                )
            job.write_json(self.folder / RECORD, record)

    def run(self) -> None:
        """Run trials until there are ``num_trials``, and wait for those of other processes, or replace lost ones."""
        while True:
            optuna.storages.fail_stale_trials(self.study)
            trials = self.study.get_trials(deepcopy=False)
            retried = {n for trial in trials for n in RetryHeartbeatStaleTrialCallback.retry_history(trial)}
            begun = [t for t in trials if t.state != TrialState.WAITING and t.number not in retried]
            if len(begun) < self.settings["num_trials"]:
                self.study.optimize(self.objective, n_trials=1, catch=(TrialFailedError,))
            elif any(t.state == TrialState.RUNNING for t in begun):
                time.sleep(GRACE / 4)
            else:
                return

    def objective(self, trial: Trial) -> list[float]:
        """Train with the values that Optuna proposes, and return the objectives."""
        first = RetryHeartbeatStaleTrialCallback.retried_trial_number(self.stored(trial))
        name = str(trial.number if first is None else first)
        overrides = [*self.fixed, *(f"{key}={suggest(trial, key, o)}" for key, o in self.space.items())]
        result = job.run(
            "train",
            overrides,
            self.folder / name,
            training_config(overrides),
            share=self.share(trial),
            show=False,
        )
        print(": ".join(filter(None, (f"Trial {name} {result['status']}", result["reason"]))), flush=True)
        if result["status"] == "interrupted":
            RetryHeartbeatStaleTrialCallback()(self.study, self.stored(trial))  # for the same command
            raise KeyboardInterrupt
        if result["status"] == "pruned":
            raise optuna.TrialPruned
        if result["status"] == "failed":
            raise TrialFailedError(result["reason"])
        metrics = read_json(self.folder / name / "metrics.json")
        needed = (*self.objectives, *self.bounds)
        found = {metric: metrics[f"val_{metric}"] for metric in needed if f"val_{metric}" in metrics}
        if missing := {*needed} - found.keys():
            raise TrialFailedError(f"{min(missing)} was not measured, or is not finite")
        for metric, (sign, bound) in self.bounds.items():
            trial.set_constraint(metric, sign * (found[metric] - bound))
        return [found[metric] for metric in self.objectives]

    def stored(self, trial: Trial) -> FrozenTrial:
        """Return a trial as the study has it now."""
        return self.study.get_trials(deepcopy=False)[trial.number]

    @contextmanager
    def share(self, trial: Trial) -> Iterator[dict[str, str]]:
        """Hold a trial's share of the machine, and yield the variables of its process."""
        access = self.access | {"trial_id": trial._trial_id, "pruner": self.settings["pruner"]}
        with resources.share(self.trainer, jobs=self.settings["workers"]) as variables:
            yield variables | ({job.TRIAL: json.dumps(access)} if self.prunes else {})

    def figures(self) -> list[Any]:
        """Return Optuna's own figures of the study, as plotly figures."""
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
    if settings["workers"] > 1:
        command = [sys.executable, "-m", "gan_lightning.search", *sys.argv[1:]]
        workers = [subprocess.Popen(command, env=os.environ | {WORKER: "1"}) for _ in range(settings["workers"])]
        try:
            for worker in workers:
                worker.wait()
        finally:
            for worker in workers:  # after Ctrl-C, which they have received, too
                worker.wait()
    else:
        found.run()
    report(found.folder, again="", figures=found.figures())


def training_config(overrides: list[str]) -> DictConfig:
    """Return the config of training with overrides; InputError if they are wrong."""
    folders = [flag.partition("=")[2] for flag in config_flags() if flag.startswith("--config-dir")]
    path = [f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in folders)}]"] if folders else []
    return validate("train", compose("train", [*overrides, *path]))


def choices(override: Override) -> Iterator[Any]:
    """Yield the values of a key that is searched, as typed; of an interval its ends."""
    values = override.value()
    if isinstance(values, IntervalSweep):
        yield from (values.start, values.end)
    else:
        yield from override.sweep_string_iterator()


def suggest(trial: BaseTrial, key: str, override: Override) -> Any:
    """Return the value that Optuna proposes for a key, as typed."""
    values: Any = override.value()
    log = "log" in values.tags
    if isinstance(values, ChoiceSweep):
        return trial.suggest_categorical(key, [*choices(override)])
    if isinstance(values, IntervalSweep):
        low, high = map(float, choices(override))
        return f"{trial.suggest_float(key, low, high, log=log):.6g}"
    numbers = [*values.range()]  # whole numbers, or decimals
    if log:
        return trial.suggest_int(key, numbers[0], numbers[-1], log=True)
    if isinstance(numbers[0], int):
        return trial.suggest_int(key, numbers[0], numbers[-1], step=values.step)
    return f"{trial.suggest_float(key, float(numbers[0]), float(numbers[-1]), step=float(values.step)):.6g}"


def parse_bound(text: Any, metrics: Collection[str]) -> tuple[str, tuple[int, float]]:
    """Return the metric of a constraint such as "fid <= 2", and (sign, bound): it holds if sign * (value - bound) <= 0.

    Raises:
        InputError: If it is no constraint of one of the metrics.
    """
    found = re.fullmatch(r"\s*(\w+)\s*([<>])=\s*(\S+)\s*", str(text))
    if not found or found[1] not in metrics:
        example = f"as in '{next(iter(metrics))} <= 2'"
        raise InputError(f"search.constraints: {as_typed(text)} must be a metric, <= or >=, and a bound, {example}")
    with third_party_errors(f"search.constraints: {text}"):
        return found[1], (-1 if found[2] == ">" else 1, float(found[3]))
