"""What every command begins with: compose, check, and tell a mistake in one line."""

import difflib
import errno
import gc
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
from omegaconf import DictConfig
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    OmegaConfBaseException,
)

from gan_lightning import sweep
from gan_lightning.config import CONF, choose_length, leave_out_unchosen, register_resolvers, typed_search_path
from gan_lightning.errors import InputError
from gan_lightning.rules import PARTS, check, refuse_missing

THRESHOLD = gc.get_threshold()


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
            try:
                with one_line_errors(full_error == "1"):
                    if job.mode == RunMode.MULTIRUN:
                        return sweep.run_job(config)
                    leave_out_unchosen(config)
                    refuse_missing(config)
                    choose_length(config, job.overrides.task)
                    check(config, defaults(name))
                    import_lightning()
                    return task(config)
            finally:
                if Path(job.runtime.output_dir) != Path.cwd():
                    with suppress(OSError):  # nothing was written: leave no trace
                        Path(job.runtime.output_dir).rmdir()

        def main() -> None:
            gc.set_threshold(20_000, 1_000)  # until all is imported
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors instead of printing them at length
            register_resolvers()
            with one_line_errors(full_error == "1"):
                flags_first = sorted(sys.argv[1:], key=lambda a: a not in ("-m", "--multirun"))
                sys.argv[1:] = prepare(flags_first)
                hydra.main(config_path=str(CONF), config_name=name, version_base="1.3")(checked)()

        return main

    return decorate


def import_lightning() -> None:
    """Import what every command needs, and only then look for garbage as often as Python does.

    The usual collections go through all that the imports have made, again and again, for a sixth of their time.
    """
    import pytorch_lightning  # noqa: F401

    gc.freeze()
    gc.set_threshold(*THRESHOLD)


def defaults(name: str) -> DictConfig:
    """Compose, within a door, the chosen groups with no value changed, nor any group added."""
    job = HydraConfig.get()
    added = {override[1:].partition("=")[0] for override in job.overrides.task if override[0] == "+"}
    choices = [
        f"{group}={choice}"
        for group, choice in job.runtime.choices.items()
        if choice and group not in added and not group.startswith("hydra/")
    ]
    config = hydra.compose(name, typed_search_path() + choices)
    leave_out_unchosen(config)
    return config


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
        sys.exit(no_word_for_a_choice(sys.argv[1:]) or one_line(error))
    except OSError as error:
        no_space = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # told without the file's name
        if full or not ((error.filename or no_space) and error.strerror):
            raise
        sys.exit(f"{error.filename or 'a file'}: {error.strerror}")
    except KeyboardInterrupt:
        if full:
            raise
        print("Interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def no_word_for_a_choice(arguments: list[str]) -> str | None:
    """Tell which argument has null or a number in the place of a group's choice."""
    for group, _, choice in (argument.partition("=") for argument in arguments):
        choices = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
        if choices and choice not in choices:
            return no_such_choice(group, choice, choices)
    return None


def no_such_choice(group: str, choice: str, choices: Iterable[str]) -> str:
    """Tell what the choices of a group are."""
    return f"{group}={choice}: no such choice; allowed: {', '.join(choices)}"


def one_line(error: Exception) -> str:
    """Tell an error in one line: the key, the value, and what is allowed."""
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        return no_such_choice(group, choice, error.options)
    cause = error.__cause__
    if isinstance(error, InstantiationException) and cause is not None:
        key = re.search(r"full_key: (.+)", str(error)) or re.search(r"target '.*?(\w+)'", str(error))
        return re.sub(r"\s+", " ", f"{key[1] if key else 'config'}: {cause}")
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and cause.parent_node is not None:
        typed = next((a for a in sys.argv[1:] if a.split("=")[0] == cause.full_key), str(cause.full_key))
        parent, _, name = str(cause.full_key).rpartition(".")
        keys = [str(key) for key in cause.parent_node if key not in ("_target_", "_partial_", "hydra")]
        close = difflib.get_close_matches(name, keys, n=3) or keys
        one_more = "; a new one has a + before it" if parent.partition(".")[0] in PARTS else ""
        return f"{typed}: no such key; {parent or 'the top'} has {', '.join(close) or 'none'}{one_more}"
    if isinstance(error, OverrideParseException):
        quotes = ", with quotes around a value of other signs than letters, digits and ._/-: \"key='value'\""
        return f"{error.override}: not an override; write key=value or group=choice{quotes}"
    if several := re.match(r"Ambiguous value for argument '(.*)'", str(error)):
        return f"{several[1]}: several values; add -m to sweep over them"
    return re.sub(r"\s+", " ", str(error)).strip()
