"""The main job as a user meets it: start of the engine, a push, a question, the help page; time, CPU and memory.

python bench/main_job.py [DIRECTORY OF THE REFERENCE NETWORKS]
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from surroundings import surroundings

from topostrata.store.embedded import status, stop

COMMAND = str(Path(sys.executable).with_name("topostrata"))
NETWORKS = ("e5_s0_w0", "e5_s0_w1", "e5_s0_w2", "e5_s0_w3", "e5_s0_w4")


_START = """
import sys
from pathlib import Path
from topostrata.store.embedded import EmbeddedEngine
with EmbeddedEngine(Path(sys.argv[1])) as engine:
    engine.connect()
"""


@dataclass(frozen=True)
class Cost:
    """What one process took; ``cpu`` is its own, user and system, without that of an engine it talked to."""

    seconds: float
    cpu: float
    peak_mib: float


def timed(*arguments: str) -> Cost:
    """The cost of one process."""
    began = time.perf_counter()
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        _, code, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(code)
    assert child.returncode == 0, arguments
    return Cost(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def main() -> None:
    data = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/set-topologies")
    print(surroundings("numpy", "scipy", "neo4j", "arcadedb-embedded"))
    print("\n| what | seconds | CPU seconds | peak memory of the command, MiB |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "archive")

        def row(what: str, *arguments: str, times: int = 1) -> None:
            say(what, [timed(COMMAND, *arguments) for _ in range(times)])

        def say(what: str, runs: list[Cost]) -> None:
            seconds, cpu = (statistics.median(values) for values in ([r.seconds for r in runs], [r.cpu for r in runs]))
            print(f"| {what} | {seconds:.2f} | {cpu:.2f} | {max(r.peak_mib for r in runs):.0f} |")

        row("`topostrata --help` (median of ten)", "--help", times=10)
        row(
            "first push: a new engine, one network of three epochs",
            "push", str(data / NETWORKS[0]), "--run", "w0", "--store", store,
        )  # fmt: skip
        for k, name in enumerate(NETWORKS[1:], start=1):
            row(
                f"push of network {k + 1} of three epochs, engine running",
                "push", str(data / name), "--run", f"w{k}", "--store", store,
            )  # fmt: skip
        row("the same again: nothing new", "push", str(data / NETWORKS[1]), "--run", "w1", "--store", store)
        row("`ls`, engine running (median of ten)", "ls", "--store", store, times=10)
        row("`nnstd`, reference", "nnstd", "w0", "w1", "--alignment", "reference", "--store", store, times=3)
        row("`evolution`", "evolution", "w0", "--store", store, times=3)
        row("`verify`: 5 runs, 15 snapshots", "verify", "--store", store)
        running = status(Path(store)) or {}
        stop(Path(store), force=True)
        row("`ls`, engine stopped: its start to the first answer", "ls", "--store", store, times=1)
        started = []
        for _ in range(5):
            stop(Path(store), force=True)
            started.append(timed(sys.executable, "-c", _START, store))
        say("its start alone: a fresh Python until the engine takes connections (median of five)", started)
        print(f"\nEngine after the pushes: {running}")
        stop(Path(store), force=True)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"This script itself: {own:.0f} MiB")


if __name__ == "__main__":
    main()
