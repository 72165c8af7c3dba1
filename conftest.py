"""What the examples in docstrings stand on: one archive on a real engine, made when the first of them needs it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from topostrata.archive import Archive

# The examples of callbacks are in tests/torch; the modules need what they are for. Golden files are made by hand.
collect_ignore_glob = ["src/topostrata/integrations/[lt]*.py", "tests/torch/golden_*.py"]

_WITH_ARCHIVE = (
    "topostrata.archive.",
    "topostrata.analysis.",
    "topostrata.comparing.",
    "topostrata.reading.",
    "topostrata.upkeep.",
    "topostrata.service.plots.",
    "topostrata.service.opening.",
)


@pytest.fixture(scope="session")
def example_archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """The archive of docs/example_archive.py."""
    from topostrata.archive import open_archive  # noqa: PLC0415 - only where an example needs it
    from topostrata.store.embedded import stop  # noqa: PLC0415

    directory = tmp_path_factory.mktemp("examples") / "archive"
    try:
        with open_archive(str(directory)) as archive:
            fill_example(archive)
            yield archive
    finally:
        stop(directory, force=True)


def fill_example(archive: Archive) -> None:
    """Fill an empty archive as docs/example_archive.py does."""
    spec = importlib.util.spec_from_file_location(
        "example_archive", Path(__file__).parent / "docs" / "example_archive.py"
    )
    if spec is None or spec.loader is None:
        pytest.fail("docs/example_archive.py is not there")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.fill(archive)


@pytest.fixture(autouse=True)
def _names_of_examples(request: pytest.FixtureRequest) -> None:
    """Examples of the archive's methods, and of pictures of its answers, call it ``archive``."""
    if isinstance(request.node, pytest.DoctestItem) and request.node.name.startswith(_WITH_ARCHIVE):
        names: dict[str, Any] = request.getfixturevalue("doctest_namespace")
        names["archive"] = request.getfixturevalue("example_archive")
