"""Composing configs, resolving their paths, and printing commands."""

import difflib
import logging
import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from gan_lightning.checkpoints.trust import modules_to_trust, targets
from gan_lightning.errors import InputError, as_typed
from gan_lightning.run import resources
from gan_lightning.run.config_files import CHECKOUT, CONF, PACKAGE, folders_of

MODELS = PACKAGE / "models"  # those of this package, by their names
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)  # user/name
HYPERPARAMETERS = ("seed", "k", "latent_scale", "algorithm", "model", "loss", "penalty", "ema", "optimizer", "data")
PATHS = re.compile(r"checkpoint|out|data\.root|(.+\.)?features\.weights")  # keys
SIMPLE = re.compile(r"[\w./-]+", re.ASCII)  # what neither Hydra nor a shell reads in another way


def register_resolvers() -> None:
    """Register the resolvers that ``conf/`` uses; done on import, for the processes of launchers.

    ``${project:data}`` is :func:`project_folder`. ``${run_dir:CHECKPOINT,NAME,EXPERIMENT,DATE_TIME}`` is the folder of
    the run that a checkpoint belongs to, or a new one, with the :func:`job_id` instead of the time if there is one.
    ``${times:FACTOR,VALUE}`` is a product. ``${shape:CHANNELS,SIZE}`` is an image's shape, whose size is one number, or
    its height and width. ``${jobs_at_once:TRAINER}``, ``${gpus_of_a_job:TRAINER}`` and ``${devices_of_a_job:TRAINER}``
    are functions of :mod:`gan_lightning.run.resources`.
    """

    def times(factor: float, value: Any) -> Any:
        return factor * value if isinstance(value, int | float) else value  # validation reports what is no number

    def shape(channels: Any, size: Any) -> list[int] | None:
        sides = [*size] if OmegaConf.is_list(size) else [size, size]
        valid = len(sides) == 2 and all(type(n) is int and n > 0 for n in (channels, *sides))
        return [channels, *sides] if valid else None  # validation reports what is no shape

    resolvers: dict[str, Callable[..., Any]] = {
        "project": project_folder,
        "run_dir": run_dir,
        "times": times,
        "shape": shape,
        "jobs_at_once": lambda trainer: resources.jobs_at_once(trainer or {}),
        "gpus_of_a_job": lambda trainer: resources.gpus_of_a_job(trainer or {}),
        "devices_of_a_job": lambda trainer: resources.devices_of_a_job(trainer or {}),
    }
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)
    # Our configs of launchers have the names of their plug-ins' own, which is meant.
    warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")


def run_dir(checkpoint: str | None, name: str | None, experiment: str | None, date_time: str) -> str:
    """Return the folder of the run that a checkpoint belongs to, or of a new one."""
    with suppress(InputError):  # a wrong checkpoint is reported by the validation
        run = checkpoint_path(checkpoint).absolute().parent.parent if checkpoint else None
        if run and (run / ".hydra").is_dir():
            return str(run)
    return f"outputs/{name or experiment or 'train'}/{job_id() or date_time}"


def job_id() -> str | None:
    """Return the id that all processes share if torchrun or SLURM has started several; else None.

    Raises:
        InterpolationResolutionError: If there are several and they share none, so that their folders would differ.
    """
    environ, slurm = os.environ, os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive")  # as Lightning has it
    number = max(int(environ.get("WORLD_SIZE", 1)), int(environ.get("SLURM_NTASKS", 1)) if slurm else 1)
    if number == 1:
        return None
    if (run_id := environ.get("TORCHELASTIC_RUN_ID", "none")) != "none":
        return run_id
    if "SLURM_JOB_ID" in environ:
        return "-".join(environ[key] for key in ("SLURM_JOB_ID", "SLURM_STEP_ID") if key in environ)
    raise InterpolationResolutionError(f"must be the same for all {number} processes; add hydra.run.dir=FOLDER")


def project_folder(name: str) -> str:
    """Return a folder of this project in a clone or an editable install, else of the working directory."""
    return str((CHECKOUT if CHECKOUT / "conf" == CONF else start_folder()) / name)


