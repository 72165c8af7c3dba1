"""``topostrata nnstd DIR DIR`` from the shell: the first time, when its kernels are compiled, and afterwards.

``python bench/first_use.py [ALIGNMENT...]``. Wall seconds, and CPU seconds, which other work on the machine blurs less.
"""

from __future__ import annotations

import datetime as dt
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numba

NETWORKS = Path(
    os.environ.get("TOPOSTRATA_REFERENCE_TOPOLOGIES")
    or Path(__file__).resolve().parents[1] / ".." / "shared" / "set-topologies"
)


def run(cache: str, alignment: str) -> tuple[float, float]:
    """Wall and CPU seconds of one command."""
    pair = [str(NETWORKS / f"e5_s0_{run}" / "epoch_050") for run in ("w0", "w1")]
    command = [sys.executable, "-m", "topostrata.service.cli.main", "nnstd", *pair, "--alignment", alignment, "--json"]
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"NUMBA_CACHE_DIR": cache})
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    print(
        f"{dt.datetime.now(tz=dt.UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, numba {numba.__version__}, load {os.getloadavg()[0]:.1f}\n"
    )
    print("| alignment | first time: wall s | CPU s | afterwards (median of 7): wall s | CPU s |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for alignment in sys.argv[1:] or ("overlap", "canonical", "refined", "reference", "identity"):
        with tempfile.TemporaryDirectory() as cache:
            wall, cpu = run(cache, alignment)
            warm = [statistics.median(times) for times in zip(*(run(cache, alignment) for _ in range(7)), strict=True)]
        print(f"| {alignment} | {wall:.1f} | {cpu:.1f} | {warm[0]:.2f} | {warm[1]:.2f} |")


if __name__ == "__main__":
    main()
