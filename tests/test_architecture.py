"""Imports point one way: commands -> run -> callbacks -> sampling, visualize, metrics -> gan and what serves it."""

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gan_lightning"
# By name without "gan_lightning."; the package's own __init__ is left out: what it offers imports the rest when called.
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "__init__.py"
}
LAYERS = (
    {"losses", "penalties", "priors", "networks", "ema", "schedules", "seeding", "ranks", "errors"},
    {"gan", "simultaneous", "sync_batchnorm", "checks", "checkpoints", "data", "perf"},
    {"sampling", "visualize", "metrics", "pages"},
    {"callbacks", "loggers"},
    {"run"},
    {"train", "search", "sample", "evaluate", "export", "train_classifier"},
    {"__main__"},
)
BASE, COMMANDS = LAYERS[0], LAYERS[-2]
BEFORE_TORCH = [
    "__main__",
    *sorted(COMMANDS),
    "run.cli",
    "run.config",
    "run.schema",
    "run.suggest",
    "run.sweep",
    "run.job",
]
SLOW = {"torch", "torchvision", "torchmetrics", "pytorch_lightning", "lightning_fabric"}


def top(name: str) -> str:
    """Return the folder of a module, or its own name."""
    return name.partition(".")[0]


def statements(tree: ast.AST, *, at_import: bool) -> Iterator[ast.AST]:
    """Yield the nodes of a module; ``at_import``: only those that run when it is imported."""
    for node in ast.iter_child_nodes(tree):
        if at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if at_import and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from statements(node, at_import=at_import)


def imports(name: str, *, at_import: bool = False) -> set[str]:
    """Return what a module imports: modules of this package by their keys in MODULES, others by their first name.

    Args:
        name: The module.
        at_import: Leave out what functions import when they are called, and what only type checkers import.
    """
    found = set()
    for node in statements(ast.parse(MODULES[name].read_text()), at_import=at_import):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.module, f"{name}: imports are absolute"
            assert node.level == 0, f"{name}: imports are absolute"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {i for i in inner if i.removeprefix("gan_lightning.") in MODULES}
            found |= modules if len(modules) == len(inner) else modules | {node.module}
    own = {i.removeprefix("gan_lightning.") for i in found if i.startswith("gan_lightning.")}
    assert own <= set(MODULES), f"{name}: {own - set(MODULES)}"
    return own | {top(i) for i in found if not i.startswith("gan_lightning")}


def layer(name: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if top(name) in names)


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_one_way(name: str) -> None:
    for other in imports(name) & set(MODULES):
        assert layer(other) <= layer(name), f"{name} imports {other}"
        assert top(other) not in COMMANDS, f"{name} imports {other}"


def test_imports_have_no_cycle() -> None:
    TopologicalSorter({name: imports(name) & set(MODULES) for name in MODULES}).prepare()


@pytest.mark.parametrize("name", [name for name in MODULES if top(name) in BASE])
def test_parts_import_torch_only(name: str) -> None:
    shared = {other for other in MODULES if top(other) in ("networks", "ranks", "seeding")}
    allowed = {"torch"} | shared | ({"numpy"} if name == "seeding" else set())
    assert imports(name) - sys.stdlib_module_names <= allowed


def test_the_gan_knows_no_network_loss_or_data_set() -> None:
    assert imports("gan") & set(MODULES) == {"ranks", "seeding"}
    assert imports("simultaneous") & set(MODULES) == {"gan"}


@pytest.mark.parametrize("name", [name for name in MODULES if layer(name) < layer("run")])
def test_only_run_and_the_commands_know_hydra(name: str) -> None:
    assert not imports(name) & {"hydra", "omegaconf"}


@pytest.mark.parametrize("name", MODULES)
def test_perf_can_be_deleted(name: str) -> None:
    others = imports(name) & set(MODULES)
    if top(name) == "perf":
        assert {other for other in others if top(other) != "perf"} <= {"gan", "errors"}
    elif top(name) != "run":
        assert "perf" not in set(map(top, others))


@pytest.mark.parametrize("name", BEFORE_TORCH)
def test_mistakes_are_reported_before_torch_is_imported(name: str) -> None:
    reached, waiting = set(), [name]
    while waiting:
        for other in imports(waiting.pop(), at_import=True) - reached:
            reached.add(other)
            packages = [".".join(other.split(".")[:i]) for i in range(1, other.count(".") + 1)]
            waiting += [module for module in (other, *packages) if module in MODULES]
    assert not reached & SLOW


def test_the_package_itself_is_imported_without_torch() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    found = [n for n in statements(tree, at_import=True) if isinstance(n, ast.Import | ast.ImportFrom)]
    assert {ast.unparse(n) for n in found} <= {
        "from collections.abc import Iterable",
        "from pathlib import Path",
        "from typing import TYPE_CHECKING",
    }
