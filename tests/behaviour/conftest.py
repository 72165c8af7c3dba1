"""One suite for every store: each test here runs on every store of ``tests/stores.py``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stores import STORES, Target, wipe
from topostrata.archive import Archive


@pytest.fixture(scope="session", params=STORES)
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A running store; ``target.open()`` gives another client of it."""
    with STORES[request.param](tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture(scope="session")
def _client(target: Target) -> Iterator[Archive]:
    with target.open() as archive:
        yield archive


@pytest.fixture
def archive(target: Target, _client: Archive) -> Iterator[Archive]:
    """A new client of an empty database."""
    wipe(_client)
    with target.open() as opened:
        yield opened
