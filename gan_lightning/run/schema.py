"""What a config may hold: the types of the groups with a fixed shape, and the few rules that connect several values.

All else is validated by the part that it configures, in its constructor. Torch is not imported, so that a mistake is
reported at once.
"""

import math
import re
from dataclasses import field, fields, make_dataclass
from typing import Any, get_args, get_origin

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from gan_lightning.errors import InputError, as_typed
from gan_lightning.run.config import checkpoint_path, flatten, to_dict
from gan_lightning.run.config_files import CONF
from gan_lightning.run.suggest import choices_of, known_keys, unknown_key


def schema(kinds: dict[Any, str]) -> type:
    """Return a dataclass whose field names are given by type; a config may omit any of them."""
    typed_fields = [(key, kind, field(default=MISSING)) for kind, keys in kinds.items() for key in keys.split()]
    return make_dataclass("Schema", typed_fields)


# Arguments of gan_lightning.data.datamodule.ImageDataModule
Data = schema(
    {
        str: "_target_ device fit",
        str | None: "root on_error",
        int: "batch_size seed num_workers",
        int | None: "val_size channels",
        float | None: "white",
        bool: "flip",
        bool | None: "in_memory",
        Any: "dataset image_size background",
    }
)
# Arguments of pytorch_lightning.Trainer, which validates their values
Trainer = schema(
    {
        str: "_target_ accelerator strategy gradient_clip_algorithm",
        int: "num_nodes max_steps num_sanity_val_steps log_every_n_steps accumulate_grad_batches",
        int | None: "max_epochs min_steps min_epochs check_val_every_n_epoch",
        int | float: "val_check_interval overfit_batches",
        int | float | None: "limit_train_batches limit_val_batches",
        float | None: "gradient_clip_val",
        bool: "use_distributed_sampler detect_anomaly inference_mode "
        "enable_checkpointing enable_progress_bar enable_model_summary",
        bool | None: "benchmark sync_batchnorm",
        str | None: "max_time",
        bool | str | None: "deterministic",
        Any: "devices precision fast_dev_run profiler",
    },
)
# Keys of conf/search/
Search = schema(
    {
        str | None: "name storage",
        int: "num_trials workers",
        list[str]: "overrides command_line constraints",
        Any: "objectives space sampler pruner",
    }
)
# Top-level values of the root configs, apart from the groups; each config has some of them
Root = schema(
    {
        str: "omp_wait_policy matmul_precision show device on_nan weights",
        str | None: "name checkpoint monitor monitor_mode out",
        int: "seed k num_images",
        float: "latent_scale lr weight_decay",
        int | None: "label",
        bool: "cpu_tuning compile cuda_graphs retry_failed discriminator",
        Any: "trust image_shape labels",
    },
)
OWN_DATA = "gan_lightning.data.datamodule.ImageDataModule"  # a user's own data module has other arguments
GROUPS = {path.name for path in CONF.iterdir() if path.is_dir()} | {"features"}
# Keys that describe an object, as do all entries of callbacks and metrics
OPTIONAL_PARTS = ("penalty", "ema", "logger", "features", "optimizer.scheduler")
MODEL = ("model.generator", "model.discriminator", "model.prior")
REQUIRED_PARTS = ("algorithm", "loss", "data.dataset", "optimizer.generator", "optimizer.discriminator", *MODEL)
ALLOWED = {
    "monitor_mode": ("min", "max"),
    "omp_wait_policy": ("auto", "active", "passive"),
    "matmul_precision": ("highest", "high", "medium"),
    "on_nan": ("raise", "restore"),
    "trainer.deterministic": (True, False, "warn"),  # Lightning takes any other text for false
    "show": ("samples", "nearest", "interpolation"),
    "weights": ("fp16", "int8"),
}
POSITIVE = ("k", "num_images", "search.num_trials", "search.workers", "trainer.log_every_n_steps", "trainer.num_nodes")


