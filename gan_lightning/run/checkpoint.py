"""Checkpoint files, and the config of a resumed run."""

from pathlib import Path
from typing import Any

import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.errors import InputError, as_typed, one_line
from gan_lightning.gan import GAN
from gan_lightning.run import build
from gan_lightning.run.config import HYPERPARAMETERS, checkpoint_path, flatten, resolve_paths, to_dict

FORMAT_VERSION = 2

# A resumed run must keep the hyperparameters, except for CHANGEABLE, and how many images a step uses
FIXED = ("trainer.devices", "trainer.num_nodes", "trainer.accumulate_grad_batches")
CHANGEABLE = ("data.root", "data.device", "data.in_memory", "data.num_workers")


class Checkpoint:
    """A checkpoint file, read once, onto the CPU and without unpickling code.

    Args:
        path: The file, or a run's folder, which stands for its ``checkpoints/last.ckpt``. :meth:`gan` and :meth:`data`
            build the classes that its config names, so use only files that you trust.

    Raises:
        InputError: If there is no such file, or it is not a checkpoint of this package in the current format.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = checkpoint_path(path)
        try:
            self.content = torch.load(self.path, map_location="cpu", weights_only=True)
            version = self.content["hyper_parameters"].get("format_version", 1)
            self.config: dict[str, Any] = self.content["hyper_parameters"]["config"]
            self.step: int = self.content["global_step"]
            self.content["state_dict"]
        except Exception as error:  # a foreign file can break the reader in any way
            raise InputError(f"checkpoint={path}: not a checkpoint written by gan_lightning.train") from error
        if version != FORMAT_VERSION:
            age = "an earlier" if version < FORMAT_VERSION else "a later"
            raise InputError(f"checkpoint={path}: written by {age} version of gan-lightning; use that version")

    def gan(self) -> GAN:
        """Return the GAN with its trained weights, in evaluation mode; InputError if the weights do not fit."""
        gan = build.gan(OmegaConf.create(self.config))
        try:
            gan.load_state_dict(self.content["state_dict"])
        except RuntimeError as error:
            raise self.weights_error(error) from error
        return gan.eval()

    def weights_error(self, error: Exception) -> InputError:
        """Return the error for weights that the networks do not have."""
        details = one_line(error).partition(": ")[2]
        return InputError(f"checkpoint={self.path}: its weights do not fit the networks of its config: {details[:200]}")

    def data(self, *, root: str | None = None) -> ImageDataModule:
        """Return the data module of the checkpoint's run, set up, with another root folder if one is given."""
        config = resolve_paths(OmegaConf.create(self.config))
        config.data.root = root or config.data.root
        data = build.data(config)
        data.prepare_data()
        data.setup()
        return data

    def resume_config(self, composed: DictConfig, overrides: list[str]) -> DictConfig:
        """Return the run's config with this command's overrides; InputError if one changes what a run must keep."""
        config = resolve_paths(OmegaConf.create(self.config))
        keys = []
        for override in OverridesParser.create().parse_overrides(overrides):
            keys.append(key := override.key_or_group.replace("/", "."))
            if override.is_delete():
                raise InputError(f"~{key}: a resumed run keeps its keys; use {key}=null")
            if key in ("experiment", "sweep"):
                raise InputError(f"{key}={override.get_value_element_as_str()}: a resumed run keeps its experiment")
            value = OmegaConf.select(composed, key)
            if OmegaConf.is_config(value):
                value = OmegaConf.to_container(value)  # so that interpolations refer to the run's own values
            OmegaConf.update(config, key, value, merge=False, force_add=True)
        if "trainer.max_steps" in keys and "trainer.max_epochs" not in keys:
            config.trainer.max_epochs = None  # the new length replaces the former one
        config.checkpoint = str(self.path)
        old, new = dict(flatten(self.config)), dict(flatten(to_dict(config)))
        for key in new | old:
            fixed = (key.partition(".")[0] in HYPERPARAMETERS and key not in CHANGEABLE) or key.startswith(FIXED)
            if fixed and new.get(key) != old.get(key):
                raise InputError(
                    f"{key}={as_typed(new.get(key))}: the checkpoint's run has {as_typed(old.get(key))}; a resumed run "
                    "can change callbacks, logger, metrics, where the data is, and trainer except for devices, "
                    "num_nodes and accumulate_grad_batches"
                )
        if -1 < new["trainer.max_steps"] < self.step:
            raise InputError(f"trainer.max_steps={new['trainer.max_steps']}: must be at least {self.step}, or -1")
        return config
