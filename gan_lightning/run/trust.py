"""Which classes a checkpoint's config may name, so that a file from a stranger runs no code."""

import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from gan_lightning.errors import InputError
from gan_lightning.run.config import flatten, to_dict

# Modules whose classes each group may use. They only compute; data sets read from data.root, which is not written to.
PARTS = {
    "algorithm": ("gan_lightning.gan", "gan_lightning.simultaneous"),
    "loss": ("gan_lightning.losses",),
    "penalty": ("gan_lightning.penalties",),
    "ema": ("gan_lightning.ema",),
    "model": ("gan_lightning.networks", "gan_lightning.priors", "torch.nn"),
    "optimizer": ("gan_lightning.schedules", "torch.optim"),
    "data": ("gan_lightning.data", "torchvision.datasets", "torchvision.transforms"),
    "features": ("gan_lightning.metrics",),
    "metrics": ("gan_lightning.metrics",),
    "callbacks": ("gan_lightning.callbacks", "gan_lightning.schedules"),
}
# Lightning's that write nowhere but into the run's folder, and functions
NAMES = {
    "trainer": ("pytorch_lightning.Trainer",),
    "logger": ("pytorch_lightning.loggers.TensorBoardLogger", "pytorch_lightning.loggers.CSVLogger"),
    "callbacks": tuple(
        f"pytorch_lightning.callbacks.{name}"
        for name in (
            "DeviceStatsMonitor",
            "EarlyStopping",
            "LearningRateMonitor",
            "ModelSummary",
            "RichModelSummary",
            "RichProgressBar",
            "TQDMProgressBar",
            "Timer",
        )
    ),
    "features": (FEATURES := ("gan_lightning.metrics.features.load_features",)),
    "metrics": FEATURES,
}
FUNCTIONS = "gan_lightning.schedules"
UNSAFE = tuple(f"torchvision.datasets.{name}" for name in ("lsun", "LSUN", "imagenet", "ImageNet"))  # unpickle, unpack
MAX_VALUES, MAX_LENGTH = 10_000, 10_000  # of a config, and of a text or name in it


def check_config(config: Any, trust: Iterable[str] = ()) -> list[str]:
    """Check that a checkpoint's config is plain data, and names only classes that it may use.

    Args:
        config: As read from the file.
        trust: Names of modules, packages or classes that it may use besides.

    Returns:
        The names in the config that only ``trust`` allows.

    Raises:
        InputError: For the first value that is not allowed.
    """
    check_plain(config)
    trusted = []
    for key, name in targets(config):
        if not is_part(key.partition(".")[0], name):
            if not any(name == own or name.startswith(f"{own}.") for own in trust):
                own = name.partition(".")[0]
                hint = f"if it is code of your own, or of someone you trust, add trust={own}"
                raise InputError(f"{key}={name}: a checkpoint may not use this class; {hint}")
            trusted.append(name)
    for group in ("callbacks", "logger"):
        for key, value in flatten(config.get(group) or {}, group):
            if isinstance(value, str) and not key.endswith("_target_") and leads_out(value) and not trusted:
                raise InputError(f"{key}={value}: a checkpoint may not name a path outside of its run's folder")
    return trusted


def check_plain(config: Any) -> None:
    """Raise InputError unless a config is nested dicts and lists of numbers and text, of bounded size."""
    stack, count = [("", config, 0)], 0
    if type(config) is not dict:
        raise InputError("its config is not a dictionary")
    while stack:
        key, value, depth = stack.pop()
        count += 1
        if count > MAX_VALUES or depth > 20:
            raise InputError("its config is too large")
        if type(value) is dict:
            for name, child in value.items():
                if type(name) is not str or (name.startswith("_") and name not in ("_target_", "_partial_")):
                    raise InputError(f"{key}.{name!s:.80}: a checkpoint may not use this name".removeprefix("."))
                stack.append((f"{key}.{name}".removeprefix("."), child, depth + 1))
        elif type(value) is list:
            stack += [(f"{key}[{i}]", child, depth + 1) for i, child in enumerate(value[: MAX_VALUES + 1])]
        elif type(value) is str:
            if len(value) > MAX_LENGTH or "${" in value:
                raise InputError(f"{key}={value:.80}: a checkpoint holds values, not interpolations or long texts")
        elif type(value) not in (bool, int, float, type(None)):
            raise InputError(f"{key}: holds an object of {type(value)}; must be a number or text")


def targets(node: Any) -> Iterator[tuple[str, str]]:
    """Yield each class that nested dictionaries name, with its key."""
    for key, value in flatten(node):
        if key.rpartition(".")[2] == "_target_":
            yield key, str(value)


def is_part(group: str, name: str) -> bool:
    """Return whether a config group may use a class or function; nothing but allowed modules is imported."""
    modules = PARTS.get(group, ())
    if name in NAMES.get(group, ()):
        return True
    if name.startswith(UNSAFE) or not any(name.startswith(f"{module}.") for module in modules):
        return False
    import hydra

    try:
        found: Any = hydra.utils.get_object(name)
    except Exception:  # an import can fail in any way
        return False
    home = f"{getattr(found, '__module__', '')}."
    if inspect.isfunction(found):
        return home == f"{FUNCTIONS}." and not found.__name__.startswith("_") and FUNCTIONS in modules
    return inspect.isclass(found) and any(home.startswith(f"{module}.") for module in modules)


def own_modules(config: DictConfig) -> list[str]:
    """Return the packages that a checkpoint with this config can use only if they are trusted."""
    found = targets(to_dict(config))
    return sorted({name.partition(".")[0] for key, name in found if not is_part(key.partition(".")[0], name)})


def trust_arguments(config: DictConfig) -> list[str]:
    """Return the argument, if any, that a command needs for a checkpoint with this config, quoted for a shell."""
    own = own_modules(config)
    return [f"trust={own[0]}" if len(own) == 1 else f"'trust=[{','.join(own)}]'"] if own else []


def leads_out(path: str) -> bool:
    """Return whether a text is a path that leads out of the folder that it is relative to."""
    return Path(path).is_absolute() or ".." in Path(path).parts or path.startswith("~")


def names_of(trust: Any) -> list[str]:
    """Return the names in the value of the key ``trust``, and those in the YAML files that ``--config-dir`` adds.

    Raises:
        InputError: If the value is no list of names.
    """
    names = [trust] if isinstance(trust, str) else list(trust or ()) if isinstance(trust, Sequence | None) else [trust]
    for name in names:
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            raise InputError(f"trust={name}: must be names of modules, as in trust=[mypackage]")
    if HydraConfig.initialized():
        for source in HydraConfig.get().runtime.config_sources:
            if "command-line" in source.provider and source.schema == "file":
                for path in Path(source.path).rglob("*.yaml"):
                    with suppress(yaml.YAMLError):
                        names += [name for _, name in targets(yaml.safe_load(path.read_text()))]
    return names
