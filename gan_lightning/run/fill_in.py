"""Filling in what depends on the machine or on other values, with the classes that a config names."""

import difflib
import inspect
import math
import pkgutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any, get_type_hints

import hydra
from omegaconf import DictConfig, OmegaConf

from gan_lightning.errors import InputError, as_typed, one_line


def fill_in(config: DictConfig, overrides: Iterable[str] = ()) -> DictConfig:
    """Return a copy of a training config, with the values that depend on the machine or on other values filled in."""
    import torch

    from gan_lightning.metrics.evaluation import choose_monitor, directions

    config = config.copy()
    OmegaConf.set_struct(config, False)
    trainer, keys = config.trainer, {override.partition("=")[0] for override in overrides}
    if "trainer.max_epochs" in keys and "trainer.max_steps" not in keys and trainer.max_epochs is not None:
        trainer.max_steps = -1
    if trainer.precision == "auto":
        on_cpu = trainer.accelerator == "cpu" or not torch.accelerator.is_available()
        trainer.precision = "bf16-mixed" if on_cpu and torch.cpu._is_avx512_bf16_supported() else "32-true"
    if isinstance(trainer.val_check_interval, float):  # a share of a pass over the data
        trainer.check_val_every_n_epoch = trainer.check_val_every_n_epoch or 1
    if trainer.strategy == "ddp" or (trainer.strategy == "auto" and (trainer.devices, trainer.num_nodes) != (1, 1)):
        # While one network is updated, DDP must not wait for gradients of the other's parameters.
        trainer.strategy = "ddp_find_unused_parameters_true"
    classes, callback = usable_metrics(config), config.callbacks.get("validation_metrics")
    for name in config.metrics or {}:
        if name not in classes:
            config.metrics[name] = None
    skipped = callback.get("skip") if callback else [*classes]
    skipped = skipped if isinstance(skipped, Sequence) else []  # the callback reports what is no list
    measured = directions({name: c for name, c in classes.items() if name not in skipped})
    watching = [config.algorithm, *filter(None, config.callbacks.values())]
    config.monitor, config.monitor_mode = choose_monitor(
        measured,
        config.monitor,
        config.monitor_mode,
        probabilities=getattr(locate("loss", config.loss), "gives_probabilities", False),
        complete=all(part._target_.startswith("gan_lightning.") for part in watching),
    )
    return config


def usable_metrics(config: DictConfig) -> dict[str, Any]:
    """Return the classes of the metrics in a config, without null and those that need what there is not.

    These are features, the classes that features of a classifier come with, the labels of a conditional GAN, and images
    that are small enough.
    """
    from gan_lightning.metrics.evaluation import takes_labels

    usable = {}
    for name, metric in (config.metrics or {}).items():
        if metric and metric.get("features", "") is not None:
            usable[name] = kind = locate(f"metrics.{name}", metric)
            shape = OmegaConf.select(config, "model.image_shape") or ()  # not in the config of every command
            if (
                (takes_labels(kind) and "model" in config and not config.model.get("num_classes"))
                or math.prod(shape) > (getattr(kind, "max_values", None) or math.inf)
                or (getattr(kind, "uses_classes", False) and not classifies(name, metric.features))
            ):
                del usable[name]
    return usable


def classifies(name: str, features: DictConfig) -> bool:
    """Return whether the features of a metric come with classes; true if a function does not say what it returns."""
    found = locate(f"metrics.{name}.features", features)
    kind = found if inspect.isclass(found) else get_type_hints(found).get("return")
    return kind is None or hasattr(kind, "classify")


def locate(key: str, node: DictConfig) -> Any:
    """Return the class or function of a part at a key; InputError if there is none."""
    typed = f"{key}._target_={as_typed(node._target_)}"
    try:
        found = hydra.utils.get_object(node._target_)
    except Exception as error:  # an import can fail in any way
        raise InputError(f"{typed}: {import_error(node._target_, error)}") from error
    if not callable(found):
        raise InputError(f"{typed}: must be a class or a function, and is a {type(found).__name__}")
    return found


def import_error(name: str, error: Exception) -> str:
    """Return why Hydra cannot import a class or a function, on one line, with names that may be meant."""
    parts, cause = name.split("."), error.__cause__
    if not all(part.isidentifier() for part in parts) or len(parts) == 1:
        return "must be MODULE.CLASS, as in mypackage.losses.MyLoss"
    known = [n for n in range(1, len(parts)) if ".".join(parts[:n]) in sys.modules]
    parent = ".".join(parts[: max(known, default=0)])
    missing = parts[len(known)] if len(known) < len(parts) else ""
    if isinstance(cause, AttributeError) or getattr(cause, "name", None) == f"{parent}.{missing}".removeprefix("."):
        if not parent:
            return f"No module named '{missing}' in this folder or on PYTHONPATH"
        module = sys.modules[parent]
        names = [*vars(module), *(found.name for found in pkgutil.iter_modules(getattr(module, "__path__", ())))]
        close = difflib.get_close_matches(missing, [n for n in names if not n.startswith("_")], n=1)
        return f"{parent} has no {missing}" + "".join(f"; did you mean {parent}.{n}?" for n in close)
    if isinstance(cause, Exception):  # of the user's file
        return f"cannot be imported: {type(cause).__name__}: {one_line(cause)}"
    return one_line(error)
