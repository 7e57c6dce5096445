"""The configuration: where it lies, how a door composes it, and what its values may be.

Nothing heavy is imported here before the values have been checked, so that a mistake is answered at once.
"""

import difflib
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import (
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from gan_lightning import sweep
from gan_lightning.errors import InputError

PACKAGE = Path(__file__).parent
CHECKOUT = PACKAGE.parent  # the project's folder, unless the package was installed from a wheel
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else CHECKOUT / "conf"


# What values may be -----------------------------------------------------------------------------------------

Rule = tuple[Callable[[Any], bool], str]  # a test of a value, and what passes it, in words


def number(low: float, high: float = math.inf) -> Rule:
    """Allow the finite numbers of a closed range."""
    words = f"at least {low}" + ("" if high == math.inf else f" and at most {high}")
    return lambda value: is_number(value) and math.isfinite(value) and low <= value <= high, words


def one_of(*choices: str) -> Rule:
    """Allow a few words."""
    return lambda value: value in choices, ", ".join(choices)


def is_number(value: Any) -> bool:
    """Tell numbers from all else, booleans included."""
    return isinstance(value, int | float) and not isinstance(value, bool)


RULES: dict[str, Rule] = {  # by the last part of a key
    "accelerator": one_of("auto", "cpu", "gpu", "cuda", "mps"),
    "accumulate_grad_batches": number(1),
    "batch_norm_eps": number(0),
    "batch_size": number(1),
    "betas": number(0, 1),
    "devices": (lambda value: value != 0, "how many, at least 1; auto or -1: all; or a list of them"),
    "every_n_steps": number(1),
    "flat": number(0, 1),
    "gradient_clip_algorithm": one_of("norm", "value"),
    "gradient_clip_val": number(0),
    "gamma": number(0),
    "half_life": number(1),
    "image_shape": number(1),
    "k": number(1),
    "latent_dim": number(1),
    "log_every_n_steps": number(1),
    "lr": number(0),
    "max_epochs": number(-1),
    "max_steps": (lambda value: value == -1 or value >= 1, "at least 1, or -1: no end"),
    "max_time": (lambda value: bool(re.fullmatch(r"\d+:\d\d:\d\d:\d\d", str(value))), "DD:HH:MM:SS"),
    "momentum": number(0, 1),
    "monitor_mode": one_of("min", "max"),
    "num_images": number(1),
    "num_nodes": number(1),
    "num_real": number(1),
    "num_validation": number(1),
    "ramp": number(1e-6),
    "precision": one_of("auto", "32-true", "bf16-mixed"),
    "show": one_of("samples", "nearest", "walk"),
    "seed": number(0, 2**32 - 1),
    "strategy": one_of("auto", "ddp"),
    "subset_size": number(1),
    "subsets": number(1),
    "val_check_interval": number(1),
    "val_size": number(1),
    "weight_decay": number(0),
    "widths": number(1),
}


def check(config: DictConfig, defaults: DictConfig) -> None:
    """Refuse values of another type than their defaults', values that break a rule, and what is not there.

    Raises:
        InputError: On the first such value.
    """
    was = dict(leaves(plain(defaults)))
    now = dict(leaves(plain(config)))
    for key, value in now.items():
        if key.startswith("reference."):
            continue
        if key.startswith("gan."):  # it repeats the other groups
            continue
        words = (
            wrong_shape(key, was)
            or wrong_length(key, now, was)
            or wrong_type(value, was.get(key))
            or (value is not None and breaks_rule(key, value))
        )
        if words:
            raise InputError(f"{key}={'null' if value is None else value}: allowed: {words}")
    if "gan" in config and OmegaConf.to_container(config.gan) != OmegaConf.to_container(defaults.gan):  # unresolved
        raise InputError("gan: it repeats other keys, such as k and model; change those")
    endless = "gan" in config and config.trainer.max_steps == -1 and (config.trainer.max_epochs or -1) == -1
    if endless and OmegaConf.select(config, "optimizer.scheduler.flat") is not None:
        raise InputError(
            "trainer.max_steps=-1: allowed: at least 1, or -1 with trainer.max_epochs: the learning rates fall over "
            "the whole run"
        )
    checkpoint = config.get("checkpoint")
    if checkpoint and not Path(checkpoint).is_file():
        raise InputError(f"checkpoint={checkpoint}: no such file")
    accelerator = OmegaConf.select(config, "trainer.accelerator")
    if accelerator in ("gpu", "cuda", "mps"):
        import torch

        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if not (any(there.values()) if accelerator == "gpu" else there[accelerator]):
            raise InputError(f"trainer.accelerator={accelerator}: this machine has none; allowed: auto, cpu")


def plain(config: DictConfig) -> dict[str, Any]:
    """Resolve a config into dictionaries, lists and values."""
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


def leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of nested dictionaries and lists, empty lists too, with its key: ``optimizer.betas[0]``."""
    if isinstance(node, dict):
        for name, child in node.items():
            yield from leaves(child, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list) and node:
        for i, child in enumerate(node):
            yield from leaves(child, f"{key}[{i}]")
    else:
        yield key, node


def wrong_shape(key: str, was: dict[str, Any]) -> str | None:
    """Say what is allowed when a list stands for one value, or one value for a list."""
    name, _, position = key.partition("[")
    if position and was.get(name) is not None:
        return f"one value, such as {was[name]}"
    items = [default for other, default in was.items() if other.startswith(f"{key}[")]
    return f"a list, such as {items}" if items and key not in was else None


def wrong_length(key: str, now: dict[str, Any], was: dict[str, Any]) -> str | None:
    """Say what is allowed when there is one beta where an optimizer takes two."""
    pair = [f"{key.partition('[')[0]}[{i}]" for i in range(2)]
    return f"two numbers, such as {[was[k] for k in pair]}" if "betas[" in key and pair[1] not in now else None


def wrong_type(value: Any, default: Any) -> str | None:
    """Say what is allowed when a value is not of its default's type; a default of null allows anything."""
    if value is None and default is not None and not isinstance(default, bool | int | float):
        return f"a value, such as {default}"
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, int):
        return None if isinstance(value, int) and is_number(value) else f"a whole number, such as {default}"
    if isinstance(default, float):
        return None if is_number(value) else f"a number, such as {default}"
    return None


