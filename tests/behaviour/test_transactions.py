"""A question is asked once: how many transactions an answer takes, counted on the store itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from tests.histories import sparse_history
from tests.pushed import push
from tests.stores import Target, wipe
from topostrata.archive import Archive
from topostrata.runs import Parent
from topostrata.service.api.app import create_app
from topostrata.service.cli.main import app
from topostrata.store.graph import GraphStore, Row, Transaction

MASKS = {"masks/mask_chains", "masks/mask_data", "masks/mask_part"}


@pytest.fixture(scope="module")
def filled(target: Target) -> Target:
    """Three layers: a run of 31 snapshots, another of the same steps, and one that goes on where the first stood."""
    with target.open() as opened:
        wipe(opened)
        history = sparse_history(1, snapshots=31, widths=[8, 7, 6, 4], density=0.3, churn=0.1)
        push(opened, "w0", history)
        push(opened, "w1", sparse_history(2, snapshots=31, widths=[8, 7, 6, 4], density=0.3, churn=0.1))
        opened.create_run("w2", parents=[Parent("w0", 30, "fork")])
        opened.push("w2", 31, history.at(0))
    return target


@contextmanager
def counted(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[set[str]]]:
    """The queries of each transaction while this lasts."""
    transactions: list[set[str]] = []
    read, write, run = GraphStore.read_with, GraphStore.write, Transaction.run

    def reads(self: GraphStore, work: Any) -> Any:
        transactions.append(set())
        return read(self, work)

    def writes(self: GraphStore, work: Any) -> Any:
        transactions.append(set())
        return write(self, work)

    def ran(self: Transaction, name: str, /, **parameters: Any) -> list[Row]:
        transactions[-1].add(name)
        return run(self, name, **parameters)

    with monkeypatch.context() as patch:
        patch.setattr(GraphStore, "read_with", reads)
        patch.setattr(GraphStore, "write", writes)
        patch.setattr(Transaction, "run", ran)
        yield transactions


def test_a_distance_takes_four_transactions(filled: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both snapshots at once, their masks in two, and the one that keeps the distance."""
    with filled.open() as archive, counted(archive, monkeypatch) as transactions:
        archive.nnstd("w0@first", "w1@last", alignment="identity")
    assert len(transactions) <= 4, transactions


