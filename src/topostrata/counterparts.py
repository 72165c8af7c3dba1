"""Which layer of one wiring corresponds to which layer of another, as a comparison of networks needs to know."""

from __future__ import annotations

from collections.abc import Sequence

from topostrata.axes import Axis, joined_axes
from topostrata.errors import NotComparableError
from topostrata.layers import LayerShape
from topostrata.order import normal_order, stages
from topostrata.sharing import owners

Layers = Sequence[LayerShape]
Row = tuple[tuple[str | None, int], ...]  # axes as `joined_axes` gives them


def counterparts(a: Layers, b: Layers) -> tuple[int, ...]:
    """For each layer of ``a`` the position of its counterpart in ``b``.

    By their names where both have the same names, otherwise by the normal order of each. Free axes may differ in size
    (networks of other widths), fixed ones and taps may not. Raises ``NotComparableError`` with the first two layers
    that do not correspond.
    """
    if len(a) != len(b):
        raise NotComparableError(f"expected {len(a)} layers in both networks, found {len(b)} in the other")
    places = {layer.name: k for k, layer in enumerate(b)}
    if places.keys() == {layer.name for layer in a}:
        partners = tuple(places[layer.name] for layer in a)
    else:
        partner = dict(zip(normal_order(a), normal_order(b), strict=True))
        partners = tuple(partner[k] for k in range(len(a)))
    names: dict[tuple[str, str], str] = {}
    for layer, at in zip(a, partners, strict=True):
        if not _alike(layer, b[at], names):
            raise _different(layer, b[at])
    _check_ties(a, b, partners)
    _check_stages(a, b, partners)
    return partners


def _alike(layer: LayerShape, other: LayerShape, names: dict[tuple[str, str], str]) -> bool:
    """Whether two layers join corresponding spaces alike; ``names`` collects which name stands for which."""
    ends = ((layer.source, other.source), (layer.target, other.target))
    rows = [(joined_axes(end.axes), joined_axes(partner.axes)) for end, partner in ends]
    rows.append((_tap_axes(layer), _tap_axes(other)))
    return (
        _group_axes(layer) == _group_axes(other)
        and all(_same(names, "space", end.name, partner.name) for end, partner in ends)
        and all(_same_axes(names, end, partner) for end, partner in rows)
    )


def _tap_axes(layer: LayerShape) -> Row:
    return joined_axes(layer.tap_axes or (Axis("taps", layer.taps, fixed=True),))


def _same_axes(names: dict[tuple[str, str], str], row: Row, other_row: Row) -> bool:
    """Whether two rows of axes are fixed in the same places and sizes, and free in corresponding axes."""
    if [name is None for name, _ in row] != [name is None for name, _ in other_row]:
        return False
    return all(
        size == other_size if name is None or other is None else _same(names, "axis", name, other)
        for (name, size), (other, other_size) in zip(row, other_row, strict=True)
    )


def _same(names: dict[tuple[str, str], str], kind: str, name: str, other: str) -> bool:
    """Whether a name stands for one name only, in both directions."""
    return names.setdefault((kind, name), other) == other and names.setdefault((f"{kind} back", other), name) == name


def _group_axes(layer: LayerShape) -> int:
    """How many of the first axes number the groups; their sizes may differ between networks."""
    joint, count = 1, 0
    while joint < layer.groups:
        joint *= layer.source.axes[count].size
        count += 1
    return count


def _check_ties(a: Layers, b: Layers, partners: tuple[int, ...]) -> None:
    groups = []
    for layers, places in ((a, partners), (b, tuple(range(len(b))))):
        tied = owners(layers)
        sets: dict[int, set[int]] = {}
        for k, owner in tied.items():
            sets.setdefault(owner, {places[owner]}).add(places[k])
        groups.append({frozenset(tie) for tie in sets.values()})
    odd = groups[0] ^ groups[1]
    if odd:
        back = {place: k for k, place in enumerate(partners)}
        at = min(min(tie) for tie in odd)
        raise _different(a[back[at]], b[at], "other layers are tied with it")


def _check_stages(a: Layers, b: Layers, partners: tuple[int, ...]) -> None:
    theirs = stages(b)
    for name, mine in stages(a).items():
        some = next(k for stage in mine for k in (*stage.entries, *stage.loops))
        other = theirs[b[partners[some]].target.name]
        if [{partners[k] for k in stage.entries} for stage in mine] != [set(stage.entries) for stage in other]:
            raise _different(a[some], b[partners[some]], f"the layers into {name!r} stand in another order")


def _different(layer: LayerShape, other: LayerShape, why: str = "") -> NotComparableError:
    reason = f": {why}" if why else ""
    return NotComparableError(
        f"expected two networks of one wiring, found {_text(layer)} where the other has {_text(other)}{reason}",
        hint="compare networks of one architecture, or choose the layers they have in common",
    )


def _text(layer: LayerShape) -> str:
    more = [f"{layer.taps} taps"] if layer.taps > 1 else []
    more += [f"{layer.groups} groups"] if layer.groups > 1 else []
    axes = [" x ".join(f"{'=' if a.fixed else ''}{a.size}" for a in s.axes) for s in (layer.source, layer.target)]
    ends = f"{layer.source.name}({axes[0]}) -> {layer.target.name}({axes[1]})"
    return f"{layer.name!r} ({', '.join([ends, *more])})"