def breaks_rule(key: str, value: Any) -> str | None:
    """Say what is allowed when a value breaks the rule for its key."""
    passes, words = RULES.get(key.rpartition(".")[2].partition("[")[0], (lambda _: True, ""))
    return None if passes(value) else words


# Composing ---------------------------------------------------------------------------------------------------


def register_resolvers() -> None:
    """Teach OmegaConf the two interpolations that ``conf/`` uses.

    ``${project:data}`` is a folder of this project where there is one (a clone, an editable install), else of the
    working directory. ``${run_dir:CHECKPOINT,NEW}`` is the folder of the run that a checkpoint belongs to, or a
    new one.
    """

    def project(folder: str) -> str:
        return str((CHECKOUT if CHECKOUT / "conf" == CONF else Path.cwd()) / folder)

    def run_dir(checkpoint: str | None, new: str) -> str:
        run = Path(checkpoint).absolute().parent.parent if checkpoint else None
        return str(run) if run and (run / ".hydra").is_dir() else new

    OmegaConf.register_new_resolver("project", project, replace=True)
    OmegaConf.register_new_resolver("run_dir", run_dir, replace=True)


def compose(name: str, overrides: list[str] | None = None) -> DictConfig:
    """Compose ``conf/<name>.yaml`` with overrides as on the command line, outside of a door."""
    register_resolvers()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose(name, overrides or [])


def choose_length(config: DictConfig, overrides: Iterable[str]) -> None:
    """Let ``trainer.max_epochs`` take the place of ``trainer.max_steps`` where it alone was typed."""
    typed = {override.split("=")[0] for override in overrides}
    if "trainer.max_epochs" in typed and "trainer.max_steps" not in typed and "gan" in config:
        config.trainer.max_steps = -1


