"""Distances on a Dask cluster: a real scheduler, workers in processes of their own, and what can go wrong with them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.dask_node import Cluster, cluster
from tests.unit.distance.networks import Alive, random_network, rewired
from topostrata.archive import open_archive
from topostrata.distance import cluster as ours
from topostrata.distance import jobs
from topostrata.distance.alignments import Alignment
from topostrata.distance.pairwise import distances
from topostrata.errors import (
    Cancelled,
    ClusterError,
    InvalidInputError,
    LimitError,
    MissingExtraError,
    NotComparableError,
)
from topostrata.ingest.formats import snapshot_file
from topostrata.topology import Topology


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler and two workers."""
    with cluster(tmp_path_factory.mktemp("dask")) as started:
        started.worker()
        started.worker()
        yield started


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler without workers."""
    with cluster(tmp_path) as started:
        yield started


@pytest.fixture(scope="module")
def networks() -> list[Topology]:
    """A family, with residual sums and taps."""
    rng = np.random.default_rng(6)
    family = [random_network(rng, [12, 14, 14, 14, 4], 0.15, taps=2, residual=True)]
    while len(family) < 21:
        family.append(rewired(rng, family[-1], 0.2))
    return family


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tiles of few networks."""
    monkeypatch.setattr(jobs, "TILE", 4)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("alignment", ["overlap", "canonical", "refined", "identity", "reference"])
def test_the_values_are_the_local_ones_to_the_bit(
    running: Cluster, networks: list[Topology], alignment: Alignment
) -> None:
    """Every alignment; and each pair is counted once."""
    seen: list[tuple[int, int]] = []
    here = distances(networks, alignment=alignment)
    there = distances(
        networks, alignment=alignment, scheduler=running.address, progress=lambda *done: seen.append(done)
    )
    assert (there.nnstd.tobytes(), there.layers.tobytes()) == (here.nnstd.tobytes(), here.layers.tobytes())
    assert (there.labels, there.layer_names) == (here.labels, here.layer_names)
    total = len(networks) ** 2 if alignment == "reference" else len(networks) * (len(networks) + 1) // 2
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


@pytest.mark.usefixtures("small_tiles")
def test_a_worker_that_is_killed_loses_nothing(alone: Cluster, networks: list[Topology]) -> None:
    """kill -9 while one of two workers computes: its tiles are computed by the other, none twice, none differently."""
    alone.worker()
    victim = alone.worker("victim")
    killed = threading.Event()

    def kill() -> None:
        assert victim.line() == "computing"
        victim.kill()
        killed.set()

    killer = threading.Thread(target=kill)
    killer.start()
    seen: list[int] = []
    there = distances(networks, scheduler=alone.address, progress=lambda done, _: seen.append(done))
    killer.join()
    assert killed.is_set()
    assert there.layers.tobytes() == distances(networks).layers.tobytes()
    assert seen[-1] == len(networks) * (len(networks) + 1) // 2
    assert seen == sorted(set(seen))


@pytest.mark.usefixtures("small_tiles")
def test_an_interrupted_job_goes_on_where_it_stopped(
    running: Cluster, networks: list[Topology], engine_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles are kept in the graph as they come, and are not sent again; what is there is the local value."""
    sent: list[int] = []
    honest = ours._Work._send

    def watched(work: ours._Work, share: jobs.Share) -> object:
        sent.append(len(share.pairs))
        return honest(work, share)

    monkeypatch.setattr(ours._Work, "_send", watched)
    cancel = threading.Event()

    def stop(done: int, _total: int) -> None:
        if done > 60:
            cancel.set()

    with open_archive(str(engine_directory)) as archive:
        for k, topology in enumerate(networks):
            archive.push(f"r{k:02}", 0, topology)
        with pytest.raises(Cancelled):
            archive.distances(["r*"], scheduler=running.address, cancel=cancel, progress=stop)
        before = sum(sent)
        matrix = archive.distances(["r*"], scheduler=running.address)
        assert sum(sent) - before <= 231 - 60
        assert matrix.layers.tobytes() == distances(networks).layers.tobytes()
        sent.clear()
        archive.reopened().distances(["r*"])
        assert sent == []


@pytest.mark.usefixtures("small_tiles")
def test_few_networks_are_held_however_many_there_are(
    running: Cluster, networks: list[Topology], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client lets go of what it has sent; the cluster is asked to hold a bounded number of bytes."""
    most = 3 * len(ours.pack(networks[0]))
    monkeypatch.setattr(ours, "_SENT_BYTES", most)
    sent: list[int] = []
    honest = ours._Work._network

    def watched(work: ours._Work, at: int) -> object:
        network = honest(work, at)
        sent.append(work._sent_bytes)
        return network

    monkeypatch.setattr(ours._Work, "_network", watched)
    alive = Alive(networks, len(networks))
    matrix = distances(alive.loaders, scheduler=running.address, digests=[t.digest for t in networks])
    assert max(sent) <= most
    assert alive.most <= 3  # the first one, the one that is sent, and a name for the one before
    assert matrix.nnstd.tobytes() == distances(networks).nnstd.tobytes()


def test_networks_that_have_no_distance_are_named(running: Cluster, alone: Cluster, networks: list[Topology]) -> None:
    """Whether the client sees it, or a worker."""
    odd = random_network(np.random.default_rng(1), [12, 14, 4], 0.2)
    with pytest.raises(NotComparableError, match="first and odd: "):
        distances([networks[0], odd], labels=["first", "odd"], scheduler=running.address)
    alone.worker("strict")
    with pytest.raises(LimitError, match="a and a: expected fan-in sets whose union holds at most 1"):
        distances(networks[:2], labels=["a", "b"], scheduler=alone.address)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("old", r"the Dask worker tcp://.*: expected topostrata .*, found 0\.0\.1"),
        ("bare", "the Dask worker tcp://.*: expected numba for the overlap alignment, found none"),
        ("empty", "the Dask worker on .*: expected topostrata .*, found "),
    ],
)
def test_a_worker_that_cannot_compute_says_so(
    alone: Cluster, networks: list[Topology], kind: str, message: str
) -> None:
    """Another version, no numba, no topostrata at all."""
    alone.worker(kind)
    with pytest.raises(ClusterError, match=message) as caught:
        distances(networks[:3], scheduler=alone.address)
    assert caught.value.hint is not None
    assert "install" in caught.value.hint


