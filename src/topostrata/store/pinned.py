"""A store as it was at an earlier moment: it only reads, and refuses what only now can answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from topostrata import queries
from topostrata.errors import InvalidInputError, QueryRefusedError
from topostrata.frames import Table
from topostrata.store.graph import Connection, GraphStore, Row, Transaction
from topostrata.store.past import Past, clock_of

T = TypeVar("T")

# What may be asked: either the rooms that ask undo what came later, or the answer depends on content alone.
_UNDONE = {
    "runs/runs", "runs/runs_by_id", "runs/layers", "runs/layer_metrics", "runs/snapshots", "runs/snapshots_by_id",
    "runs/steps", "runs/steps_by_run", "runs/step_metrics", "lineage/edges", "lineage/parents", "moments/changes",
}  # fmt: skip
_OF_CONTENT = {
    "archive/archive", "masks/run_masks", "masks/snapshot_masks", "masks/mask_chains", "masks/mask_data",
    "masks/mask_part", "distance/distance_between", "distance/distance_blocks", "distance/topology_numbers",
}  # fmt: skip
KNOWN = frozenset(_UNDONE | _OF_CONTENT)


class PinnedTransaction(Transaction):
    """A transaction whose questions are about an earlier moment."""

    pinned = True

    def __init__(self, now: Transaction, past: Past) -> None:
        super().__init__(now._inner)  # noqa: SLF001 - the same transaction
        self._now, self._past = now, past

    def past(self) -> Past:
        """What was changed after the moment. Ask for it after the rows from which it is to be undone."""
        self._past.look(self._now)
        return self._past

    def run(self, name: str, /, **parameters: Any) -> list[Row]:
        """The rows of now, from which the caller undoes what came later."""
        if name not in KNOWN:
            raise InvalidInputError(
                f"moment {self._past.moment}: expected a question that earlier moments can answer, found one about "
                f"now: {queries.load(name).purpose}",
                hint="ask it without a moment",
            )
        return super().run(name, **parameters)


class PinnedStore(GraphStore):
    """A store at a moment. It lives as long as the store that it looks at."""

    def __init__(self, store: GraphStore, moment: int, past_of: Callable[[int], Past] = Past) -> None:
        if isinstance(moment, bool) or not isinstance(moment, int):
            raise InvalidInputError(f"moment: expected a whole number, found {moment!r}")
        self.now: GraphStore = store.now if isinstance(store, PinnedStore) else store
        self._past = past_of(moment)
        self.location = self.now.location
        self.read_only = True
        self.relationship_limit = self.now.relationship_limit
        self.now.read_with(lambda tx: self._past.check(*clock_of(tx)))

    @property
    def moment(self) -> int:
        """The moment that it is asked about."""
        return self._past.moment

    @property
    def is_embedded(self) -> bool:
        """Whether the database is the engine of a directory, and not a server."""
        return self.now.is_embedded

    @property
    def connection(self) -> Connection:
        """Refuse: what reaches the database past this store sees what is there now."""
        raise self._sees_now("py2neo: it")

    def read_with(self, work: Callable[[Transaction], T]) -> T:
        """Several reads of the moment."""
        return self.now.read_with(lambda tx: work(PinnedTransaction(tx, self._past)))

    def write(self, work: Callable[[Transaction], T]) -> T:  # noqa: ARG002
        """Refuse: the past is only read."""
        raise self._refused()

    def check_writable(self) -> None:
        """Refuse: the past is only read."""
        raise self._refused()

    def schema(self, statements: Iterable[str]) -> None:  # noqa: ARG002
        """Refuse: the past is only read."""
        raise self._refused()

    def _refused(self) -> InvalidInputError:
        return InvalidInputError(
            f"moment {self.moment}: expected a question, found what would write",
            hint="a moment is only read: write without one, or say that the answer is not to be kept",
        )

    def query(self, *_question: Any, **_bounds: Any) -> Table:
        """Refuse: no text of a user can be made to leave out what came later."""
        raise self._sees_now("cypher: a query")

    def _sees_now(self, who: str) -> QueryRefusedError:
        return QueryRefusedError(
            f"{who} sees the graph as it is now, and cannot be asked about moment {self.moment}",
            hint="ask for a step: a connection is alive at s when born_step <= s and died_step is null or above s",
        )

    def version(self) -> str:
        """The engine's own word for what it is."""
        return self.now.version()

    def close(self) -> None:
        """Nothing: the store that it looks at stays open."""
