"""The rules of the house: who may import whom, which names are public, what the wheel holds."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import topostrata
from topostrata.ingest.formats import snapshot_file
from topostrata.topology import Topology

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "topostrata"

pytestmark = pytest.mark.checkout

# Lowest first. A module may import from its own room and from rooms on lower floors, never from a room beside it.
FLOORS = [
    ["errors", "format_1", "format_2"],
    ["axes", "matrices"],
    ["masks"],
    ["layers"],
    ["sharing", "symmetries", "wiring_text"],
    ["order", "placing"],
    ["digests"],
    ["topology", "refs", "runs", "settings", "frames", "files"],
    ["codec"],
    ["queries"],
    ["store"],
    ["ingest", "distance"],
    ["evolution", "lineage", "measures"],
    ["archive"],
    ["service.answers", "service.demo"],
    ["service.plots"],
    ["service.api"],
    ["service.cli"],
]


def room_of(module: str) -> str | None:
    """The room that a module ``topostrata.a.b`` belongs to; None for the package itself."""
    inner = module.removeprefix("topostrata").lstrip(".")
    return next((r for floor in FLOORS for r in floor if inner == r or inner.startswith(r + ".")), None)


def modules() -> Iterator[tuple[str, Path]]:
    for folder, _, files in os.walk(SOURCE, followlinks=True):
        for file in files:
            path = Path(folder) / file
            if file.endswith(".py") and "__pycache__" not in path.parts:
                parts = ("topostrata", *path.relative_to(SOURCE).with_suffix("").parts)
                yield ".".join(parts).removesuffix(".__init__"), path


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            module = node.module or ""
            yield module
            if module == "topostrata":
                yield from (f"topostrata.{name.name}" for name in node.names)


def test_imports_go_down_only() -> None:
    """No module imports from a higher floor, nor from another room on its own."""
    floor = {room: k for k, rooms in enumerate(FLOORS) for room in rooms}
    wrong = []
    for module, path in modules():
        room = room_of(module)
        if room is None:
            continue
        for target in imports(path):
            other = room_of(target) if target.startswith("topostrata.") else None
            if other is not None and other != room and floor[other] >= floor[room]:
                wrong.append(f"{module} imports {target}")
    assert wrong == []


def test_every_module_has_a_room() -> None:
    """No module stands outside the house; the packages `service` and `ingest` themselves hold a docstring only."""
    halls = {"topostrata", "topostrata.service"}
    assert [module for module, _ in modules() if room_of(module) is None and module not in halls] == []


def test_only_the_store_talks_to_a_database() -> None:
    """The driver is imported in `store/` alone."""
    users = {module for module, path in modules() for target in imports(path) if target.split(".")[0] == "neo4j"}
    assert {room_of(module) for module in users} == {"store"}


def test_packages_hold_no_logic() -> None:
    """An `__init__` is a docstring, but for the package's public names and the loader of the queries."""
    excepted = {"topostrata", "topostrata.queries"}
    full = [
        module
        for module, path in modules()
        if path.name == "__init__.py" and module not in excepted
        if len(ast.parse(path.read_text(encoding="utf-8")).body) > 1
    ]
    assert full == []


def test_the_package_list_is_what_lies_on_the_disk() -> None:
    """`packages` and `package-dir`, written by hand, name every package and nothing else; folders of queries count."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    found = sorted(module for module, path in modules() if path.name == "__init__.py")
    folders = {f"topostrata.queries.{file.parent.name}" for file in (ROOT / "queries").glob("*/*.cypher")}
    assert setuptools["packages"] == sorted({*found, *folders})
    assert sorted(setuptools["package-dir"]) == found
    for package, folder in setuptools["package-dir"].items():
        assert (ROOT / folder / "__init__.py").is_file(), package


def test_public_names_are_sorted_and_there() -> None:
    """Every name of `__all__` can be used, and they stand in order."""
    assert topostrata.__all__ == sorted(topostrata.__all__)
    for name in topostrata.__all__:
        assert getattr(topostrata, name) is not None
        assert name in dir(topostrata)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        topostrata.nothing  # noqa: B018


def test_public_names_are_the_same_for_type_checkers() -> None:
    """What is declared under TYPE_CHECKING is what loads lazily."""
    tree = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    declared = {
        alias.asname or alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(declared) == topostrata.__all__
    for name, module in declared.items():
        assert module is not None
        original = "open_archive" if name == "open" else name
        assert getattr(importlib.import_module(module), original) is getattr(topostrata, name)


def test_importing_topostrata_loads_nothing_heavy() -> None:
    """`import topostrata` costs a training job no NumPy, no driver, no web framework."""
    code = "import sys, topostrata; print([m for m in ('numpy', 'scipy', 'neo4j', 'fastapi') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_help_loads_nothing_heavy() -> None:
    """`topostrata --help` stays quick because its modules import what they need only when a verb runs."""
    code = (
        "import sys; from topostrata.service.cli.main import app\n"
        "print([m for m in ('numpy', 'scipy', 'neo4j', 'fastapi', 'pydantic', 'httpx') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_a_distance_of_two_files_loads_no_database(tmp_path: Path) -> None:
    """`topostrata nnstd FILE FILE` answers at once: no driver, no graphs, no optimisers, nobody's data frames."""
    for name in ("a.npz", "b.npz"):
        snapshot_file.write(tmp_path / name, Topology.from_masks([[[1, 0], [0, 1]], [[1], [1]]]))
    code = (
        "import sys; from topostrata.service.cli.main import app\n"
        "app(['nnstd', './a.npz', './b.npz', '--json'], standalone_mode=False)\n"
        "heavy = ('neo4j', 'networkx', 'pandas', 'pyarrow', 'scipy.optimize', 'matplotlib', 'dask', 'distributed')\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    answer, loaded = ran.stdout.splitlines()
    assert json.loads(answer)["nnstd"] == 0
    assert loaded == "[]"