def validate(name: str, config: DictConfig) -> DictConfig:
    """Return the composed config with values of the schema's types; InputError for the first invalid value."""
    for key, value in flatten(OmegaConf.to_container(config)):
        if value == MISSING:
            raise InputError(f"{key}={MISSING}: a value is required, as in {key}=VALUE")
    check_parts(config)
    known, own = known_keys(config), OmegaConf.load(CONF / f"{name}.yaml")
    if added := [str(key) for key in config if key not in own.keys() | GROUPS]:
        raise InputError(unknown_key(f"{added[0]}={as_typed(config[added[0]])}", added[0], known))
    resolved = OmegaConf.create(to_dict(config))  # a reference has the type of what it refers to
    top = OmegaConf.masked_copy(resolved, [str(key) for key in config if key not in GROUPS])
    typed = with_references(config, check_types(Root, top))
    groups: dict[str, Any] = {key: config._get_node(key) for key in config if key in GROUPS}
    for key, shape in (("data", Data), ("trainer", Trainer), ("search", Search)):
        if key in config and (key != "data" or config.data.get("_target_", OWN_DATA) == OWN_DATA):
            groups[key] = with_references(config[key], check_types(shape, resolved[key], key, known))
    config = OmegaConf.create({**typed, **groups})
    refuse_unused(config)
    values = dict(flatten(to_dict(config)))
    check_values(values)
    for key, choices in ALLOWED.items():
        if values.get(key) not in (None, *choices):
            raise InputError(f"{key}={values[key]}: must be one of {', '.join(map(as_typed, choices))}")
    seeds = [key for key in values if key.rpartition(".")[2] == "seed"]
    for key in (*seeds, "optimizer.lr", "optimizer.generator.lr", "optimizer.discriminator.lr", *POSITIVE):
        least = int(key in POSITIVE)
        value = values.get(key, least)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < 2**32:
            raise InputError(f"{key}={as_typed(value)}: must be a number of at least {least} and below 2**32")
    check_files(own, values)
    if "model" in config:
        if "image_size" in config.data and not resolved.image_shape:
            size, channels = as_typed(resolved.data.image_size), resolved.data.channels
            if channels not in (1, 3):
                raise InputError(f"data.channels={as_typed(channels)}: must be 1 (grayscale) or 3 (color)")
            raise InputError(f"data.image_size={size}: must be a number of pixels, or height and width as in [48,64]")
        check_training(values)
        check_skipped(values)
        check_betas(config)
    return config


def check_types(shape: type, node: DictConfig, key: str = "", known: list[str] | None = None) -> dict[str, Any]:
    """Return the node at a key as a dictionary with a dataclass's types; InputError if it has other keys or types."""
    try:
        converted: Any = OmegaConf.to_container(OmegaConf.merge(OmegaConf.structured(shape), node))
    except OmegaConfBaseException as error:
        name, value = str(error.full_key), as_typed(OmegaConf.select(node, str(error.full_key)))
        allowed = "" if isinstance(error, ConfigKeyError) else allowed_type(shape, name)
        name = f"{key}.{name}" if key and name else key or name
        if isinstance(error, ConfigKeyError):
            known = known or [f"{key}.{field.name}" for field in fields(shape) if field.name[0] != "_"]
            raise InputError(unknown_key(f"{name}={value}", name, known)) from error
        raise InputError(f"{name}={value}: must be {allowed}") from error
    for name in (name for name, value in converted.items() if isinstance(value, bool) and name in node):
        if isinstance(node[name], int) and node[name] not in (False, True):  # OmegaConf takes any number for true
            raise InputError(f"{key}.{name}={node[name]}: must be true or false".removeprefix("."))
    return {name: value for name, value in converted.items() if name in node}


def with_references(node: DictConfig, values: dict[str, Any]) -> dict[str, Any]:
    """Return typed values of a node, with its references to other keys where they have the right type by themselves."""
    kept = [key for key in values if OmegaConf.is_interpolation(node, key) and type(node[key]) is type(values[key])]
    return values | {key: node._get_node(key) for key in kept}