def compose(name: str, overrides: list[str] | None = None, folders: Sequence[Path] = ()) -> DictConfig:
    """Return ``conf/<name>.yaml`` composed with overrides as on the command line, for use outside of its command.

    ``folders`` are those of ``--config-dir``.
    """
    path = f"hydra.searchpath=[{','.join(quoted(f'file://{folder}') for folder in folders)}]"
    outer = GlobalHydra.instance().hydra  # of another command
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            config = hydra.compose(name, [*(overrides or []), *([path] if folders else [])])
    finally:
        GlobalHydra.instance().hydra = outer
    clear_none_choices(config)
    return config


def clear_none_choices(config: DictConfig) -> None:
    """Set to null, in place, each part for which ``none`` was chosen but some of whose keys the experiment sets."""
    for key in ("ema", "penalty", "features", "optimizer.scheduler"):
        part = OmegaConf.select(config, key)
        if OmegaConf.is_dict(part) and "_target_" not in part:
            OmegaConf.update(config, key, None)


def checkpoint_path(given: str | Path) -> Path:
    """Return the path of a checkpoint file or of a model's folder; a path that exists wins over a model's name.

    Args:
        given: The file, a run's folder, its ``checkpoints`` folder, a model's folder, the name of a model of this
            package, or ``user/name`` of the Hugging Face hub, which is returned as it is: a path that does not exist.

    Raises:
        InputError: If there is no such file or model.
    """
    path = Path(given)
    try:
        path.exists()
    except OSError as error:  # such as a name that is too long
        raise InputError(f"checkpoint={given}: {error.strerror}") from error
    if path.is_file() or (path / "config.json").is_file():
        return path
    if path.is_dir():
        last = path / "last.ckpt" if path.name == "checkpoints" else path / "checkpoints" / "last.ckpt"
        if not last.is_file():
            raise InputError(f"checkpoint={given}: this folder has no checkpoints/last.ckpt")
        return last
    names = sorted(folder.name for folder in MODELS.iterdir())
    if str(path) in names:
        return MODELS / path
    if HUB_ID.fullmatch(str(path)) and path.suffix != ".ckpt" and not path.parent.is_dir():
        return path
    if len(path.parts) == 1 and not path.suffix:
        close = difflib.get_close_matches(str(path), names, n=1)
        hint = f"did you mean {close[0]}? The" if close else "the"
        raise InputError(f"checkpoint={given}: no such file or model; {hint} models are {', '.join(names)}")
    raise InputError(f"checkpoint={given}: no such file")


def start_folder() -> Path:
    """Return the folder where the command was started, which ``hydra.job.chdir=true`` leaves."""
    return Path(HydraConfig.get().runtime.cwd) if HydraConfig.initialized() else Path.cwd()


def resolve_paths(config: DictConfig) -> DictConfig:
    """Return the config with the home folder for a leading ``~/`` in its paths, in place.

    Relative paths become absolute if ``hydra.job.chdir=true`` has left the folder where they were typed.
    """
    start = start_folder()
    for key, given in flatten(OmegaConf.to_container(config)):
        if PATHS.fullmatch(key) and given not in (None, MISSING):
            path = value = str(OmegaConf.select(config, key))
            if path.startswith("~/"):
                path = str(Path.home()) + path[1:]
            may_be_name = key == "checkpoint" or key.endswith("weights")
            is_name = "://" in path or (may_be_name and not (start / path).exists())  # of no file here
            if start != Path.cwd() and not is_name:
                path = str(start / path)
            if path != value:
                OmegaConf.update(config, key, path)
    return config


def expand_home(typed: str) -> str:
    """Return an argument of the command line with the home folder for ``~/``, which shells keep in ``key=~/path``."""
    found = re.fullmatch(r"([^=]+=)(['\"]?)~(/.*)", typed, re.DOTALL)
    if not found:
        return typed
    key, quote, rest = found.groups()
    path = f"{Path.home()}{rest}"
    return f"{key}{quote}{path}" if quote or SIMPLE.fullmatch(str(Path.home())) else f"{key}{quoted(path)}"


def shorten(path: Path) -> Path:
    """Return a path relative to the folder where the command was started if it lies within."""
    start = start_folder()
    return path.relative_to(start) if path.is_relative_to(start) else path


