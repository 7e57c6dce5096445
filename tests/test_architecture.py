"""Arrows between modules point one way: doors -> callbacks -> sampling, scoring, figures -> metrics."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gan_lightning"
DOORS = {"train", "evaluate", "sample", "export", "classifier"}
CONFIGURATION = {"config", "rules", "doors", "checkpoint", "sweep"}
PARTS = {"losses", "penalties", "latents"}
KNOW_HYDRA = DOORS | CONFIGURATION
MODULES = {str(p.relative_to(PACKAGE).with_suffix("")).replace("/", "."): p for p in PACKAGE.rglob("*.py")}
MODULES = {name: path for name, path in MODULES.items() if not name.endswith("__init__")}


def imports(name: str) -> set[str]:
    """Name all that a module imports, its own package's modules without the package's name."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {i.removeprefix("gan_lightning.") for i in found}


def layer(name: str) -> int:
    """Place a module in the house, the lowest floor first."""
    if name in DOORS:
        return 5
    if name in CONFIGURATION:
        return 4
    if name.startswith("callbacks."):
        return 3
    if name in {"sampling", "scoring", "figures"}:
        return 2
    if name in {"gan", "simultaneous", "cuda_graphs", "overhead", "classification"} or name.startswith("data."):
        return 1
    return 0


@pytest.mark.parametrize("name", MODULES)
def test_no_arrow_points_up(name: str) -> None:
    for other in imports(name) & set(MODULES):
        assert layer(other) <= layer(name), f"{name} imports {other}"


@pytest.mark.parametrize("name", sorted(set(MODULES) - KNOW_HYDRA))
def test_only_doors_and_configuration_know_hydra(name: str) -> None:
    assert not [i for i in imports(name) if i.split(".")[0] in ("hydra", "omegaconf")]


@pytest.mark.parametrize("name", [n for n in MODULES if n in PARTS or n.startswith("networks.")])
def test_parts_import_torch_and_networks_only(name: str) -> None:
    outside = {i.split(".")[0] for i in imports(name)}
    assert outside <= {"torch", "networks", "collections", "dataclasses", "itertools", "math", "typing"}


def test_the_gan_names_no_part() -> None:
    parts = {n for n in MODULES if n in PARTS or n.startswith(("networks.", "data."))}
    assert not imports("gan") & parts


def test_the_gan_fits_on_200_lines() -> None:
    assert len(MODULES["gan"].read_text().splitlines()) <= 200
