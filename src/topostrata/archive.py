"""The archive as one object: it opens the store and hands each question to the room that answers it."""

from __future__ import annotations

import json
import math
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, Self

from topostrata import format_1, queries
from topostrata.distance.alignments import DEFAULT, Alignment, definition_of
from topostrata.distance.matrix import DistanceMatrix
from topostrata.distance.nnstd import Distance, nnstd
from topostrata.distance.stored import put_distance, put_nearest, stored_distances
from topostrata.errors import CorruptError, InvalidInputError, NotFoundError, UnsupportedFormatError
from topostrata.evolution.between import ConnectionChanges, Evolution
from topostrata.evolution.stored import RunHistory, StoredEvolution
from topostrata.ingest.load import Loader, Outcome, Project
from topostrata.ingest.verify import Violation, verify
from topostrata.lineage.declared import Descent, Kinship, Lineage, family, kinship
from topostrata.lineage.inferred import SAMPLES, infer, suggest
from topostrata.lineage.stored import StoredInference, get, put
from topostrata.lineage.timelines import Timeline, between_runs, own_past
from topostrata.measures.structure import Structure, structure
from topostrata.refs import Ref, expand, parse_ref
from topostrata.runs import Parent, Run, Snapshot, Status
from topostrata.settings import Settings, load_settings
from topostrata.store.graph import GraphStore, Row, Table
from topostrata.store.masks import MaskStore, layer_of
from topostrata.store.opening import open_store
from topostrata.store.py2neo_graph import py2neo_graph
from topostrata.topology import Topology

FORMAT = 1
MAX_PAGE = 1000


