"""What the keys of ``conf/search/`` mean: overrides of all runs, values to choose from, objectives and constraints."""

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override
from omegaconf import DictConfig
from optuna.trial import BaseTrial, FixedTrial

from gan_lightning.errors import InputError, as_typed, third_party_errors
from gan_lightning.run.config import compose, config_flags, quoted
from gan_lightning.run.schema import validate


def training_config(overrides: list[str]) -> DictConfig:
    """Return the config of training with overrides, and this command's folders; InputError if they are wrong."""
    folders: list[Any] = []
    for flag in config_flags():
        if flag.startswith("--config-dir="):
            folders.append(f"file://{flag.partition('=')[2]}")
        else:  # hydra.searchpath=[...]
            folders.extend(OverridesParser.create().parse_override(flag).value())  # type: ignore[arg-type]
    path = [f"hydra.searchpath=[{','.join(quoted(folder) for folder in folders)}]"] if folders else []
    return validate("train", compose("train", [*overrides, *path]))


def parse_overrides(settings: Mapping[str, Any]) -> tuple[list[str], dict[str, Override]]:
    """Return the overrides of all runs, and by key those with several values, from the keys of ``conf/search/``.

    The command line's take precedence over a file's, and overrides over the space.

    Raises:
        InputError: If they are wrong, or no key has several values.
    """
    space, parser = settings["space"] or {}, OverridesParser.create()
    if not isinstance(space, dict):
        raise InputError(f"search.space={as_typed(space)}: must be like {{k: choice(1, 2)}}")
    parsed = []
    for key, values in space.items():
        with third_party_errors(f"search.space.{key}={as_typed(values)}"):
            parsed.append(parser.parse_override(f"{key}={values}"))
    with third_party_errors(f"search.overrides={as_typed(settings['overrides'])}"):
        parsed += parser.parse_overrides(settings["overrides"])
    parsed += parser.parse_overrides(settings["command_line"])
    overrides = {override.key_or_group: override for override in parsed}  # the last one of a key counts
    searched = {key: override for key, override in overrides.items() if override.is_sweep_override()}
    if not searched:
        training_config([str(override.input_line) for override in overrides.values()])  # is a key misspelt?
        raise InputError("search.space={}: nothing to search; give a key several values, as in k=1,2")
    for key, override in searched.items():
        with third_party_errors(str(override.input_line)):
            suggest(FixedTrial({key: next(choices(override))}), key, override)
    return [str(o.input_line) for o in overrides.values() if not o.is_sweep_override()], searched


def parse_objectives(objectives: Any, metrics: Mapping[str, bool | None]) -> list[str]:
    """Return the objectives; InputError if they are no list of metrics with a direction."""
    typed = f"search.objectives={as_typed(objectives)}"
    if not isinstance(objectives, list):
        raise InputError(f"{typed}: must be like [fid,recall]")
    known = [metric for metric, higher in metrics.items() if higher is not None]
    if unknown := [metric for metric in objectives if metric not in known]:
        raise InputError(f"{typed}: {as_typed(unknown[0])} is not measured; available are {', '.join(known)}")
    return objectives


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


def parse_bounds(constraints: Sequence[str], metrics: Collection[str]) -> dict[str, tuple[int, float]]:
    """Return (sign, bound) by metric of constraints such as "fid <= 2": they hold if sign * (value - bound) <= 0.

    Raises:
        InputError: If one is no constraint of a metric.
    """
    bounds = {}
    for text in constraints:
        found = re.fullmatch(r"\s*(\w+)\s*([<>])=\s*(\S+)\s*", text)
        bound = math.nan
        with suppress(ValueError):
            bound = float(found[3]) if found else bound
        if not found or found[1] not in metrics or not math.isfinite(bound):
            raise InputError(
                f"search.constraints={as_typed(constraints)}: {text} must be a metric, <= or >=, and a number, "
                f"as in '{next(iter(metrics))} <= 2'"
            )
        bounds[found[1]] = (-1 if found[2] == ">" else 1, bound)
    return bounds