def leave_out_featureless(config: DictConfig) -> None:
    """Put null in the place of metrics that work on features where the data set has none."""
    for name, metric in (config.metrics or {}).items():
        if metric and "features" in metric and metric.features is None:
            config.metrics[name] = None


def make_metrics(config: DictConfig) -> dict[str, Any]:
    """Build the metrics that are not null."""
    leave_out_featureless(config)
    return {
        name: hydra.utils.instantiate(m, _convert_="all") for name, m in (config.metrics or {}).items() if m is not None
    }


# Doors -------------------------------------------------------------------------------------------------------


def door(
    name: str, *, prepare: Callable[[list[str]], list[str]] = lambda arguments: arguments
) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Make a function of a config a command: compose ``conf/<name>.yaml``, check it, call the function.

    A mistake of the user's ends in one line and exit code 1; with ``HYDRA_FULL_ERROR=1``, in a traceback. Each
    job of a multirun is run in a process of its own.

    Args:
        name: The root config.
        prepare: What happens first to the command line's arguments.
    """
    full_error = os.environ.get("HYDRA_FULL_ERROR")

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        @wraps(task)
        def checked(config: DictConfig) -> Any:
            if full_error is None:
                os.environ.pop("HYDRA_FULL_ERROR", None)
            job = HydraConfig.get()
            if job.mode == RunMode.MULTIRUN:
                return sweep.run_job(config)
            try:
                with one_line_errors(full_error == "1"):
                    choose_length(config, job.overrides.task)
                    check(config, defaults(name))
                    return task(config)
            finally:
                if Path(job.runtime.output_dir) != Path.cwd():
                    with suppress(OSError):  # nothing was written: leave no trace
                        Path(job.runtime.output_dir).rmdir()

        def main() -> None:
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors instead of printing them at length
            register_resolvers()
            with one_line_errors(full_error == "1"):
                sys.argv[1:] = prepare(sys.argv[1:])
                hydra.main(config_path=str(CONF), config_name=name, version_base="1.3")(checked)()

        return main

    return decorate


def defaults(name: str) -> DictConfig:
    """Compose, within a door, the chosen groups with no value changed."""
    choices = HydraConfig.get().runtime.choices
    return hydra.compose(
        name, [f"{group}={choice}" for group, choice in choices.items() if choice and not group.startswith("hydra/")]
    )


@contextmanager
def one_line_errors(full: bool) -> Iterator[None]:
    """Exit with code 1 and one line on a mistake of the user's, or let it through if ``full``."""
    try:
        yield
    except (InputError, HydraException, OmegaConfBaseException) as error:
        if full:
            raise
        sys.exit(one_line(error))
    except ValueError as error:
        if full or "Config group override" not in str(error):
            raise
        sys.exit("null stands in the place of a group's choice; --help lists the choices")
    except KeyboardInterrupt:
        if full:
            raise
        print("Interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def one_line(error: Exception) -> str:
    """Tell an error in one line: the key, the value, and what is allowed."""
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        return f"{group}={choice}: no such choice; allowed: {', '.join(error.options)}"
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key}=???: a value is needed, as in {error.full_key}=VALUE"
    cause = error.__cause__
    if isinstance(error, InstantiationException) and cause is not None:
        key = re.search(r"full_key: (.+)", str(error)) or re.search(r"target '.*?(\w+)'", str(error))
        return re.sub(r"\s+", " ", f"{key[1] if key else 'config'}: {cause}")
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and cause.parent_node is not None:
        typed = next((a for a in sys.argv[1:] if a.split("=")[0] == cause.full_key), str(cause.full_key))
        parent, _, name = str(cause.full_key).rpartition(".")
        keys = [str(key) for key in cause.parent_node if key not in ("_target_", "_partial_", "hydra")]
        close = difflib.get_close_matches(name, keys, n=3) or keys
        return f"{typed}: no such key; {parent or 'the top'} has {', '.join(close)}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: not an override; write key=value or group=choice"
    if several := re.match(r"Ambiguous value for argument '(.*)'", str(error)):
        return f"{several[1]}: several values; add -m to sweep over them"
    return re.sub(r"\s+", " ", str(error)).strip()
