"""The containers of PyTorch: zip (since 1.6; TorchScript too), the legacy stream (since 0.1.10), the tar before."""

from __future__ import annotations

import struct
import tarfile
from typing import Any

from topostrata.errors import InvalidInputError, LimitError
from topostrata.ingest.formats.checkpoint.described import Global, Storage, Tensor, Unread, text
from topostrata.ingest.formats.checkpoint.machine import Budget, Machine
from topostrata.ingest.formats.checkpoint.meanings import whole_numbers
from topostrata.ingest.formats.checkpoint.tensors import STORAGES, itemsize
from topostrata.ingest.formats.checkpoint.windows import Window, printable
from topostrata.ingest.formats.checkpoint.zip_file import Member, members_of, record

MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_MAX_TAR_MEMBERS = 16


def read_stream(window: Window, budget: Budget) -> tuple[Any, str]:
    """What a plain pickle or a legacy checkpoint describes, and which of the two it is."""
    machine = Machine(window, budget, _load)
    first = machine.run()
    if first != MAGIC or type(first) is not int:
        return first, "pickle"
    return _read_legacy(machine), "PyTorch legacy checkpoint"


def read_pickle(window: Window, budget: Budget) -> Any:
    """What the pickle at the begin of a window describes."""
    return Machine(window, budget, _load).run()


def read_zip(whole: Window, budget: Budget) -> tuple[Any, str]:
    """What a zip checkpoint describes, and whether it is TorchScript."""
    members = members_of(whole)
    roots = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl") or name == "data.pkl"]
    if len(roots) != 1:
        names = ", ".join(repr(name[:60]) for name in list(members)[:4]) or "none"
        raise InvalidInputError(
            f"{whole.where}: expected a PyTorch checkpoint, which has one member data.pkl, found {len(roots)} among "
            f"{len(members):,} members ({names})",
            hint="an archive of arrays is read as .npz; torch.export's .pt2 holds no state dict: save that",
        )
    root = roots[0]
    big_endian = False
    if root + "byteorder" in members:
        order = record(whole, members[root + "byteorder"])
        big_endian = order.read(0, min(order.size, 16)) == b"big"
    script = root + "code/.debug_pkl" in members or any(name.startswith(root + "code/") for name in members)
    program = record(whole, members[root + "data.pkl"])
    machine = Machine(program, budget, _load)
    machine.persistent = _ZipStorages(whole, members, root, machine, big_endian=big_endian)
    return machine.run(), "TorchScript archive" if script else "PyTorch checkpoint"


class _ZipStorages:
    """The storages of a zip checkpoint, a member each."""

    def __init__(
        self, whole: Window, members: dict[str, Member], root: str, machine: Machine, *, big_endian: bool
    ) -> None:
        self.whole = whole
        self.members = members
        self.root = root
        self.machine = machine
        self.big_endian = big_endian
        self.known: dict[str, Storage] = {}

    def __call__(self, reference: Any) -> Storage:
        storage = _storage_of(reference)
        before = self.known.get(storage.key)
        if before is not None and (before.kind, before.length) == (storage.kind, storage.length):
            return before
        name = f"{self.root}data/{storage.key}"
        member = self.members.get(name)
        if member is None:
            raise InvalidInputError(
                f"{self.machine.where}: expected a member {name[:80]!r}, found none", hint="is the file whole?"
            )
        storage.window = record(self.whole, member)
        storage.big_endian = self.big_endian
        if storage.dtype is not None and storage.length * itemsize(storage.dtype) > member.size:
            raise InvalidInputError(
                f"{self.machine.where}: member {name[:80]!r}: expected {storage.length:,} entries of {storage.dtype}, "
                f"found {member.size:,} bytes"
            )
        self.known[storage.key] = storage
        return storage


def _load(machine: Machine) -> Any:
    """A checkpoint in a string of another, as tensors in a plain pickle have it."""
    first = machine.run()
    if first != MAGIC or type(first) is not int:
        raise machine.damaged("a string that is no legacy checkpoint")
    return _read_legacy(machine)


def _storage_of(reference: Any) -> Storage:
    if type(reference) is not tuple or len(reference) < 5 or text(reference[0]) != "storage":
        raise TypeError("a reference to something else than a storage")
    kind, key = reference[1], reference[2]
    if not isinstance(kind, Global) or not kind.name.startswith("torch."):
        raise TypeError("a storage of no class of torch")
    (length,) = whole_numbers([reference[4]])
    name = kind.name.rsplit(".", 1)[-1]
    return Storage(_key(key), name, STORAGES.get(name), length)


def _key(key: Any) -> str:
    return str(key) if type(key) is int and abs(key) < 2**64 else (text(key) or "")[:200]


class _LegacyStorages:
    """The storages of a legacy checkpoint: described while its pickle runs, found in the file after it."""

    def __init__(self) -> None:
        self.known: dict[str, Storage] = {}

    def __call__(self, reference: Any) -> Any:
        if type(reference) is tuple and len(reference) > 1 and text(reference[0]) == "module":
            return reference[1]  # a class whose source text was saved beside it
        storage = _storage_of(reference)
        base = self.known.setdefault(storage.key, storage)
        if (base.kind, base.length) != (storage.kind, storage.length):
            raise ValueError("a storage that is described in two ways")
        view = reference[5] if len(reference) > 5 else None
        if view is None:
            return base
        key, offset, length = view
        whole_numbers([offset, length])
        if offset + length > base.length:
            raise ValueError("a view over the end of its storage")
        return Storage(f"{base.key}/{(text(key) or '')[:100]}", base.kind, base.dtype, length, base=(base, offset))


