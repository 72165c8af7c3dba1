"""The rules of the house: who may import whom, which names are public, what the wheel holds."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Container, Iterator
from pathlib import Path

import networkx as nx
import pytest

import topostrata
from topostrata.ingest.formats import snapshot_file
from topostrata.topology import Topology

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "topostrata"

pytestmark = pytest.mark.checkout

# Lowest first. A module may import from its own room and from rooms on lower floors, never from a room beside it. A room
# inside another one has a floor of its own: the longest name decides. So what records a training job's masks needs no
# store.
FLOORS = [
    ["errors", "format_1", "format_2", "words"],
    ["projections"],
    ["axes", "matrices"],
    ["masks"],
    ["layers"],
    ["sharing", "symmetries", "wiring_text"],
    ["order", "placing"],
    ["digests", "counterparts"],
    ["topology", "refs", "settings", "frames", "files", "locations", "once", "shown"],
    ["copies"],
    ["memory"],
    ["codec", "runs"],
    ["ingest.hook.spool", "ingest.hook.tracing", "ingest.hook.copying"],
    ["ingest.hook.sources", "ingest.hook.traced"],
    ["ingest.hook.turnover"],
    ["ingest.hook.recorder", "measures.gradients"],
    ["ingest.hook.run"],
    ["integrations"],
    ["queries"],
    ["store"],
    ["reading"],
    ["ingest", "distance"],
    ["comparing"],
    ["evolution", "lineage", "measures"],
    ["analysis"],
    ["upkeep"],
    ["archive"],
    ["experiments", "service.answers", "service.demo"],
    ["service.pictures", "service.transport"],
    ["service.remote", "service.remote_jobs"],
    ["service.client", "service.jobs", "service.plots", "service.tokens"],
    ["service.opening"],
    ["service.destinations", "service.worker"],
    ["service.sync"],
    ["service.api"],
    ["service.assistant"],
    ["service.cli"],
]


def room_of(module: str, floors: list[list[str]] = FLOORS) -> str | None:
    """The room that a module ``topostrata.a.b`` belongs to, the innermost of several; None for the package itself."""
    inner = module.removeprefix("topostrata").lstrip(".")
    rooms = (room for floor in floors for room in floor if inner == room or inner.startswith(room + "."))
    return max(rooms, key=len, default=None)


def modules() -> Iterator[tuple[str, Path]]:
    for folder, _, files in os.walk(SOURCE, followlinks=True):
        for file in files:
            path = Path(folder) / file
            if file.endswith(".py") and "__pycache__" not in path.parts:
                parts = ("topostrata", *path.relative_to(SOURCE).with_suffix("").parts)
                yield ".".join(parts).removesuffix(".__init__"), path


def imports(source: str, known: Container[str] = ()) -> Iterator[str]:
    """The modules that a source imports, in functions too; ``from package import module`` is the module if ``known``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            module = node.module or ""
            inner = [f"{module}.{name.name}" for name in node.names]
            yield from dict.fromkeys(name if name in known else module for name in inner)


def graph_of(sources: dict[str, str]) -> nx.DiGraph[str]:
    """Which of the modules imports which."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    for module, source in sources.items():
        graph.add_edges_from((module, target) for target in imports(source, sources) if target in sources)
    return graph


def upward(graph: nx.DiGraph[str], floors: list[list[str]]) -> list[str]:
    """The imports of a module on a higher floor, or in another room on the same one."""
    level = {room: k for k, rooms in enumerate(floors) for room in rooms}
    wrong = []
    for module, target in graph.edges:
        room, other = room_of(module, floors), room_of(target, floors)
        if room is not None and other is not None and other != room and level[other] >= level[room]:
            wrong.append(f"{module} imports {target}")
    return wrong


def circles(graph: nx.DiGraph[str], floors: list[list[str]]) -> list[list[str]]:
    """The modules of a room that import each other, directly or by way of others."""
    rooms = graph.edge_subgraph(
        [(a, b) for a, b in graph.edges if room_of(a, floors) == room_of(b, floors) is not None]
    )
    return [sorted(circle) for circle in nx.strongly_connected_components(rooms) if len(circle) > 1]


def our_graph() -> nx.DiGraph[str]:
    return graph_of({module: path.read_text(encoding="utf-8") for module, path in modules()})


def test_imports_go_down_only() -> None:
    """No module imports from a higher floor, nor from another room on its own."""
    assert upward(our_graph(), FLOORS) == []


def test_no_modules_of_a_room_import_each_other() -> None:
    """There is no circle of imports, whether they stand in a function, for type checkers only, or at the top."""
    assert circles(our_graph(), FLOORS) == []


def test_the_rules_find_what_they_forbid() -> None:
    """A circle by way of a function, an import upwards, and a room inside another that has a lower floor."""
    floors = [["codec"], ["ingest.hook.recorder"], ["store"], ["ingest"], ["archive"], ["ingest.hook.sender"]]
    graph = graph_of(
        {
            "topostrata.codec": "from topostrata.store import graph",
            "topostrata.store.graph": "import topostrata.store.masks",
            "topostrata.store.masks": "def read():\n    from topostrata.store import graph",
            "topostrata.ingest.hook.recorder": "from topostrata import codec\nfrom topostrata.ingest import load",
            "topostrata.ingest.hook.sender": "import topostrata.archive",
            "topostrata.ingest.load": "from topostrata.ingest.hook.recorder import record",
            "topostrata.archive": "from topostrata.ingest.load import load\nfrom topostrata.ingest.hook import sender",
        }
    )
    assert sorted(upward(graph, floors)) == [
        "topostrata.archive imports topostrata.ingest.hook.sender",
        "topostrata.codec imports topostrata.store.graph",
        "topostrata.ingest.hook.recorder imports topostrata.ingest.load",
    ]
    assert circles(graph, floors) == [["topostrata.store.graph", "topostrata.store.masks"]]


def test_every_module_has_a_room() -> None:
    """No module stands outside the house; the packages `service` and `ingest` themselves hold a docstring only."""
    halls = {"topostrata", "topostrata.service"}
    assert [module for module, _ in modules() if room_of(module) is None and module not in halls] == []


def test_only_the_store_talks_to_a_database() -> None:
    """The driver is imported in `store/` alone."""
    users = {
        module
        for module, path in modules()
        for target in imports(path.read_text(encoding="utf-8"))
        if target.split(".")[0] == "neo4j"
    }
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
    packages = sorted(module for module, path in modules() if path.name == "__init__.py")
    folders = {f"topostrata.queries.{file.parent.name}" for file in (ROOT / "queries").glob("*/*.cypher")}
    assert setuptools["packages"] == sorted({*packages, *folders})
    assert sorted(setuptools["package-dir"]) == packages
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


def test_a_public_name_without_its_extra_says_which() -> None:
    """Without what the extras bring, every public name is there or raises the error that names its extra."""
    code = (
        "import sys; sys.modules |= dict.fromkeys(('neo4j', 'networkx', 'numba', 'pandas', 'pyarrow', 'matplotlib'))\n"
        "import topostrata as ts\n"
        "for name in ts.__all__:\n"
        "    try: getattr(ts, name)\n"
        "    except ts.MissingExtraError as error: print(name, error.hint)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    refused = dict(line.split(" ", 1) for line in ran.stdout.splitlines())
    assert "'.[distance]'" in refused["Lineage"]
    assert {"Topology", "Archive", "Client", "RunHistory", "open"}.isdisjoint(refused), "an archive behind a service"


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
