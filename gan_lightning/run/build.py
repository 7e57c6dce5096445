"""Objects from a config, for commands, benchmarks and notebooks alike."""

import inspect
import re
import time
import traceback
import urllib.parse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import hydra
import pytorch_lightning as pl
import torch
from lightning_fabric.loggers.logger import Logger
from omegaconf import DictConfig, OmegaConf
from torchmetrics import Metric

from gan_lightning.callbacks.prune import Prune
from gan_lightning.callbacks.time_limit import TimeLimit
from gan_lightning.checkpoints.trust import targets
from gan_lightning.checks import check_gan
from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.errors import InputError, as_typed, one_line, third_party_errors
from gan_lightning.gan import GAN
from gan_lightning.metrics.features import FeatureExtractor
from gan_lightning.run import memory
from gan_lightning.run.config import to_dict
from gan_lightning.run.fill_in import locate, usable_metrics
from gan_lightning.run.hyperparameters import columns, hyperparameters
from gan_lightning.run.job import PRUNED
from gan_lightning.run.schema import check_types, schema
from gan_lightning.sync_batchnorm import SyncBatchNorm

# Not applied by Lightning's Trainer
GAN_TRAINER_KEYS = ("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm")
NETWORKS = ("generator", "discriminator")


def part(config: DictConfig, key: str, built: dict[str, Any] | None = None, **extra: Any) -> Any:
    """Return the object that a config describes at a key, or None; InputError if its class or arguments are wrong.

    Args:
        config: The config.
        key: The key.
        built: Parts of parts that have been built, by their config; where it is given, these are built only once.
        extra: More arguments of the object.
    """
    node = OmegaConf.select(config, key)
    if node is None:
        return None
    for name in extra.keys() & node.keys():
        raise InputError(f"{key}.{name}={as_typed(node[name])}: cannot be set here, as another key sets it")
    parts = [str(name) for name, child in node.items() if OmegaConf.is_dict(child) and "_target_" in child]
    for name in parts:
        known, content = {} if built is None else built, str(to_dict(node[name]))
        if content not in known:
            known[content] = part(config, f"{key}.{name}")
        extra[name] = known[content]
    arguments = {name: value for name, value in to_dict(node).items() if name not in parts}
    if kinds := argument_types(locate(key, node)):
        arguments = check_types(schema(kinds), OmegaConf.create(arguments), key)
    try:
        function = hydra.utils.instantiate(arguments | {"_partial_": True}, _convert_="all")
        function = partial(function, **extra) if extra else function
        return function if node.get("_partial_") else function()
    except Exception as error:  # of any class
        raise as_input_error(key, error) from error


def argument_types(target: Any) -> dict[Any, str]:
    """Return the names of a callable's arguments by those types that OmegaConf checks; {} if it takes any name."""
    try:
        parameters = inspect.signature(target).parameters.values()
        hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (TypeError, ValueError, NameError):  # built-in, or annotated with names that are not there
        return {}
    kinds: dict[Any, str] = {Any: "_target_ _partial_"}
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            return {}
        hint = hints.get(parameter.name)
        known = all(kind in (bool, int, float, str, type(None)) for kind in get_args(hint) or (hint,))
        kind: Any = hint if known else Any
        if known and get_origin(hint) in (list, Sequence):
            kind = list[get_args(hint)[0]]  # type: ignore[misc]
        kinds[kind] = f"{kinds.get(kind, '')} {parameter.name}"
    return kinds


def as_input_error(key: str, error: BaseException) -> InputError:
    """Return an InputError that names the config key at which a part's error occurred."""
    message = str(error) if isinstance(error, InputError) else one_line(error)
    name, equals, _ = message.partition("=")
    if isinstance(error, InputError) and not name.isidentifier():
        return error  # names a key already
    if isinstance(error, ValueError) and equals and name.isidentifier():
        if key == "algorithm":  # other arguments of the GAN are keys of the trainer, or root keys
            key = "trainer" if name in GAN_TRAINER_KEYS else ""
        message = f"{key}.{message}".removeprefix(".")
    else:
        message = f"{key}: {message}"
    return InputError(message)


def user_part_error(config: DictConfig, error: BaseException) -> str | None:
    """Return an error of a part from outside of this package as one line, with its key; None for one of this package.

    The part is the innermost one of those that were being executed: libraries in between are not at fault.
    """
    parts = [
        (key.removesuffix("._target_"), hydra.utils.get_object(target))
        for key, target in targets(to_dict(config))
        if key != "trainer._target_" and not target.startswith("gan_lightning.")
    ]
    for frame, _ in reversed([*traceback.walk_tb(error.__traceback__)]):
        for key, part in parts:
            is_method = inspect.isclass(part) and isinstance(frame.f_locals.get("self"), part)
            if is_method or getattr(part, "__code__", None) is frame.f_code:
                return f"{key}: {part.__name__} failed: {one_line(error)}"
        module = frame.f_globals.get("__name__", "").partition(".")[0]
        if module in ("pytorch_lightning", "lightning_fabric"):
            return f"trainer: {one_line(error)}"
        if module == "gan_lightning":
            break
    return None


