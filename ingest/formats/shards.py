"""A state dict in several files, as Hugging Face writes large ones: shards, and an index that says what lies where.

``model.safetensors.index.json`` holds ``{"metadata": ..., "weight_map": {name: file}}``; the files lie beside it. The
index of ``pytorch_model-00001-of-00002.bin`` has the same form. The index and its shards must tell the same.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from topostrata.errors import InvalidInputError
from topostrata.ingest.formats.checkpoint.reading import Checkpoint
from topostrata.ingest.formats.limits import DEFAULT, MIB, Limits
from topostrata.ingest.formats.safe_tensors import SafeTensors, parse_json
from topostrata.ingest.formats.stored import LeftOut, StoredArray

SUFFIX = ".index.json"
_MAX_INDEX = 16 * MIB
_MAX_SHARDS = 4096
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{1,6})-of-(?P<count>\d{1,6})(?P<suffix>\.safetensors|\.bin)")


class Shards:
    """The arrays of all shards by name, in the order of the index; a shard is opened when one of its arrays is read."""

    def __init__(self, index: Path, *, where: str, limits: Limits = DEFAULT) -> None:
        self.where = where
        self._limits = limits
        weight_map = _weight_map(index, where)
        limits.check(where, members=len(weight_map))
        files = list(dict.fromkeys(weight_map.values()))
        if len(files) > _MAX_SHARDS:
            raise InvalidInputError(f"{where}: expected at most {_MAX_SHARDS:,} shards, found {len(files):,}")
        by_file: dict[str, dict[str, StoredArray]] = {}
        left_out: list[LeftOut] = []
        total = 0
        for file in files:
            path = index.parent / file
            total += _size(path, where)
            limits.check(where, total_bytes=total)
            with _open(path, limits) as shard:
                by_file[file] = shard.arrays
                left_out += shard.left_out if isinstance(shard, Checkpoint) else ()
            _compare(file, {name for name in weight_map if weight_map[name] == file}, by_file[file], where)
        self.arrays = {name: self._later(by_file[file][name], index.parent / file) for name, file in weight_map.items()}
        self.left_out = tuple(left_out)

    def _later(self, array: StoredArray, path: Path) -> StoredArray:
        place = f"{path.name}, {array.place}"
        read = partial(_read, array.name, path, self._limits)
        return replace(array, place=place, read=read)


def index_of(path: Path) -> Path | None:
    """The index of which a file is a shard, None where its name is no shard's.

    A shard whose index is missing is refused: a part of a network is another network.
    """
    match = _SHARD.fullmatch(path.name)
    if match is None or int(match["count"]) < 2:
        return None
    index = path.with_name(f"{match['stem']}{match['suffix']}{SUFFIX}")
    if not index.is_file():
        raise InvalidInputError(
            f"{path}: expected a whole state dict, found shard {int(match['number'])} of {int(match['count'])} without "
            f"{index.name}",
            hint="copy the index and all shards into one folder",
        )
    return index


def _weight_map(index: Path, where: str) -> dict[str, str]:
    size = _size(index, where)
    if size > _MAX_INDEX:
        raise InvalidInputError(f"{where}: expected an index of at most {_MAX_INDEX:,} bytes, found {size:,}")
    content: Any = parse_json(index.read_bytes(), where=where)
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise InvalidInputError(f"{where}: expected an index with a weight_map of names and files, found none")
    for name, file in weight_map.items():
        plain = isinstance(file, str) and file.isprintable() and not re.search(r"[/\\]|^\.", file)
        if not plain or not file.endswith((".safetensors", ".bin")):
            raise InvalidInputError(
                f"{where}: {name[:200]!a}: expected the name of a .safetensors or .bin file beside the index, "
                f"found {ascii(file)[:80]}"
            )
    return weight_map


def _size(path: Path, where: str) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"{where}: expected {path.name!r} beside the index, found none", hint="copy all shards into one folder"
        ) from error


def _open(path: Path, limits: Limits) -> SafeTensors | Checkpoint:
    reader = SafeTensors if path.suffix == ".safetensors" else Checkpoint
    return reader(path, where=str(path), limits=limits)


def _compare(file: str, promised: set[str], arrays: dict[str, StoredArray], where: str) -> None:
    missing, beyond = sorted(promised - arrays.keys()), sorted(arrays.keys() - promised)
    if missing or beyond:
        name = (missing or beyond)[0]
        raise InvalidInputError(
            f"{where}: expected {file} to hold what the index says, "
            f"found it {'without' if missing else 'with'} {name!a}",
            hint="are index and shards of one save?",
        )


def _read(name: str, path: Path, limits: Limits) -> Any:
    with _open(path, limits) as shard:
        array = shard.arrays.get(name)
        if array is None:
            raise InvalidInputError(f"{path}: expected {name!r}, found it gone", hint="was the file changed meanwhile?")
        return array.read()
