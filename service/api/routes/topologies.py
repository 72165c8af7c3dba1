"""Whole topologies, in the form that a program wants them."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

from fastapi import Request, Response
from typing_extensions import TypedDict

from topostrata.errors import LimitError
from topostrata.ingest.formats import bits, snapshot_file
from topostrata.refs import Ref
from topostrata.runs import ArchiveCounts
from topostrata.service.answers import arrow
from topostrata.service.answers.shape import answer_type
from topostrata.service.api.lanes import routes_of, slow
from topostrata.service.api.representation import (
    BINARY,
    JSON,
    ArchiveOf,
    ReadOf,
    RunId,
    StepPath,
    negotiated,
    represent,
)
from topostrata.topology import Topology

router = routes_of("topologies")

_NPZ, _SAFETENSORS = "application/x-npz", "application/vnd.safetensors"
_BITS = "application/vnd.topostrata.bits"
_KINDS = (_NPZ, _SAFETENSORS, arrow.MEDIA_TYPE, JSON, _BITS)
_CONTAINERS: dict[str, snapshot_file.Container] = {_NPZ: "npz", _SAFETENSORS: "safetensors", _BITS: "bits"}
_MOST_AS_JSON = 500_000  # connections; in another form they take a tenth
_MOST_AS_BITS = 2**27  # bytes: half of what the limits of a service let a file unpack to


class LayerConnections(TypedDict):
    """The connections of a layer: the k-th joins ``source[k]`` at ``tap[k]`` to ``target[k]``."""

    name: str
    source: list[int]
    tap: list[int]
    target: list[int]


class TopologyAnswer(TypedDict):
    """All connections of a snapshot, by layers; ``digest`` is that of its wiring."""

    digest: str
    layers: list[LayerConnections]


@router.get(
    "/runs/{run}/snapshots/{step}/topology",
    response_model=TopologyAnswer,
    responses={200: {"content": {kind: BINARY for kind in _KINDS if kind != JSON}}, 406: {}, 413: {}},
)
@slow
def get_topology(request: Request, archive: ReadOf, run: RunId, step: StepPath) -> Response:
    """The connections of one snapshot: the file that `PUT` takes (npz, safetensors, npz of bits), Arrow, or JSON lists.

    It never changes: its entity tag is the topology's digest, and whoever has it is sent nothing.
    """
    kind = negotiated(request, _KINDS)
    (entry,) = archive.recorded(Ref(run, step))
    tag = f'"{entry.snapshot.digest}.{_KINDS.index(kind)}"'
    headers = {"ETag": tag, "Cache-Control": "private, max-age=31536000, immutable", "Vary": "Accept"}
    known = [other.strip().removeprefix("W/") for other in request.headers.get("if-none-match", "").split(",")]
    if tag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    if kind == JSON and entry.snapshot.nnz > _MOST_AS_JSON:
        raise LimitError(
            f"topology: expected at most {_MOST_AS_JSON:,} connections as JSON, found {entry.snapshot.nnz:,}",
            hint=f"Accept: {_NPZ}, or {arrow.MEDIA_TYPE}",
        )
    topology = archive.topology(entry)
    if kind == _BITS and (size := bits.size(topology)) > _MOST_AS_BITS:
        raise LimitError(
            f"topology: expected at most {_MOST_AS_BITS:,} bytes of bits, found {size:,}",
            hint=f"Accept: {_NPZ}, which holds the connections that exist",
        )
    return Response(_body(topology, kind), media_type=kind, headers=headers)


@router.get("/engine", response_model=dict[str, str])
def get_engine(request: Request, archive: ArchiveOf) -> Response:
    """Which database the archive is in: its ``version``."""
    return represent(request, {"version": archive.engine_version()})


@router.get("/stats", response_model=answer_type(ArchiveCounts))
def get_stats(request: Request, archive: ReadOf) -> Response:
    """How much the archive holds."""
    return represent(request, archive.counts())


def _body(topology: Topology, kind: str) -> bytes:
    if kind == arrow.MEDIA_TYPE:
        return arrow.topology_stream(topology)
    if kind == JSON:
        return _as_json(topology)
    stream = BytesIO()
    snapshot_file.write(stream, topology, container=_CONTAINERS[kind])
    return stream.getvalue()


def _as_json(topology: Topology) -> bytes:
    """A layer at a time: encoded at once, a large one would keep everybody else waiting."""

    def text(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    layers = (
        LayerConnections(
            name=layer.name,
            source=layer.sources.tolist(),
            tap=layer.mask.tap_indices.tolist(),
            target=layer.targets.tolist(),
        )
        for layer in topology
    )
    parts = ",".join(text(layer) for layer in layers)
    return f'{{"digest":{text(topology.digest)},"layers":[{parts}]}}'.encode()
