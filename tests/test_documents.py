"""What README.md, CONTRIBUTING.md and the pages of docs/ show, done in a copy of the project."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, RangeSweep

from gan_lightning.run.config import CONF, compose
from gan_lightning.run.help import help_page
from gan_lightning.run.schema import validate
from tests.helpers import ROOT

GENERATED = ("reference", "_build")  # folders of docs/
PAGES = [path for path in (ROOT / "docs").rglob("*.md") if path.relative_to(ROOT / "docs").parts[0] not in GENERATED]
DOCUMENTS = [*ROOT.glob("*.md"), *PAGES, ROOT / "data" / "README.md"]


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


def commands() -> list[str]:
    """Return every ``python -m gan_lightning...`` in the documents' blocks of code, once."""
    blocks = [b for path in DOCUMENTS for b in re.findall(r"^```\w*\n(.*?)^```", path.read_text(), re.DOTALL | re.M)]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    found = re.findall(r"^(?:srun )?(python -m gan_lightning\..*)$", "\n".join(lines), re.MULTILINE)
    assert len(found) > 40
    return list(dict.fromkeys(shlex.join(shlex.split(line, comments=True)[2:]) for line in found))


def typed_overrides(arguments: list[str]) -> list[str]:
    """Return arguments without the flags that only print."""
    return [argument for argument in arguments if argument not in ("--info", "--cfg", "job")]


def single(override: str) -> str:
    """Return an override, with the first of its values if it has several."""
    parsed = OverridesParser.create().parse_override(override)
    sweep = parsed.value()
    if not parsed.is_sweep_override():
        return override
    if isinstance(sweep, IntervalSweep | RangeSweep):
        return f"{parsed.key_or_group}={sweep.start}"
    return f"{parsed.key_or_group}={next(parsed.sweep_string_iterator())}"


@pytest.fixture
def documented(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with what the documents' commands refer to, as the working directory."""
    for name in ("RUN", "RUN_A", "RUN_B", "digits"):
        (tmp_path / name).symlink_to(run)
    for document in ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES:
        for block in re.findall(r"^```(?:python|yaml)\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE):
            if name := re.match(r"(?:# @package.*\n)?# (my\w+/\S+)\n", block):
                (tmp_path / name[1]).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name[1]).write_text(block)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("typed", commands())
def test_commands_compose(typed: str, documented: Path) -> None:
    name, *arguments = (argument for argument in shlex.split(typed.removeprefix("gan_lightning.")) if argument != "-m")
    if "--help" in arguments:
        assert help_page(name, arguments)
        return
    overrides: dict[str, list[str]] = {name: []}
    for argument in typed_overrides(arguments):
        if argument.startswith("--config-dir="):
            overrides[name].append(f"hydra.searchpath=[file://{documented / argument.partition('=')[2]}]")
        elif not argument.startswith(("hydra/launcher", "hydra.launcher", "sweep=")):  # of a sweep itself
            config = "train" if name == "search" and not argument.startswith("search") else name
            overrides.setdefault(config, []).append(single(argument).replace("outputs/default/DATE_TIME", "RUN"))
    for config, chosen in overrides.items():
        validate(config, compose(config, chosen))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_files(document: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:|/)([^)#]+)#?([^)]*)\)", document.read_text()):
        assert (document.parent / target).exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", (document.parent / target).read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in titles], anchor


def test_readme_lists_every_choice() -> None:
    table = (ROOT / "README.md").read_text().partition("| group |")[2].partition("\n\n")[0]
    words = set(re.findall(r"`([\w/]+)`", table))
    for group in words & {str(path.relative_to(CONF)) for path in CONF.rglob("*") if path.is_dir()}:
        assert {path.stem for path in (CONF / group).glob("*.yaml")} <= words, group


@pytest.mark.slow
def test_the_site_is_built_without_warnings_and_needs_no_network(tmp_path: Path) -> None:
    pytest.importorskip("furo")
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "docs", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(r"<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=\"(https?:[^\"]*)", page.read_text())
        assert not loaded, page
    assert "R3GAN" in (tmp_path / "reference" / "config" / "penalty.html").read_text()