class Archive:
    """Runs, their snapshots and all that can be asked of them. Use it as a context manager, or call ``close``."""

    def __init__(self, store: GraphStore, settings: Settings) -> None:
        self.settings = settings
        self._store = store
        self._masks = MaskStore(store)
        self._loader = Loader(store, self._masks)
        self._evolution = StoredEvolution(store, self._masks)
        self._prepare()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database. An embedded engine that nobody holds stops after a while."""
        self._store.close()

    def anew(self) -> Archive:
        """The same archive, remembering nothing: every mask is read and checked again. It lives as long as this one."""
        return Archive(self._store, self.settings)

    @property
    def location(self) -> str:
        """Where the archive is: a directory, or the address of a server."""
        return self._store.location

    # Writing

    def create_run(
        self,
        run: str,
        *,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        tags: Iterable[str] = (),
        parents: Iterable[Parent] = (),
        status: Status | None = None,
        created_at: datetime | None = None,
    ) -> bool:
        """Make a run, or add tags and parents to one that is there; gives whether it was new."""
        return self._loader.declare(
            run, name=name, config=config, tags=tags, parents=parents, status=status, created_at=created_at
        )

    def push(
        self,
        run: str,
        step: int,
        topology: Topology,
        *,
        epoch: float | None = None,
        metrics: Mapping[str, float] | None = None,
        recorded_at: datetime | None = None,
        project: Project = "all",
    ) -> Outcome:
        """Store one snapshot: ``"added"``, or ``"unchanged"`` where the same one was there. See ``ingest.load``."""
        return self._loader.push(
            run, step, topology, epoch=epoch, metrics=metrics, recorded_at=recorded_at, project=project
        )

    # Runs and snapshots

    def runs(self, *, limit: int = MAX_PAGE, after: str = "") -> list[Run]:
        """A page of runs in the order of their ids, those after the id ``after``."""
        rows = self._store.read("runs/runs", after=after, limit=_page(limit))
        return self._with_parents(rows)

    def all_runs(self) -> Iterator[Run]:
        """Every run, page by page."""
        page = self.runs()
        while page:
            yield from page
            page = self.runs(after=page[-1].id)

    def run(self, run: str) -> Run:
        """One run, or ``NotFoundError``."""
        rows = self._store.read("runs/run", run=run)
        if not rows:
            held = [r["run"] for r in self._store.read("runs/steps")]
            raise NotFoundError(f"run {run!r}: expected it in the archive, found none", hint=_holds(held))
        return self._with_parents(rows)[0]

    def has_run(self, run: str) -> bool:
        """Whether the archive holds a run of that id."""
        return bool(self._store.read("runs/run", run=run))

    def snapshots(self, run: str, *, limit: int = MAX_PAGE, after: int = -1) -> list[Snapshot]:
        """A page of a run's snapshots in the order of their steps, those after the step ``after``."""
        rows = self._store.read("runs/snapshots", run=run, after=after, limit=_page(limit))
        if not rows:
            self.run(run)
        return [_snapshot(row["snapshot"]) for row in rows]

    def all_snapshots(self, run: str) -> Iterator[Snapshot]:
        """Every snapshot of a run, page by page."""
        page = self.snapshots(run)
        while page:
            yield from page
            page = self.snapshots(run, after=page[-1].step)

    def snapshot(self, ref: Ref | str) -> Snapshot:
        """One snapshot, or ``NotFoundError``."""
        ref = parse_ref(ref) if isinstance(ref, str) else ref
        step = ref.step
        if not isinstance(step, int):
            run = self.run(ref.run)
            found = run.first_step if step == "first" else run.last_step
            if found is None:
                raise NotFoundError(f"{ref}: expected a snapshot, found a run without any")
            step = found
        rows = self._store.read("runs/snapshot", id=f"{ref.run}@{step}")
        if not rows:
            run = self.run(ref.run)
            raise NotFoundError(
                f"{ref}: expected this snapshot, found none",
                hint=f"run {ref.run!r} holds {run.snapshots}, from step {run.first_step} to {run.last_step}",
            )
        return _snapshot(rows[0]["snapshot"])

    def expand(self, patterns: Iterable[str]) -> list[Ref]:
        """The snapshots that refs and globs (``w*@last``) name, in their order, each once."""
        rows = self._store.read("runs/steps")
        return expand(patterns, ((row["run"], step) for row in rows for step in row["steps"]))

    def layers(self, run: str) -> list[Row]:
        """The layers of a run: names, spaces, taps, and up to which step their connections are projected."""
        return self._store.read("runs/layers", run=run)

    def topology(self, ref: Ref | str) -> Topology:
        """The wiring of one snapshot, read from its masks and checked against its digest."""
        snapshot = self.snapshot(ref)
        digests = {row["layer"]: row["digest"] for row in self._store.read("masks/snapshot_masks", ids=[snapshot.id])}
        masks = self._masks.get(digests.values())
        rows = self.layers(snapshot.run)
        if {row["name"] for row in rows} != set(digests):
            raise _damaged(f"{snapshot.id}: expected a mask for each layer of its run, found {sorted(digests)}")
        topology = Topology(tuple(layer_of(row, masks[digests[row["name"]]]) for row in rows))
        if topology.digest != snapshot.digest:
            raise _damaged(f"{snapshot.id}: expected digest {snapshot.digest[:12]}, found {topology.digest[:12]}")
        return topology

    # Answers

    def nnstd(
        self,
        a: Ref | str,
        b: Ref | str,
        *,
        alignment: Alignment = DEFAULT,
        chance: bool = False,
        keep: bool = True,
    ) -> Distance:
        """The distance of two snapshots' topologies; see ``topostrata.distance.nnstd``.

        With ``keep`` it is also written as ``(:Snapshot)-[:DISTANCE]->(:Snapshot)``, so that Cypher can walk it.
        """
        one, other = self.snapshot(a), self.snapshot(b)
        found = nnstd(self.topology(one.id), self.topology(other.id), alignment=alignment, chance=chance)
        if keep and one.id != other.id:
            put_distance(self._store, one.id, other.id, found)
        return found

    def distances(
        self,
        patterns: Sequence[str],
        *,
        alignment: Alignment = DEFAULT,
        progress: Callable[[int, int], None] | None = None,
        cancel: threading.Event | None = None,
        scheduler: str | None = None,
        keep: bool = True,
    ) -> DistanceMatrix:
        """The distances of all pairs of the snapshots that the refs and globs name.

        What was computed before is read from the graph, and what is computed is kept there; the ten nearest of each
        snapshot become relationships. Without ``keep`` nothing is written. Setting ``cancel`` ends the work with
        ``Cancelled``; ``scheduler`` is the address of a Dask scheduler whose workers compute.
        """
        refs = [str(ref) for ref in self.expand(patterns)]
        if not refs:
            raise InvalidInputError("distances: expected at least one ref, found none")
        digests = {row["id"]: row["digest"] for row in self._store.read("runs/digests", ids=refs)}
        targets = {row["target"] for row in self.layers(parse_ref(refs[0]).run)}
        networks = [(ref, digests[ref], partial(self.topology, ref)) for ref in refs]
        matrix = stored_distances(
            self._store,
            networks,
            layers=len(targets),
            alignment=alignment,
            progress=progress,
            cancel=cancel,
            scheduler=scheduler,
            keep=keep,
        )
        if keep:
            put_nearest(self._store, matrix)
        return matrix

    def evolution(
        self, run: str, from_step: int | None = None, to_step: int | None = None, *, through_parents: bool = False
    ) -> Evolution:
        """What became of the connections of a run between two of its steps (its first and last by default).

        ``through_parents`` also looks into the runs that this one resumed or was forked from.
        """
        self.run(run)
        return self._evolution.evolution(run, from_step, to_step, through_parents=through_parents)

    def history(self, run: str, *, through_parents: bool = False) -> RunHistory:
        """Births, deaths, regrowth, exploration and lifetimes over all snapshots of a run."""
        self.run(run)
        return self._evolution.history(run, through_parents=through_parents)

    def connections(
        self,
        run: str,
        layer: str,
        from_step: int | None = None,
        to_step: int | None = None,
        *,
        through_parents: bool = False,
    ) -> ConnectionChanges:
        """The connections of one layer by what became of them between two steps: survived, regrown, died, born."""
        self.run(run)
        return self._evolution.connections(run, layer, from_step, to_step, through_parents=through_parents)

    def structure(self, ref: Ref | str) -> Structure:
        """Fan-in, fan-out, hubs, dead units and effective density of one snapshot."""
        return structure(self.topology(ref))

    def lineage(self, run: str | None = None, *, depth: int | None = None) -> Lineage:
        """The declared ancestors and descendants of a run (all runs where none is named), ``depth`` generations far."""
        if run is not None:
            self.run(run)
        edges = self._descents()
        ids = [one.id for one in self.all_runs()] if run is None else [run]
        return family(edges, ids, of=run, depth=depth)

    def kinship(self, a: str, b: str) -> Kinship:
        """The nearest common ancestors of two runs, and the ways from there to each of them."""
        for run in (a, b):
            self.run(run)
        return kinship(self._descents(), a, b)

    def _descents(self) -> list[Descent]:
        return [Descent(r["parent"], r["step"], r["child"], r["how"]) for r in self._store.read("lineage/edges")]

    def infer(
        self,
        patterns: Sequence[str],
        *,
        name: str | None = "inferred",
        alignment: Alignment | None = None,
        depth: int | None = None,
        root: str | None = None,
        by_time: bool = False,
        samples: int = SAMPLES,
        progress: Callable[[int, int], None] | None = None,
    ) -> StoredInference:
        """Who probably descends from whom, from the distances of one snapshot of each run.

        It is kept under ``name``, in the place of what had that name; ``None`` keeps nothing. ``root`` is the ancestor
        of all, where it is known; ``by_time`` says that no run descends from a younger one. Without an alignment the
        one that fits the networks is chosen. See ``topostrata.lineage.inferred``.
        """
        refs = [self.snapshot(ref) for ref in self.expand(patterns)]
        runs = [ref.run for ref in refs]
        if len(refs) < 2:
            raise InvalidInputError(f"infer: expected snapshots of two or more runs, found {len(refs)}")
        if twice := sorted({run for run in runs if runs.count(run) > 1}):
            raise InvalidInputError(f"infer: expected one snapshot of each run, found several of {', '.join(twice)}")
        topologies = [self.topology(ref.id) for ref in refs]
        chosen, suggested_depth = suggest(topologies) if alignment is None else (alignment, depth)
        found = infer(
            topologies,
            runs,
            partial(nnstd, alignment=chosen),
            root=root,
            times=[self.run(run).created_at.timestamp() for run in runs] if by_time else None,
            depth=suggested_depth if depth is None else depth,
            samples=samples,
            progress=progress,
        )
        steps = {ref.run: ref.step for ref in refs}
        if name is None:
            return StoredInference("", datetime.now(UTC), steps, found)
        put(self._store, name, found, steps)
        return get(self._store, name)

    def inference(self, name: str = "inferred") -> StoredInference:
        """An ancestry that was inferred before."""
        return get(self._store, name)

    def timeline(
        self,
        run: str,
        other: str | None = None,
        *,
        alignment: Alignment | None = None,
        lag: int | None = None,
        chance: bool = False,
    ) -> Timeline:
        """The distance of two runs at each step that both have, or of a run from its own past (see ``own_past``).

        Two runs are compared by ``canonical``, a run with itself by ``identity``, where no alignment is named.
        """
        if other is not None and lag is not None:
            raise InvalidInputError("timeline: expected a lag or another run, found both")
        chosen = definition_of(alignment or ("identity" if other is None else "canonical")).name

        def compare(a: Topology, b: Topology) -> tuple[float, float | None]:
            found = nnstd(a, b, alignment=chosen, chance=chance)
            levels = [layer.chance.level for layer in found.layers if layer.chance is not None]
            return found.nnstd, math.fsum(levels) / len(levels) if levels else None

        steps = [one.step for one in self.all_snapshots(run)]
        if other is None:
            return own_past(lambda: self._topologies(run, steps), compare, lag=lag, name=run)
        theirs = {one.step for one in self.all_snapshots(other)}
        common = [step for step in steps if step in theirs]
        return between_runs(self._topologies(run, common), self._topologies(other, common), compare, names=(run, other))

    def _topologies(self, run: str, steps: Iterable[int]) -> Iterator[tuple[int, Topology]]:
        for step in steps:
            yield step, self.topology(Ref(run, step))

    def cypher(
        self,
        query: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        limit: int | None = None,
        timeout_s: float | None = None,
    ) -> Table:
        """The answer to a Cypher query that only reads; ``limit`` rows at most, within ``timeout_s`` seconds."""
        limit = self.settings.query_rows if limit is None else limit
        timeout_s = self.settings.query_timeout_s if timeout_s is None else timeout_s
        if limit < 1 or not 0 < timeout_s < math.inf:
            raise InvalidInputError(f"cypher: expected limit and timeout above 0, found {limit} and {timeout_s}")
        return self._store.query(
            query,
            parameters or {},
            limit=limit,
            timeout_s=timeout_s,
        )

    def py2neo(self) -> Any:
        """A connected ``py2neo.Graph`` for scripts that want one; needs ``[py2neo]``, which is at its end of life.

        What it asks is neither checked nor bounded as ``cypher`` is; see ``topostrata.store.py2neo_graph``.
        """
        return py2neo_graph(self._store)

    def behind(self) -> list[Row]:
        """The layers whose connections are not in the graph up to their run's last step: what Cypher does not see."""
        return self._store.read("projection/projection")

    def verify(self, *, progress: Callable[[str], None] | None = None) -> Iterator[Violation]:
        """Everything that does not add up: digests, order, projection against masks, descent."""
        return verify(self._store, self._masks, progress=progress)

    def counts(self) -> Row:
        """How much the archive holds: runs, snapshots, masks and their bytes, neurons."""
        return self._store.read("archive/counts")[0]

    def engine_version(self) -> str:
        """What database this is."""
        return self._store.version()

    def _with_parents(self, rows: list[Row]) -> list[Run]:
        parents: dict[str, list[Parent]] = {}
        for row in self._store.read("lineage/parents", runs=[row["id"] for row in rows]):
            parents.setdefault(row["run"], []).append(Parent(row["parent"], row["step"], row["how"]))
        return [_run(row, parents.get(row["id"], [])) for row in rows]

    def _prepare(self) -> None:
        found = self._store.read("archive/archive")
        if not found:
            self._store.schema(queries.statements("schema/001-archive"))
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            self._store.write(
                lambda tx: tx.run(
                    "archive/create_archive",
                    name=format_1.ARCHIVE_NODE,
                    id=uuid.uuid4().hex,
                    format=FORMAT,
                    created_at=now,
                )
            )
            found = self._store.read("archive/archive")
        if found[0]["format"] != FORMAT:
            raise UnsupportedFormatError(
                f"{self.location}: expected an archive of format {FORMAT}, found {found[0]['format']}",
                hint="a newer version of topostrata made it: upgrade",
            )


