"""What earlier moments cost on the embedded engine: those who push, and those who ask.

    python bench/moments.py [--pushes 60] [--later 1000]

Printed: processor time of the engine and of the client a push, by one writer and by four at once (a run each), with and
without the count of acknowledgements, in turn on the same engine; transactions that were tried again; and what a
question takes of now, of a view that was asked before, and of a new one, after so many later snapshots.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from store import processor_s
from surroundings import surroundings

from topostrata.archive import Archive, open_archive
from topostrata.store.embedded import status, stop
from topostrata.store.graph import Transaction
from topostrata.topology import Mask, Topology


def topologies(count: int, seed: int) -> list[Topology]:
    rng = np.random.default_rng(seed)
    return [
        Topology.from_masks([Mask(100, 100, np.sort(rng.choice(10_000, 500, replace=False))) for _ in range(3)])
        for _ in range(count)
    ]


def uncounted(_tx: Transaction) -> None:
    """In the place of ``Transaction.acknowledge``: a push as it was before."""


def writer(store: str, run: str, pushes: int, *, counted: bool, project: bool) -> None:
    """A process of its own: push when told to; print the processor time a push, and how often it tried again."""
    retries = 0

    class Retries(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            nonlocal retries
            retries += "retried" in record.getMessage()

    logging.getLogger("neo4j").addHandler(Retries())
    logging.getLogger("neo4j").setLevel(logging.WARNING)
    if not counted:
        Transaction.acknowledge = uncounted  # type: ignore[assignment, method-assign]
    history = topologies(pushes + 1, sum(run.encode()))
    with open_archive(store) as archive:
        archive.push(run, 0, history[0], projection="all" if project else "none")
        print("ready", flush=True)
        sys.stdin.readline()
        began = time.process_time()
        for step, topology in enumerate(history[1:], start=1):
            archive.push(run, step, topology)
        print(time.process_time() - began, retries, flush=True)


def pushed(store: Path, engine: int, name: str, writers: int, pushes: int, *, counted: bool, project: bool) -> str:
    """A row: milliseconds of processor time a push of the engine and of the client, and tries again."""
    options = ["--store", str(store), "--pushes", str(pushes)]
    options += [*(["--counted"] if counted else []), *(["--project"] if project else [])]
    jobs = [
        subprocess.Popen(
            [sys.executable, __file__, "--writer", f"{name}{k}", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for k in range(writers)
    ]
    for job in jobs:
        assert job.stdout is not None
        assert job.stdout.readline() == "ready\n"
    began = processor_s(engine)
    for job in jobs:
        assert job.stdin is not None
        job.stdin.write("\n")
        job.stdin.flush()
    answers = [job.stdout.readline().split() for job in jobs if job.stdout is not None]
    took = processor_s(engine) - began
    for job in jobs:
        job.wait()
    total = writers * pushes
    client = sum(float(seconds) for seconds, _ in answers)
    again = sum(int(count) for _, count in answers)
    shown = [1000 * took / total, 1000 * client / total]
    what = "with connections" if project else "masks alone"
    return (
        f"| {writers} | {what} | {'yes' if counted else 'no'} | {shown[0]:.1f} | {shown[1]:.1f} | {again} of {total} |"
    )


def asked(archive: Archive, later: int) -> None:
    """Rows: what questions take of now, of a view that was asked before, and of a new one."""
    for step, topology in enumerate(topologies(20, 1)):
        archive.push("asked", step, topology, projection="none")
    moment = archive.moment()
    history = topologies(20, 2)
    for step in range(later):
        archive.push("later", step, history[step % 20], projection="none")
    archive.update_run("asked", tags=["late"])
    view = archive.at(moment)
    questions: dict[str, Callable[[Archive], object]] = {
        "runs": lambda opened: opened.runs(),
        "a snapshot": lambda opened: opened.snapshot("asked@last"),
        "a glob": lambda opened: opened.expand("*@last"),
        "evolution": lambda opened: opened.evolution("asked"),
    }
    print(f"\n| question, {later:,} snapshots later | now, ms | a view | a new view |\n| --- | ---: | ---: | ---: |")
    for name, ask in questions.items():
        ask(archive), ask(view)
        times: list[float] = []
        sources: list[Callable[[], Archive]] = [lambda: archive, lambda: view, lambda: archive.at(moment)]
        for who in sources:
            rounds: list[float] = []
            for _ in range(15):
                began = time.perf_counter()
                ask(who())
                rounds.append(time.perf_counter() - began)
            times.append(1000 * sorted(rounds)[len(rounds) // 2])
        print(f"| {name} | " + " | ".join(f"{ms:.0f}" for ms in times) + " |", flush=True)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--pushes", type=int, default=60)
    options.add_argument("--later", type=int, default=1000)
    options.add_argument("--writer", help=argparse.SUPPRESS)
    options.add_argument("--store", help=argparse.SUPPRESS)
    options.add_argument("--counted", action="store_true", help=argparse.SUPPRESS)
    options.add_argument("--project", action="store_true", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.writer:
        writer(chosen.store, chosen.writer, chosen.pushes, counted=chosen.counted, project=chosen.project)
        return
    print(surroundings("neo4j", "arcadedb-embedded", "numpy"), "\n")
    print("| writers | a push | counted | engine, CPU ms | client, CPU ms | tried again |")
    print("| ---: | --- | --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "archive"
        with open_archive(str(store)) as archive:
            for step, topology in enumerate(topologies(80, 0)):
                archive.push("warm", step, topology)
            engine = (status(store) or {})["engine_pid"]
            for project in (False, True):
                for writers in (1, 4):
                    for counted in (False, True, False, True):
                        name = f"r{project:d}{writers}{counted:d}-{time.monotonic_ns()}-"
                        how = {"counted": counted, "project": project}
                        print(pushed(store, engine, name, writers, chosen.pushes, **how), flush=True)
            asked(archive, chosen.later)
        stop(store, force=True)


if __name__ == "__main__":
    main()
