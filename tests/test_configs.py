"""Every file under conf/ is composed, and what it describes is built."""

import inspect
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Trainer

from gan_lightning.errors import InputError
from gan_lightning.run import build, config, schema
from gan_lightning.run.build import GAN_TRAINER_KEYS
from gan_lightning.run.fill_in import fill_in
from gan_lightning.run.search_space import choices, training_config

FILES = sorted(p.relative_to(config.CONF).with_suffix("") for p in config.CONF.rglob("*.yaml"))
ROOTS = [str(p) for p in FILES if len(p.parts) == 1]
CHOICES = [p for p in FILES if len(p.parts) > 1 and p.parts[0] not in ("hydra", "search")]
EXPERIMENTS = [p.name for p in CHOICES if p.parts[0] == "experiment"]
# What a choice needs besides itself
MNIST = OmegaConf.load(config.CONF / "features" / "mnist.yaml")
OF_FEATURES = [name for name, m in OmegaConf.load(config.CONF / "metrics" / "default.yaml").items() if "features" in m]
NEEDS = {
    "algorithm=simultaneous": ["k=1"],
    "data=folder": ["data.root=pictures"],
    "data=gaussian": ["model=mlp_1d"],
    "data=shards": ["data.root=shards"],
    "features=classifier": [f"features.{name}={getattr(MNIST, name)}" for name in ("weights", "sha256")],
    "features=stacked_mnist": ["data=stacked_mnist"],
    "features=inception": [
        "features.weights=file",
        *(f"metrics.{name}=null" for name in OF_FEATURES),
    ],  # not in the repository
    "metrics=inception": ["metrics.inception_fid=null"],  # its weights are not in the repository
}


def test_every_search() -> None:
    """Its keys are those of training, and their values valid."""
    for path in (config.CONF / "search").glob("*.yaml"):
        found = config.compose("search", [f"search={path.stem}"]).search
        parsed = OverridesParser.create().parse_overrides([f"{key}={values}" for key, values in found.space.items()])
        first = [f"{override.key_or_group}={next(choices(override))}" for override in parsed]
        training_config([*found.overrides, *first])


def build_all(composed: DictConfig, tmp_path: Path) -> Any:
    """Build everything that a training config describes, but read no data; return the GAN."""
    composed = fill_in(schema.validate("train", composed))
    gan = build.gan(composed)
    build.data(composed)
    callbacks = build.callbacks(composed, build.metrics(composed))
    build.logger(composed, tmp_path, 0)
    build.trainer(composed, tmp_path, callbacks=callbacks, logger=False)
    return gan


@pytest.mark.parametrize("name", ROOTS)
def test_every_root(name: str) -> None:
    needed = ["checkpoint=x"] if "checkpoint: ???" in (config.CONF / f"{name}.yaml").read_text() else []
    composed = config.compose(name, needed)
    if needed:
        composed.checkpoint = str(config.CONF / "train.yaml")  # any file
    composed = schema.validate(name, composed)
    if name == "evaluate":
        build.metrics(composed)
    if name == "train_classifier":
        build.part(composed, "data", image_shape=[1, 28, 28])
        build.part(composed, "trainer", logger=False)


@pytest.mark.parametrize("path", CHOICES, ids=str)
def test_every_choice(path: Path, tmp_path: Path) -> None:
    override = f"{path.parent}={path.name}"
    composed = config.compose("train", [override, *NEEDS.get(override, [])])
    if override in ("logger=wandb", "logger=mlflow", "logger=trackio") and not find_spec(path.name):
        with pytest.raises(InputError, match=f"^logger: .*pip install .*{path.name}"):
            build_all(composed, tmp_path)
        return
    build_all(composed, tmp_path)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_without_a_part(experiment: str, tmp_path: Path) -> None:
    without = ["penalty=none", "ema=none", "optimizer/scheduler=constant", "logger=none"]
    if "/loss: wasserstein" in (config.CONF / "experiment" / f"{experiment}.yaml").read_text():  # needs a penalty
        without.append("loss=hinge")
    gan = build_all(config.compose("train", [f"experiment={experiment}", *without]), tmp_path)
    assert (gan.penalty, gan.ema, gan.scheduler) == (None, None, None)