def test_a_stored_distance_takes_one_transaction(filled: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots, numbers and tile in one read, and no mask."""
    with filled.open() as archive:
        archive.nnstd("w0@1", "w1@2", alignment="identity")
    with filled.open() as archive, counted(archive, monkeypatch) as transactions:
        distances = [archive.nnstd("w0@1", "w1@2", alignment="identity") for _ in range(2)]
    assert len(transactions) == 2, transactions
    assert not MASKS & transactions[0]
    # The second time only what may have changed is asked: whether they are there, and whether Cypher can walk it.
    assert transactions[1] == {"runs/snapshots_by_id", "distance/distance_between"}
    assert distances[0] == distances[1]
    with filled.open() as archive, counted(archive, monkeypatch) as transactions:
        answer = asyncio.run(_get(archive, "/v1/distances?a=w0@1&b=w1@2&alignment=identity"))
    assert answer.status_code == 200, answer.text
    assert len(transactions) == 1, transactions
    assert not MASKS & set[str]().union(*transactions)


def test_a_snapshot_that_is_in_hand_is_not_asked_for_again(filled: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """The topology of a ``Snapshot`` takes its layers and masks, never the snapshot's own node."""
    with filled.open() as archive:
        snapshot = archive.snapshot("w0@3")
        with counted(archive, monkeypatch) as transactions:
            assert archive.topology(snapshot).digest == snapshot.digest
    assert len(transactions) <= 3, transactions
    assert not {"runs/snapshots_by_id", "runs/runs_by_id"} & set[str]().union(*transactions)


def test_an_evolution_takes_four_transactions(filled: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of layers, and through parents too."""
    for run, first, through_parents in (("w0", 0, False), ("w2", 20, True)):
        with filled.open() as archive, counted(archive, monkeypatch) as transactions:
            archive.evolution(run, first, None if through_parents else 10, through_parents=through_parents)
        assert len(transactions) <= 4, transactions


@pytest.mark.parametrize("other", [None, "w1"])
def test_a_timeline_takes_eight_transactions_besides_masks(
    filled: Target, monkeypatch: pytest.MonkeyPatch, other: str | None
) -> None:
    """31 snapshots, of one run or of two, are asked for at once, and so are their masks, by pages."""
    with filled.open() as archive, counted(archive, monkeypatch) as transactions:
        line = archive.timeline("w0", other, alignment="identity")
    assert len(line.points) == (30 if other is None else 31)
    assert len([names for names in transactions if not names <= MASKS]) <= 8, transactions
    assert len(transactions) <= 12, transactions


def test_an_inference_asks_once_for_all_its_snapshots(filled: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many runs: a transaction finds them, one keeps the answer, one reads it back; three more are for pairs.

    These are which distances are known, which matches, and keeping what was computed. The second time nothing is.
    """
    for most in (6, 5):
        with filled.open() as archive, counted(archive, monkeypatch) as transactions:
            archive.infer(["w0@last", "w1@last", "w2@last"], alignment="identity", by_time=True, samples=2)
        others = [names for names in transactions if not names <= MASKS]
        assert len([names for names in others if "runs/snapshots_by_id" in names]) == 1, transactions
        assert len(others) <= most, transactions
        assert len(transactions) <= most + 3, transactions


# The words of a verb, the path of its route, and the transactions that each may take besides those for masks.
# New distances take two besides the snapshots: whether they are known, and keeping them; known matches are one more.
DOORS = [
    ("nnstd w0@first w1@last --alignment identity", "distances?a=w0@first&b=w1@last&alignment=identity", 3),
    (
        "nnstd w0 w0@3 --alignment identity --chance density",
        "distances?a=w0&b=w0@3&alignment=identity&chance=density",
        3,
    ),
    ("evolution w0 --from 0 --to 10", "runs/w0/evolution?from=0&to=10", 1),
    ("evolution w2 --from 20 --through-parents", "runs/w2/evolution?from=20&through_parents=true", 1),
    ("history w0", "runs/w0/history", 1),
    ("survival w0 --from 3", "runs/w0/survival?from=3", 1),
    ("connections w0 --layer l0 --status died", "runs/w0/connections?layer=l0&status=died", 1),
    ("structure w0@3", "runs/w0/snapshots/3/structure", 1),
    ("measures w0@3", "runs/w0/snapshots/3/measures", 2),
    ("timeline w0 --alignment identity", "runs/w0/timeline?alignment=identity", 3),
    ("timeline w0 w1 --alignment identity", "runs/w0/timeline?with=w1&alignment=identity", 3),
    ("lineage w0", "runs/w0/lineage", 1),
    ("lineage w0 --with w2", "lineage/common?a=w0&b=w2", 1),
    ("lineage --infer *@last --alignment identity", "lineage/inferred?refs=*@last&alignment=identity", 6),
]


def besides_masks(transactions: list[set[str]]) -> int:
    """Those that ask for something else, and are not an opening of the archive."""
    return len([names for names in transactions if not names <= MASKS | {"archive/archive"}])


@pytest.mark.parametrize(("words", "path", "most"), DOORS)
def test_a_verb_and_its_route_ask_no_more_than_the_archive_does(
    filled: Target, monkeypatch: pytest.MonkeyPatch, words: str, path: str, most: int
) -> None:
    """A face resolves its refs in the read that answers, and hands on what it has."""
    with filled.open() as archive:
        with counted(archive, monkeypatch) as by_verb:
            arguments = [*words.split(), "--store", filled.uri, "--json"]
            ran = CliRunner().invoke(app, arguments, env=filled.environment, catch_exceptions=False)
        with counted(archive, monkeypatch) as by_route:
            answer = asyncio.run(_get(archive, f"/v1/{path}"))
    assert (ran.exit_code, answer.status_code) == (0, 200), (ran.output, answer.text)
    assert besides_masks(by_verb) <= most, by_verb
    assert besides_masks(by_route) <= most, by_route
    if words.startswith("nnstd"):
        assert max(len(by_verb) - 1, len(by_route)) <= 5, (by_verb, by_route)  # the verb opens the archive first
        assert json.loads(ran.stdout) == answer.json()


async def _get(archive: Archive, path: str) -> httpx.Response:
    service = create_app(archive=archive)
    service.state.archive = archive  # its own start, which opens one, is not run
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=service), base_url="http://127.0.0.1") as client:
        return await client.get(path)
