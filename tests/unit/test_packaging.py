"""What is installed: the name, the dependencies declared against those imported, and what README, docs and hints say."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from sys import stdlib_module_names

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import extras
from topostrata.errors import MissingExtraError, install_command
from topostrata.service.cli.operation import _checks
from topostrata.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]

# Declared although no module imports them, and why.
NOT_IMPORTED = {
    "arcadedb-embedded": "a directory of Java, found by its place",
    "neo4j-rust-ext": "neo4j finds it, and is faster",
    "opentelemetry-distro": "`opentelemetry-instrument` starts the service, which knows nothing of it",
    "opentelemetry-exporter-otlp-proto-http": "it sends what that traces",
    "opentelemetry-instrumentation-fastapi": "it is found by that, by its entry point",
}
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.py"), ROOT / "Dockerfile"]

pytestmark = pytest.mark.checkout


def modules() -> Iterator[tuple[Path, ast.Module]]:
    """Every module that ships, with its syntax tree."""
    for folder, _, files in os.walk(ROOT / "src" / "topostrata", followlinks=True):
        for file in files:
            if file.endswith(".py"):
                yield Path(folder, file), ast.parse(Path(folder, file).read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> Iterator[str]:
    """The top-level modules that this code imports when it runs; what types alone need does not count."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]
        else:
            yield from imported(node)


def names(requirements: list[str]) -> set[str]:
    """The distributions that a list of requirements names, but for Topostrata itself."""
    return {str(canonicalize_name(Requirement(text).name)) for text in requirements} - {PROJECT["name"]}


BASE = names(PROJECT["dependencies"])
# Imported only to look into a model of the user's or to be called by a trainer, which cannot be there without it.
BROUGHT_BY_THE_USER = {"lightning", "pytorch_lightning", "torch", "transformers"}
OPTIONAL = {name for requirements in EXTRAS.values() for name in names(requirements)}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    """No dependency comes in through another one's, and none is carried that no module imports."""
    top_levels = {name for _, tree in modules() for name in imported(tree)} - stdlib_module_names - {"topostrata"}
    top_levels -= BROUGHT_BY_THE_USER
    homes = packages_distributions()
    distributions = {canonicalize_name(homes[name][0]) for name in top_levels}
    assert distributions == (BASE | OPTIONAL) - set(NOT_IMPORTED) - BROUGHT_BY_THE_USER
    assert set(NOT_IMPORTED) <= OPTIONAL
    assert not BASE & OPTIONAL


def test_the_name_is_topostrata_everywhere() -> None:
    """The distribution, the command, the packages and the settings."""
    assert PROJECT["name"] == "topostrata"
    assert list(PROJECT["scripts"]) == ["topostrata"]
    assert {package.split(".")[0] for package in PYPROJECT["tool"]["setuptools"]["packages"]} == {"topostrata"}
    assert Settings.model_config["env_prefix"] == "TOPOSTRATA_"
    requirements = [Requirement(text) for texts in EXTRAS.values() for text in texts]
    own = [requirement for requirement in requirements if requirement.extras]
    assert own
    for requirement in own:
        assert requirement.name == "topostrata"
        assert requirement.extras <= set(EXTRAS)


def test_the_name_of_before_stands_only_where_format_1_needs_it() -> None:
    """It is somebody else's on the package index: the bytes of format 1, a line of the changelog, old test data."""
    before = "strati" + "graph"
    command = ["git", "grep", "--ignore-case", "--files-with-matches", before]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    files = {line for line in lines if not line.startswith("tests/data/")}
    assert files <= {"CHANGELOG.md", "src/topostrata/format_1.py"}


def check_command(arguments: str) -> None:
    """Refuse what follows `pip install` where it does not work today, on a machine that has a checkout or the wheel."""
    tokens = iter(shlex.split(arguments, comments=True))
    for token in tokens:
        own = re.fullmatch(
            r"(?:\.|topostrata-(?P<version>[^-]+)-py3-none-any\.whl)(?:\[(?P<extras>[a-z0-9,]+)])?", token
        )
        if token == "-r":
            assert (ROOT / next(tokens)).is_file(), arguments
        elif own:
            assert own["version"] in {None, PROJECT["version"]}, arguments
            assert set((own["extras"] or "distance").split(",")) <= set(EXTRAS), arguments
        elif not token.startswith("-"):
            assert canonicalize_name(Requirement(token).name) in BASE | OPTIONAL, f"not ours to install: {arguments}"


def commands() -> Iterator[tuple[str, str]]:
    """What follows each `pip install` in what a user reads: documents, examples, and the texts of the product."""
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8").replace("\\\n", " ")
        for match in re.finditer(r"pip install\s+([^\n`&]*)", text):
            yield f"{document.relative_to(ROOT)}: {match[0]}", match[1]
    for path, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and path.name != "errors.py":
                assert "topostrata[" not in node.value, f"{path}: {node.value}"
                for match in re.finditer(r"pip install\s+([^\n`)]*?)(?= in |$|[\n`)])", node.value):
                    yield f"{path.relative_to(ROOT)}: {match[0]}", match[1]


def test_each_pip_install_line_works() -> None:
    """Topostrata from where it is, with extras that it has; everything else is a dependency of ours."""
    told = dict(commands())
    assert {place.partition(":")[0] for place in told} >= {"README.md", "Dockerfile", "docs/dask.md"}
    for arguments in told.values():
        check_command(arguments)


@pytest.mark.parametrize("arguments", ["topostrata", "'topostrata[server]'", "'.[sever]'", "requests", "-r nothing.txt",
                                       "topostrata-9.9-py3-none-any.whl"])  # fmt: skip
def test_a_wrong_line_would_be_found(arguments: str) -> None:
    """A name on the index, which may be anybody's; an extra, a dependency or a file that there is not; another version."""
    with pytest.raises(AssertionError):
        check_command(arguments)


def test_hints_name_extras_that_exist() -> None:
    """Every error of a missing extra, and every command that the product says."""
    skipped = {"MissingExtraError": 1, "install_command": 0}
    told = [
        (path.name, argument.value)
        for path, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in skipped
        for argument in node.args[skipped[node.func.id] :]
        if isinstance(argument, ast.Constant)
    ]
    assert {extra for _, extra in told} >= {"server", "distance", "dask", "plot"}
    assert [pair for pair in told if pair[1] not in EXTRAS] == []


def test_the_hint_is_the_command() -> None:
    """One wording for all: from a checkout, as long as no index has Topostrata."""
    assert MissingExtraError("a picture", "plot").hint == install_command("plot")
    command, where = install_command(*EXTRAS).removeprefix("pip install ").split(" in ")
    check_command(command)
    assert where == "a checkout of Topostrata"


def test_doctor_shows_every_extra() -> None:
    """One that is left out there would look as if it did not exist."""
    shown = [name.removeprefix("extra [").removesuffix("]") for name, _ in _checks(None) if name.startswith("extra [")]
    assert sorted(shown) == sorted(EXTRAS)


def test_every_extra_has_a_promise() -> None:
    """`make wheel` tries each alone in a fresh environment; one without a promise would be installed for nothing."""
    alone = {extra for extra in extras.PROMISES if "," not in extra}
    assert alone == {"base", *EXTRAS}
    for together in extras.PROMISES:
        assert set(together.split(",")) <= alone
