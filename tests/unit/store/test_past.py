"""What was changed after a moment, shared by threads."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from topostrata.store.past import Past, Row

RUNS = 20_000


class Log:
    """A log of runs that each got a parent, one a moment, by pages."""

    def run(self, name: str, /, **parameters: Any) -> list[Row]:
        """The rows of the four queries that a look asks."""
        if name == "moments/clock":
            return [{"last": RUNS, "earliest": 0}]
        if name != "moments/changes":
            return []
        details = json.dumps({"parent": "w", "step": 0, "before": None})
        first = parameters["since"] + 1
        return [
            {"moment": k, "place": 0, "kind": "parent", "run": f"w{k}", "step": None, "details": details}
            for k in range(first, min(first + parameters["limit"], RUNS + 1))
        ]


def test_threads_ask_while_another_looks() -> None:
    """Descent is answered while changes are learnt: who asks meanwhile gets an answer, and the whole in the end."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        past = Past(0)
        with ThreadPoolExecutor(1) as pool:
            looking = pool.submit(past.look, Log())
            while not looking.done():
                past.children()
                past.parents("w1", {})
            looking.result()
    finally:
        sys.setswitchinterval(interval)
    assert len(past.children()) == RUNS
    assert past.parents("w1", {("w", 0): "fork", ("x", 3): "fork"}) == {("x", 3): "fork"}
