"""A real Chromium, and services for it to look at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.served import FLAGS, Service, chromium, fill
from topostrata.archive import open_archive
from topostrata.store.embedded import stop


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium as Debian has it; in CI it must be there.

    Of one file only: while Playwright is open, an event loop runs in this thread, and others could not run theirs.
    """
    if (executable := chromium()) is None:
        message = "expected Chromium (apt-get install chromium), found none"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The page on an archive of a small family, with names that try to be markup."""
    store = tmp_path_factory.mktemp("page") / "archive"
    with open_archive(str(store)) as archive:
        fill(archive)
    try:
        with Service(store) as running:
            yield running
    finally:
        stop(store, force=True)


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Service]:
    """The page on an archive without anything, behind a token."""
    try:
        with Service(tmp_path / "archive", token="a-token-of-this-test-and-long-enough") as running:
            yield running
    finally:
        stop(tmp_path / "archive", force=True)