def allowed_type(shape: type, key: str) -> str:
    """Return the type of a dataclass's field in words; a key with an index, such as ``widths[0]``, is one of a list."""
    (kind,) = (field.type for field in fields(shape) if field.name == re.split(r"[.[]", key)[0])
    if get_origin(kind) is list and "[" not in key:
        return "a list, such as [1,2]"
    kinds = get_args(kind) or (kind,)
    words = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}
    return next((words[one] for one in words if one in kinds), "a value")


def check_training(values: dict[str, Any]) -> None:
    """Raise InputError if values, by flattened keys, are incompatible with each other or with manual optimization."""

    def refuse(key: str, reason: str) -> None:
        raise InputError(f"{key}={as_typed(values[key])}: {reason}")

    for key in ("trainer.max_steps", "trainer.max_epochs"):
        if values[key] not in (None, -1) and values[key] < 1:
            refuse(key, "must be at least 1, or -1 for no limit")
    for key in ("trainer.val_check_interval", "trainer.limit_train_batches"):
        if values[key] is not None and values[key] <= 0:
            refuse(key, "must be above 0")
    endless = values["trainer.max_steps"] == -1 and values["trainer.max_epochs"] in (None, -1)
    if endless and "optimizer.scheduler.flat" in values:
        reason = "the learning rates decay until the run ends; set its length, or add optimizer/scheduler=constant"
        refuse("trainer.max_steps", reason)
    for key, allowed, reason in (
        ("num_sanity_val_steps", 0, "a validation before training would be logged as part of the run"),
        ("use_distributed_sampler", False, "the data module shards the data across ranks"),
        ("overfit_batches", 0, "batches are sampled; for fewer training images increase data.val_size"),
    ):
        if values[f"trainer.{key}"] != allowed:
            refuse(f"trainer.{key}", f"must be {as_typed(allowed)}: {reason}")
    for pattern, reason in (
        ("spawn|fork|notebook", "the trained weights would stay in the spawned processes"),
        ("fsdp|deepspeed|model_parallel", "cannot split two networks, each with its own optimizer, between devices"),
        ("parameters_false", "while one network is updated, the other one has no gradients"),
    ):
        if re.search(pattern, values["trainer.strategy"]):
            refuse("trainer.strategy", f"{reason}; use ddp")
    if str(values.get("trainer.precision")) in ("16-mixed", "16") and values["trainer.gradient_clip_val"]:
        refuse("trainer.gradient_clip_val", "16-mixed scales the gradients that it would clip; use bf16-mixed")
    if values["cuda_graphs"] and (values.get("trainer.devices"), values["trainer.num_nodes"]) != (1, 1):
        refuse("cuda_graphs", "needs trainer.devices=1 and trainer.num_nodes=1")
    if values["cuda_graphs"] and values["trainer.detect_anomaly"]:
        refuse("cuda_graphs", "needs trainer.detect_anomaly=false, which would wait for the device")


def check_files(own: Any, values: dict[str, Any]) -> None:
    """Raise InputError if there is no checkpoint or output, by flattened keys, and the root config ``own`` has one."""
    for key in ("checkpoint", "out"):
        if (OmegaConf.is_missing(own, key) or own.get(key)) and not values[key]:
            raise InputError(f"{key}={as_typed(values[key])}: must be a file")
    if values.get("checkpoint") is not None:
        checkpoint_path(values["checkpoint"])


def check_skipped(values: dict[str, Any]) -> None:
    """Raise InputError if the validation is to leave out a metric that is neither in the config nor under ``conf/``."""
    skipped = {key: name for key, name in values.items() if key.startswith("callbacks.validation_metrics.skip[")}
    known = {key.split(".")[1] for key in values if key.startswith("metrics.")}
    if not known.issuperset(skipped.values()):
        known |= {str(name) for path in (CONF / "metrics").glob("*.yaml") for name in OmegaConf.load(path)}
    for key, name in skipped.items():
        if name not in known:
            metrics = ", ".join(sorted(known - {"defaults"}))
            raise InputError(f"{key}={as_typed(name)}: no such metric; must be one of {metrics}")


