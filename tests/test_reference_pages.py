"""The generated pages of the documentation site; tests/test_documents.py builds all of it."""

import importlib.util
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from gan_lightning.run.config import CONF
from tests.helpers import ROOT

spec = importlib.util.spec_from_file_location("reference_pages", ROOT / "docs" / "reference_pages.py")
assert spec
assert spec.loader
reference_pages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference_pages)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    (folder / "config").mkdir()
    (folder / "config" / "former.md").touch()
    reference_pages.write(folder)
    return folder


def test_every_group_has_a_page_with_every_choice(pages: Path) -> None:
    for group in {path.parent for path in CONF.glob("*/**/*.yaml")}:
        name = str(group.relative_to(CONF))
        if name in reference_pages.INTERNAL:
            continue
        page = (pages / "config" / f"{name.replace('/', '_')}.md").read_text()
        assert re.findall(r"^## (.*)$", page, re.MULTILINE) == sorted(path.stem for path in group.glob("*.yaml"))
    assert not (pages / "config" / "former.md").exists()


def test_every_key_of_training_has_a_comment(pages: Path) -> None:
    page = (pages / "commands" / "train.md").read_text()
    for key in set(OmegaConf.load(CONF / "train.yaml")) - {"defaults", "hydra"}:
        assert re.search(rf"^\| `{key}` \| `[^|]+` \| \S.*\|$", page, re.MULTILINE), key


def test_keys_are_as_typed_and_comments_are_inherited(pages: Path) -> None:
    data = (pages / "config" / "data.md").read_text()
    assert "| `data.val_size` | `5000` | training images that are kept for validation |" in data  # of mnist.yaml
    assert "Based on [`mnist`](#mnist), with [`features=random`](features.md#random)." in data
    experiment = (pages / "config" / "experiment.md").read_text()
    assert "```bash\npython -m gan_lightning.train experiment=wgan\n```" in experiment
    assert "| `k` | `5` | updates of D per step, as in the paper's Algorithm 1 |" in experiment
    scheduler = (pages / "config" / "optimizer_scheduler.md").read_text()
    assert "| `optimizer.scheduler.flat` | `0.3` | share of the run |" in scheduler


def test_an_unchanged_page_is_not_written_again(pages: Path) -> None:
    path = pages / "config" / "loss.md"
    before = path.stat().st_mtime_ns
    reference_pages.write(pages)
    assert path.stat().st_mtime_ns == before


def test_links_to_files_become_links_to_pages() -> None:
    text = (
        "[a](../conf/loss/hinge.yaml) [b](../conf/data) [c](zoo.md#mnist) [d](../CONTRIBUTING.md) [e](../Makefile) "
        "[f](../gan_lightning/losses.py) ![g](zoo.png) [h](https://a.b/c) [i](#there)\n```\n[j](../Makefile)\n```\n"
    )
    assert reference_pages.with_site_links(text, ROOT / "docs") == (
        "[a](/reference/config/loss.md#hinge) [b](/reference/config/data.md) [c](/zoo.md#mnist) "
        "[d](/reference/contributing.md) e [f](/reference/api/losses.md) ![g](zoo.png) [h](https://a.b/c) [i](#there)\n"
        "```\n[j](../Makefile)\n```\n"
    )
