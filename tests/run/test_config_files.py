"""Configs read without Hydra, compared with what Hydra composes."""

import re
from pathlib import Path

import hydra
import pytest
from omegaconf import OmegaConf

from gan_lightning.run.config import flatten
from gan_lightning.run.config_files import CONF, ConfigFiles

EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        *[("train", [f"experiment={name}"]) for name in EXPERIMENTS if name in ("default", "figure1", "wgan_gp")],
        ("train", ["experiment=ring", "data=spiral"]),
        ("train", ["loss=hinge", "penalty=none", "data=folder", "optimizer/scheduler=cosine", "data.root=PICTURES"]),
        ("train_classifier", ["data=kmnist"]),
        ("sample", ["checkpoint=RUN"]),
        ("search", ["search=recipe"]),
    ],
)
def test_the_same_choices_and_keys_as_hydras(name: str, typed: list[str]) -> None:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose(name, typed, return_hydra_config=True)
    found = ConfigFiles(name, typed)
    runtime = composed.hydra.runtime.choices
    expected = {group: str(choice or "null") for group, choice in runtime.items() if not group.startswith("hydra")}
    assert found.choices == expected
    own = {key: node for key, node in OmegaConf.to_container(composed, resolve=False).items() if key != "hydra"}
    keys = {re.sub(r"\[.*", "", key) for key, _ in flatten(own)} - {"features"}  # none, {}, in some
    parents = {key.rpartition(".")[0] for key in found.keys}
    assert {key for key in found.keys.keys() - parents if not key.startswith("hydra")} == keys


def test_overrides_replace_values() -> None:
    files = ConfigFiles("train", ["k=3", "+penalty=none", "data.root=PICTURES"])
    assert files.keys["k"] == ("3", "updates of D per step, as in the paper's Algorithm 1")
    assert files.keys["data.root"][0] == "PICTURES"
    assert files.keys["penalty"] == ("null", "")
    assert "penalty.gamma" not in files.keys


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text("# My loss\nslope: 0.5 # of it\n")
    files = ConfigFiles("train", ["loss=mine"], [tmp_path])
    assert "mine" in files.choices_of("loss")
    assert files.keys["loss.slope"] == ("0.5", "of it")
    assert "loss.label_smoothing" not in files.keys
