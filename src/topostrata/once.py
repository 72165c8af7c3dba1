"""Equal work that is asked for by several threads at once is done once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar

Answer = TypeVar("Answer")


class Once:
    """What is under way, by its key: a second thread that asks for the same waits for the first one's answer.

    Nothing is remembered once it is answered. An error of the first is that of all who waited.

    >>> Once().get("answer", lambda: 42)
    42
    """

    def __init__(self) -> None:
        self._flying: dict[Hashable, Future[Any]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, work: Callable[[], Answer]) -> Answer:
        """The answer of ``work``, or of the work of that key that is under way."""
        with self._lock:
            flying = self._flying.get(key)
            mine: Future[Answer] = Future()
            if flying is None:
                self._flying[key] = mine
        if flying is not None:
            answer: Answer = flying.result()
            return answer
        try:
            mine.set_result(work())
        except BaseException as error:
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._flying[key]
        return mine.result()