def open_archive(store: str | None = None, *, create: bool = True, settings: Settings | None = None) -> Archive:
    """Open the archive in a directory or on a Neo4j server (``neo4j://``, ``bolt://``, ``neo4j+s://``).

    ``store`` defaults to ``TOPOSTRATA_STORE``, then to ``.topostrata`` in the working directory. ``create=False``
    refuses a directory that holds no archive. Raises ``StoreUnavailableError``, ``EngineError``, ``MissingExtraError``.
    """
    settings = settings or load_settings()
    opened = open_store(store or settings.store, settings, create=create)
    try:
        return Archive(opened, settings)
    except BaseException:
        opened.close()
        raise


def _run(row: Row, parents: list[Parent]) -> Run:
    return Run(
        row["id"],
        row["name"],
        row["status"],
        datetime.fromisoformat(row["created_at"]),
        config=json.loads(row["config"]),
        tags=tuple(row["tags"] or ()),
        parents=tuple(parents),
        snapshots=row["snapshots"],
        first_step=row["first_step"],
        last_step=row["last_step"],
    )


def _snapshot(node: Mapping[str, Any]) -> Snapshot:
    return Snapshot(
        node["run"],
        node["step"],
        node["digest"],
        node["nnz"],
        datetime.fromisoformat(node["recorded_at"]),
        epoch=node.get("epoch"),
        metrics={k.removeprefix("metric_"): node[k] for k in sorted(node.keys()) if k.startswith("metric_")},
    )


def _page(limit: int) -> int:
    if not 1 <= limit <= MAX_PAGE + 1:  # one more tells who pages whether there is more
        raise InvalidInputError(f"limit: expected 1 to {MAX_PAGE}, found {limit}")
    return limit


def _holds(runs: list[str]) -> str:
    return (
        f"it holds {len(runs)} runs: {', '.join(runs[:5])}{', ...' if len(runs) > 5 else ''}" if runs else "it is empty"
    )


def _damaged(message: str) -> CorruptError:
    return CorruptError(message, hint="`topostrata verify` says what else is damaged")
