"""Trained models in the layout of the Hugging Face hub: a folder with weights, config and model card.

``gan_lightning/models/`` holds those of this package. A model has no optimizer states, so it cannot be resumed.
"""

import hashlib
import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from gan_lightning import __version__
from gan_lightning.checkpoints.file import foreign_file
from gan_lightning.errors import InputError, third_party_errors

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
EMA = "ema.network."
SHOWN = {  # metrics of the model card
    "fid": "FID",
    "precision": "precision",
    "recall": "recall",
    "coverage": "coverage",
    "parzen_ll": "Parzen log-likelihood (nats)",
    "label_agreement": "agreement with the label",
    "modes": "modes",
    "good_samples": "good samples",
}


def read(folder: Path) -> dict[str, Any]:
    """Return a model as the content of a checkpoint, without running any code in its files.

    Raises:
        InputError: If a file is missing or damaged, or was not written by :func:`save_pretrained`.
    """
    try:
        content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        weights = (folder / WEIGHTS).read_bytes()
        hyper_parameters = {"format_version": content["format_version"], "config": content["config"]}
        step, sha256 = content["step"], content["sha256"]
    except OSError as error:
        raise InputError(f"checkpoint={folder}: {Path(error.filename).name}: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise foreign_file(folder, f"its {CONFIG} is of another kind") from error
    if hashlib.sha256(weights).hexdigest() != sha256:
        raise InputError(f"checkpoint={folder}: {WEIGHTS} is incomplete or damaged (its checksum does not match)")
    try:
        tensors = load_tensors(weights)
    except Exception as error:  # a foreign file can break the reader in any way
        raise foreign_file(folder, f"its {WEIGHTS} is of another kind") from error
    return {"hyper_parameters": hyper_parameters, "global_step": step, "state_dict": tensors}


def save_pretrained(
    content: Mapping[str, Any], folder: Path, *, run: Path | None = None, dtype: torch.dtype = torch.float32
) -> None:
    """Write the model of a checkpoint: D, and as G its EMA if there is one.

    Paths of this machine are left out, and so is where the data is.

    Args:
        content: The checkpoint's content.
        folder: A new or empty folder; its name is the model's.
        run: The run's folder, whose metrics and overrides the model card shows.
        dtype: Of the networks' weights, which are loaded as float32.

    Raises:
        InputError: If the folder is not empty or cannot be written.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(f"out={folder}: exists; without a file extension it must be a new or empty folder")
    state = content["state_dict"]
    average = {name.replace(EMA, "generator.", 1): value for name, value in state.items() if name.startswith(EMA)}
    config = without_folders(content["hyper_parameters"]["config"]) | ({"ema": None} if average else {})
    if "root" in config["data"]:
        config["data"]["root"] = None
    kept = {name: value for name, value in state.items() if not (average and name.startswith(("generator.", EMA)))}
    weights = save_tensors({name: converted(name, value, dtype) for name, value in (kept | average).items()})
    described = {
        "library_name": "gan-lightning",
        "version": __version__,
        "format_version": content["hyper_parameters"]["format_version"],
        "step": content["global_step"],
        "sha256": hashlib.sha256(weights).hexdigest(),
        "config": config,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / WEIGHTS).write_bytes(weights)
        (folder / CARD).write_text(card(folder.absolute().name, described, run), encoding="utf-8")
        (folder / CONFIG).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"out={folder}: could not be written: {error.strerror or error}") from error


def converted(name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a tensor as it is saved: with memory of its own, and of the given dtype if it is a network's weight."""
    is_weight = value.is_floating_point() and name.startswith(("generator.", "discriminator."))
    return value.detach().to(dtype if is_weight else value.dtype).clone(memory_format=torch.contiguous_format)


def without_folders(node: Any) -> Any:
    """Return the node of a config with only the last part of absolute paths, which are of one machine."""
    if isinstance(node, dict):
        return {name: without_folders(child) for name, child in node.items()}
    if isinstance(node, list):
        return [without_folders(child) for child in node]
    return Path(node).name if isinstance(node, str) and is_of_this_machine(node) else node


def is_of_this_machine(value: str) -> bool:
    """Return whether a value of a config is an absolute path."""
    return value.startswith("~") or Path(value).is_absolute()


def card(name: str, described: Mapping[str, Any], run: Path | None) -> str:
    """Return a model card with the hub's metadata, from the content of ``config.json`` and the run's files."""
    model, (overrides, metrics) = described["config"]["model"], from_run(run)
    condition = f", given one of {model['num_classes']} labels" if model.get("num_classes") else ""
    measured = {key: metrics[key] for key in SHOWN if key in metrics}
    typed = shlex.join(["python", "-m", "gan_lightning.train", *(overrides or [])])
    command = "." if overrides is None else f":\n\n```bash\n{typed}\n```"
    metadata = {"library_name": "gan-lightning", "tags": ["gan", "pytorch"], "metrics": list(measured)}
    rows = [f"| {SHOWN[key]} | {value:.4g} |\n" for key, value in measured.items()]
    table = (
        f"\n| {metrics.get('num_images', 0):,} samples, test data | |\n| --- | --- |\n{''.join(rows)}" if rows else ""
    )
    return f"""---
{yaml.safe_dump(metadata, sort_keys=False)}---

# {name}

A generative adversarial network (Goodfellow et al., 2014) of data of the shape {model.get("image_shape")}{condition},
trained with gan-lightning {described["version"]} for {described["step"]:,} steps{command}
{table}
`{WEIGHTS}` holds the discriminator and the generator that samples, which is the moving average if there was one, and
`{CONFIG}` the config of the run.

```python
import gan_lightning
from gan_lightning.sampling import sample

gan = gan_lightning.load("{name}")  # this folder; or USER/{name} of the hub
images = next(sample(gan, 64, seed=0))  # in [-1, 1]
```
"""


def from_run(run: Path | None) -> tuple[list[str] | None, dict[str, Any]]:
    """Return a run's overrides without paths of this machine, None if they are not there, and its final metrics."""
    overrides, metrics = None, {}
    if run and (path := run / ".hydra" / "overrides.yaml").is_file():
        typed = map(str, yaml.safe_load(path.read_text(encoding="utf-8")))
        overrides = [one for one in typed if not is_of_this_machine(one.partition("=")[2].strip("'\""))]
    if run and (path := run / "metrics.json").is_file():
        metrics = json.loads(path.read_text(encoding="utf-8"))
    return overrides, metrics


def download(name: str) -> Path:
    """Return the folder of a model of the Hugging Face hub, ``user/name``, which is downloaded unless it is there.

    Raises:
        InputError: If huggingface_hub is not installed, or does not find the model.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise InputError(
            f"checkpoint={name}: no such file; for a model of the Hugging Face hub, pip install 'gan-lightning[hub]'"
        ) from error
    print(f"No file {name} here: asking the Hugging Face hub", file=sys.stderr)
    with third_party_errors(f"checkpoint={name}: no such file, and not available from the Hugging Face hub"):
        return Path(snapshot_download(name, allow_patterns=[WEIGHTS, CONFIG]))
