"""The package's own loggers. What arrives in them: ``callbacks/test_pictures.py``."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from pytorch_lightning.utilities import rank_zero_only

from gan_lightning.errors import InputError
from gan_lightning.loggers import TrackioLogger
from gan_lightning.run import build, config


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stand in for trackio; return what is called of it."""
    made: list[Any] = []
    module = ModuleType("trackio")

    def init(**arguments: Any) -> Any:
        made.append(arguments)
        return SimpleNamespace(name="calm-wave-3", config={}, log=lambda *_, **__: made.append("log"))

    module.init, module.finish = init, lambda: made.append("finish")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trackio", module)
    return made


def test_a_trackio_run_begins_when_it_is_needed_and_ends_once(calls: list[Any]) -> None:
    logger = build.logger(config.compose("train", ["logger=trackio", "logger.project=a"]), Path("run"), 5)
    logger.finalize("failed")
    assert (logger.name, logger.version, calls) == ("a", None, [])
    logger.log_metrics({"loss": 1.0}, step=3)
    assert logger.version == "calm-wave-3"
    logger.finalize("success")
    logger.finalize("success")
    assert calls == [{"project": "a", "name": None, "embed": False}, "log", "finish"]


def test_only_the_first_rank_has_a_trackio_run(calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = TrackioLogger(project="a", name="b")
    logger.experiment.log({"loss": 1.0}, step=3)
    logger.log_hyperparams({"k": 1})
    logger.log_metrics({"loss": 1.0}, step=3)
    logger.finalize("success")
    assert (logger.version, calls) == ("b", [])


def test_without_trackio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(InputError, match=r"^logger: needs trackio; pip install 'gan-lightning\[trackio\]'$"):
        build.logger(config.compose("train", ["logger=trackio"]), Path("run"), 0)
