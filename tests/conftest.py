"""Fixtures that several test folders share."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from topostrata.topology import Topology

ROOT = Path(__file__).resolve().parents[1]

# They have an environment of their own.
collect_ignore = [] if find_spec("torch") else ["torch"]

# Tests start engines more often than they load them: with this a short life takes half of the processor time.
os.environ.setdefault("TOPOSTRATA_ENGINE_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

# Minutes each. They begin first, so that two processes that share the files end at about the same time.
LONGEST = {"test_neo4j_faults.py", "test_neo4j_errors.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, all others in their order."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what is not run here, so that nobody takes a part for the whole."""
    if collect_ignore:
        terminalreporter.write_line("tests/torch is left to `make test-torch`: torch is not installed here")


@pytest.fixture(scope="session")
def reference_directory() -> Path:
    """Where the reference networks lie: a part of the data published with the NNSTD paper."""
    path = Path(
        os.environ.get("TOPOSTRATA_REFERENCE_TOPOLOGIES") or ROOT / ".." / "shared" / "set-topologies"
    ).resolve()
    if not path.is_dir():
        message = f"no reference networks at {path}: set TOPOSTRATA_REFERENCE_TOPOLOGIES"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture(scope="session")
def reference_topologies(reference_directory: Path) -> dict[str, Topology]:
    """The reference networks by name, such as ``e5_s0_w0/epoch_010``; the last row of each file is the bias."""
    topologies = {}
    for folder in sorted(reference_directory.glob("*/epoch_*")):
        files = sorted(folder.glob("weight_l*.npz"))
        masks = [sp.csr_array(sp.load_npz(file))[:-1] for file in files]
        topologies[f"{folder.parent.name}/{folder.name}"] = Topology.from_masks(masks, zeros="absent")
    return topologies


@pytest.fixture(scope="session")
def expected(reference_directory: Path) -> dict[str, np.ndarray]:
    """Distances of the reference networks computed by other implementations (tests/oracle/PROVENANCE.md)."""
    with np.load(reference_directory / "expected.npz") as file:
        return {name: file[name] for name in file}
