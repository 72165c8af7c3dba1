"""Equal work at once is done once, whatever becomes of the first who asked."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from topostrata import once
from topostrata.errors import Cancelled
from topostrata.once import Once


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once somebody waits for another one's answer."""
    waits, awaited = threading.Event(), once._awaited

    def waited(flying: Future[Any], cancel: threading.Event | None) -> Any:
        waits.set()
        return awaited(flying, cancel)

    monkeypatch.setattr(once, "_awaited", waited)
    return waits


def test_one_who_waits_takes_the_place_of_one_who_was_cancelled(waiting: threading.Event) -> None:
    """The first one's wish to stop is nobody else's."""
    shared, begun = Once(), threading.Event()

    def cancelled() -> int:
        begun.set()
        assert waiting.wait(60)
        raise Cancelled

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(shared.get, "key", cancelled)
        assert begun.wait(60)
        second = pool.submit(shared.get, "key", lambda: 42)
        assert second.result(60) == 42
        with pytest.raises(Cancelled):
            first.result(60)


def test_one_who_waits_can_be_cancelled(waiting: threading.Event) -> None:
    """It need not wait for an answer that it no longer wants; the first one gets its own."""
    shared, begun, free, cancel = Once(), threading.Event(), threading.Event(), threading.Event()

    def slow() -> int:
        begun.set()
        free.wait(60)
        return 42

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(shared.get, "key", slow)
        assert begun.wait(60)
        second = pool.submit(shared.get, "key", slow, cancel)
        assert waiting.wait(60)
        cancel.set()
        with pytest.raises(Cancelled):
            second.result(60)
        free.set()
        assert first.result(60) == 42


def test_what_ends_just_when_somebody_looks_is_an_answer() -> None:
    """The look ran out of time, and the work did not."""

    class Late(Future[int]):
        def result(self, timeout: float | None = None) -> int:
            if not self.done():
                self.set_result(42)
                raise TimeoutError
            return super().result(timeout)

    assert once._awaited(Late(), threading.Event()) == 42
