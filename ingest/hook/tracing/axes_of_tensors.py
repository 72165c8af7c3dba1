"""By what the dimensions of tensors are numbered: labels that are split, joined and found to be the same.

A dimension is a product of labels, the outermost first. A label is an *atom* (hidden units, heads), a *product* (after
a view: heads x dims) or a *sum* (after a concatenation or a slice: q | k | v). Which labels are the same is kept as a
union-find over them. An atom is *fixed* where its order means something; what cannot be expressed is fixed, so that
what is said about free atoms is always true.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise


class Label:
    """By what a dimension, or a factor or summand of one, is numbered.

    ``origin`` is the label that this one was split from. Where an index of another label selects a version of its own
    of this one (q, k and v of a view as 3 x heads x dims), ``copies[other][index]`` is that version.
    """

    __slots__ = ("copies", "fixed", "origin", "parts", "same_as", "size", "summed", "why")

    def __init__(self, size: int, *, why: str = "", origin: Label | None = None) -> None:
        self.size = size
        self.fixed = bool(why)
        self.why = why
        self.origin = origin
        self.parts: list[Label] | None = None
        self.summed = False
        self.same_as: Label | None = None
        self.copies: dict[Label, dict[int, Label]] = {}

    @property
    def is_atom(self) -> bool:
        """Whether it is neither a product nor a sum."""
        return self.parts is None

    @property
    def is_sum(self) -> bool:
        """Whether its parts stand one after the other."""
        return self.parts is not None and self.summed

    @property
    def summands(self) -> list[Label]:
        """Of a sum."""
        assert self.parts is not None  # noqa: S101 - asked of sums only
        return self.parts


Dim = list[Label]


def product_of(dim: Dim) -> Label:
    """One label for a whole dimension."""
    dim = factors(dim)
    if len(dim) == 1:
        return dim[0]
    label = Label(size_of(dim))
    if dim:
        label.parts = dim
    return label


def sum_of(parts: Sequence[Label]) -> Label:
    """The labels one after the other, sums among them taken apart."""
    label = Label(sum(part.size for part in parts))
    label.parts, label.summed = _flat(parts), True
    return label


def resolved(label: Label) -> Label:
    """The label that stands for all that are the same."""
    while label.same_as is not None:
        if label.same_as.same_as is not None:
            label.same_as = label.same_as.same_as
        label = label.same_as
    return label


def factors(dim: Dim) -> Dim:
    """The factors of a dimension: products taken apart, without those of size 1."""
    row: Dim = []
    for label in map(resolved, dim):
        if label.size == 1:
            continue
        if label.parts is not None and (not label.summed or len(label.parts) == 1):
            row += factors(label.parts)
        else:
            row.append(label)
    return row


def size_of(dim: Dim) -> int:
    """How many indices a dimension has."""
    return math.prod(label.size for label in dim)


def free(size: int) -> Dim:
    """A dimension that is not yet known to be numbered by anything else."""
    return [] if size == 1 else [Label(size)]


def fixed(size: int, why: str) -> Dim:
    """A dimension whose order means something."""
    return [] if size == 1 else [Label(size, why=why)]


def atoms(dim: Dim) -> Iterator[Label]:
    """The atoms of all factors and summands."""
    for label in factors(dim):
        if label.is_sum:
            for part in label.summands:
                yield from atoms([part])
        else:
            yield label


def is_fixed(dim: Dim) -> bool:
    """Whether all its atoms are."""
    return all(atom.fixed for atom in atoms(dim))


def why_fixed(dim: Dim) -> str:
    """Why a dimension is fixed, as its first atom says."""
    nothing = "one unit" if size_of(dim) == 1 else "which part of a concatenation"
    return next((atom.why for atom in atoms(dim)), nothing)


def fix(dim: Dim, why: str) -> None:
    """The order of a dimension means something, or cannot be told: no unit of it changes places any more."""
    for atom in list(atoms(dim)):
        if not atom.fixed:
            atom.fixed, atom.why = True, why
        for versions in atom.copies.values():
            for version in versions.values():
                if not is_fixed([version]):
                    fix([version], why)


def regroup(dim: Dim, sizes: Sequence[int], meetings: list[tuple[Dim, Dim]] | None = None) -> list[Dim]:
    """The dimensions of a view: labels are split where needed; what cannot be split is fixed.

    Summands below which a view puts one axis are numbered alike: ``meetings`` takes them, to be unified in the end, so
    that they stay different units until then.

    It goes block by block, to the next boundary that both shapes have, so that a cut that fails fixes its block only.
    """
    rest, at = factors(dim), 0
    dims: list[Dim] = []
    while at < len(sizes):
        if sizes[at] == 1:
            dims.append([])
            at += 1
            continue
        block, present, wanted, beyond = [rest.pop(0)], 0, sizes[at], at + 1
        present = block[0].size
        while present != wanted:
            if present < wanted:
                block.append(rest.pop(0))
                present *= block[-1].size
            else:
                wanted *= sizes[beyond]
                beyond += 1
        dims += _regroup_block(block, sizes[at:beyond], meetings)
        at = beyond
    return dims


def unify(dim: Dim, other: Dim) -> None:
    """Two dimensions are numbered by the same: index i of one is index i of the other."""
    while True:
        dim, other = factors(dim), factors(other)
        same = 0
        while same < min(len(dim), len(other)) and dim[same] is other[same]:
            same += 1
        dim, other = dim[same:], other[same:]
        if not dim and not other:
            return
        if size_of(dim) != size_of(other):
            raise ValueError(f"expected dimensions of one size, found {size_of(dim)} and {size_of(other)}")
        first, second = dim[0], other[0]
        if first.size == second.size:
            _merge(first, second)
            dim, other = dim[1:], other[1:]
            continue
        common = math.gcd(first.size, second.size)
        if common == 1:
            fix(dim, "views that cut across each other")
            fix(other, "views that cut across each other")
            return
        for label in (first, second):
            label = resolved(label)  # noqa: PLW2901 - splitting the first may have changed what the second is
            if label.size != common and (label.is_atom or label.is_sum):
                _split(label, common, label.size // common)


def narrow(dims: Sequence[Dim], which: int, start: int, stop: int) -> list[Dim]:
    """The dimensions of a tensor of which dimension ``which`` is read from ``start`` to ``stop``.

    Read at one index, what hangs below it gets a version of its own for that index, and nothing is tied by it.
    """
    read = [factors(dim) for dim in dims]
    dim, width = read[which], stop - start
    if width == size_of(dim):
        return read
    if is_fixed(dim) and all(label.origin is None for label in dim):
        read[which] = fixed(width, why_fixed(dim))
        return read
    outer, below = dim[0], dim[1:]
    inner = size_of(below)
    if start % inner or stop % inner:
        fix(dim, "slice that cuts across axes")
        read[which] = fixed(width, "slice that cuts across axes")
        return read
    start, stop = start // inner, stop // inner
    if stop - start == 1 and outer.is_atom:
        others = below + [label for k, row in enumerate(read) if k != which for label in row]
        if any(_related(outer, label) for label in others):
            fix([outer], "read by index")
            read[which] = below
            return [[version_at(label, outer, start) for label in row] for row in read]
    if outer.is_atom and outer.fixed:
        read[which] = fixed(stop - start, outer.why) + below
        return read
    _cut(outer, [start, stop])
    outer = resolved(outer)
    inside = _summands_within(outer, start, stop)
    if inside is None:
        fix([outer], "slice that cuts across axes")
        read[which] = fixed(stop - start, "slice that cuts across axes") + below
    else:
        read[which] = (factors(inside) if len(inside) == 1 else [sum_of(inside)]) + below
    return read


def version_at(label: Label, index_of: Label, index: int) -> Label:
    """What a label is where another one has that index: a copy of its own if both come from one split."""
    if not label.is_atom or not _related(index_of, label):
        return label
    versions = label.copies.setdefault(index_of, {})
    if index not in versions:
        versions[index] = Label(label.size, why=label.why if label.fixed else "")
    return resolved(versions[index])


def stacked(rows: Sequence[Dim], index: Label, root: Label) -> Dim:
    """One dimension of several tensors that are stacked: a label with a version for each index of the new one."""
    rows = [factors(row) for row in rows]
    if all(row == rows[0] for row in rows):
        return rows[0]
    if all(is_fixed(row) for row in rows):
        return fixed(size_of(rows[0]), "stack of positions")
    label = Label(size_of(rows[0]), origin=root)
    label.copies[index] = {k: product_of(row) for k, row in enumerate(rows)}
    return [label]


def tie_copies(label: Label, index_of: Label) -> None:
    """A label has one order at all indices of another after all."""
    for version in label.copies.pop(index_of).values():
        unify([label], [version])


def _related(label: Label, other: Label) -> bool:
    """Whether two different labels come from the split of one."""
    if other is label or other.origin is None or label.origin is None:
        return False
    above = {id(ancestor) for ancestor in _ancestors(label)}
    return any(id(ancestor) in above for ancestor in _ancestors(other))


def _ancestors(label: Label) -> Iterator[Label]:
    seen: set[int] = set()
    while label.origin is not None:
        label = resolved(label.origin)
        if id(label) in seen:
            return
        seen.add(id(label))
        yield label


def _regroup_block(block: Dim, sizes: Sequence[int], meetings: list[tuple[Dim, Dim]] | None) -> list[Dim]:
    if sum(size != 1 for size in sizes) == 1:
        return [[] if size == 1 else block for size in sizes]
    if is_fixed(block) and all(label.origin is None for label in block):
        return [fixed(size, why_fixed(block)) for size in sizes]
    rest, dims = list(block), []
    for size in sizes:
        row: Dim = []
        missing = size
        while missing > 1:
            label, *rest = factors(rest)
            if missing % label.size == 0:
                row.append(label)
                missing //= label.size
            elif label.size % missing == 0:
                outer, inner = _split(label, missing, label.size // missing, meetings)
                row += factors([outer])
                rest = [inner, *rest]
                missing = 1
            else:
                fix(block, "view that cuts across axes")
                return [fixed(n, "view that cuts across axes") for n in sizes]
        dims.append(row)
    return dims


def _split(label: Label, outer: int, inner: int, meetings: list[tuple[Dim, Dim]] | None = None) -> tuple[Label, Label]:
    """Make a label, an atom or a sum, the product of two."""
    if label.is_atom:
        why = label.why if label.fixed else ""
        parts = (Label(outer, why=why, origin=label), Label(inner, why=why, origin=label))
        label.parts = list(parts)
        for index_of, versions in label.copies.items():
            for index, version in versions.items():
                for part, dim in zip(parts, regroup([version], [outer, inner]), strict=True):
                    part.copies.setdefault(index_of, {})[index] = product_of(dim)
        return parts
    summands = [resolved(part) for part in label.summands]
    if any(part.size % inner for part in summands):
        why = "view that cuts across a concatenation"
        fix([label], why)
        return Label(outer, why=why), Label(inner, why=why)
    rows = [regroup([part], [part.size // inner, inner], meetings) for part in summands]
    for _, below in rows[1:]:
        if meetings is None:
            unify(rows[0][1], below)
        else:
            meetings.append((rows[0][1], below))
    return sum_of([product_of(head) for head, _ in rows]), product_of(rows[0][1])


def _cut(label: Label, bounds: Sequence[int]) -> None:
    """Make a label, an atom or a sum, a sum with at least these inner boundaries, as far as it can be."""
    label = resolved(label)
    inner = sorted({bound for bound in bounds if 0 < bound < label.size})
    if not inner:
        return
    if label.is_atom:
        why, versions = label.why if label.fixed else "", label.copies
        label.parts = [Label(q - p, why=why, origin=label) for p, q in pairwise([0, *inner, label.size])]
        label.summed, label.copies = True, {}
        for of_index in versions.values():
            for version in of_index.values():
                unify([label], [version])
        return
    if not label.is_sum:
        fix([label], "slice that cuts across axes")
        return
    at, parts = 0, []
    for part in map(resolved, label.summands):
        within = [bound - at for bound in inner if at < bound < at + part.size]
        if within:
            _cut(part, within)
        parts.append(part)
        at += part.size
    label.parts = _flat(parts)


def _summands_within(label: Label, start: int, stop: int) -> Dim | None:
    """The summands from one index to another; None where a boundary is missing."""
    if not label.is_sum:
        return None
    at, inside = 0, []
    label.parts = _flat(label.summands)
    for part in label.summands:
        if start <= at and at + part.size <= stop:
            inside.append(part)
        elif at < stop and at + part.size > start:
            return None
        at += part.size
    return inside


def _flat(parts: Sequence[Label]) -> list[Label]:
    flat: list[Label] = []
    for part in parts:
        row = factors([part])
        if len(row) == 1 and row[0].is_sum:
            flat += _flat(row[0].summands)
        else:
            flat.append(product_of(row))
    return flat


def _bounds(parts: Sequence[Label]) -> list[int]:
    return list(accumulate(part.size for part in parts))[:-1]


def _merge(label: Label, other: Label) -> None:
    """Two labels of one size, atoms or sums, are the same from now on."""
    label, other = resolved(label), resolved(other)
    if label is other:
        return
    if not label.is_atom and not other.is_atom:
        _merge_sums(label, other)
        return
    if not label.is_atom:
        label, other = other, label
    if any(atom is label for atom in atoms([other])):
        fix([other], "an axis that holds itself")
        return
    if label.fixed:
        fix([other], label.why)
    copies, label.copies = label.copies, {}
    label.same_as = other
    if other.is_atom and other.origin is None:
        other.origin = label.origin
    for index_of, versions in copies.items():
        for index, version in versions.items():
            _take_copy(other, index_of, index, version)


def _take_copy(label: Label, index_of: Label, index: int, version: Label) -> None:
    """A label takes over the version of one that it is the same as; what is no atom has no versions."""
    label = resolved(label)
    if label.is_atom and label.fixed:
        fix([version], label.why)
    versions = label.copies.setdefault(index_of, {}) if label.is_atom else {index: label}
    if index in versions:
        unify([versions[index]], [version])
    else:
        versions[index] = version


def _merge_sums(label: Label, other: Label) -> None:
    bounds = _bounds(_flat(label.summands)) + _bounds(_flat(other.summands))
    for one_sum in (label, other):
        one_sum.parts = _flat(one_sum.summands)
        _cut(one_sum, bounds)
        one_sum.parts = _flat(one_sum.summands)
    if _bounds(label.summands) != _bounds(other.summands):
        fix([label], "concatenations that do not align")
        fix([other], "concatenations that do not align")
        return
    pairs = list(zip(label.summands, other.summands, strict=True))
    label.same_as = other
    for part, other_part in pairs:
        unify([part], [other_part])
