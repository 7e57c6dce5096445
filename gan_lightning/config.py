"""The configuration: where it lies, how it is composed, and what is settled once it is."""

import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

PACKAGE = Path(__file__).parent
CHECKOUT = PACKAGE.parent  # the project's folder, unless the package was installed from a wheel
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else CHECKOUT / "conf"


def run_of(checkpoint: str) -> Path:
    """Give the folder of the run that a checkpoint belongs to."""
    return Path(checkpoint).absolute().parent.parent


def register_resolvers() -> None:
    """Teach OmegaConf the four interpolations that ``conf/`` uses.

    ``${project:data}`` is a folder of this project where there is one (a clone, an editable install), else of the
    working directory. ``${run_dir:CHECKPOINT,NEW}`` is the folder of the run that a checkpoint belongs to, or a
    new one. ``${times:FACTOR,VALUE}`` is a product. ``${best:FIGURE}`` is "min" if the figure is a distance or a loss,
    else "max".
    """

    def project(folder: str) -> str:
        return str((CHECKOUT if CHECKOUT / "conf" == CONF else Path.cwd()) / folder)

    def run_dir(checkpoint: str | None, new: str) -> str:
        run = run_of(checkpoint) if checkpoint else None
        return str(run) if run and (run / ".hydra").is_dir() else new

    def times(factor: float, value: Any) -> Any:
        return factor * value if isinstance(value, int | float) else value  # what is no number is told of later

    def best(figure: Any) -> str:
        return "min" if re.search(r"fid|kid|kl|nearest|loss", str(figure)) else "max"

    OmegaConf.register_new_resolver("project", project, replace=True)
    OmegaConf.register_new_resolver("run_dir", run_dir, replace=True)
    OmegaConf.register_new_resolver("times", times, replace=True)
    OmegaConf.register_new_resolver("best", best, replace=True)


def compose(name: str, overrides: list[str] | None = None) -> DictConfig:
    """Compose ``conf/<name>.yaml`` with overrides as on the command line, outside of a door."""
    register_resolvers()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose(name, overrides or [])
    leave_out_unchosen(config)
    return config


def leave_out_unchosen(config: DictConfig) -> None:
    """Put null in the place of a part that is chosen to be none, although the experiment gives it values."""
    for key in ("average", "penalty", "optimizer.scheduler"):
        part = OmegaConf.select(config, key)
        if part is not None and "_target_" not in part:
            OmegaConf.update(config, key, None)


def choose_length(config: DictConfig, overrides: Iterable[str]) -> None:
    """Let ``trainer.max_epochs`` take the place of ``trainer.max_steps`` where it alone was typed."""
    typed = {override.split("=")[0] for override in overrides}
    alone = "trainer.max_epochs" in typed and "trainer.max_steps" not in typed
    if alone and "gan" in config and config.trainer.max_epochs is not None:
        config.trainer.max_steps = -1


def choose_precision(config: DictConfig) -> None:
    """Put what pays off on this machine in the place of ``trainer.precision=auto``."""
    import torch

    if config.trainer.get("precision") == "auto":
        on_cpu = config.trainer.accelerator == "cpu" or not torch.accelerator.is_available()
        config.trainer.precision = "bf16-mixed" if on_cpu and multiplies_in_bf16() else "32-true"


def multiplies_in_bf16() -> bool:
    """Tell whether this processor has instructions for products in bf16."""
    import torch

    return torch.cpu._is_avx512_bf16_supported()


def rates_end_with_the_run(config: DictConfig) -> bool:
    """Tell whether the learning rates fall over the whole run, so that it cannot be made longer."""
    return OmegaConf.select(config, "optimizer.scheduler.flat") is not None


def leave_out_featureless(config: DictConfig) -> None:
    """Put null in the place of metrics that work on features where the data set has none."""
    for name, metric in (config.metrics or {}).items():
        if metric and "features" in metric and metric.features is None:
            config.metrics[name] = None


def make_metrics(config: DictConfig) -> dict[str, Any]:
    """Build the metrics that are not null."""
    leave_out_featureless(config)
    return {
        name: hydra.utils.instantiate(m, _convert_="all") for name, m in (config.metrics or {}).items() if m is not None
    }


def typed_search_path() -> list[str]:
    """Give, within a door, the override of ``hydra.searchpath`` that was typed, if one was."""
    return [override for override in HydraConfig.get().overrides.hydra if override.startswith("hydra.searchpath")]


def plain(config: DictConfig) -> dict[str, Any]:
    """Resolve a config into dictionaries, lists and values."""
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


def leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of nested dictionaries and lists, empty lists too, with its key: ``optimizer.betas[0]``."""
    if isinstance(node, dict):
        for name, child in node.items():
            yield from leaves(child, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list) and node:
        for i, child in enumerate(node):
            yield from leaves(child, f"{key}[{i}]")
    else:
        yield key, node


def as_argument(key: str, value: Any) -> str:
    """Write ``key=value`` as one types it in a shell, in quotes of Hydra's and the shell's where it needs them."""
    plain_enough = re.fullmatch(r"[\w./-]+", str(value), re.ASCII)
    return f"{key}={value}" if plain_enough else shlex.quote(f'{key}="{value}"')


def as_typed(value: Any) -> str:
    """Write a value as one types it."""
    return "null" if value is None else str(value)
