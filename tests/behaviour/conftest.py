"""One suite for every store: each test here runs on every store of ``tests/stores.py``.

Those of the files in ``ON_A_SERVICE`` also run on an archive behind a service, but for tests marked ``at_home``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

from tests.stores import STORES, Target, service, wipe
from topostrata.archive import Archive


@pytest.fixture(scope="session")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Target]]:
    """The stores by name: each starts when a test first needs it, and all run on to the end of the session.

    Pytest ends a fixture with parameters whenever another parameter comes, as it does in each file; servers that start
    anew for every file cost minutes.
    """
    with ExitStack() as stack:

        @cache
        def start(name: str) -> Target:
            if name == "service":
                return stack.enter_context(service(start("embedded")))
            return stack.enter_context(STORES[name](tmp_path_factory.mktemp(name)))

        yield start


ON_A_SERVICE = {
    "test_facade.py",
    "test_lifecycle.py",
    "test_reading.py",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what needs a store on each."""
    if "target" in metafunc.fixturenames:
        home = metafunc.definition.path.name not in ON_A_SERVICE or metafunc.definition.get_closest_marker("at_home")
        metafunc.parametrize("target", [*STORES, *([] if home else ["service"])], indirect=True, scope="session")


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest, _running: Callable[[str], Target]) -> Target:
    """A running store; ``target.open()`` gives another client of it."""
    return _running(request.param)


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
