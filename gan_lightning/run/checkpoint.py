"""Checkpoint files, and the config of a resumed run."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from gan_lightning.checkpoints import file as checkpoint_file
from gan_lightning.checkpoints import pretrained
from gan_lightning.checkpoints.compatibility import upgrade
from gan_lightning.checkpoints.trust import check_config, targets
from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.errors import InputError, as_typed, one_line, third_party_errors
from gan_lightning.gan import GAN
from gan_lightning.perf.malloc import return_freed_memory
from gan_lightning.run import build
from gan_lightning.run.config import (
    HYPERPARAMETERS,
    checkpoint_path,
    flatten,
    project_folder,
    resolve_paths,
    to_dict,
    trusted_names,
)
from gan_lightning.run.resources import number_of_processes
from gan_lightning.run.schema import validate

FORMAT_VERSION = 2

# A resumed run must keep the hyperparameters, except for CHANGEABLE, and how many images a step uses
FIXED = ("trainer.accumulate_grad_batches",)
CHANGEABLE = ("data.root", "data.device", "data.in_memory", "data.num_workers", "data.on_error")

# Data sets that are computed, and those that can be downloaded
GENERATED = ("gan_lightning.data.gaussian.", "gan_lightning.data.points.")
OFFICIAL = ("torchvision.", "gan_lightning.data.stacked.", "gan_lightning.data.emnist.")


class Checkpoint:
    """A checkpoint file or a trained model, read once, onto the CPU, without running any code in it.

    Args:
        path: The file, a run's folder, or a model; see :func:`gan_lightning.run.config.checkpoint_path`.
        trust: Names of your own packages, modules or classes that its config may use.

    Raises:
        InputError: If there is no such file, it is damaged, it is not a checkpoint of this or an earlier version of
            this package, or its config names a class that it may not use.
    """

    def __init__(self, path: Path | str, trust: str | Iterable[str] = ()) -> None:
        self.path = checkpoint_path(path)
        if not self.path.exists():
            self.path = pretrained.download(str(path))
        read = pretrained.read if self.path.is_dir() else checkpoint_file.read
        problem = "not a checkpoint written by gan_lightning.train"
        try:
            self.content = upgrade(read(self.path))
            version = self.content["hyper_parameters"]["format_version"]
            if isinstance(version, int) and version > FORMAT_VERSION:
                problem = "written by a later version of gan-lightning; upgrade with pip install -U gan-lightning"
            if version != FORMAT_VERSION:
                raise ValueError(f"format_version={version}")
            checkpoint_file.check_content(self.content, self.path)
            self.config: dict[str, Any] = self.content["hyper_parameters"]["config"]
            # Unchecked, and removed from what is read: only a resumed run builds it
            self._logger = {key: self.config.pop(key) for key in ("logger",) if key in self.config}
            self.step: int = self.content["global_step"]
        except InputError:
            raise
        except Exception as error:  # a foreign file can break this in any way
            raise InputError(f"checkpoint={path}: {problem}") from error
        self._given, self._trust = path, [trust] if isinstance(trust, str) else [*trust]
        self._check(self.config)

    def _check(self, config: dict[str, Any]) -> None:
        """Check a part of the file's config; InputError that names the file if it must not be built."""
        try:
            trusted = check_config(config, self._trust)
        except InputError as error:
            raise InputError(f"checkpoint={self._given}: {error}") from error
        if trusted:
            print(f"Trusting {', '.join(trusted)}, which the checkpoint uses", file=sys.stderr)

    def gan(self) -> GAN:
        """Return the GAN with its trained weights, in evaluation mode; InputError if the weights do not fit."""
        with self.built_from_file():
            gan = build.gan(OmegaConf.create(self.config))
        try:
            gan.load_state_dict(self.content["state_dict"])
        except RuntimeError as error:
            raise self.weights_error(error) from error
        return gan.eval()

    @contextmanager
    def built_from_file(self) -> Iterator[None]:
        """Raise InputError that names the file for any error in a config that no command has validated."""
        with third_party_errors(f"checkpoint={self.path}: its config is not valid"):
            try:
                yield
            except InputError as error:
                raise InputError(f"checkpoint={self.path}: {error}") from error

    def weights_error(self, error: Exception) -> InputError:
        """Return the error for weights that the networks do not have."""
        details = one_line(error).partition(": ")[2]
        return InputError(f"checkpoint={self.path}: its weights do not fit the networks of its config: {details[:200]}")

    def data(self, *, root: str | None = None, on_error: str | None = None) -> ImageDataModule:
        """Return the data module of the checkpoint's run, set up, with another root folder or ``on_error`` if given."""
        with self.built_from_file():
            config = self.resolved()
            config.data.root = root or self.data_root()
            if on_error:
                config.data.on_error = on_error
            data = build.data(config)
        data.download = self.may_download_to(config.data.root)
        data.prepare_data()
        data.setup()
        return_freed_memory()  # what is computed of the images takes many blocks, of many sizes
        if isinstance(data, ImageDataModule):
            data.warn_of_changes(self.content.get(type(data).__qualname__, {}))  # where Lightning keeps its state
        return data

    def resolved(self) -> DictConfig:
        """Return the run's config with :func:`resolve_paths` applied."""
        return resolve_paths(OmegaConf.create(self.config))

    def data_root(self) -> str:
        """Return where the run had its data, or this project's folder if an official data set is not there now.

        Raises:
            InputError: If a model does not say where its data is.
        """
        data = self.resolved().data
        dataset = str(OmegaConf.select(data, "dataset._target_"))
        if dataset.startswith(GENERATED):
            return project_folder("data")  # from which nothing is read
        if dataset.startswith(OFFICIAL):
            return data.root if data.root and Path(data.root).is_dir() else project_folder("data")
        if data.root is None:
            raise InputError("data.root=null: the model comes without its data; add data.root=FOLDER")
        return data.root

    def may_download_to(self, root: str) -> bool:
        """Return whether data may be written to a folder: not if only the file names it."""
        return root != self.resolved().data.root or root == project_folder("data")

    def resume_config(self, composed: DictConfig, overrides: list[str]) -> DictConfig:
        """Return the run's config with this command's overrides; InputError if one changes what a run must keep.

        Keys that the config lacks, as an earlier version wrote it, are those of the composed config. The run's logger
        is checked, unless the overrides choose one.
        """
        if len(self.content.get("optimizer_states", ())) != 2:
            raise InputError(f"checkpoint={self.path}: holds no optimizer states, so it cannot be resumed")
        defaults: Any = OmegaConf.to_container(composed)
        for key in (*HYPERPARAMETERS, "metrics", "features"):  # of which a run has what it was given
            del defaults[key]
        defaults["image_shape"] = self.config["model"].get("image_shape")
        parsed = OverridesParser.create().parse_overrides(overrides)
        logger = {} if any(override.key_or_group == "logger" for override in parsed) else self._logger
        self._check(logger)
        config = resolve_paths(OmegaConf.create(with_defaults(self.config | logger, defaults)))
        keys = []
        for override in parsed:
            keys.append(key := override.key_or_group.replace("/", "."))
            if override.is_delete():
                raise InputError(f"~{key}: a resumed run keeps its keys; use {key}=null")
            if key in ("experiment", "sweep"):
                raise InputError(f"{key}={override.get_value_element_as_str()}: a resumed run keeps its experiment")
            value = OmegaConf.select(composed, key)
            if OmegaConf.is_config(value):
                value = OmegaConf.to_container(value)  # so that interpolations refer to the run's own values
            OmegaConf.update(config, key, value, merge=False, force_add=True)
        if any(key.partition(".")[0] == "features" for key in keys):
            replace_features(config, self.config.get("features"))
        if "trainer.max_steps" in keys and "trainer.max_epochs" not in keys:
            config.trainer.max_epochs = None  # the new length replaces the former one
        config.checkpoint = str(self.path)
        if "data.root" not in keys:
            config.data.root = self.data_root()
        batch_size = self.share_batch(config, keys)
        old, new = dict(flatten(self.config)) | batch_size, dict(flatten(to_dict(config)))
        for key in new | old:
            fixed = (key.partition(".")[0] in HYPERPARAMETERS and key not in CHANGEABLE) or key.startswith(FIXED)
            if fixed and new.get(key) != old.get(key):
                raise InputError(
                    f"{key}={as_typed(new.get(key))}: the checkpoint's run has {as_typed(old.get(key))}; a resumed run "
                    "can change callbacks, logger, metrics, where the data is, and trainer except for "
                    "accumulate_grad_batches"
                )
        if -1 < new["trainer.max_steps"] < self.step:
            raise InputError(f"trainer.max_steps={new['trainer.max_steps']}: must be at least {self.step}, or -1")
        return validate("train", config)

    def share_batch(self, config: DictConfig, keys: Iterable[str]) -> dict[str, int]:
        """Fit a resumed run's config, in place, to another number of devices, which share the run's minibatches.

        Returns:
            The keys that must have another value than in the checkpoint, with that value.

        Raises:
            InputError: If they cannot share them equally, or if the run has a data module of the user's own.
        """
        now, (former, size) = number_of_processes(config.trainer), self.processes_and_batch()
        if now == former:
            return {}
        typed = " and ".join(f"trainer.{key}={as_typed(config.trainer[key])}" for key in ("devices", "num_nodes"))
        if size is None:
            raise InputError(f"{typed}: must be {former} devices in all, as when the run began")
        if size % now:
            raise InputError(
                f"{typed}: the run has minibatches of {size} images, which {now} devices cannot share equally"
            )
        if "trainer.strategy" not in keys:
            config.trainer.strategy = "auto"
        if former == 1 and "trainer.sync_batchnorm" not in keys:  # it had no meaning
            config.trainer.sync_batchnorm = None
        if "data.batch_size" not in keys:
            config.data.batch_size = size // now
        return {"data.batch_size": size // now}

    def processes_and_batch(self) -> tuple[int, int | None]:
        """Return the number of processes of the run, and its images per minibatch on all of them, if that is known."""
        state, each = self.content.get(ImageDataModule.__qualname__), self.config["data"].get("batch_size")
        if not state:
            return number_of_processes(self.config["trainer"]), None
        if "world_size" in state:  # until version 0.5.0
            return state["world_size"], state["world_size"] * each
        return state["global_batch_size"] // each, state["global_batch_size"]


def to_resume(config: DictConfig) -> Checkpoint | None:
    """Return the checkpoint that a training config names, or None; what the command would build itself is trusted."""
    if not config.checkpoint:
        return None
    named = [name for _, name in targets(to_dict(config))]
    return Checkpoint(config.checkpoint, [*trusted_names(config.trust), *named])


def replace_features(config: DictConfig, former: Any) -> None:
    """Replace, in place, the features that a resumed run's metrics had by those of its config."""
    for metric in (config.metrics or {}).values():
        if metric and metric.get("features") == former:
            metric.features = config.features


def with_defaults(node: Any, default: Any) -> Any:
    """Return a node of a config with the keys that only its default has; a part of another class stays as it is."""
    if not (isinstance(node, dict) and isinstance(default, dict)) or node.get("_target_") != default.get("_target_"):
        return node
    return default | {key: with_defaults(child, default.get(key)) for key, child in node.items()}
