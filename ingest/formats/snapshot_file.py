"""Topostrata's own file of one snapshot: what ``export`` writes, ``push`` reads and the service takes as a body.

An npz (or safetensors) file with two arrays per layer k, ``<k>.indptr`` and ``<k>.indices``: per target unit the sorted
keys ``source * taps + tap`` of its inputs, one target after the other (CSC). Beside them a JSON text ``topology`` (a
raw member or an array with one string in npz; in the metadata of safetensors)::

    {"format": 1,
     "spaces": [{"name": "input", "size": 784, "labelled": true}, ...],
     "layers": [{"name": "l0", "source": "input", "target": "hidden1", "taps": 1}, ...],
     "epoch": 50.0, "metrics": {"accuracy": 0.87}}

Instead of the two, all layers may have one array ``<k>.bits``: a row of bits per target unit (``formats.bits``), in
either container and format.

That is format 1. A network with residual streams, groups, axes of its own, parts of parameters or tied layers is
written in format 2, which has more names for them (docs/snapshot-file.md); tied layers have arrays once. So is a
snapshot with metrics of single layers (``layer_metrics``).

``recorded_at`` (ISO 8601, UTC) and ``digest`` (the topology's, checked when present) may stand there too. The same
snapshot gives the same bytes.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from topostrata import wiring_text
from topostrata.errors import InvalidInputError, InvalidTopologyError, UnsupportedFormatError
from topostrata.ingest.formats import bits
from topostrata.ingest.formats.limits import DEFAULT, PER_BIT, PER_KEY, Limits
from topostrata.ingest.formats.safe_npz import SafeNpz
from topostrata.ingest.formats.safe_tensors import SafeTensors, parse_json
from topostrata.runs import LayerMetrics, check_layer_metrics, check_metrics
from topostrata.topology import LayerShape, Mask, Topology, Wiring

Container = Literal["npz", "safetensors", "bits"]

FORMAT = 2  # the newest; what format 1 can say is written in format 1, and format 1 is read for ever
MEMBER = "topology"
_REQUIRED = {"format", "spaces", "layers"}
_OPTIONAL = {"epoch", "metrics", "recorded_at", "digest"}
_MORE = {"axes", "layer_metrics"}  # of format 2


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """What the file holds; run and step are not in it, they are said where it is sent."""

    topology: Topology
    epoch: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    recorded_at: datetime | None = None
    layer_metrics: dict[str, dict[str, float]] = field(default_factory=dict)


def write(
    target: Path | BinaryIO,
    topology: Topology,
    *,
    epoch: float | None = None,
    metrics: Mapping[str, float] | None = None,
    layer_metrics: LayerMetrics | None = None,
    recorded_at: datetime | None = None,
    container: Container | None = None,
) -> None:
    """Write one snapshot, as npz or, to a path ``*.safetensors``, as that. A path is replaced whole or not at all.

    The container ``bits`` is an npz, whatever the path is called, whose masks are bits: a possible connection is an
    eighth of a byte.
    """
    if container is None:
        container = "safetensors" if isinstance(target, Path) and target.suffix == ".safetensors" else "npz"
    text = _document(topology, epoch, metrics, layer_metrics, recorded_at)
    arrays = dict(_arrays(topology, as_bits=container == "bits"))
    data = _as_safetensors(arrays, text) if container == "safetensors" else _as_npz(arrays, text)
    if not isinstance(target, Path):
        target.write(data)
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def read(source: Path | bytes | BinaryIO, *, where: str | None = None, limits: Limits = DEFAULT) -> SnapshotFile:
    """Read one snapshot from either container, told apart by its first bytes. ``where`` begins every error message."""
    where = where or (str(source) if isinstance(source, Path) else "snapshot")
    if _begins_as_zip(source, where):
        with SafeNpz(source, where=where, limits=limits) as npz:
            return read_npz(npz, limits=limits)
    with SafeTensors(source, where=where, limits=limits) as tensors:
        return read_safetensors(tensors, limits=limits)


def read_npz(npz: SafeNpz, *, limits: Limits) -> SnapshotFile:
    """The snapshot in an archive that is open already."""
    return _read(
        npz.text(MEMBER), set(npz.names) - {MEMBER}, npz.array, lambda name: npz.header(name).size, npz.where, limits
    )


def read_safetensors(tensors: SafeTensors, *, limits: Limits) -> SnapshotFile:
    """The snapshot in a safetensors file that is open already."""
    if MEMBER not in tensors.metadata:
        raise InvalidInputError(
            f"{tensors.where}: __metadata__: expected {MEMBER!r}, found {', '.join(tensors.metadata) or 'nothing'}"
        )
    shapes = {name: tensor.shape for name, tensor in tensors.tensors.items()}
    text = tensors.metadata[MEMBER]
    return _read(text, set(shapes), tensors.array, lambda name: math.prod(shapes[name]), tensors.where, limits)


def _arrays(topology: Topology, *, as_bits: bool) -> list[tuple[str, NDArray[Any]]]:
    arrays: list[tuple[str, NDArray[Any]]] = []
    for k, layer in enumerate(topology):
        if layer.name in topology.wiring.shared_with:
            continue
        if as_bits:
            arrays.append((f"{k}.bits", bits.pack(layer.mask)))
            continue
        small = layer.mask.stride <= 2**31
        arrays.append((f"{k}.indptr", layer.mask.indptr.astype("<i8")))
        arrays.append((f"{k}.indices", layer.mask.keys.astype("<i4" if small else "<i8")))
    return arrays


def _document(
    topology: Topology,
    epoch: float | None,
    metrics: Mapping[str, float] | None,
    layer_metrics: LayerMetrics | None,
    recorded_at: datetime | None,
) -> str:
    of_layers = check_layer_metrics(layer_metrics)
    document: dict[str, Any] = {
        "format": FORMAT if of_layers else topology.wiring.format,
        **wiring_text.document(topology.wiring.layers),
        "epoch": _number(epoch, "epoch", "snapshot"),
        "metrics": dict(sorted(check_metrics(metrics).items())),
        "digest": topology.digest,
    }
    if of_layers:
        document["layer_metrics"] = {layer: dict(sorted(of_layers[layer].items())) for layer in sorted(of_layers)}
    if recorded_at is not None:
        document["recorded_at"] = _utc(recorded_at, "snapshot").isoformat()
    return json.dumps(document, indent=1)


def _as_npz(arrays: Mapping[str, NDArray[Any]], text: str) -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        members = [(MEMBER, text.encode())]
        for name, array in arrays.items():
            member = BytesIO()
            npy.write_array(member, array, version=(1, 0), allow_pickle=False)
            members.append((f"{name}.npy", member.getvalue()))
        for name, data in members:
            # A date and a system of its own: the bytes must not depend on when and where they are written.
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = 0o644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            # Level 4: three times as fast as 6 on sparse layers; below it dense layers pack many times worse.
            archive.writestr(info, data, compresslevel=4)
    return packed.getvalue()


def _as_safetensors(arrays: Mapping[str, NDArray[Any]], text: str) -> bytes:
    from safetensors.numpy import save  # noqa: PLC0415  # only who writes this container pays for the import

    return save(dict(arrays), metadata={MEMBER: text})


def _begins_as_zip(source: Path | bytes | BinaryIO, where: str) -> bool:
    if isinstance(source, bytes):
        return source[:2] == b"PK"
    try:
        if isinstance(source, Path):
            with source.open("rb") as stream:
                return stream.read(2) == b"PK"
        source.seek(0)
        return source.read(2) == b"PK"
    except OSError as error:
        raise InvalidInputError(f"{where}: expected a readable file, found: {error.strerror}") from error


def _read(
    text: str,
    names: set[str],
    array: Callable[[str], NDArray[Any]],
    size: Callable[[str], int],
    where: str,
    limits: Limits,
) -> SnapshotFile:
    document = parse_json(text, where=f"{where}: {MEMBER}")
    at = f"{where}: {MEMBER}"
    wiring = _wiring(document, text, at, where, limits)
    stored = {k: layer for k, layer in enumerate(wiring) if layer.name not in wiring.shared_with}
    masks, parts = (_of_bits, ["bits"]) if f"{min(stored)}.bits" in names else (_of_keys, ["indptr", "indices"])
    expected = {f"{k}.{part}" for k in stored for part in parts}
    if names != expected:
        missing, unknown = sorted(expected - names)[:8], sorted(names - expected)[:8]
        raise InvalidInputError(
            f"{where}: expected {' and '.join(f'<k>.{part}' for part in parts)} for the {len(stored)} layers of "
            f"{MEMBER}, missing {', '.join(missing) or 'none'}, found beyond that {', '.join(unknown) or 'none'}"
        )
    topology = wiring.place(masks(stored, array, size, where, limits))
    if "digest" in document and document["digest"] != topology.digest:
        raise InvalidInputError(
            f"{where}: expected the digest {str(document['digest'])[:16]}..., found {topology.digest[:16]}...",
            hint="the file is damaged",
        )
    return SnapshotFile(
        topology,
        _number(document.get("epoch"), "epoch", at),
        _metrics(document.get("metrics"), at),
        _time(document.get("recorded_at"), at),
        {layer: _metrics(claim, f"{at}: layer {layer!r}") for layer, claim in _of_layers(document, at).items()},
    )


def _of_keys(
    stored: Mapping[int, LayerShape],
    array: Callable[[str], NDArray[Any]],
    size: Callable[[str], int],
    where: str,
    limits: Limits,
) -> dict[str, Mask]:
    # A connection costs many times its bytes in the file: so their number is bounded before any is unpacked.
    count = sum(size(f"{k}.indices") for k in stored)
    limits.check(where, connections=count)
    limits.check_memory(where, PER_KEY * count)
    for k, layer in stored.items():
        if size(f"{k}.indices") > layer.possible:
            raise InvalidInputError(
                f"{where}: layer {layer.name!r}: {k}.indices: expected at most {layer.possible:,} keys, "
                f"as many as there can be connections, found {size(f'{k}.indices'):,}"
            )
    return {layer.name: _mask(k, layer, array, where) for k, layer in stored.items()}


def _of_bits(
    stored: Mapping[int, LayerShape],
    array: Callable[[str], NDArray[Any]],
    size: Callable[[str], int],
    where: str,
    limits: Limits,
) -> dict[str, Mask]:
    # What can be connections bounds the bytes of a layer, whatever the head of its array says.
    in_bytes = sum(math.prod(bits.packed_shape(layer)) for layer in stored.values())
    limits.check_memory(where, 2 * in_bytes)
    packed: dict[int, NDArray[np.uint8]] = {}
    for k, layer in stored.items():
        at, shape = f"{where}: layer {layer.name!r}: {k}.bits", bits.packed_shape(layer)
        if size(f"{k}.bits") != math.prod(shape):
            raise InvalidInputError(f"{at}: expected uint8 of shape {shape}, found {size(f'{k}.bits'):,} numbers")
        packed[k] = bits.check(array(f"{k}.bits"), layer, at)
    count = sum(bits.count(rows) for rows in packed.values())
    limits.check(where, connections=count)
    limits.check_memory(where, in_bytes + PER_BIT * count)
    return {layer.name: bits.unpack(packed[k], layer) for k, layer in stored.items()}


def _of_layers(document: dict[str, Any], at: str) -> dict[str, Any]:
    claim = document.get("layer_metrics", {})
    if not isinstance(claim, dict):
        raise InvalidInputError(f"{at}: layer_metrics: expected an object of layers, found {str(claim)[:80]}")
    return claim


def _wiring(document: Any, text: str, at: str, where: str, limits: Limits) -> Wiring:
    """The wiring in the document, checked against the limits; nothing is decoded before."""
    if not isinstance(document, dict) or "format" not in document:
        raise InvalidInputError(f"{at}: expected an object with format, spaces and layers, found {text[:80]!r}")
    version = document["format"]
    plain = version == 1
    if isinstance(version, bool) or version not in (1, FORMAT):
        raise UnsupportedFormatError(
            f"{at}: expected format 1 or {FORMAT}, found {str(version)[:80]}", hint="a newer Topostrata may read it"
        )
    wiring_text.check_keys(document, _REQUIRED, _OPTIONAL if plain else _OPTIONAL | _MORE, at)
    if isinstance(document["layers"], list):
        limits.check(where, layers=len(document["layers"]))
    shapes = wiring_text.from_document(document, at, plain=plain)
    sizes = {space.name: space.size for layer in shapes for space in (layer.source, layer.target)}
    for k, claim in enumerate(document["spaces"]):
        limits.check(f"{at}: spaces[{k}]", units=sizes[claim["name"]])
    for k, layer in enumerate(shapes):
        limits.check(f"{at}: layers[{k}]", taps=layer.taps)
    try:
        wiring = Wiring(shapes)
    except InvalidTopologyError as error:
        raise InvalidInputError(f"{where}: {error.message}", hint=error.hint) from error
    if plain and wiring.beyond_format_1 is not None:
        raise InvalidInputError(f"{where}: expected plain layers in a file of format 1, found {wiring.beyond_format_1}")
    return wiring


def _mask(k: int, layer: LayerShape, array: Callable[[str], NDArray[Any]], where: str) -> Mask:
    parts: list[NDArray[Any]] = []
    for part in ("indptr", "indices"):
        numbers = array(f"{k}.{part}")
        if numbers.dtype.kind not in "iu" or numbers.ndim != 1:
            raise InvalidInputError(
                f"{where}: layer {layer.name!r}: {k}.{part}: expected a flat array of integers, "
                f"found {numbers.dtype} of shape {numbers.shape}"
            )
        parts.append(numbers)
    try:
        return Mask.from_csc(layer.local_sources, layer.target.size, *parts, taps=layer.taps)
    except InvalidTopologyError as error:
        raise InvalidInputError(f"{where}: layer {layer.name!r}: {k}.{error.message}", hint=error.hint) from error


def _number(claim: Any, name: str, at: str) -> float | None:
    if claim is None:
        return None
    if isinstance(claim, bool) or not isinstance(claim, int | float) or abs(claim) > 1e300 or not math.isfinite(claim):
        raise InvalidInputError(f"{at}: {name}: expected a finite number, found {str(claim)[:80]}")
    return float(claim)


def _metrics(claim: Any, at: str) -> dict[str, float]:
    if claim is None:
        return {}
    if not isinstance(claim, dict):
        raise InvalidInputError(f"{at}: metrics: expected an object of numbers, found {str(claim)[:80]}")
    try:
        return check_metrics(claim)
    except InvalidInputError as error:
        raise error if error.message.startswith(at) else InvalidInputError(f"{at}: {error.message}") from None


def _time(claim: Any, at: str) -> datetime | None:
    if claim is None:
        return None
    try:
        return _utc(datetime.fromisoformat(claim), at)
    except (TypeError, ValueError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"{at}: recorded_at: expected ISO 8601, found {str(claim)[:80]}") from error


def _utc(moment: datetime, at: str) -> datetime:
    if moment.tzinfo is None:
        raise InvalidInputError(f"{at}: recorded_at: expected a time with its zone, found {moment.isoformat()}")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise InvalidInputError(f"{at}: recorded_at: expected a year from 2 to 9998, found {moment}") from error
