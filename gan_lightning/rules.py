"""What the values of a configuration may be. Nothing heavy is imported, so that a mistake is answered at once."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from gan_lightning.config import as_typed, leaves, plain, rates_end_with_the_run
from gan_lightning.errors import InputError

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


def is_whole(value: Any) -> bool:
    """Tell whole numbers from all else."""
    return isinstance(value, int) and is_number(value)


TEXT: Rule = (lambda value: isinstance(value, str), "text")
COUNT: Rule = (lambda value: is_whole(value) and value >= 1, "a whole number of at least 1")

PARTS = ("callbacks", "metrics")  # groups that take parts of a user's under new names
KNOWN = ("gan_lightning.", "torch.optim.", "pytorch_lightning.Trainer")  # classes whose arguments have rules

RULES: dict[str, Rule] = {  # by a key or its last part
    "accelerator": one_of("auto", "cpu", "gpu", "cuda", "mps"),
    "accumulate_grad_batches": number(1),
    "batch_norm_eps": (lambda value: is_number(value) and 0 < value < math.inf, "above 0"),
    "batch_size": number(2),  # the article's generator has BatchNorm
    "betas": (lambda value: is_number(value) and 0 <= value < 1, "at least 0 and below 1"),
    "checkpoint": TEXT,
    "check_val_every_n_epoch": (lambda value: False, "null: trainer.val_check_interval counts steps"),
    "data.dataset.channels": (lambda value: value in (1, 3), "1 (grey) or 3 (colour)"),
    "data.dataset.size": number(1),
    "data.dataset.std": number(0),
    "data.device": one_of("auto", "cpu"),
    "device": TEXT,
    "devices": (
        lambda value: value == "auto" or (is_whole(value) and (value >= 1 or value == -1)),
        "how many, at least 1; auto or -1: all; or a list of them",
    ),
    "eval_batch_size": COUNT,
    "every": number(1),
    "every_n_steps": number(1),
    "gradient_clip_algorithm": one_of("norm", "value"),
    "gradient_clip_val": number(0),
    "gamma": number(0),
    "half_life": number(1),
    "image_shape": number(1),
    "k": number(1),
    "latent_dim": number(1),
    "latent_scale": number(0),
    "limit_val_batches": (
        lambda value: (is_whole(value) and value >= 0) or (is_number(value) and 0 <= value <= 1),
        "how many, or a share from 0.0 to 1.0",
    ),
    "limit_train_batches": (lambda value: is_number(value) and value > 0, "above 0"),
    "log_every_n_steps": number(1),
    "lr": number(0),
    "matmul_precision": one_of("highest", "high", "medium"),
    "max_epochs": (lambda value: is_whole(value) and (value == -1 or value >= 1), "at least 1, or -1: no end"),
    "max_steps": (lambda value: value == -1 or value >= 1, "at least 1, or -1: no end"),
    "max_time": (
        lambda value: bool(re.fullmatch(r"\d{1,4}:\d\d:\d\d:\d\d", str(value)) and re.search("[1-9]", value)),
        "DD:HH:MM:SS, more than none",
    ),
    "min_epochs": COUNT,
    "min_steps": COUNT,
    "momentum": number(0, 1),
    "monitor": (
        lambda value: isinstance(value, str) and not value.startswith(("metrics/", "final/")),
        "a figure's plain name, such as fid, or validation/loss_generator",
    ),
    "monitor_mode": one_of("min", "max"),
    "negative_slope": number(0),
    "num_images": number(1),
    "num_workers": number(0),
    "num_sanity_val_steps": (lambda value: value == 0, "0: there is no rehearsal"),
    "num_nodes": number(1),
    "num_real": number(1),
    "num_validation": number(1),
    "optimizer.scheduler.base": number(1),
    "optimizer.scheduler.end": number(0, 1),
    "optimizer.scheduler.flat": number(0, 1),
    "out": TEXT,
    "overfit_batches": (lambda value: value == 0, "0; a larger data.val_size trains on fewer images"),
    "ramp": number(1e-6),
    "pieces": number(1),
    "precision": one_of("auto", "32-true", "bf16-mixed"),
    "root": TEXT,
    "show": one_of("samples", "nearest", "walk"),
    "seed": number(0, 2**32 - 1),
    "strategy": one_of("auto", "ddp"),
    "subset_size": number(1),
    "subsets": number(1),
    "units": number(1),
    "use_distributed_sampler": (lambda value: not value, "false: the data module gives each rank its part"),
    "val_check_interval": number(1),
    "val_size": number(1),
    "weight_decay": number(0),
    "widths": number(1),
}


def refuse_missing(config: DictConfig) -> None:
    """Refuse a config that lacks a value.

    Raises:
        InputError: If it does.
    """
    for key, value in leaves(OmegaConf.to_container(config)):
        if value == MISSING:
            raise InputError(f"{key}={MISSING}: a value is needed, as in {key}=VALUE")


def check(config: DictConfig, defaults: DictConfig) -> None:
    """Refuse keys that nothing reads, values of another type than their defaults', and values that break a rule.

    Raises:
        InputError: On the first such value.
    """
    refuse_unknown(config, defaults)
    was = dict(leaves(plain(defaults)))
    now = dict(leaves(plain(config)))
    for key, value in now.items():
        # The second and the third repeat other groups.
        if key.startswith(("reference.", "gan.", "callbacks.scoring.metrics.", "trainer.devices[")):
            continue
        words = (
            wrong_shape(key, value, was)
            or wrong_length(key, now, was)
            or (key != "trainer.devices" and wrong_type(value, was.get(key)))
            or (value is not None and has_rules(key, now, was) and breaks_rule(key, value))
        )
        if words:
            raise InputError(f"{key}={as_typed(value)}: allowed: {words}")
    if "gan" in config:
        refuse_repeated(config, defaults)
        refuse_unused(config, defaults)
    endless = "gan" in config and config.trainer.max_steps == -1 and (config.trainer.max_epochs or -1) == -1
    if endless and rates_end_with_the_run(config):
        name = "epochs" if config.trainer.max_epochs == -1 else "steps"
        raise InputError(f"trainer.max_{name}=-1: allowed: at least 1: the learning rates fall over the whole run")
    checkpoint = config.get("checkpoint")
    if checkpoint and not Path(checkpoint).is_file():
        raise InputError(f"checkpoint={checkpoint}: no such file")
    accelerator = OmegaConf.select(config, "trainer.accelerator")
    if accelerator in ("gpu", "cuda", "mps"):
        import torch

        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if not (any(there.values()) if accelerator == "gpu" else there[accelerator]):
            raise InputError(f"trainer.accelerator={accelerator}: this machine has none; allowed: auto, cpu")
    if OmegaConf.select(config, "trainer.sync_batchnorm") and not on_cuda(config):
        raise InputError("trainer.sync_batchnorm=true: needs a CUDA GPU, and this run has none; allowed: false")
    if config.get("cuda_graphs") and (why := no_cuda_graphs(config)):
        raise InputError(f"cuda_graphs=true: {why}; allowed: false")


def refuse_unknown(config: DictConfig, defaults: DictConfig) -> None:
    """Refuse keys that nothing would read, keys left out, and parts of no class.

    Raises:
        InputError: If there is one.
    """
    for group in ("", "gan.", "model.", "optimizer."):
        given, known = ((OmegaConf.select(c, group[:-1]) if group else c) or {} for c in (config, defaults))
        for key in map(str, given.keys() - known.keys()):
            allowed = ", ".join(map(str, known))
            raise InputError(f"+{group}{key}={as_typed(given[key])}: no such key; allowed: {allowed}")
    for key in map(str, defaults.keys() - config.keys()):
        raise InputError(f"~{key}: nothing can be left out; allowed: {key}=VALUE")
    for group in PARTS:
        given, known = (c.get(group) or {} for c in (config, defaults))
        for name in map(str, given.keys() - known.keys()):
            part = given[name]
            if part is not None and not (OmegaConf.is_dict(part) and "_target_" in part):
                raise InputError(f"+{group}.{name}: it needs a class, as in +{group}.{name}._target_=MODULE.CLASS")


def refuse_repeated(config: DictConfig, defaults: DictConfig) -> None:
    """Refuse another value for a part of the GAN or the model that repeats another key.

    Raises:
        InputError: If there is one.
    """
    now = dict(leaves(OmegaConf.to_container(config)))  # unresolved
    for key, value in leaves(OmegaConf.to_container(defaults)):
        if key.startswith(("gan.", "model.")) and str(value).startswith("${") and now.get(key) != value:
            given = as_typed(OmegaConf.select(config, key))
            raise InputError(f"{key}={given}: it repeats {str(value)[2:-1]}; change that")


def refuse_unused(config: DictConfig, defaults: DictConfig) -> None:
    """Refuse what would be ignored.

    Raises:
        InputError: If there is such a value.
    """
    for name in ("callbacks", "default_root_dir", "logger", "plugins"):
        if name in config.trainer:
            raise InputError(f"+trainer.{name}: no such key; the groups callbacks and logger and hydra.run.dir set it")
    skipped, known = (OmegaConf.select(c, "callbacks.scoring.skip") or () for c in (config, defaults))
    metrics = [str(name) for name in config.metrics or ()]
    for name in skipped:
        if name not in (*known, *metrics):
            raise InputError(f"callbacks.scoring.skip: no metric is named {name}; allowed: {', '.join(metrics)}")


def on_cuda(config: DictConfig) -> bool:
    """Tell whether a run is on a CUDA GPU."""
    import torch

    return torch.cuda.is_available() and config.trainer.accelerator not in ("cpu", "mps")


def no_cuda_graphs(config: DictConfig) -> str | None:
    """Say why a run cannot record its steps as CUDA graphs."""
    if not on_cuda(config):
        return "needs a CUDA GPU, and this run has none"
    if config.trainer.devices != 1 or config.trainer.num_nodes != 1:
        return "needs trainer.devices=1 and trainer.num_nodes=1"
    if config.trainer.detect_anomaly:
        return "trainer.detect_anomaly=true waits for the device"
    return None


def wrong_shape(key: str, value: Any, was: dict[str, Any]) -> str | None:
    """Say what is allowed when one value stands for a list or for several keys, or a list for one value."""
    name, _, position = key.partition("[")
    if position and was.get(name) is not None:
        return f"one value, such as {was[name]}"
    below = [other for other in was if other.startswith(f"{key}.")]
    if below and value is not None:
        return f"keys below it, such as {below[-1]}"
    items = [default for other, default in was.items() if other.startswith(f"{key}[")]
    emptied = key.startswith("callbacks.") and value == []  # a callback may have nothing to list
    return f"a list, such as {items}" if items and key not in was and not emptied else None


def wrong_length(key: str, now: dict[str, Any], was: dict[str, Any]) -> str | None:
    """Say what is allowed when an optimizer that takes two betas is given fewer or more."""
    name = key.partition("[")[0]
    if not name.endswith("betas"):
        return None
    given, pair = ([value for other, value in values.items() if other.startswith(f"{name}[")] for values in (now, was))
    return None if len(given) == len(pair) else f"two numbers, such as {pair}"


def wrong_type(value: Any, default: Any) -> str | None:
    """Say what is allowed when a value is not of its default's type; a default of null allows anything."""
    if value is None and default is not None and not isinstance(default, bool | int | float):
        return "a value" if default == MISSING else f"a value, such as {default}"
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, int):
        return None if is_whole(value) else f"a whole number, such as {default}"
    if isinstance(default, float):
        return None if is_number(value) else f"a number, such as {default}"
    return None


def has_rules(key: str, now: dict[str, Any], was: dict[str, Any]) -> bool:
    """Tell whether rules apply to a key: not to what a user has added, nor to the arguments of other classes."""
    if key not in was and key.partition(".")[0] in PARTS:
        return False
    parts = key.split(".")
    targets = (now.get(".".join([*parts[:i], "_target_"])) for i in range(len(parts) - 1, 0, -1))
    return str(next(filter(None, targets), KNOWN[0])).startswith(KNOWN)


def breaks_rule(key: str, value: Any) -> str | None:
    """Say what is allowed when a value breaks the rule for its key."""
    last = key.rpartition(".")[2].partition("[")[0]
    passes, words = RULES.get(key) or RULES.get(last) or (lambda _: True, "")
    return None if passes(value) else words