def test_a_worker_that_fails_is_an_error(alone: Cluster, networks: list[Topology]) -> None:
    """Even where it fails as waiting for it would."""
    alone.worker("failing")
    with pytest.raises(ClusterError, match="failed at a part of the distances: TimeoutError: its disk does not answer"):
        distances(networks[:3], scheduler=alone.address)


@pytest.mark.usefixtures("small_tiles")
def test_a_scheduler_that_goes_away_is_an_error(alone: Cluster, networks: list[Topology]) -> None:
    """Killed while a worker computes: no waiting for what will not come."""
    victim = alone.worker("victim")

    def kill() -> None:
        assert victim.line() == "computing"
        alone.scheduler.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(ClusterError, match="went away, or dropped the work"):
        distances(networks, scheduler=alone.address)
    killer.join()


def test_no_scheduler_is_an_error_soon(networks: list[Topology], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens; somebody listens and says nothing; the address is none."""
    monkeypatch.setattr(ours, "_CONNECT_S", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        for state in ("closed", "silent"):
            if state == "silent":
                silent.listen()
            with pytest.raises(ClusterError, match=f"expected a Dask scheduler at tcp://127.0.0.1:{port}, found none"):
                distances(networks, scheduler=f"tcp://127.0.0.1:{port}")
    for address in ("nonsense", "nowhere://host:1", ""):
        with pytest.raises(InvalidInputError, match="expected the address of a Dask scheduler"):
            distances(networks, scheduler=address)
    with pytest.raises(InvalidInputError, match="found both"):
        distances(networks, scheduler="tcp://127.0.0.1:1", workers=2)


def test_no_workers_is_an_error_after_a_while(
    alone: Cluster, networks: list[Topology], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job does not wait for ever for somebody to start workers."""
    monkeypatch.setattr(ours, "_PATIENCE_S", 0.1)
    monkeypatch.setattr(ours, "_LOOK_S", 0.05)
    with pytest.raises(ClusterError, match=r"expected workers at the Dask scheduler .*, found none") as caught:
        distances(networks, scheduler=alone.address)
    assert f"dask worker {alone.address}" in str(caught.value)


def test_without_dask_the_extra_is_named(networks: list[Topology], monkeypatch: pytest.MonkeyPatch) -> None:
    """And how to install it."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[dask\]'"):
        distances(networks, scheduler="tcp://127.0.0.1:1")


def test_the_command_line_computes_on_a_cluster(running: Cluster, networks: list[Topology], tmp_path: Path) -> None:
    """`distances FILES --scheduler ADDRESS` gives the JSON of `distances FILES`."""
    files = []
    for k, topology in enumerate(networks[:4]):
        snapshot_file.write(tmp_path / f"{k}.npz", topology)
        files.append(f"./{k}.npz")

    def ask(more: Sequence[str]) -> object:
        command = [sys.executable, "-m", "topostrata.service.cli.main", "distances", *files, "--json", *more]
        return json.loads(subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout)

    assert ask(["--scheduler", running.address]) == ask([])