def _read_legacy(machine: Machine) -> Any:
    """Behind the magic number: version, system, content, the keys of the storages, the storages end to end."""
    where = machine.where
    version = machine.run(machine.position)
    system = machine.run(machine.position)
    if version != _PROTOCOL or type(system) is not dict:
        raise InvalidInputError(f"{where}: expected a legacy checkpoint of protocol {_PROTOCOL}, found another")
    big_endian = system.get("little_endian") is False
    storages = _LegacyStorages()
    machine.persistent = storages
    content = machine.run(machine.position)
    keys = machine.run(machine.position)
    if type(keys) is not list:
        raise machine.damaged("no list of storages")
    at = machine.position
    for key in keys:
        storage = storages.known.get(_key(key))
        if storage is None or storage.window is not None:
            raise machine.damaged("a list of storages that does not fit its content")
        (length,) = struct.unpack(">q" if big_endian else "<q", machine.window.read(at, 8))
        if length != storage.length:
            raise machine.damaged(f"a storage of {length:,} entries where its content says {storage.length:,}")
        if storage.dtype is None:
            raise InvalidInputError(f"{where}: expected a storage of known size, found {storage.kind[:60]!r}")
        size = length * itemsize(storage.dtype)
        storage.window = machine.window.window(at + 8, size, f"storage {printable(storage.key, 40)}")
        storage.big_endian = big_endian
        at += 8 + size
    return content


def read_tar(whole: Window, budget: Budget) -> Any:
    """The form before 0.1.10: a tar of the members ``storages``, ``tensors`` and ``pickle``."""
    members = _tar_members(whole)
    if not {"storages", "tensors", "pickle"} <= members.keys():
        raise InvalidInputError(
            f"{whole.where}: expected a PyTorch checkpoint, "
            f"found a tar file of {printable(', '.join(members)) or 'nothing'}"
        )
    objects: dict[Any, Storage | Tensor | Unread] = {}
    _tar_storages(Machine(members["storages"], budget, _load), objects)
    _tar_tensors(Machine(members["tensors"], budget, _load), objects)
    machine = Machine(members["pickle"], budget, _load)

    def persistent(reference: Any) -> Any:
        return reference[0] if type(reference) is tuple else objects[int(text(reference) or reference)]

    machine.persistent = persistent
    return machine.run()


def _tar_members(whole: Window) -> dict[str, Window]:
    whole.stream.seek(0)
    members: dict[str, Window] = {}
    try:
        with tarfile.open(fileobj=whole.stream, mode="r:") as archive:
            while (info := archive.next()) is not None:
                if len(members) >= _MAX_TAR_MEMBERS:
                    raise LimitError(f"{whole.where}: expected a tar file of {_MAX_TAR_MEMBERS} members, found more")
                if info.isreg():
                    members[info.name] = whole.window(info.offset_data, info.size, printable(info.name))
    except (tarfile.TarError, EOFError) as error:
        raise InvalidInputError(f"{whole.where}: expected an intact tar file, found damage") from error
    return members


def _tar_storages(machine: Machine, objects: dict[Any, Any]) -> None:
    (count,) = whole_numbers([machine.run()])
    for _ in range(count):
        key, _, kind = machine.run(machine.position)
        (length,) = struct.unpack("<q", machine.window.read(machine.position, 8))
        storage = _storage_of(("storage", kind, key, "cpu", length))
        if storage.dtype is None:
            raise InvalidInputError(f"{machine.where}: expected a storage of known size, found {storage.kind[:60]!r}")
        size = length * itemsize(storage.dtype)
        storage.window = machine.window.window(machine.position + 8, size, f"storage {printable(storage.key, 40)}")
        machine.position += 8 + size
        objects[key] = storage
    for target, source, offset, length in machine.run(machine.position):
        base = objects[source]
        whole_numbers([offset, length])
        objects[target] = Storage(str(target)[:40], base.kind, base.dtype, length, base=(base, offset))


def _tar_tensors(machine: Machine, objects: dict[Any, Any]) -> None:
    (count,) = whole_numbers([machine.run()])
    for _ in range(count):
        key, source, _ = machine.run(machine.position)
        (n_axes,) = struct.unpack("<i", machine.window.read(machine.position, 4))
        if not 0 <= n_axes < 32:
            raise ValueError("a tensor of too many axes")
        numbers = struct.unpack(f"<{2 * n_axes + 1}q", machine.window.read(machine.position + 8, 16 * n_axes + 8))
        machine.position += 16 + 16 * n_axes
        *sizes, offset = whole_numbers(numbers)
        storage = objects[source]
        objects[key] = Tensor(storage, storage.dtype, offset, tuple(sizes[:n_axes]), tuple(sizes[n_axes:]))
