"""What --help prints."""

import re
from pathlib import Path

import pytest

from gan_lightning.errors import InputError
from gan_lightning.run.config_files import CONF
from gan_lightning.run.help import help_page

SCREEN = 50  # lines


@pytest.fixture(autouse=True)
def _width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "110")


def page(name: str, *arguments: str) -> str:
    found = help_page(name, [*arguments])
    assert found is not None
    assert all(len(line) <= 120 for line in found.splitlines())
    return found


def test_training_fits_on_two_screens() -> None:
    lines = page("train", "--help").splitlines()
    assert len(lines) <= 2 * SCREEN
    for group in ("model=mlp", "optimizer/scheduler=linear", "features=mnist", "hydra/launcher=basic"):
        assert any(line.startswith(f"  {group} ") for line in lines), group
    assert "  k=2                             updates of D per step, as in the paper's Algorithm 1" in lines
    assert "  trainer.max_steps=6000          generator updates" in lines


@pytest.mark.parametrize("name", sorted(path.stem for path in CONF.glob("*.yaml") if path.stem != "train"))
def test_the_others_fit_on_one(name: str) -> None:
    text = page(name, "-h")
    assert len(text.splitlines()) <= SCREEN
    assert f"python -m gan_lightning.{name} " in text


def test_a_command_lists_what_it_takes() -> None:
    text = page("sample", "--help")
    assert not re.search("Groups|loss=|trainer", text)
    assert re.search("checkpoint=.*required; a file, a run's folder", text)


def test_values_are_those_of_the_overrides() -> None:
    text = page("train", "experiment=resnet", "trainer.max_steps=7", "--help")
    for words in ("loss=relativistic ", "data.batch_size=64 ", "trainer.max_steps=7 ", "k=1 "):
        assert f"  {words}" in text
    assert "  k=1 " in page("train", "-h", "--config-dir=conf", "experiment=resnet")


@pytest.mark.parametrize(
    ("topic", "patterns"),
    [
        ("loss", ["loss=hinge +Hinge loss: D", r"Keys of loss=non_sat", r"loss.label_smoothing=0\.0 +s, as 0.1"]),
        ("penalty=wgan_gp", ["penalty=r1 +Penalty on", r"penalty.gamma=10\.0 +weight, the paper's λ"]),
        ("optimizer/scheduler", ["scheduler=cosine +Both", r"optimizer\.scheduler\.flat=0\.3 +share"]),
        ("experiment", ["experiment=article +The article", "  loss=non_saturating\n", "  k=2\n"]),
        ("trainer", ["Keys of trainer=default:", "trainer.accelerator=auto +cpu, gpu"]),
        ("trainer.max_steps", ["^  trainer.max_steps=6000 +generator updates$"]),
        ("hydra/launcher", ["hydra/launcher=basic", "hydra/launcher=joblib +Several jobs"]),
    ],
)
def test_topics(topic: str, patterns: list[str]) -> None:
    text = page("train", "--help", topic)
    for pattern in patterns:
        assert re.search(pattern, text), text


@pytest.mark.parametrize(
    ("name", "arguments", "line"),
    [
        ("train", ["--help", "los"], r"--help los: no such group or key; did you mean loss\?"),
        ("train", ["--help", "trainer.max_step"], r".*did you mean trainer.max_steps\?"),
        ("train", ["--help", "loss=hing"], r"loss=hing: no such choice; did you mean loss=hinge\?"),
        ("sample", ["--help", "loss"], "--help loss: no such group or key"),
    ],
)
def test_mistakes(name: str, arguments: list[str], line: str) -> None:
    with pytest.raises(InputError, match=f"^{line}"):
        help_page(name, arguments)


def test_only_where_it_is_asked_for() -> None:
    assert help_page("train", ["k=1", "--hydra-help"]) is None


def test_every_group_explains_itself(tmp_path: Path) -> None:
    for path in CONF.rglob("*.yaml"):
        group = path.parent.relative_to(CONF).as_posix()
        if group not in (".", "hydra/callbacks", "hydra/job_logging", "search"):
            assert f"  {group}={path.stem}" in page("train", "--help", group)
