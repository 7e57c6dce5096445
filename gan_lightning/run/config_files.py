"""The files of ``conf/`` that a command's config is composed of, read without Hydra.

It is for what must be quick, ``--help`` and completion: Hydra takes half a second to be imported, and half to compose.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from gan_lightning.run.config_docs import Entry, describe

PACKAGE = Path(__file__).parents[1]
CHECKOUT = PACKAGE.parent  # the project's folder, unless the package was installed from a wheel
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else CHECKOUT / "conf"
HYDRAS_OWN = {"hydra/launcher": ["basic"]}  # choices without a file


def folders_of(arguments: Iterable[str]) -> list[Path]:
    """Return the folders that a command's arguments name by ``--config-dir=``."""
    flag = "--config-dir="
    return [Path(argument.removeprefix(flag)) for argument in arguments if argument.startswith(flag)]


described = lru_cache(None)(describe)


@lru_cache(None)
def content(path: Path) -> dict[str, Any]:
    """Return the values of a config file."""
    return yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}


class ConfigFiles:
    """What a command's config is composed of.

    Attributes:
        choices: The chosen file of each group, as typed; "null" if there is none.
        keys: (value as written, comment) of each key.

    Args:
        name: The command.
        typed: Its overrides.
        folders: Those of ``--config-dir``.
    """

    def __init__(self, name: str, typed: Sequence[str] = (), folders: Sequence[Path] = ()) -> None:
        self.root, self.folders = CONF / f"{name}.yaml", [CONF, *folders]
        pairs = (argument.lstrip("+").partition("=") for argument in typed if "=" in argument)
        overrides = {key: value for key, _, value in pairs}
        chosen = {key: value for key, value in overrides.items() if self.choices_of(key)}
        self.choices: dict[str, str] = {}
        while (choices := self._choose(chosen)) != self.choices:
            self.choices = choices
        self.keys: dict[str, tuple[str, str]] = {}
        for path, package in self._files():
            for key, value, comment in described(path):
                self._add(f"{package}{key}", value, comment)
        for key in overrides.keys() & self.keys.keys() - chosen.keys():
            self._add(key, overrides[key], "")

    def choices_of(self, group: str) -> list[str]:
        """Return the choices of a group, or an empty list if there is no such group."""
        found = {path.stem for folder in self.folders for path in (folder / group).glob("*.yaml")}
        return sorted(found.union(HYDRAS_OWN.get(group, [])))

    def path(self, group: str, choice: str) -> Path | None:
        """Return the file of a group's choice, or None if there is none."""
        paths = (folder / group / f"{choice}.yaml" for folder in self.folders)
        return next((path for path in paths if path.is_file()), None)

    def own_entries(self, group: str) -> list[Entry]:
        """Return what the chosen file of a group sets: the choices of other groups first, then its keys."""
        path = self.path(group, self.choices.get(group, ""))
        replaced = [(key.lstrip("/"), choice, "") for key, choice in _overrides(path).items()] if path else []
        return replaced + (described(path) if path else [])

    def _choose(self, typed: Mapping[str, str]) -> dict[str, str]:
        """Return the choices if those found so far decide which files there are."""
        given: dict[str, str] = {}
        replaced: dict[str, str] = {}
        for group, choice in _defaults(self.root).items():
            given[group] = typed.get(group, self.choices.get(group, choice))
            for path in self._with_parents(group, given[group]):
                given |= {f"{group}/{inner}": choice for inner, choice in _defaults(path).items()}
                replaced |= _overrides(path)
        return given | {key.lstrip("/"): choice for key, choice in replaced.items()} | dict(typed)

    def _with_parents(self, group: str, choice: str) -> Iterator[Path]:
        """Yield the files that a choice extends, and its own."""
        if path := self.path(group, choice):
            for base in bases(path):
                yield from self._with_parents(group, base)
            yield path

    def _files(self) -> Iterator[tuple[Path, str]]:
        """Yield the files in the order in which they are merged, and what stands before their keys."""
        yield self.root, ""
        for group in sorted(self.choices, key=lambda group: group in ("data", "experiment", "sweep")):
            for path in self._with_parents(group, self.choices[group]) if not group.startswith("hydra") else ():
                yield path, package(path, group)

    def _add(self, key: str, value: str, comment: str) -> None:
        """Set a key; a value replaces the keys below, and a comment is kept unless there is a new one."""
        if value:
            for lower in [other for other in self.keys if other.startswith(f"{key}.")]:
                del self.keys[lower]
        self.keys[key] = (value, comment or self.keys.get(key, ("", ""))[1])


def package(path: Path, group: str) -> str:
    """Return what comes before the keys of a group's file on the command line, with a dot at its end."""
    declared = re.match(r"# @package (\S+)", path.read_text(encoding="utf-8"))
    name = declared[1] if declared else group.replace("/", ".")
    return "" if name in ("_global_", "") else f"{name}."


def bases(path: Path) -> list[str]:
    """Return the names of the files of its own group that a file extends."""
    return [item for item in content(path).get("defaults", []) if isinstance(item, str) and item != "_self_"]


def listed(path: Path) -> dict[str, str]:
    """Return the groups in the list of defaults of a file as they stand there, with their choices."""
    items = [item for item in content(path).get("defaults", []) if isinstance(item, dict)]
    return {group: str("null" if choice is None else choice) for item in items for group, choice in item.items()}


def _defaults(path: Path) -> dict[str, str]:
    """Return the choices that a file adds."""
    return {group: choice for group, choice in listed(path).items() if not group.startswith("override ")}


def _overrides(path: Path) -> dict[str, str]:
    """Return the choices that a file replaces."""
    items = listed(path).items()
    return {group.removeprefix("override "): choice for group, choice in items if group.startswith("override ")}
