"""Trees of arrays as JAX programs keep them (Flax, Orbax): which leaf is called what.

A name is the keys joined by dots. A box of Flax around one array (``{"value": array}``, of ``nnx`` and ``Partitioned``)
is looked through. The masks of JaxPruner lie in the state of the optimiser (``SparseState``: ``masks``,
``inner_state``, ...); they are the network's, so they are called ``masks.<keys>``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from topostrata.errors import InvalidInputError
from topostrata.ingest.formats.array_file import ArrayFile
from topostrata.ingest.formats.stored import LeftOut, StoredArray

Keys = tuple[str, ...]


def named_file(
    where: str,
    leaves: Mapping[Keys, StoredArray],
    left_out: Iterable[LeftOut] = (),
    numbers: Mapping[str, int | float] | None = None,
) -> ArrayFile:
    """The arrays of a tree, whose kernels have targets last and whose pictures have channels last."""
    inside = {keys[:k] for keys in leaves for k in range(len(keys))}
    children: dict[Keys, set[str]] = {}
    for keys in [*leaves, *inside]:
        if keys:
            children.setdefault(keys[:-1], set()).add(keys[-1])
    sparse = {keys for keys, names in children.items() if {"masks", "inner_state"} <= names}
    arrays: dict[str, StoredArray] = {}
    for keys, array in leaves.items():
        boxed = len(keys) > 1 and keys[-1] == "value" and children[keys[:-1]] == {"value"}
        path = keys[:-1] if boxed else keys
        state = next((path[:k] for k in range(len(path)) if path[:k] in sparse and path[k] == "masks"), None)
        name = ".".join(path[len(state) :] if state is not None else path)
        if name in arrays:
            raise InvalidInputError(f"{where}: expected every array once, found {name[:200]!r} twice")
        arrays[name] = replace(array, name=name, place=f"{'.'.join(keys)}, {array.place}")
    return ArrayFile(
        where,
        arrays,
        "in-out",
        sure=True,
        in_order=True,
        flatten="channels-last",
        left_out=tuple(left_out),
        numbers=numbers or {},
    )
