"""Fixtures of the tests that need a real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stores import STORES, Target, wipe
from topostrata.store.embedded import stop
from topostrata.store.engine_files import EngineFiles


@pytest.fixture
def engine_directory(tmp_path: Path) -> Iterator[Path]:
    """Where one test keeps an embedded archive; whatever runs there is stopped afterwards, and must be gone then."""
    directory = tmp_path / "archive"
    yield directory
    stop(directory, force=True)
    files = EngineFiles(directory)
    assert not files.lock("supervisor").taken_elsewhere()
    assert not files.lock("engine").taken_elsewhere()


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """One engine for all tests of a file."""
    with STORES["embedded"](tmp_path_factory.mktemp("store")) as running:
        yield running


@pytest.fixture
def empty(target: Target) -> Target:
    """Its archive without anything in it."""
    with target.open() as archive:
        wipe(archive)
    return target
