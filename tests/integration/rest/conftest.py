"""REST on archives that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.reference_runs import Shell, push_reference_runs, served
from topostrata.store.embedded import stop


@pytest.fixture(scope="package")
def shell(tmp_path_factory: pytest.TempPathFactory, reference_directory: Path) -> Iterator[Shell]:
    """The command line on an archive with the five reference runs."""
    store = tmp_path_factory.mktemp("rest") / "archive"
    yield push_reference_runs(store, reference_directory)
    stop(store, force=True)


@pytest.fixture(scope="package")
def rest(shell: Shell) -> Iterator[httpx.Client]:
    """REST on the archive of the shell; its tests only read."""
    with served(shell.store) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_left_behind(rest: httpx.Client) -> Iterator[None]:
    """The shared archive has the five reference runs after each test, so that none depends on those before it."""
    yield
    stats = rest.get("/v1/stats").raise_for_status().json()
    assert (stats["runs"], stats["snapshots"]) == (5, 15)


@pytest.fixture(scope="package")
def rest_to_write(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """REST on an archive of its own, for tests that write."""
    store = tmp_path_factory.mktemp("rest-to-write") / "archive"
    with served(store) as client:
        yield client
    stop(store, force=True)