def factory(config: DictConfig, key: str) -> Any:
    """Return the function that a config describes by ``_partial_`` at a key, or None; its errors name the key."""
    function = part(config, key)

    def build(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:  # of any class
            raise as_input_error(key, error) from error

    return function and build


def gan(config: DictConfig) -> GAN:
    """Return the GAN of a training config, untrained; InputError if its parts are wrong or do not fit each other."""
    memory.check_networks(config, part)
    loss, networks = part(config, "loss"), {name: part(config, f"model.{name}") for name in NETWORKS}
    for name, network in networks.items():
        if not isinstance(network, torch.nn.Module):
            target = config.model[name]._target_
            raise InputError(f"model.{name}._target_={target}: must be a torch.nn.Module")
    if not all(callable(getattr(loss, name, None)) for name in NETWORKS):
        raise InputError(f"loss._target_={config.loss._target_}: must have methods discriminator and generator")
    built: GAN = part(
        config,
        "algorithm",
        **networks,
        prior=part(config, "model.prior"),
        loss=loss,
        penalty=part(config, "penalty"),
        ema=factory(config, "ema"),
        latent_scale=config.latent_scale,
        generator_optimizer=factory(config, "optimizer.generator"),
        discriminator_optimizer=factory(config, "optimizer.discriminator"),
        scheduler=factory(config, "optimizer.scheduler"),
        k=config.k,
        num_classes=config.model.get("num_classes") or 0,
        seed=config.seed,
        **{name: config.trainer[name] for name in GAN_TRAINER_KEYS},
    )
    check_gan(built, image_shape=config.model.get("image_shape"), batch_size=config.data.get("batch_size"))
    return built


def data(config: DictConfig) -> ImageDataModule:
    """Return the data module of a training config, not yet set up."""
    shape = config.model.get("image_shape")
    minibatches = config.k * config.trainer.accumulate_grad_batches
    classes = {"num_classes": number} if (number := config.model.get("num_classes")) else {}
    shape = list(shape) if shape else None
    built = part(config, "data", minibatches_per_step=minibatches, image_shape=shape, **classes)
    if isinstance(built, ImageDataModule):
        memory.check_data(built, config)
    return built


def metrics(config: DictConfig) -> dict[str, Metric]:
    """Return the metrics of a config by name, without those that cannot be computed; see :func:`usable_metrics`.

    Raises:
        InputError: If a metric or its features are wrong, or if the features were made for other images.
    """
    shared: dict[str, Any] = {}
    built = {name: part(config, f"metrics.{name}", shared) for name in usable_metrics(config)}
    for name, metric in built.items():
        if not isinstance(metric, Metric) or "real" not in inspect.signature(metric.update).parameters:
            target = config.metrics[name]._target_
            raise InputError(f"metrics.{name}._target_={target}: must be a Metric with update(images, real=...)")
        for features in metric.modules():
            if isinstance(features, FeatureExtractor) and (reason := unsuitable(features, config)):
                raise InputError(f"metrics.{name}: its features are of {reason}; use features=random")
    return built


def unsuitable(features: FeatureExtractor, config: DictConfig) -> str:
    """Return what images features were made for, if a training config has others; else nothing."""
    shape, dataset = OmegaConf.select(config, "model.image_shape"), OmegaConf.select(config, "data.dataset._target_")
    if (size := features.image_size) and shape and tuple(shape[1:]) != size:
        return f"images of {size[0]} x {size[1]} pixels, and image_shape has {shape[1]} x {shape[2]}"
    if shape and shape[0] not in features.channels:
        allowed = " or ".join(map(str, features.channels))
        return f"{allowed}-channel images, and image_shape has {shape[0]} channels"
    if features.datasets and dataset and dataset not in features.datasets:
        return f"{' or '.join(features.datasets)}, and data.dataset is {dataset}"
    return ""


def callbacks(config: DictConfig, metrics: dict[str, Metric], overrides: Sequence[str] = ()) -> list[pl.Callback]:
    """Return the callbacks of a filled-in config that are not null, with what is set elsewhere in the config.

    Args:
        config: The config.
        metrics: For validations and the final evaluation.
        overrides: What was typed, for :func:`gan_lightning.run.hyperparameters.columns`.
    """
    memory.check_samples("num_images", config.num_images, config)
    switches = {"progress_bar": "enable_progress_bar", "checkpoints": "enable_checkpointing"}  # Lightning's own
    final = {"num_images": config.num_images, "seed": config.seed}
    final |= {"hyperparameters": hyperparameters(config), "columns": columns(config, overrides)}
    extra = {
        "validation_metrics": {"metrics": metrics},
        "checkpoints": {"monitor": config.monitor, "mode": config.monitor_mode},
        "final_evaluation": {"metrics": metrics} | final,
    }
    chosen = {name: c for name, c in config.callbacks.items() if c and config.trainer.get(switches.get(name, ""), True)}
    built = {name: part(config, f"callbacks.{name}", **extra.get(name, {})) for name in chosen}
    for name, callback in built.items():
        if not isinstance(callback, pl.Callback):
            raise InputError(f"callbacks.{name}._target_={chosen[name]._target_}: must be a Lightning callback")
        if name != "final_evaluation" and isinstance(number := getattr(callback, "num_images", None), int):
            memory.check_samples(f"callbacks.{name}.num_images", number, config)
    return list(built.values())


def prune(config: DictConfig, trial: dict[str, Any]) -> Prune:
    """Return the callback of a run that is a search's trial.

    Args:
        config: A filled-in config.
        trial: Arguments of :func:`optuna.load_study`, of which ``pruner`` is a config; and ``trial_id``.
    """
    import optuna

    trial_id, pruner = trial.pop("trial_id"), hydra.utils.instantiate(trial.pop("pruner"))
    study = optuna.load_study(pruner=pruner, **trial)
    return Prune(trial=optuna.trial.Trial(study, trial_id), monitor=config.monitor, code=PRUNED)


def logger(config: DictConfig, run: Path, step: int) -> Any:
    """Return the logger, which writes into a run's folder, or False; after a resume TensorBoard drops later steps."""
    if config.logger is None:
        return False
    kind = config.logger._target_.rpartition(".")[2]
    name, folder = "save_dir", str(run)
    if kind in ("CometLogger", "LitLogger"):
        name = {"CometLogger": "offline_directory", "LitLogger": "root_dir"}[kind]
    elif kind == "MLFlowLogger":  # makes a URI of the folder, in which nothing else may be
        folder = urllib.parse.quote(str(run / "mlruns"))
    built = locate("logger", config.logger)
    if not (inspect.isclass(built) and issubclass(built, Logger)) or config.logger.get("_partial_"):
        raise InputError(f"logger._target_={config.logger._target_}: must be a Lightning logger")
    takes = inspect.signature(built).parameters.values()
    extra: dict[str, Any] = {name: folder} if any(p.name == name or p.kind is p.VAR_KEYWORD for p in takes) else {}
    if step and kind == "TensorBoardLogger":
        extra["purge_step"] = step + 1
        backdate(run / str(config.logger.get("name") or "") / str(config.logger.get("version") or ""))
    return part(config, "logger", **extra)


def backdate(folder: Path) -> None:
    """Rename event files that are dated in the future, as they would be read after those that a resumed run writes."""
    now = int(time.time())
    for path in folder.glob("events.out.tfevents.*"):
        date, _, rest = path.name.removeprefix("events.out.tfevents.").partition(".")
        if date.isdecimal() and int(date) >= now:
            path.rename(path.with_name(f"events.out.tfevents.{now - 1}.{rest}"))


def trainer(config: DictConfig, run: Path, callbacks: Sequence[pl.Callback] = (), **arguments: Any) -> pl.Trainer:
    """Return the trainer of a filled-in config, with a logger and plugins; InputError if Lightning refuses a value."""
    values = to_dict(config.trainer)
    if values.pop("sync_batchnorm") is not False:  # which Lightning offers on GPUs only
        arguments["plugins"] = [*arguments.get("plugins", []), SyncBatchNorm()]
    target = values.pop("_target_")
    memory.check_devices(values)
    given = {key: value for key, value in values.items() if key not in (*GAN_TRAINER_KEYS, "max_time")}
    # Without ours, Lightning would add its own.
    given["enable_checkpointing"] = any(isinstance(c, pl.callbacks.Checkpoint) for c in callbacks)
    given["enable_progress_bar"] = any(isinstance(c, pl.callbacks.ProgressBar) for c in callbacks)
    with third_party_errors(f"trainer.max_time={values['max_time']}"):
        timer = TimeLimit(values["max_time"], verbose=False)
    try:
        given["callbacks"] = [timer, *callbacks]
        trainer = hydra.utils.get_class(target)(**given, default_root_dir=str(run), **arguments)
    except Exception as error:  # of any class
        patterns = (r"{0}=", r"\b{0}\b", r"\b{1}\b")  # key=, or the key, or its value
        pairs = [(key, re.escape(str(value))) for key, value in values.items()]
        named = [pair[0] for p in patterns for pair in pairs if re.search(p.format(*pair), str(error))]
        culprit = f".{named[0]}={as_typed(values[named[0]])}" if named else ""
        raise InputError(f"trainer{culprit}: {one_line(error)}") from error
    return trainer


def device(name: str) -> torch.device:
    """Return the device of a name, "auto" for an accelerator if there is one; InputError if there is no such device."""
    try:
        found = torch.accelerator.current_accelerator(check_available=True) or "cpu" if name == "auto" else name
        return torch.empty(0, device=found).device
    except Exception as error:  # of any class
        raise InputError(f"device={name}: must be auto, cpu or an accelerator of this machine, such as cuda") from error
