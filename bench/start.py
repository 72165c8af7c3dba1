"""How long the shell waits for an answer of an embedded archive: ``python bench/start.py [JAVA OPTION...]``.

``topostrata ls`` in a process of its own, of an archive with one run, whose engine must start, or runs. Wall seconds,
and the CPU seconds of the command and of its engine together. Options are those of the engine's Java.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from store import end_by_the_way_out, processor_s
from surroundings import surroundings

from topostrata.archive import open_archive
from topostrata.store.embedded import status, stop
from topostrata.topology import Topology

TURNS = 9


def ask(store: Path) -> tuple[float, float]:
    """Wall and CPU seconds of one command."""
    command = [sys.executable, "-m", "topostrata.service.cli.main", "ls", "--store", str(store)]
    running = status(store) or {}
    engine = processor_s(running["engine_pid"]) if running.get("running") else 0.0
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    client = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, client + processor_s((status(store) or {})["engine_pid"]) - engine


def row(name: str, times: list[tuple[float, float]]) -> None:
    wall, used = (statistics.median(values) for values in zip(*times, strict=True))
    print(f"| {name} | {wall:.2f} | {used:.2f} |", flush=True)


def main() -> None:
    end_by_the_way_out()
    if sys.argv[1:]:
        os.environ["TOPOSTRATA_ENGINE_JAVA_OPTIONS"] = " ".join(sys.argv[1:])
    print(f"{surroundings('arcadedb-embedded')}, load {os.getloadavg()[0]:.1f}\n")
    print(f"| median of {TURNS} | wall s | CPU s |\n| --- | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "archive"
        with open_archive(str(store)) as archive:
            archive.push("run", 0, Topology.from_masks([np.eye(8)]))
        started = []
        for _ in range(TURNS):
            stop(store, force=True)
            started.append(ask(store))
        row("its engine must start", started)
        row("its engine runs", [ask(store) for _ in range(TURNS)])
        stop(store, force=True)


if __name__ == "__main__":
    main()
