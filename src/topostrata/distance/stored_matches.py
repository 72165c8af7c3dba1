"""Matches kept in the graph, so that Cypher walks from the neurons of one run to those of another.

``(:Neuron)-[:MATCHES {alignment, version, snapshot, other_snapshot, digest, other_digest, score, common}]->(:Neuron)``,
one for each unit that is established: what is not there is unknown. All of it can be computed again.
"""

from __future__ import annotations

from topostrata.distance.match import Match
from topostrata.errors import NotFoundError
from topostrata.runs import Snapshot
from topostrata.store.graph import GraphStore, Transaction

_PAGE = 1000


def put_match(store: GraphStore, a: Snapshot, b: Snapshot, match: Match) -> int:
    """Write the established units of a match of two snapshots; gives how many. An earlier one of the two is replaced.

    There is one match of two snapshots for each alignment, whichever of the two came first. Raises ``NotFoundError``
    where the neurons of a run are not in the graph; then nothing is written.
    """
    pair = " ".join([*sorted([a.id, b.id]), match.alignment])
    rows = [
        [f"{a.run}/{space.name}/{unit}", f"{b.run}/{space.name_b}/{space.partner[unit]}", score, int(common)]
        for space in match.spaces
        for unit, (sure, score, common) in enumerate(
            zip(space.established.tolist(), space.score.tolist(), space.common.tolist(), strict=True)
        )
        if sure
    ]

    def work(tx: Transaction) -> int:
        for space in match.spaces:
            tx.run("distance/drop_matches", run=a.run, space=space.name, pair=pair)
        written = 0
        for at in range(0, len(rows), _PAGE):
            answer = tx.run(
                "distance/put_matches",
                pair=pair,
                snapshot=a.id,
                other_snapshot=b.id,
                digest=match.digest_a,
                other_digest=match.digest_b,
                alignment=match.alignment,
                version=match.version,
                rows=rows[at : at + _PAGE],
            )
            written += int(answer[0]["written"]) if answer else 0
        if written != len(rows):
            raise NotFoundError(
                f"match of {a.id} and {b.id}: expected {len(rows)} pairs of neurons in the graph, found {written}",
                hint="runs that are pushed with --project none have none; `topostrata match` without --keep needs none",
            )
        return written

    return store.write(work)
