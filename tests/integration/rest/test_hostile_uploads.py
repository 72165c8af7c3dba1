"""Uploads that mean harm: each is refused as a problem, nothing is written, and memory stays bounded."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests import hostile_uploads
from tests.reference_runs import service
from topostrata.store.embedded import stop

MIB = 2**20
BODY = 4 * MIB
# What is at the peak in memory beyond the service itself: two bodies, decoded to four times that, and their copies.
MOST_GROWTH = 100 * MIB


def test_hostile_uploads_are_refused_in_bounded_memory(tmp_path: Path) -> None:
    """Over 300: 4xx with a stable code, no run in the archive, no more memory than sizes in the settings allow."""
    store = tmp_path / "archive"
    bodies = hostile_uploads.hostile(seed=18)
    assert len(bodies) > 300
    with service(store, max_body_bytes=BODY, memory_bytes=256 * MIB) as (client, process):

        def peak() -> int:
            status = Path(f"/proc/{process.pid}/status").read_text("utf-8")
            match = re.search(r"VmHWM:\s+(\d+) kB", status)
            assert match is not None
            return int(match[1]) * 1024

        for kind, body in hostile_uploads.valid().items():
            assert client.put(f"/v1/runs/{kind}/snapshots/0", content=body).status_code == 201
        before = peak()
        wrong = []
        codes: Counter[str] = Counter()
        for name, body in bodies:
            answer = client.put("/v1/runs/harm/snapshots/0", content=body)
            refused = answer.status_code in {413, 422}
            if (
                not refused
                or answer.headers["content-type"] != "application/problem+json"
                or len(answer.content) > 5000
            ):
                wrong.append((name, answer.status_code, answer.text[:200]))
            else:
                codes[answer.json()["code"]] += 1
        assert wrong == []
        assert codes.keys() <= {"invalid-input", "invalid-topology", "limit", "unsupported-format"}
        assert [run["run"] for run in client.get("/v1/runs").json()["runs"]] == ["bits", "npz", "safetensors"]
        assert peak() < before + MOST_GROWTH
    stop(store, force=True)


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_what_the_bodies_are_made_from_is_right(kind: str) -> None:
    """The makers give snapshots where nothing is changed: so each body has but the fault of its name."""
    from topostrata.ingest.formats.reading import read_snapshot_bytes

    body = hostile_uploads.npz() if kind == "npz" else hostile_uploads.tensors()
    valid = read_snapshot_bytes(hostile_uploads.valid()[kind]).topology
    assert read_snapshot_bytes(body).topology.layers[0].mask.keys.tolist() == valid.layers[0].mask.keys.tolist()
