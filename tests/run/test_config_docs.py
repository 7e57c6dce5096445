"""What config files say about themselves."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from gan_lightning.run.config import CONF
from gan_lightning.run.config_docs import choices, describe, summary

TEXT = """\
# @package _global_
# What it is,
# in two lines
#
#   a command
defaults:
  - model: mlp # replaced by experiments
  - _self_
  - override /features: none
lr: 0.1 # a rate; 0: none
name: "#1" # quotes
plain: a#b
nothing:
part: # several keys
  _target_: a.B
  sizes: [1, 2] # a list
  names: # that it has
    - one # the first
    - two
  text: | # longer
    # no comment
last: ${part.sizes} # a reference
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "part.yaml").write_text(TEXT)
    return tmp_path / "part.yaml"


def test_summary(path: Path) -> None:
    assert summary(path) == "What it is, in two lines"
    path.write_text("lr: 0.1 # a rate\n")
    assert summary(path) == ""


def test_keys_with_values_and_comments(path: Path) -> None:
    assert describe(path) == [
        ("lr", "0.1", "a rate; 0: none"),
        ("name", '"#1"', "quotes"),
        ("plain", "a#b", ""),
        ("nothing", "", ""),
        ("part", "", "several keys"),
        ("part._target_", "a.B", ""),
        ("part.sizes", "[1, 2]", "a list"),
        ("part.names", "[one, two]", "that it has"),
        ("part.text", "| # longer\n    # no comment", "longer"),
        ("last", "${part.sizes}", "a reference"),
    ]
    path.write_text("# Nothing\n")
    assert describe(path) == []


def test_choices(path: Path) -> None:
    assert choices(path) == [("model", "mlp", "replaced by experiments")]
    assert choices(CONF / "data" / "mnist.yaml") == []


def test_every_config_says_what_it_is() -> None:
    for path in CONF.rglob("*.yaml"):
        assert summary(path), path


def test_every_key_is_found() -> None:
    for path in CONF.rglob("*.yaml"):
        config = OmegaConf.load(path)
        keys = [key for key, _, _ in describe(path)]
        assert len(keys) == len(set(keys)), path
        assert {key for key in config if key != "defaults"} == {key.partition(".")[0] for key in keys}, path
