"""Which classes a checkpoint's config may name, so that loading an untrusted file does not execute code from it."""

import inspect
import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from gan_lightning.errors import InputError

# Modules whose classes each group may use. They only compute; data sets read from data.root, which is not written to.
ALLOWED_MODULES = {
    "algorithm": ("gan_lightning.gan", "gan_lightning.simultaneous"),
    "loss": ("gan_lightning.losses",),
    "penalty": ("gan_lightning.penalties",),
    "ema": ("gan_lightning.ema",),
    "model": ("gan_lightning.networks", "gan_lightning.priors", "torch.nn"),
    "optimizer": ("gan_lightning.schedules", "torch.optim"),
    "data": ("gan_lightning.data", "torchvision.datasets", "torchvision.transforms"),
    "features": ("gan_lightning.metrics",),
    "metrics": ("gan_lightning.metrics",),
    "callbacks": (
        "gan_lightning.callbacks",
        "gan_lightning.schedules",
        "gan_lightning.losses",
        "gan_lightning.penalties",
        "gan_lightning.metrics.points",
    ),
}
# Lightning classes that write only to the run's folder, and functions
ALLOWED_NAMES = {
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
UNBOUNDED = ("torch.nn.modules.rnn.", "torch.nn.modules.transformer.")  # any number of layers
UNSAFE = tuple(f"torchvision.datasets.{name}" for name in ("lsun", "LSUN", "imagenet", "ImageNet"))  # unpickle, unpack
NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)  # of a key: with a dot, it could pass for another one
MAX_PIXELS = 4096  # of a transform's sizes
MAX_VALUES, MAX_DEPTH, MAX_LENGTH = 10_000, 20, 10_000  # values and nesting of a config, length of a string


def check_config(config: Any, trust: Iterable[str] = ()) -> list[str]:
    """Check that a checkpoint's config is plain data, and names only classes that it may use.

    Args:
        config: As read from the file.
        trust: Additionally allowed names of packages, modules or classes.

    Returns:
        The names in the config that only ``trust`` allows.

    Raises:
        InputError: For the first value that is not allowed.
    """
    values = plain_values(config)
    others = [(key, str(value)) for key, value in values if is_target(key) and not is_allowed(key, str(value))]
    for key, name in others:
        if not any(name == own or name.startswith(f"{own}.") for own in trust):
            choose = "choose a logger, as in logger=csv, or " if key.startswith("logger") else ""
            hint = f"{choose}if it is your own code, or code that you trust, add trust={module_of(name)}"
            raise InputError(f"{key}={name}: not allowed in a checkpoint; {hint}")
    for key, value in values:
        if ".transform" in key and isinstance(value, int | float) and value > MAX_PIXELS:
            raise InputError(f"{key}={value}: numbers above {MAX_PIXELS} are not allowed in a checkpoint's transforms")
        if key.startswith(("callbacks", "logger")) and is_outside_path(value) and not others:
            raise InputError(f"{key}={value}: paths outside of the run's folder are not allowed in a checkpoint")
    return [name for _, name in others]


def plain_values(config: Any) -> list[tuple[str, Any]]:
    """Return all values of nested dicts and lists with their keys, such as ``widths[0]``.

    Raises:
        InputError: If there are too many, or one is not a number or a string without interpolations.
    """
    if type(config) is not dict:
        raise InputError("its config is not a dictionary")
    values: list[tuple[str, Any]] = []
    stack: list[tuple[str, Any, int]] = [("", config, 0)]
    while stack:
        key, value, depth = stack.pop()
        if len(values) + len(stack) > MAX_VALUES or depth > MAX_DEPTH:
            raise InputError("its config is too large")
        if type(value) is dict:
            for name, child in value.items():
                if type(name) is not str or not (name in ("_target_", "_partial_") or NAME.fullmatch(name)):
                    raise InputError(f"{key}.{name!s:.80}: this key is not allowed in a checkpoint".removeprefix("."))
                stack.append((f"{key}.{name}".removeprefix("."), child, depth + 1))
        elif type(value) is list:
            stack += [(f"{key}[{i}]", child, depth + 1) for i, child in enumerate(value)]
        elif type(value) is str and (len(value) > MAX_LENGTH or "${" in value or value == "???"):
            raise InputError(f"{key}={value:.80}: interpolations and long strings are not allowed in a checkpoint")
        elif type(value) not in (str, bool, int, float, type(None)):
            raise InputError(f"{key}: is a {type(value).__name__}; must be a number or a string")
        else:
            values.append((key, value))
    return values[::-1]


def is_target(key: str) -> bool:
    """Return whether the value at a key names a class."""
    return key.rpartition(".")[2] == "_target_"


def is_allowed(key: str, name: str) -> bool:
    """Return whether a checkpoint may name a class or function at a key; imports nothing but allowed modules."""
    group = key.partition(".")[0]
    modules = ALLOWED_MODULES.get(group, ())
    if group == "data" and key not in ("data._target_", "data.dataset._target_"):
        modules = ("torchvision.transforms",)
    if name in ALLOWED_NAMES.get(group, ()):
        return True
    if name.startswith(UNSAFE) or not any(name.startswith(f"{module}.") for module in modules):
        return False
    try:
        module, _, attribute = name.rpartition(".")
        found: Any = getattr(import_module(module), attribute)
    except Exception:  # an import can fail in any way
        return False
    home = f"{getattr(found, '__module__', '')}."
    if home.startswith(UNBOUNDED):
        return False
    if inspect.isfunction(found):
        return home == f"{FUNCTIONS}." and not attribute.startswith("_") and FUNCTIONS in modules
    return inspect.isclass(found) and any(home.startswith(f"{module}.") for module in modules)


def targets(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield each class that nested dicts and lists name, with its key."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, child in children:
        full_key = f"{key}.{name}".removeprefix(".")
        if name == "_target_" and isinstance(child, str):
            yield full_key, child
        yield from targets(child, full_key)


def modules_to_trust(config: Any) -> list[str]:
    """Return the modules that a checkpoint with this config can use only if they are trusted."""
    return sorted({module_of(name) for key, name in targets(config) if not is_allowed(key, name)})


def module_of(name: str) -> str:
    """Return the module of a class: no more need be trusted, as packages also have functions that do harm."""
    return name.rpartition(".")[0] or name


def is_outside_path(value: Any) -> bool:
    """Return whether a value is a path that leads out of the folder that it is relative to."""
    return isinstance(value, str) and (value.startswith(("/", "~")) or ".." in Path(value).parts or ":" in value[:3])
