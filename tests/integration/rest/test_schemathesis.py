"""Schemathesis asks the service what its contract lets one ask, and all that it does not: docs/openapi.json is whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.reference_runs import service
from topostrata.archive import open_archive
from topostrata.store.embedded import stop
from topostrata.topology import Topology

TOKEN = "f8Jq2mX0-vT7_b3.nR5~kD1+wL9/cY6aZ4eH8sG="
EXAMPLES = os.environ.get("TOPOSTRATA_TEST_EXAMPLES", "3")  # of each operation, seeded

pytestmark = [pytest.mark.checkout, pytest.mark.slow]


def test_no_answer_breaks_the_contract(tmp_path: Path) -> None:
    """All checks and links between operations: no status, header, media type or body that the contract has not."""
    pytest.importorskip("schemathesis")
    store = tmp_path / "archive"
    rng = np.random.default_rng(18)
    with open_archive(store) as archive:
        for run in ("w0", "w1"):
            for step in (0, 5):
                masks = [rng.random((8, 6)) < 0.4, rng.random((6, 4)) < 0.5]
                archive.push(run, step, Topology.from_masks(masks), metrics={"loss": 0.5})
    with service(store, api_token=TOKEN) as (client, process):
        ran = subprocess.run(
            [
                *(str(Path(sys.executable).with_name("schemathesis")), "--config-file"),
                *(str(Path(__file__).parents[2] / "schemathesis.toml"), "run", f"{client.base_url}/openapi.json"),
                *("--exclude-path", "/v1/events"),  # a stream without an end
                *("--checks", "all", "--max-examples", EXAMPLES, "--no-color", "--max-response-time", "400"),
                *("-H", f"Authorization: Bearer {TOKEN}"),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            timeout=500,
        )
        assert process.poll() is None
    stop(store, force=True)
    assert ran.returncode == 0, ran.stdout[-10_000:] + ran.stderr
