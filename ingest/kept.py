"""What was computed and is kept beside the runs, as it goes into a backup and comes back.

Distances in tiles with the numbers of their topologies, distances and matches for Cypher, inferences. All of it could
be computed again, and some of it took days.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Container, Iterable, Iterator
from itertools import groupby
from typing import Any

from topostrata.errors import ConflictError, CorruptError
from topostrata.ingest.formats.export_file import RunRecord
from topostrata.ingest.formats.kept_lines import KINDS, Kept
from topostrata.store.graph import GraphStore, Row, Transaction

_PAGE = 16  # tiles at once; each has some 12 kB a layer
_MESSAGE = 4 * 2**20  # bytes of a message, of which the embedded engine takes 16 MiB at most
_ROWS = 1000


def kept_of(
    store: GraphStore, records: Iterable[RunRecord], *, has: Callable[[str], bool], digests: Container[str]
) -> Iterator[Kept]:
    """All that an archive keeps of these runs: of snapshots that ``has`` knows by their refs, and of these digests."""
    yield from _tiles(store)
    # After the tiles: a number that stands in one of them, and is not among these, would be given to another topology.
    for row in store.read("distance/numbers"):
        yield {"kind": "number"} | row | {"digest": row["digest"] if row["digest"] in digests else None}
    for record in records:
        for line in _of_run(store, record):
            if has(line["snapshot"]) and has(line["other_snapshot"]):
                yield line
    for inference in _inferences(store):
        if all(has(f"{r[0]}@{r[1]}") and has(f"{r[2]}@{r[3]}") for r in inference["rows"]):
            yield inference


def check(store: GraphStore, lines: Callable[[], Iterable[Kept]]) -> None:
    """Raise ``ConflictError`` where an archive has given numbers to topologies otherwise than these lines say."""
    there = {(row["family"], row["number"]): row["digest"] for row in store.read("distance/numbers")}
    for line in lines() if there else ():
        if line["kind"] == "number":
            place = line["family"], line["number"]
            if there.pop(place, line["digest"]) != line["digest"]:
                raise ConflictError(
                    f"{store.location}: expected an archive that no distances were computed in, found topologies "
                    "under other numbers",
                    hint="restore into a new one",
                )
    if there:
        raise ConflictError(
            f"{store.location}: expected an archive that no distances were computed in, found {len(there)} topologies "
            "that were compared there",
            hint="restore into a new one",
        )


def put(store: GraphStore, lines: Iterable[Kept]) -> int:
    """Keep what these lines say, in place of what an interrupted restore left of it; gives how much."""
    count = 0
    for (kind, common), group in groupby(lines, _shared):
        for page in _pages(group):
            store.write(lambda tx, k=kind, c=common, p=page: _PUT[k](tx, dict(c), p))  # type: ignore[misc]
            count += len(page)
    return count


def _shared(line: Kept) -> tuple[str, tuple[tuple[str, Any], ...]]:
    """What rows that are written together have in common: their kind, and the parameters that are no part of a row."""
    names = _COMMON.get(line["kind"], ())
    return line["kind"], tuple((name, line[name]) for name in names)


def _put_tiles(tx: Transaction, _common: Row, lines: list[Kept]) -> None:
    names = KINDS["tile"].keys() - {"id"}
    rows = [[line["id"], {name: line[name] for name in names}] for line in lines]
    tx.run("distance/put_tiles", rows=rows)


def _put_numbers(tx: Transaction, common: Row, lines: list[Kept]) -> None:
    tx.run("archive/lock_archive", token=uuid.uuid4().hex)
    digests = [line["digest"] for line in lines if line["digest"] is not None]
    there = {row["digest"] for row in tx.run("distance/topology_numbers", digests=digests)}
    rows = [[line["digest"], line["number"]] for line in lines if line["digest"] not in {None, *there}]
    tx.run("distance/number_topologies", **common, rows=rows)
    tx.run("distance/keep_numbers", **common, numbers=[line["number"] for line in lines if line["digest"] is None])


def _put_distances(tx: Transaction, common: Row, lines: list[Kept]) -> None:
    names = ("snapshot", "other_snapshot", "nnstd", "layers", "ambiguous")
    _whole(tx.run("distance/put_distances", **common, rows=[[line[name] for name in names] for line in lines]), lines)


def _put_matches(tx: Transaction, common: Row, lines: list[Kept]) -> None:
    units = [unit for line in lines for unit in line["units"]]
    # A unit's id is run/space/index; no run has a slash in its name, a space may.
    places = {(run, rest.rpartition("/")[0]) for run, _, rest in (unit[0].partition("/") for unit in units)}
    for run, space in places:
        tx.run("distance/drop_matches", run=run, space=space, pair=common["pair"])
    for at in range(0, len(units), _ROWS):
        page = units[at : at + _ROWS]
        _whole(tx.run("distance/put_matches", **common, rows=page), page)


def _put_inference(tx: Transaction, common: Row, lines: list[Kept]) -> None:
    tx.run("lineage/drop_inferred_edges", id=common["id"])
    tx.run("lineage/drop_inference", id=common["id"])
    for line in lines:
        head = {name: line[name] for name in KINDS["inference"].keys() - {"rows"}}
        tx.run("lineage/put_inference", **head)
        if line["rows"]:
            edges = tx.run("lineage/put_inferred_edges", id=line["id"], rows=line["rows"])[0]["edges"]
            _same_count(edges, line["rows"])


_PUT: dict[str, Callable[[Transaction, Row, list[Kept]], None]] = {
    "tile": _put_tiles,
    "number": _put_numbers,
    "distance": _put_distances,
    "match": _put_matches,
    "inference": _put_inference,
}
_COMMON = {
    "number": ("family",),
    "distance": ("alignment", "options", "version"),
    "match": ("pair", "snapshot", "other_snapshot", "digest", "other_digest", "alignment", "version"),
    "inference": ("id",),
}


def _whole(answer: list[Row], rows: list[Any]) -> None:
    _same_count(answer[0]["written"] if answer else 0, rows)


def _same_count(written: int, rows: list[Any]) -> None:
    if written != len(rows):
        raise CorruptError(f"expected the ends of {len(rows)} relationships in the archive, found those of {written}")


def _tiles(store: GraphStore) -> Iterator[Kept]:
    after = ""
    while page := store.read("distance/tiles", after=after, limit=_PAGE):
        yield from ({"kind": "tile"} | row for row in page)
        after = page[-1]["id"]


def _of_run(store: GraphStore, record: RunRecord) -> Iterator[Kept]:
    """The distances from the snapshots of a run, and the matches of its units, that Cypher can walk."""
    for row in store.read("distance/run_distances", run=record.run.id):
        yield {"kind": "distance"} | row
    for space in record.wiring.spaces if record.wiring is not None else ():
        for row in store.read("distance/space_matches", run=record.run.id, space=space.name):
            yield {"kind": "match"} | row


def _inferences(store: GraphStore) -> Iterator[Kept]:
    after = ""
    while names := [row["id"] for row in store.read("lineage/inference_names", after=after, limit=_ROWS)]:
        for name in names:
            inference = store.read_with(lambda tx, id_=name: _inference(tx, id_))  # type: ignore[misc]
            if inference is not None:
                yield inference
        after = names[-1]


def _inference(tx: Transaction, id_: str) -> Kept | None:
    head = tx.one("lineage/inference", id=id_)
    if head is None:
        return None
    rows = [
        [
            *(row[name] for name in ("parent", "parent_step", "child", "child_step")),
            position,
            *(row[name] for name in ("distance", "margin", "support", "direction")),
        ]
        for position, row in enumerate(tx.run("lineage/inferred_edges", id=id_))
    ]
    return {"kind": "inference", **head, "rows": rows}


def _pages(lines: Iterable[Kept]) -> Iterator[list[Kept]]:
    page: list[Kept] = []
    size = 0
    for line in lines:
        weight = sum(len(value) for value in line.values() if isinstance(value, bytes))
        if page and (size + weight > _MESSAGE or len(page) == _ROWS):
            yield page
            page, size = [], 0
        page.append(line)
        size += weight
    if page:
        yield page
