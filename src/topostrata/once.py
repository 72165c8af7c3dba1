"""Equal work that is asked for by several threads at once is done once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar

from topostrata.errors import Cancelled

Answer = TypeVar("Answer")

_LOOK = 0.1  # seconds between two looks at whether one who waits was cancelled


class Once:
    """What is under way, by its key: a second thread that asks for the same waits for the first one's answer.

    Nothing is remembered once it is answered. An error of the first is that of all who waited, but for ``Cancelled``:
    that was the wish of one, and the next one takes its place.

    >>> Once().get("answer", lambda: 42)
    42
    """

    def __init__(self) -> None:
        self._flying: dict[Hashable, Future[Any]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, work: Callable[[], Answer], cancel: threading.Event | None = None) -> Answer:
        """The answer of ``work``, or of the work of that key that is under way.

        ``Cancelled`` for one who waits and whose ``cancel`` is set meanwhile.
        """
        while True:
            with self._lock:
                flying = self._flying.get(key)
                if flying is None:
                    mine = self._flying[key] = Future()
            if flying is None:
                break
            try:
                answer: Answer = _awaited(flying, cancel)
            except Cancelled:
                if cancel is not None and cancel.is_set():
                    raise
                continue
            return answer
        try:
            mine.set_result(work())
        except BaseException as error:
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._flying[key]
        done: Answer = mine.result()
        return done


def _awaited(flying: Future[Any], cancel: threading.Event | None) -> Any:
    """The result of what another thread does; ``Cancelled`` once ``cancel`` is set."""
    if cancel is None:
        return flying.result()
    while not cancel.is_set():
        try:
            return flying.result(_LOOK)
        except TimeoutError:
            if flying.done():  # just now; or the work itself ran out of time
                return flying.result()
    raise Cancelled