@pytest.mark.parametrize("launcher", [p.name for p in FILES if p.parts[:2] == ("hydra", "launcher")])
def test_every_launcher(launcher: str) -> None:
    """Its keys are those of the plug-in, whose own config has the same name."""
    package = launcher.partition("_")[0]
    plugin = pytest.importorskip(f"hydra_plugins.hydra_{package}_launcher.{package}_launcher")
    typed = [f"hydra/launcher={launcher}", "trainer.accelerator=cpu", "hydra.sweep.dir=sweep"]
    with hydra.initialize_config_dir(str(config.CONF), version_base="1.3"):
        composed = hydra.compose("train", typed, return_hydra_config=True)
    node = composed.hydra.launcher
    assert getattr(plugin, node._target_.rpartition(".")[2])(**{k: node[k] for k in node if k != "_target_"})


@pytest.mark.parametrize("path", [p for p in FILES if p.parts[0] == "hydra" and p.parts[1] != "launcher"], ids=str)
def test_every_choice_of_hydras_groups(path: Path) -> None:
    assert OmegaConf.load(config.CONF / path.with_suffix(".yaml"))
    assert any(f"override {path.parent}: {path.name}" in p.read_text() for p in config.CONF.glob("*.yaml"))


def test_every_file_begins_with_a_description() -> None:
    for path in FILES:
        first = list((config.CONF / path).with_suffix(".yaml").read_text().splitlines()[:2])
        assert any(line.startswith("# ") and "@package" not in line for line in first), path


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_states_its_command(experiment: str) -> None:
    head = (config.CONF / "experiment" / f"{experiment}.yaml").read_text().partition("defaults:")[0]
    assert f"experiment={experiment}" in head or f"make {experiment}" in head
    assert "Measured" in head


def test_trainer_keys_are_the_trainers() -> None:
    known = set(inspect.signature(Trainer).parameters)
    keys = set(config.compose("train").trainer) - {"_target_"}
    given = {"logger", "callbacks", "plugins", "default_root_dir"}  # by the command
    unused = {"barebones", "model_registry"}  # the first would leave out the callbacks
    unused |= {"enable_autolog_hparams", "limit_test_batches", "limit_predict_batches"}
    unused |= {"reload_dataloaders_every_n_epochs", "inference_mode"}  # the latter can be added
    assert keys == known - given - unused
    assert {*GAN_TRAINER_KEYS, "max_time"} <= keys


def test_the_first_grid_has_the_images_that_training_starts_from() -> None:
    names = list(config.compose("train", ["experiment=goodfellow2014"]).callbacks)
    assert names.index("start_from_mean") < names.index("sample_grid")


def test_one_learning_rate_or_two() -> None:
    def rates(*typed: str) -> tuple[float, float]:
        optimizer = config.compose("train", list(typed)).optimizer
        return optimizer.generator.lr, optimizer.discriminator.lr

    assert rates("optimizer.lr=0.01") == (0.02, 0.01)  # the ratio stays
    assert rates("optimizer.lr=0.01", "optimizer=adam") == (0.01, 0.01)
    assert rates("optimizer.generator.lr=0.01") == (0.01, 0.001)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_one_learning_rate_sets_both_in_every_experiment(experiment: str) -> None:
    rate = config.compose("train", [f"experiment={experiment}"]).optimizer.lr
    one, two = (
        config.compose("train", [f"experiment={experiment}", f"optimizer.lr={n * rate}"]).optimizer for n in (1, 2)
    )
    for network in ("generator", "discriminator"):
        assert two[network].lr == pytest.approx(2 * one[network].lr)


def test_the_command_line_takes_precedence_over_the_experiment() -> None:
    composed = config.compose("train", ["experiment=article", "loss=relativistic"])
    assert composed.loss._target_.endswith("Relativistic")


def test_the_run_folder_has_the_experiments_or_a_given_name() -> None:
    resolve = OmegaConf.create({"a": "${run_dir:null,null,article,T}", "b": "${run_dir:null,mine,article,T}"})
    assert (resolve.a, resolve.b) == ("outputs/article/T", "outputs/mine/T")
