"""Every file under conf/ is composed, and what it describes is built."""

import inspect
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Trainer

from gan_lightning import config, rules
from gan_lightning.train import BY_THE_GAN

FILES = sorted(p.relative_to(config.CONF).with_suffix("") for p in config.CONF.rglob("*.yaml"))
ROOTS = [str(p) for p in FILES if len(p.parts) == 1]
CHOICES = [p for p in FILES if len(p.parts) > 1 and p.parts[0] != "hydra"]


def build_all(composed: DictConfig) -> None:
    """Build everything that a config describes."""
    data: Any = composed.get("data")
    if "metrics" in composed:
        config.make_metrics(composed)
    for name in ("gan", "data", "loss", "callbacks"):
        if composed.get(name) is not None and (name != "data" or "_target_" in data):
            built = instantiate(composed[name], _convert_="all")
            if name == "gan":
                optimizer = built.generator_optimizer(built.generator.parameters())
                assert built.scheduler is None or built.scheduler(optimizer, 10)
    if composed.get("logger") is not None:
        instantiate(composed.logger, save_dir="unused")
    if composed.get("trainer") is not None:
        config.choose_precision(composed)
        instantiate({k: v for k, v in composed.trainer.items() if k not in BY_THE_GAN}, logger=False)


@pytest.mark.parametrize("name", ROOTS)
def test_every_root(name: str) -> None:
    composed = config.compose(name)
    rules.check(composed, composed)
    build_all(composed)


@pytest.mark.parametrize("path", CHOICES, ids=str)
def test_every_choice(path: Path) -> None:
    override = f"{path.parent}={path.name}"
    needs = ["k=1"] if override == "algorithm=simultaneous" else []
    composed = config.compose("train", [override, *needs])
    rules.check(composed, composed)
    if OmegaConf.missing_keys(composed.metrics):  # Inception's weights, which the user has or has not
        composed.metrics.inception_fid = None
    build_all(composed)


@pytest.mark.parametrize("experiment", [p.name for p in CHOICES if p.parts[0] == "experiment"])
@pytest.mark.parametrize("override", ["penalty=none", "average=none", "optimizer/scheduler=constant"])
def test_every_experiment_goes_without(experiment: str, override: str) -> None:
    composed = config.compose("train", [f"experiment={experiment}", override])
    rules.check(composed, composed)
    build_all(composed)


@pytest.mark.parametrize("path", [p for p in FILES if p.parts[0] == "hydra"], ids=str)
def test_every_choice_of_hydras(path: Path) -> None:
    assert OmegaConf.load(config.CONF / path.with_suffix(".yaml"))
    assert any(f"override {path.parent}: {path.name}" in p.read_text() for p in config.CONF.glob("*.yaml"))


def test_every_file_says_what_it_is() -> None:
    for path in FILES:
        first = list((config.CONF / path).with_suffix(".yaml").read_text().splitlines()[:2])
        assert any(line.startswith("# ") and "@package" not in line for line in first), path


def test_trainer_keys_are_the_trainers() -> None:
    known = inspect.signature(Trainer).parameters
    keys = set(config.compose("train").trainer) - {"_target_"}
    assert keys <= set(known)
    ours = {"logger", "callbacks", "plugins", "default_root_dir"}  # given by the door
    unused = {
        "barebones",  # would leave the callbacks out
        "enable_autolog_hparams",
        "inference_mode",
        "limit_predict_batches",
        "limit_test_batches",
        "model_registry",
        "reload_dataloaders_every_n_epochs",
    }
    assert keys == set(known) - ours - unused


def test_the_first_grid_shows_what_training_starts_from() -> None:
    names = list(config.compose("train", ["experiment=goodfellow2014"]).callbacks)
    assert names.index("start_from_mean") < names.index("sample_grid")


def test_one_learning_rate_or_two() -> None:
    both = config.compose("train", ["optimizer.lr=0.01"])
    same = config.compose("train", ["optimizer.lr=0.01", "optimizer=adam"])
    one = config.compose("train", ["optimizer.generator.lr=0.01"])
    assert (both.gan.generator_optimizer.lr, both.gan.discriminator_optimizer.lr) == (0.02, 0.01)  # the recipe's ratio
    assert (same.gan.generator_optimizer.lr, same.gan.discriminator_optimizer.lr) == (0.01, 0.01)
    assert (one.gan.generator_optimizer.lr, one.gan.discriminator_optimizer.lr) == (0.01, 0.001)


@pytest.mark.parametrize(
    ("monitor", "mode"), [("parzen_ll", "max"), ("fid", "min"), ("validation/loss_generator", "min")]
)
def test_the_monitored_figure_tells_which_is_best(monitor: str, mode: str) -> None:
    assert config.compose("train", [f"monitor={monitor}"]).callbacks.checkpoints.mode == mode
    assert config.compose("train", [f"monitor={monitor}", "monitor_mode=max"]).callbacks.checkpoints.mode == "max"


@pytest.mark.parametrize("experiment", [p.stem for p in CHOICES if p.parts[0] == "experiment"])
def test_one_learning_rate_sets_both_in_every_experiment(experiment: str) -> None:
    rate = config.compose("train", [f"experiment={experiment}"]).optimizer.lr
    one, two = (config.compose("train", [f"experiment={experiment}", f"optimizer.lr={n * rate}"]).gan for n in (1, 2))
    for optimizer in ("generator_optimizer", "discriminator_optimizer"):
        assert two[optimizer].lr == pytest.approx(2 * one[optimizer].lr)


def test_a_choice_on_the_command_line_wins_over_the_experiment() -> None:
    composed = config.compose("train", ["experiment=article", "loss=relativistic"])
    assert composed.gan.loss._target_.endswith("Relativistic")
