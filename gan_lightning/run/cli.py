"""The entry point that all commands share: compose the config, validate it, and report mistakes in one line."""

import gc
import logging
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, read_write
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from gan_lightning.errors import InputError, as_typed, file_error, one_line, out_of_memory
from gan_lightning.perf.openmp import CpuUse, set_wait_policy
from gan_lightning.run import sweep
from gan_lightning.run.config import (
    clear_none_choices,
    compose,
    config_dirs,
    expand_home,
    quoted,
    resolve_paths,
    run_dir,
    start_folder,
    typed_overrides,
)
from gan_lightning.run.config_files import CONF
from gan_lightning.run.help import help_page
from gan_lightning.run.processes import stop_with_sweep
from gan_lightning.run.schema import validate
from gan_lightning.run.suggest import choices_of, known_keys, unknown_choice, unknown_flag, unknown_key


def command(name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Turn a function that takes a config into the command ``gan_lightning.<name>``, with ``conf/<name>.yaml``.

    A mistake in the config ends the command with one line and exit code 1, or a traceback if ``HYDRA_FULL_ERROR=1``.
    Each job of a multirun runs in a process of its own.
    """
    full_error = os.environ.get("HYDRA_FULL_ERROR")

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        @wraps(task)
        def run(config: DictConfig) -> Any:
            if full_error is None:
                os.environ.pop("HYDRA_FULL_ERROR", None)
            job = HydraConfig.get()
            if job.mode == RunMode.MULTIRUN:  # possibly in a launcher's process, which passes errors on
                return sweep.run_job(name, config)
            try:
                with one_line_errors(full_error == "1"):
                    if deleted := next((o for o in typed_overrides() if o.startswith("~")), None):
                        raise InputError(f"{deleted}: keys cannot be deleted; use {deleted[1:]}=null or =none")
                    refuse_hidden_files()
                    clear_none_choices(config)
                    config = validate(name, resolve_paths(config))
                    set_wait_policy(config.get("omp_wait_policy", "auto"), cpu_use, trainer=config.get("trainer") or {})
                    with read_write(job):  # type: ignore[arg-type]
                        job.run.dir = quoted(job.run.dir)[1:-1]  # Lightning passes it on to other ranks between quotes
                    import pytorch_lightning  # noqa: F401

                    gc.freeze()  # what the imports created
                    gc.enable()
                    return task(config)
            finally:
                folder = Path(job.runtime.output_dir)
                if folder != start_folder() and not (folder / ".hydra").exists():  # the run has not begun
                    with suppress(OSError):
                        (folder / f"{name}.log").unlink(missing_ok=True)
                        folder.rmdir()

        @wraps(task)
        def main() -> None:
            threading.excepthook = report_in_thread
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, TextIOWrapper):  # Windows' code pages have neither σ nor ↑
                    stream.reconfigure(errors="replace")
            logging.raiseExceptions = False  # a full disk must not print a traceback for each line of the log
            gc.disable()  # its passes would take a sixth of the time of all imports
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors, which are reported here
            logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # it logs them besides
            stop_with_sweep()
            with one_line_errors(full_error == "1"):
                if "${" in (folder := str(Path.cwd())):
                    raise InputError(
                        f"{folder}: Hydra cannot run in a folder with ${{ in its name, a reference to a key"
                    )
                arguments = [*map(expand_home, joined(sys.argv[1:]))]
                if (page := answer(name, arguments)) is not None:
                    show(page)
                    return
                sys.argv[1:] = flags_first(arguments)
                sys.argv[1:] = flags_first(sweep.arguments_for(name, sys.argv[1:]))
                with sweep.running():
                    hydra.main(config_path=str(CONF), config_name=name, version_base="1.3")(run)()

        cpu_use = CpuUse()
        return main

    return decorate


def answer(name: str, arguments: list[str]) -> str | None:
    """Return the page that ``--help`` or ``--info`` asks for, or None; InputError for a flag that there is not."""
    if wrong := unknown_flag(arguments):
        raise InputError(wrong)
    if name == "train" and "--info" in arguments and "--help" not in arguments:
        return info([argument for argument in arguments if not argument.startswith("-")])
    return help_page(name, arguments)


def info(overrides: list[str]) -> str:
    """Return what a training run with overrides would be."""
    config = validate("train", resolve_paths(compose("train", overrides, config_dirs())))
    typed = dict(argument.partition("=")[::2] for argument in overrides)
    experiment = typed.get("experiment", "default")
    folder = typed.get("hydra.run.dir") or run_dir(config.checkpoint, config.name, experiment, "DATE_TIME")
    from gan_lightning.run.info import describe_run  # imports torch

    return describe_run(config, overrides, folder)


def show(page: str) -> None:
    """Print a page, of which a pager may read only the beginning."""
    try:
        print(page, flush=True)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123


def joined(typed: list[str]) -> list[str]:
    """Return a command's arguments with ``--config-dir FOLDER`` as one, ``--config-dir=FOLDER``."""
    if typed[-1:] in (["--config-dir"], ["-cd"]):
        raise InputError(f"{typed[-1]}: a folder is required, as in --config-dir=FOLDER")
    arguments = iter(typed)
    return [f"--config-dir={next(arguments)}" if a in ("--config-dir", "-cd") else a for a in arguments]


def flags_first(arguments: Iterable[str]) -> list[str]:
    """Return a command's arguments with the flags in front of the overrides, as argparse needs them."""
    return sorted(arguments, key=lambda a: not re.match(r"-m$|--multirun$|--[\w-]+=", a))


def refuse_hidden_files() -> None:
    """Raise InputError if a chosen file of ``--config-dir`` has the name of a file in conf/, which Hydra would use."""
    for folder in config_dirs():
        for group, choice in HydraConfig.get().runtime.choices.items():
            name = Path(group, f"{choice}.yaml")
            if (folder / name).is_file() and (CONF / name).is_file() and not (folder / name).samefile(CONF / name):
                raise InputError(
                    f"{group}={choice}: {folder / name} has the name of a choice of gan-lightning; rename it"
                )


def report_in_thread(error: threading.ExceptHookArgs) -> None:
    """Print the traceback of a thread, but for errors of the file system: TensorBoard raises them again in this one."""
    if not isinstance(error.exc_value, OSError):
        threading.__excepthook__(error)


@contextmanager
def one_line_errors(full: bool) -> Iterator[None]:
    """Exit with code 1 and one line after a mistake of the user's, or re-raise if ``full``."""
    try:
        yield
    except Exception as error:
        if full or not (line := " ".join(message_for(error).split())):
            raise
        sys.exit(line)
    except KeyboardInterrupt:
        if full:
            raise
        print("Interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def is_config_error(error: Exception) -> bool:
    """Return whether Hydra or OmegaConf raised an error: they handle nothing but what was typed."""
    (*_, (frame, _)) = traceback.walk_tb(error.__traceback__)
    ours = isinstance(error, InputError | HydraException | OmegaConfBaseException)
    return ours or frame.f_globals["__name__"].startswith(("hydra.", "omegaconf."))


def message_for(error: Exception) -> str:
    """Return an error as one line that names the key, the value and what is allowed; "" for an unexpected error."""
    if out_of_memory(error):
        return f"out of memory: {one_line(error)}"
    if line := file_error(error) or yaml_error(error):
        return line
    if not is_config_error(error):
        return ""
    cause = None if isinstance(error, InputError) else error.__cause__
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        return unknown_choice(group, choice, error.options, config_dirs())
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and cause.parent_node is not None:
        key = str(cause.full_key)
        typed = argument_of(key)
        root = cause.parent_node._get_root()
        resumed = "k" in root and any(a.startswith("checkpoint=") for a in sys.argv[1:])
        hint = f"; if the checkpoint's run has this key, type +{typed}" if resumed else ""
        above = key.rpartition(".")[0]  # of Hydra's keys only those beside it may be meant
        beside = [f"{above}.{name}" for name in cause.parent_node] if above else ["hydra/launcher"]
        return unknown_key(typed, key, beside if key.startswith("hydra") else known_keys(root)) + hint
    if isinstance(error, OverrideParseException):
        quotes = "with quotes around a value with characters other than letters, digits and ._/-: \"key='value'\""
        return f"{as_typed(error.override)}: not an override; write key=value or group=choice, {quotes}"
    if absent := re.match(r"Could not override '([^']*)'", str(error)):  # a group that this command does not have
        groups = ["hydra/launcher"] if absent[1].startswith("hydra") else ["--help"]
        return unknown_key(argument_of(absent[1]), absent[1], groups)
    messages = {
        r"Ambiguous value for argument '(.*)'": "{}: several values; add -m to sweep over them",
        r"Unknown plugin class : 'hydra_plugins\.hydra_(joblib|submitit)": "hydra/launcher: this choice needs hydra-{}-"
        "launcher; pip install 'gan-lightning[sweep]'",
        r"Unknown plugin class : 'hydra_plugins\.hydra_(ray)": "hydra/launcher: this choice needs hydra-{}-launcher; "
        "pip install 'gan-lightning[ray]'",
        r"In '(.*)': Could not override '\w+@\w+\.": "{}.yaml: must begin with # @package _global_",
    }
    if found := next((m.format(f[1]) for pattern, m in messages.items() if (f := re.match(pattern, str(error)))), ""):
        return found
    if not isinstance(error, HydraException | OmegaConfBaseException | InputError):  # raised without the group's name
        for group, _, choice in (argument.partition("=") for argument in sys.argv[1:]):
            if (choices := choices_of(group)) and choice not in choices:
                return unknown_choice(group, choice, choices, config_dirs())
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"{error.full_key}: {first_line(error)}"
    return f"{first_line(error)}: {first_line(cause)}" if isinstance(cause, OmegaConfBaseException) else str(error)


def yaml_error(error: Exception) -> str | None:
    """Return what makes a file invalid YAML, with its name and line; None for other errors."""
    if not isinstance(error, yaml.MarkedYAMLError) or not error.problem_mark:
        return None
    return f"{error.problem_mark.name}, line {error.problem_mark.line + 1}: not valid YAML: {error.problem}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without OmegaConf's notes on its types."""
    return next(iter(str(error).splitlines()), "")


def argument_of(key: str) -> str:
    """Return the command's argument that sets a key, or the key if none does."""
    return as_typed(next((a for a in sys.argv[1:] if re.match(rf"{re.escape(key)}[.=]", a)), key))
