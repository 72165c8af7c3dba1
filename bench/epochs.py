"""A long run in files: what an epoch of a push costs, at the beginning and at the end of 5,000, in one process.

    python bench/epochs.py [--epochs 5000]

Directories `epoch_EEEE` of two layers, 100-50-10 at 10 %, of which a tenth changes each epoch. Printed: the
milliseconds an epoch takes to have its heads read, to be checked and to be stored, by fifths of the run, and the peak
of the process's memory.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from surroundings import surroundings

from topostrata.archive import open_archive
from topostrata.ingest.pushing import check_files
from topostrata.store.embedded import stop

FIFTHS = 5
WIDTHS = (100, 50, 10)


def write(folder: Path, epochs: int) -> None:
    rng = np.random.default_rng(0)
    masks = [rng.random((a, b)) < 0.1 for a, b in pairwise(WIDTHS)]
    for epoch in range(epochs):
        directory = folder / f"epoch_{epoch:04}"
        directory.mkdir()
        masks = [mask ^ (rng.random(mask.shape) < 0.01) for mask in masks]
        for k, mask in enumerate(masks):
            sp.save_npz(directory / f"weight_l{k}.npz", sp.csr_array(mask.astype(np.float32)), compressed=False)


class Clock:
    """When the first epoch was done, and each fifth of them."""

    def __init__(self) -> None:
        self.begin = time.perf_counter()
        self.moments: list[float] = []

    def tick(self, done: int, total: int) -> None:
        """Progress, as `check_files` and `push_files` tell it."""
        if done == 1 or done * FIFTHS >= total * len(self.moments):
            self.moments.append(time.perf_counter())

    def line(self, name: str, epochs: int) -> str:
        """A row of the table."""
        each = [ms * 1000 / (epochs / FIFTHS) for ms in np.diff(self.moments)]
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return f"| {name} | " + " | ".join(f"{ms:.1f}" for ms in each) + f" | {memory:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5000)
    epochs = parser.parse_args().epochs
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "run"
        files.mkdir()
        write(files, epochs)
        print(f"`python bench/epochs.py --epochs {epochs}`, {surroundings('numpy')}\n")
        print("| ms an epoch | 1st fifth | 2nd | 3rd | 4th | 5th | memory, MiB |\n| --- |" + " ---: |" * 6)
        checking = Clock()
        checked = check_files(files, progress=checking.tick)
        first = checking.moments[0] - checking.begin
        print(f"| heads read, before the first | {first / epochs * 1000:.1f} | | | | | |")
        print(checking.line("checked", epochs), flush=True)
        store = Path(folder) / "archive"
        with open_archive(store) as archive:
            storing = Clock()
            archive.push_files(checked, "w0", projection="none", progress=storing.tick)
        print(storing.line("stored", epochs))
        stop(store, force=True)


if __name__ == "__main__":
    main()
