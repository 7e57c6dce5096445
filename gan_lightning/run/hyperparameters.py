"""What loggers show of a run's config."""

import re
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gan_lightning.run.config import HYPERPARAMETERS, flatten, to_dict

# What TensorBoard's HPARAMS tab shows of every run: names of columns and their keys
COLUMNS = {
    **{key: key for key in ("seed", "k", "latent_scale", "loss", "penalty", "penalty.gamma", "ema", "data.batch_size")},
    **{key: key for key in ("optimizer.lr", "optimizer.generator.lr", "optimizer.discriminator.lr")},
    "data": "data.dataset",
    "model": "model.generator",
    "optimizer": "optimizer.generator",
}
# Keys of overrides that do not distinguish a recipe
NOT_VARIED = re.compile(
    r"(hydra|sweep|logger|callbacks|metrics|features|checkpoint|trust|name|experiment|retry_failed|data\.root)\b"
)


def hyperparameters(config: DictConfig) -> dict[str, int | float | str]:
    """Return all hyperparameters of a config by key, as values that every logger takes."""
    values = to_dict(config)
    leaves = [leaf for name in HYPERPARAMETERS for leaf in flatten(values[name], name)]
    return {key: value if isinstance(value, int | float | str) else str(value) for key, value in leaves}


def columns(config: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """Return the hyperparameters that tell runs apart, by name: ``COLUMNS``, and all that was overridden.

    Args:
        config: A filled-in config.
        overrides: As typed.
    """
    typed = [override.lstrip("+~").partition("=") for override in overrides]
    experiments = [choice for key, _, choice in typed if key == "experiment"]
    varied = {key.partition("@")[0].replace("/", ".") for key, _, _ in typed if not NOT_VARIED.match(key)}
    keys = COLUMNS | {key: key for key in sorted(varied - {"model", "data", *COLUMNS})}
    absent = [key for key in keys.values() if "." in key and OmegaConf.select(config, key) is None]  # of a part
    values = {name: shown(config, key) for name, key in keys.items() if key not in absent}
    return {"experiment": (experiments or ["default"])[-1]} | values


def shown(config: DictConfig, key: str) -> int | float | str:
    """Return a value of a config for a column: of a part, the name of its class, or of the module of a network."""
    value = OmegaConf.select(config, key)
    if OmegaConf.is_dict(value):
        module, _, name = str(value.get("_target_", "")).rpartition(".")
        return module.rpartition(".")[2] if key == "model.generator" else name
    return value if isinstance(value, int | float | str) else "none" if value is None else str(value)
