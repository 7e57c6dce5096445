"""Checkpoints of earlier versions, translated into today's format: of 0.1.0, and folders of pictures until 0.4.0."""

import copy
from pathlib import Path
from typing import Any

# Classes and functions by their names in format 1
TARGETS = {
    "gan_lightning.averaging.ExponentialAverage": "gan_lightning.ema.EMA",
    "gan_lightning.callbacks.checkpoints.Checkpoints": "gan_lightning.callbacks.save_checkpoints.SaveCheckpoints",
    "gan_lightning.callbacks.schedules.Schedules": (
        "gan_lightning.callbacks.hyperparameter_schedules.HyperparameterSchedules"
    ),
    "gan_lightning.callbacks.scoring.Scoring": "gan_lightning.callbacks.validation_metrics.ValidationMetrics",
    "gan_lightning.latents.Normal": "gan_lightning.priors.Normal",
    "gan_lightning.latents.Uniform": "gan_lightning.priors.Uniform",
    "gan_lightning.metrics.features.load": "gan_lightning.metrics.features.load_features",
    "gan_lightning.metrics.neighbours.NearestTraining": "gan_lightning.metrics.neighbors.NearestTraining",
    "gan_lightning.metrics.neighbours.PrecisionRecall": "gan_lightning.metrics.neighbors.PrecisionRecall",
    "gan_lightning.networks.goodfellow2014.Discriminator": "gan_lightning.networks.maxout.Discriminator",
    "gan_lightning.networks.goodfellow2014.Generator": "gan_lightning.networks.maxout.Generator",
    "gan_lightning.optimizers.Adam": "torch.optim.Adam",
    "gan_lightning.schedules.Cosine": "gan_lightning.schedules.CosineSchedule",
    "gan_lightning.schedules.Exponential": "gan_lightning.schedules.ExponentialSchedule",
    "gan_lightning.schedules.Linear": "gan_lightning.schedules.LinearSchedule",
    "gan_lightning.schedules.cosine": "gan_lightning.schedules.cosine_decay",
    "gan_lightning.schedules.exponential": "gan_lightning.schedules.exponential_decay",
    "gan_lightning.schedules.linear": "gan_lightning.schedules.linear_decay",
}
# Keys of a group (or of the root, ""), or arguments of a class by its name in format 1; None: no longer there
KEYS: dict[str, dict[str, str | None]] = {
    "": {"average": "ema", "gan": None, "reference": None},
    "model": {"latent": "prior"},
    "callbacks": {"scoring": "validation_metrics"},
    "gan_lightning.averaging.ExponentialAverage": {
        "ramp": "rampup_ratio",
        "every_n_steps": "update_interval",
        "latent_scale": None,
    },
    "gan_lightning.callbacks.checkpoints.Checkpoints": {"monitor": None, "mode": None},
    "gan_lightning.callbacks.progress_bar.ProgressBar": {"every_n_steps": None},
    "gan_lightning.callbacks.scoring.Scoring": {"metrics": None},
    "gan_lightning.metrics.neighbours.NearestTraining": {"every": "stride"},
    **{f"gan_lightning.penalties.{name}": {"every_n_steps": "interval"} for name in ("R1", "R2", "R1R2")},
}


def upgrade(content: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's content in format 2, with the states of today's callbacks.

    The config lacks what only a resumed run needs. A user's own classes stay as they are.
    """
    if "callbacks" in content:
        content = content | {"callbacks": dict(callback_state(*item) for item in content["callbacks"].items())}
    if (version := content["hyper_parameters"].get("format_version", 1)) != 1:
        return with_folder(content) if version == 2 else content
    former = content["hyper_parameters"]["config"]
    average = former["average"] or {}
    config = translate(former) | {
        "latent_scale": average["latent_scale"] if average.get("_target_") in TARGETS else 1.0
    }
    measured = former["callbacks"].get("scoring") and (former["metrics"] or {}).get("parzen")
    if config["monitor"] == "parzen_ll" and not measured:  # 0.1.0's default, with which it saved no best checkpoint
        config |= {"monitor": None, "monitor_mode": None}
    upgraded = content | {
        "hyper_parameters": {"format_version": 2, "config": config},
        "state_dict": {rename(name, "average.", "ema."): value for name, value in content["state_dict"].items()},
    }
    if "loops" in content:  # otherwise the file holds only weights
        upgraded["loops"] = recount(content["loops"], content["global_step"])
    return with_folder(upgraded)


def with_folder(content: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's content with the size and channels of a folder's pictures as arguments of the data module.

    They were arguments of the folder until 0.4.0.
    """
    parameters = content["hyper_parameters"]
    data = parameters["config"].get("data") or {}
    dataset = data.get("dataset") or {}
    if dataset.get("_target_") != "gan_lightning.data.folder.Folder" or "size" not in dataset:
        return content
    kept = {name: value for name, value in dataset.items() if name not in ("size", "channels")}
    data = data | {"dataset": kept, "image_size": dataset["size"], "channels": dataset.get("channels")}
    return content | {"hyper_parameters": parameters | {"config": parameters["config"] | {"data": data}}}


def translate(node: Any, key: str = "") -> Any:
    """Return the node at a key of a config with the names of format 2."""
    if isinstance(node, list):
        return [translate(child, f"{key}[]") for child in node]
    if not isinstance(node, dict):
        return node
    target = node.get("_target_")
    names = KEYS.get(target or key, {})
    translated = {names.get(name, name): translate(child, f"{key}.{name}".lstrip(".")) for name, child in node.items()}
    translated.pop(None, None)
    return translated | ({"_target_": TARGETS.get(target, target)} if target else {})


def callback_state(key: str, state: Any) -> tuple[str, Any]:
    """Return the name of a callback and its state; until 0.2.0 the best checkpoint was kept by Lightning's callback."""
    if key == "Figure1" and "moments" in state:
        return key, {"snapshots": state["moments"]}
    if key.startswith(("Checkpoints{", "SaveCheckpoints{")):
        value, path = state["best_model_score"], state["best_model_path"]
        return "SaveCheckpoints", {
            "best": {"file": Path(path).name or None, "value": None if value is None else float(value)}
        }
    return key, state


def rename(name: str, old: str, new: str) -> str:
    """Return a name with another beginning if it begins with ``old``."""
    return new + name.removeprefix(old) if name.startswith(old) else name


def recount(loops: dict[str, Any], step: int) -> dict[str, Any]:
    """Return Lightning's progress with one batch per step: in format 1 a batch could hold the images of several."""
    loops = copy.deepcopy(loops)
    progress, state = (loops["fit_loop"][f"epoch_loop.{name}"] for name in ("batch_progress", "state_dict"))
    batches = progress["total"]["ready"]
    for counts in (progress["total"], progress["current"]):
        more = counts["ready"] * step // max(batches, 1) - counts["ready"]
        counts.update({name: number + more for name, number in counts.items()})
    state["_batches_that_stepped"] += step - batches
    return loops
