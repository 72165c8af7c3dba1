"""Whether the arrays of a file are those of a family: every name has its row, every row its array, all widths agree.

Nothing may be left over: an array that a family does not know may be a layer that changes what feeds what, or a norm
under which units are not interchangeable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from topostrata.ingest.families.structure import Family, Row
from topostrata.ingest.formats.array_file import AxisOrder
from topostrata.ingest.formats.cells import dims
from topostrata.ingest.formats.roles import ArrayRole, stem_of

_MOST_BLOCKS = 4096
_WRAPPED = 4  # how many words may stand before the names of a network


class MisfitError(Exception):
    """The arrays are not those of the family; the text says which of them is the first that differs."""

    def __init__(self, reason: str, known: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.known = known


@dataclass(frozen=True, slots=True)
class Use:
    """A row with the array that it is: the spaces that it joins (by name), its taps and groups."""

    row: Row
    name: str
    role: ArrayRole
    block: str
    source: str
    targets: tuple[str, ...]
    taps: int
    groups: int


@dataclass(frozen=True, slots=True)
class Fit:
    """A family whose rows all have their arrays. ``sizes`` are those of the spaces, ``labelled`` their names."""

    family: Family
    root: str
    axes: AxisOrder
    uses: tuple[Use, ...]
    sizes: Mapping[str, int]
    labelled: frozenset[str]
    norms: tuple[str, ...]
    stream: str
    untied: tuple[Row, ...]

    def use_of(self, name: str) -> Use | None:
        """The use of the row of this name."""
        names = {spelling.replace("~", self.root) for spelling in name.split("|")}
        return next((use for use in self.uses if use.name in names), None)


@dataclass
class _Names:
    """The arrays of a file by the layers that they belong to."""

    layers: dict[str, ArrayRole] = field(default_factory=dict)
    others: list[tuple[str, ArrayRole]] = field(default_factory=list)


def fits(family: Family, roles: Sequence[ArrayRole], axes: AxisOrder) -> Fit:
    """The family in these arrays, in one order of axes; ``MisfitError`` where they are not it.

    What stands before all names (``net.``, ``base_model.``) is left out.
    """
    nearest = MisfitError("")
    for names in _unwrapped(roles):
        for root in family.roots:
            for block in family.block.split("|"):
                try:
                    return _Fitting(family, root, block.replace("~", root), axes, names).fit()
                except MisfitError as misfit:
                    nearest = max(nearest, misfit, key=lambda other: other.known)
    raise nearest


def _unwrapped(roles: Sequence[ArrayRole]) -> Iterator[_Names]:
    """The names of the file, then without the first word where all have the same, and so on."""
    stems = {role.name: role.stem for role in roles}
    for _ in range(_WRAPPED):
        yield _names(roles, stems)
        layers = [stems[role.name] for role in roles if role.holds_layer]
        first = {stem.split(".", 1)[0] for stem in layers}
        if len(first) != 1 or not all("." in stem for stem in layers):
            return
        prefix = f"{first.pop()}."
        stems = {name: stem_of(s.removeprefix(prefix)) for name, s in stems.items()}


def _names(roles: Sequence[ArrayRole], stems: Mapping[str, str]) -> _Names:
    names = _Names()
    for role in roles:
        stem = stems[role.name]
        position = role.role == "buffer" and len(role.array.shape) == 2
        if role.holds_layer or position:
            names.layers.setdefault(stem, role)
            if names.layers[stem] is role:
                continue
        if role.role not in {"buffer", "optimiser", "average"}:
            names.others.append((stem, role))
    return names


class _Fitting:
    """One attempt: a family, a root, a spelling of its blocks."""

    def __init__(self, family: Family, root: str, block: str, axes: AxisOrder, names: _Names) -> None:
        self._family, self._root, self._block, self._axes, self._names = family, root, block, axes, names
        self._uses: list[Use] = []
        self._sizes: dict[str, int] = {}
        self._first: dict[str, str] = {}  # space -> the array that gave it its size
        self._current: dict[str, str] = {}
        self._labelled: set[str] = set()
        self._untied: list[Row] = []
        self._has_blocks = False

    def fit(self) -> Fit:
        family = self._family
        self._section("", family.before)
        for block in self._blocks():
            self._section(block, family.rows)
        self._section("", family.after)
        norms = self._leftover()
        return Fit(
            family,
            self._root,
            self._axes,
            tuple(self._uses),
            self._sizes,
            frozenset(self._labelled),
            norms,
            self._current["stream"],
            tuple(self._untied),
        )

    def _misfit(self, reason: str) -> MisfitError:
        return MisfitError(reason, len(self._uses) + self._has_blocks)

    def _blocks(self) -> list[str]:
        """How the names of each block begin, in their order: no number may be left out."""
        pattern = re.compile(re.escape(self._block).replace(r"\*", r"(\d{1,6})"))
        numbers = {
            tuple(map(int, match.groups())) for name in self._names.layers if (match := pattern.match(name)) is not None
        }
        if not numbers:
            raise self._misfit(f"no {self._block}")
        self._has_blocks = True
        if len(numbers) > _MOST_BLOCKS:
            raise self._misfit(f"more than {_MOST_BLOCKS} blocks")
        blocks = sorted(numbers)
        for outer in sorted({block[:-1] for block in blocks}):
            inner = [block[-1] for block in blocks if block[:-1] == outer]
            if inner != list(range(len(inner))):
                raise self._misfit(f"its blocks are {', '.join(map(str, inner[:8]))}, expected all from 0 on")
        stages = sorted({block[0] for block in blocks})
        if len(blocks[0]) > 1 and stages != list(range(1, len(stages) + 1)):
            raise self._misfit(f"its stages are {', '.join(map(str, stages))}, expected all from 1 on")
        return [_numbered(self._block, block) for block in blocks]

    def _section(self, block: str, rows: Sequence[Row]) -> None:
        prepared: list[tuple[Row, str, ArrayRole]] = []
        for row in rows:
            names = [block + name.replace("~", self._root) for name in row.names]
            present = [name for name in names if name in self._names.layers]
            if len(present) > 1:
                raise self._misfit(f"both {present[0]!r} and {present[1]!r} are there")
            if present:
                prepared.append((row, present[0], self._names.layers[present[0]]))
            elif row.tied:
                self._untied.append(row)
            elif not row.optional:
                raise self._misfit(f"there is no {names[0]!r}")
        before = dict(self._current)
        for row, _, _ in prepared:
            if row.opens:
                (place,) = row.places
                self._current[place] = f"{block}{place}"
        for row, name, role in prepared:
            source = self._source(row, block, before if block else self._current)
            targets = tuple(self._space(place, block, self._current) for place in row.places)
            self._join(row, name, role, block, source, targets)

    def _source(self, row: Row, block: str, current: dict[str, str]) -> str:
        *first, last = row.source.split("|")
        place = next((place for place in first if place in current), last)
        return self._space(place, block, current)

    def _space(self, place: str, block: str, current: dict[str, str]) -> str:
        if place.startswith("."):
            return block + place[1:]
        if place.startswith("#"):
            self._labelled.add(place[1:])
            return place[1:]
        if current is not self._current and place not in current:
            raise self._misfit(f"nothing enters {place}")
        return current.setdefault(place, place)

    def _join(self, row: Row, name: str, role: ArrayRole, block: str, source: str, targets: tuple[str, ...]) -> None:
        """Take the widths of an array, and compare them with those that are known."""
        shape = role.array.shape
        matrix = row.kind != "kernel"
        if (len(shape) == 2) != matrix or min(shape, default=0) < 1:
            what = "a matrix" if matrix else "a kernel of 3 or more axes"
            raise self._misfit(f"{role.name!r} has shape {_shown(shape)}, expected {what}")
        n_source, n_target, taps = dims(shape, row.order(self._axes))
        groups = 1
        known = self._sizes.get(source)
        attention = self._family.attention
        if attention is not None and not attention.within and row.source == attention.v:
            self._agree(role, "sources", n_source, block + attention.q[1:])
        elif known is not None and row.grouped and n_source < known and known % n_source == 0:
            groups = known // n_source
            if n_target % groups or groups == known:
                raise self._misfit(f"{role.name!r} has shape {_shown(shape)}, as {groups} groups it does not fit")
        elif known is not None and row.picture and n_source > known and n_source % known == 0:
            taps = n_source // known
        else:
            self._agree(role, "sources", n_source, source)
        if n_target % len(targets):
            raise self._misfit(f"{role.name!r} has {n_target} targets, expected {len(targets)} equal shares")
        for target in targets:
            self._agree(role, "targets", n_target // len(targets), target)
        self._uses.append(Use(row, name, role, block, source, targets, taps, groups))

    def _agree(self, role: ArrayRole, end: str, size: int, space: str) -> None:
        known = self._sizes.setdefault(space, size)
        first = self._first.setdefault(space, role.name)
        if known != size:
            raise self._misfit(f"{role.name!r} has {size} {end}, expected {known} as {first!r} has")

    def _leftover(self) -> tuple[str, ...]:
        """The arrays that work on each unit alone; a misfit where an array is not known."""
        uses = {use.name: use for use in self._uses}
        plain = self._family.plain.split()
        norms: list[str] = []
        for name, role in (*self._names.layers.items(), *self._names.others):
            use, shape = uses.get(name.removesuffix("_bias") if role.role == "bias" else name), role.array.shape
            if use is not None and role is use.role:
                continue
            if use is not None and role.role == "original" and shape == use.role.array.shape:
                continue
            if use is not None and role.role == "bias":
                if shape != (sum(self._sizes[target] for target in use.targets),):
                    raise self._misfit(f"{role.name!r} has shape {_shown(shape)}, which is not that of its layer")
            elif _plain(name, role, plain):
                norms.append(role.name)
            elif shape and role.role != "buffer":
                raise self._misfit(f"{role.name!r} ({_shown(shape)}) is none of its parameters")
        return tuple(norms)


def _plain(name: str, role: ArrayRole, words: Sequence[str]) -> bool:
    """Whether an array works on each unit alone: a vector, or one for each of several tokens."""
    shape = role.array.shape
    flat = len(shape) < 2 or (len(shape) == 3 and shape[0] == 1)
    return flat and any(f".{word}." in f".{name}." for word in words)


def _numbered(pattern: str, numbers: Sequence[int]) -> str:
    for number in numbers:
        pattern = pattern.replace("*", str(number), 1)
    return pattern


def _shown(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "one number"