def check_values(values: dict[str, Any]) -> None:
    """Raise InputError for what no key can be, by flattened keys."""
    for key, value in values.items():
        if isinstance(value, str) and re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", value):
            raise InputError(f"{key}={as_typed(value)!a}: must not have line breaks or other control characters")
        if isinstance(value, float) and math.isnan(value):
            raise InputError(f"{key}=nan: must be a number")
        if value == "" and ("." not in key or key == "data.root"):
            raise InputError(f"{key}='': must not be empty; null stands for no value")
        if "._target_" in key and not (key.endswith("._target_") and isinstance(value, str) and value):
            part = key.partition("._target_")[0]
            raise InputError(f"{key}={as_typed(value)}: must be a class or a function: {part}._target_=MODULE.CLASS")


def check_betas(config: DictConfig) -> None:
    """Raise InputError if one of torch's optimizers is given anything but two betas, which it does not check."""
    for name in ("generator", "discriminator"):
        optimizer = config.optimizer[name]
        if "betas" in optimizer and str(optimizer._target_).startswith("torch."):
            betas = optimizer.betas
            numbers = [beta for beta in betas if type(beta) in (int, float)] if OmegaConf.is_list(betas) else []
            if len(numbers) != 2 or len(betas) != 2:
                typed = f"optimizer.{name}.betas={as_typed(betas)}"
                raise InputError(f"{typed}: must be two numbers, such as [0.5,0.99]")


def check_parts(config: DictConfig) -> None:
    """Raise InputError if a group is given as a value, or a part and not as a class: ``optimizer.scheduler=cosine``."""
    for key in GROUPS.intersection(config).difference(OPTIONAL_PARTS, REQUIRED_PARTS):
        if not OmegaConf.is_dict(config[key]):
            raise InputError(f"{key}={as_typed(config[key])}: must be a group of keys; set one, as in {key}.NAME=VALUE")
    entries = [f"{group}.{name}" for group in ("callbacks", "metrics") for name in config.get(group) or ()]
    entries += [f"{name}.features" for name in entries if name.startswith("metrics.")]
    for key in (*OPTIONAL_PARTS, *REQUIRED_PARTS, *entries):
        node = OmegaConf.select(config, key)
        is_class = OmegaConf.is_dict(node) and "_target_" in node
        if is_class or (node is None and not (key in REQUIRED_PARTS and "k" in config)):
            continue
        if OmegaConf.is_dict(node):
            raise InputError(
                f"{key}={as_typed(node)}: its class is missing; its YAML file needs _target_: MODULE.CLASS"
            )
        group = key.replace(".", "/")
        if choices := choices_of(group):
            choice = f"{group}={node}" if node in choices else f"{group}=CHOICE with one of {', '.join(choices)}"
            raise InputError(f"{key}={node}: to choose from a config group, use a slash: type {choice}")
        raise InputError(f"{key}={as_typed(node)}: must have a class, as in +{key}._target_=MODULE.CLASS")


def refuse_unused(config: DictConfig) -> None:
    """Raise InputError if nothing uses a value under ``model`` or ``optimizer``."""
    used = " ".join(str(value) for _, value in flatten(OmegaConf.to_container(config)) if "${" in str(value))
    for group in ("model", "optimizer"):
        for name, node in (config.get(group) or {}).items():
            of_parts = any(OmegaConf.is_dict(part) and name in part for part in config[group].values())
            if not (node is None or OmegaConf.is_dict(node) or of_parts or f"{group}.{name}}}" in used):
                own = f"to pass it to one part, type +{group}.generator.{name}=VALUE"
                raise InputError(f"{group}.{name}={as_typed(node)}: nothing uses this key; {own}")
