"""What README.md and CONTRIBUTING.md show, done in a copy of the project."""

import re
from pathlib import Path
from typing import Any

import pytest

from gan_lightning.run.config import CONF
from tests.helpers import ROOT

DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "data" / "README.md"]


def fenced(document: str, language: str, after: str = "") -> str:
    """Return the first block of code in a language, after a heading."""
    block = re.search(rf"```{language}\n(.*?)```", (ROOT / document).read_text().partition(after)[2], re.DOTALL)
    assert block
    return block[1]


def test_a_checkpoint_is_enough(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "RUN").symlink_to(run)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(fenced("README.md", "python", "## Use"), names)
    assert names["images"].shape == (64, 1, 28, 28)
    assert -1 <= names["images"].min() <= names["images"].max() <= 1


def test_a_data_set_is_a_file() -> None:
    assert fenced("CONTRIBUTING.md", "yaml", "A data set") == (CONF / "data" / "cifar10.yaml").read_text()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_files(document: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]+)#?([^)]*)\)", document.read_text()):
        assert (document.parent / target).exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", (document.parent / target).read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in titles], anchor


def test_readme_lists_every_choice() -> None:
    table = (ROOT / "README.md").read_text().partition("| group |")[2].partition("\n\n")[0]
    words = set(re.findall(r"`([\w/]+)`", table))
    for group in words & {str(path.relative_to(CONF)) for path in CONF.rglob("*") if path.is_dir()}:
        assert {path.stem for path in (CONF / group).glob("*.yaml")} <= words, group