def command_line(module: str, *arguments: str, configs: bool = False) -> str:
    """Return a command to print, with this process's PYTHONPATH and, if ``configs``, its folders of configs."""
    path = os.environ.get("PYTHONPATH")
    prefix = [f"PYTHONPATH={shlex.quote(path)}"] if path else []
    flags = map(shlex.quote, config_flags() if configs else [])
    return " ".join([*prefix, "python", "-m", f"gan_lightning.{module}", *flags, *arguments])


def trusted_names(trust: Any) -> list[str]:
    """Return the names in the value of the key ``trust``, and those in the YAML files that ``--config-dir`` adds.

    Raises:
        InputError: If the value is no list of names.
    """
    names = list(trust or ()) if isinstance(trust, Sequence | None) and not isinstance(trust, str) else [trust]
    for name in names:
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            raise InputError(f"trust={as_typed(trust)}: must be names of modules, as in trust=[mypackage]")
    if HydraConfig.initialized():
        for source in HydraConfig.get().runtime.config_sources:
            if "command-line" in source.provider and source.schema == "file":
                for path in Path(source.path).rglob("*.yaml"):
                    with suppress(yaml.YAMLError):
                        names += [name for _, name in targets(yaml.safe_load(path.read_text(encoding="utf-8")))]
    return names


def trust_arguments(config: dict[str, Any]) -> list[str]:
    """Return the argument, if any, that a command needs to use this of a checkpoint's config, quoted for a shell."""
    own = modules_to_trust(config)
    return [f"trust={own[0]}" if len(own) == 1 else f"'trust=[{','.join(own)}]'"] if own else []


def config_flags() -> list[str]:
    """Return the arguments of this command that name folders of configs besides ``conf/``."""
    if not HydraConfig.initialized():
        return []
    job = HydraConfig.get()
    folders = [f"--config-dir={s.path}" for s in job.runtime.config_sources if s.provider == "command-line"]
    return folders + [override for override in job.overrides.hydra if override.startswith("hydra.searchpath")]


def config_dirs() -> list[Path]:
    """Return the folders that this command names by ``--config-dir``."""
    return folders_of(sys.argv[1:])


def typed_overrides() -> list[str]:
    """Return this command's overrides as typed: interpolations cannot be resolved where Hydra keeps them."""
    if not HydraConfig.initialized():
        return []
    return OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)  # type: ignore[return-value]


def argument(key: str, value: Any) -> str:
    """Return ``key=value`` as an override for the command line, quoted for Hydra and for the shell where necessary."""
    value = f"./{value}" if str(value).startswith("~/") else value  # a folder of that name
    return f"{key}={value}" if SIMPLE.fullmatch(str(value)) else shlex.quote(f"{key}={quoted(value)}")


def quoted(value: Any) -> str:
    """Return a value in Hydra's quotes."""
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', str(value))
    return '"' + re.sub(r"(\\+)$", r"\1\1", escaped) + '"'  # the last backslashes come before a quote, too


def to_dict(config: DictConfig) -> dict[str, Any]:
    """Return a config as resolved dictionaries, lists and values."""
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


def flatten(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of nested dictionaries and lists, empty ones too, with its key: ``optimizer.betas[0]``."""
    if isinstance(node, dict) and (node or not key):
        for name, child in node.items():
            yield from flatten(child, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list) and node:
        for i, child in enumerate(node):
            yield from flatten(child, f"{key}[{i}]")
    else:
        yield key, node


def silence_lightning() -> None:
    """Silence Lightning's info messages, and its warnings about deliberate choices."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("pytorch_lightning.profilers").setLevel(logging.INFO)
    for message in (
        ".*is deprecated, use `isinstance.treespec, TreeSpec.*",
        ".*does not have many workers.*",
        ".*ended before the epoch ended and your dataloader is not resumable.*",
        "Checkpoint directory .* exists and is not empty.",
        "The dirpath has changed from .*",
        "Grad strides do not match bucket view strides.*",  # of convolutions in channels_last, on several devices
        "The number of training batches .* is smaller than the logging interval.*",
    ):
        warnings.filterwarnings("ignore", message)


register_resolvers()
