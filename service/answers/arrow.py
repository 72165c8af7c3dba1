"""Answers as Arrow streams: a table as its columns, which a program reads without parsing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from topostrata.errors import MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from topostrata.distance.matrix import DistanceMatrix
    from topostrata.evolution.between import ConnectionChanges
    from topostrata.frames import Table
    from topostrata.topology import Topology

MEDIA_TYPE = "application/vnd.apache.arrow.stream"


def topology_stream(topology: Topology) -> bytes:
    """The connections of a topology, a batch a layer: columns ``layer``, ``source``, ``tap``, ``target``."""
    pa = _pyarrow()
    schema = pa.schema(
        [
            ("layer", pa.dictionary(pa.int32(), pa.utf8())),
            ("source", pa.int32()),
            ("tap", pa.int32()),
            ("target", pa.int32()),
        ],
        metadata={"digest": topology.digest},
    )
    names = pa.array([layer.name for layer in topology], pa.utf8())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as stream:
        for k, layer in enumerate(topology):
            positions = pa.repeat(pa.scalar(k, pa.int32()), layer.nnz)
            units = (layer.sources, layer.mask.tap_indices, layer.targets)
            arrays = [
                pa.DictionaryArray.from_arrays(positions, names),
                *(pa.array(numbers.astype("int32")) for numbers in units),
            ]
            stream.write_batch(pa.record_batch(arrays, schema=schema))
    return bytes(sink.getvalue())


def matrix_stream(matrix: DistanceMatrix) -> bytes:
    """A matrix of distances: ``ref`` and a column of numbers for each ref."""
    pa = _pyarrow()
    columns = {"ref": list(matrix.labels)} | {label: matrix.nnstd[:, k] for k, label in enumerate(matrix.labels)}
    return _stream(pa, pa.table(columns, metadata={"alignment": matrix.alignment, "version": str(matrix.version)}))


def connections_stream(changes: ConnectionChanges, cells: NDArray[np.int64]) -> bytes:
    """The connections at these cells of a layer: columns ``source``, ``tap``, ``target``."""
    pa = _pyarrow()
    sources, targets, taps = (units.astype("int32") for units in changes.units_of(cells))
    return _stream(pa, pa.table({"source": sources, "tap": taps, "target": targets}))


def table_stream(table: Table) -> bytes:
    """The answer to a query. A column of values of several kinds, or of objects, is one of JSON texts."""
    pa = _pyarrow()
    columns = zip(*table.rows, strict=True) if table.rows else [()] * len(table.columns)
    arrays = [_column(pa, values) for values in columns]
    metadata = {"truncated": json.dumps(table.truncated)}
    return _stream(pa, pa.Table.from_arrays(arrays, names=list(table.columns)).replace_schema_metadata(metadata))


def _column(pa: Any, values: Any) -> Any:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int} or kinds <= {float, int} or kinds <= {str} or kinds <= {bool}:
        try:
            return pa.array(values, pa.float64() if float in kinds else None)
        except (pa.ArrowInvalid, OverflowError):
            pass
    return pa.array([None if value is None else json.dumps(value, ensure_ascii=False) for value in values], pa.utf8())


def _stream(pa: Any, table: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


def _pyarrow() -> Any:
    try:
        import pyarrow as pa  # noqa: PLC0415 - behind an extra
        import pyarrow.ipc  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("Arrow", "parquet") from error
    return pa
