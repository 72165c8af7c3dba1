"""A wiring as text: the TOML file that a person writes (docs/wiring.md), and the JSON document that files hold.

Both say the same. What a plain network has (spaces of one axis, layers of taps) is written as format 1 always was;
axes, groups, tap axes and parts are only there where a network has them.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from topostrata.axes import Axis, Space
from topostrata.errors import InvalidInputError, InvalidTopologyError
from topostrata.layers import LayerShape, Part

VERSION = 1  # of the text file

Document = dict[str, Any]

_LISTED = 8  # names in a message

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_LAYER_KEYS = {"name", "source", "target", "taps"}
_MORE_LAYER_KEYS = {"groups", "part"}


def document(layers: Sequence[LayerShape]) -> Document:
    """``spaces`` and ``layers`` as JSON values, and ``axes`` where spaces or taps have axes of their own."""
    spaces: dict[str, Space] = {}
    for layer in layers:
        spaces.setdefault(layer.source.name, layer.source)
        spaces.setdefault(layer.target.name, layer.target)
    axes: dict[str, Axis] = {}
    for space in spaces.values():
        if not space.plain:
            axes.update((axis.name, axis) for axis in space.axes)
    for layer in layers:
        axes.update((axis.name, axis) for axis in layer.tap_axes)
    wiring: Document = {}
    if axes:
        wiring["axes"] = [{"name": a.name, "size": a.size, "fixed": a.fixed} for a in axes.values()]
    wiring["spaces"] = [
        {"name": s.name, "size": s.size, "labelled": s.labelled}
        if s.plain
        else {"name": s.name, "axes": [a.name for a in s.axes]}
        for s in spaces.values()
    ]
    wiring["layers"] = [_layer_document(layer) for layer in layers]
    return wiring


def is_plain(layers: Sequence[LayerShape]) -> bool:
    """Whether the document of format 1 says all of them: no axes, groups or parts of their own."""
    spaces = [space for layer in layers for space in (layer.source, layer.target)]
    more = any(layer.groups > 1 or layer.tap_axes or layer.part is not None for layer in layers)
    return not more and all(space.plain for space in spaces)


def from_document(claims: Mapping[str, Any], at: str, *, plain: bool = False) -> tuple[LayerShape, ...]:
    """The layers that a document describes; ``plain``: only what format 1 knows. ``at`` begins every error message.

    Raises ``InvalidInputError``.
    """
    axes = {} if plain else _axes(claims.get("axes", []), at)
    spaces = _spaces(claims["spaces"], axes, at, plain=plain)
    layers = tuple(
        _layer(k, claim, spaces, axes, at, plain=plain) for k, claim in enumerate(_list(claims["layers"], "layers", at))
    )
    used = {name for layer in layers for name in (layer.source.name, layer.target.name)}
    idle = spaces.keys() - used
    if idle:
        raise InvalidInputError(f"{at}: spaces: expected every space in some layer, found {min(idle)!r} in none")
    return layers


def to_toml(layers: Sequence[LayerShape]) -> str:
    """The text file of a wiring; ``from_toml`` reads it back to the same layers."""
    wiring = document(layers)
    lines = [f"wiring = {VERSION}"]
    for axis in wiring.get("axes", []):
        size = f"{{ size = {axis['size']}, fixed = true }}" if axis["fixed"] else str(axis["size"])
        lines.append(f"axes.{_key(axis['name'])} = {size}")
    for space in wiring["spaces"]:
        if "axes" in space:
            value = _value(space["axes"])
        elif space["labelled"]:
            value = f"{{ size = {space['size']}, labelled = true }}"
        else:
            value = str(space["size"])
        lines.append(f"spaces.{_key(space['name'])} = {value}")
    lines.append("layers = [")
    for layer in wiring["layers"]:
        if layer["taps"] == 1:
            del layer["taps"]
        lines.append(f"    {_value(layer)},")
    lines.append("]")
    return "\n".join(lines) + "\n"


def from_toml(text: str, *, where: str = "wiring") -> tuple[LayerShape, ...]:
    """The layers of a text file. Raises ``InvalidInputError`` with the place of what is wrong."""
    try:
        claims = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInputError(f"{where}: expected TOML, found: {error}", hint="docs/wiring.md shows files") from error
    try:
        check_keys(claims, {"wiring", "spaces", "layers"}, {"axes"}, where)
    except InvalidInputError as error:
        hint = "`topostrata inspect FILE --write net.toml` writes one to edit; docs/wiring.md says what stands in it"
        raise InvalidInputError(error.message, hint=hint) from None
    if type(claims["wiring"]) is not int or claims["wiring"] != VERSION:
        raise InvalidInputError(
            f"{where}: wiring: expected version {VERSION}, found {claims['wiring']!r}",
            hint="a newer Topostrata may read it",
        )
    tables: Document = {"layers": claims["layers"]}
    for kind, flag in (("axes", "fixed"), ("spaces", "labelled")):
        table = claims.get(kind, {})
        if not isinstance(table, dict):
            raise InvalidInputError(f"{where}: {kind}: expected a table of names, found {str(table)[:80]}")
        tables[kind] = [_entry(name, value, kind, flag, where) for name, value in table.items()]
    layers = from_document(tables, where)
    idle = claims.get("axes", {}).keys() - {axis["name"] for axis in document(layers).get("axes", [])}
    if idle:
        raise InvalidInputError(
            f"{where}: axes: expected every axis in some space's list or some taps, found {min(idle)!r} in none"
        )
    return layers


def check_keys(claim: Any, required: set[str], optional: set[str], at: str) -> None:
    """Refuse anything but an object with these names."""
    known = ", ".join(sorted(required | optional))
    if not isinstance(claim, dict):
        raise InvalidInputError(f"{at}: expected an object with {known}, found {str(claim)[:80]}")
    missing, unknown = sorted(required - claim.keys()), sorted(claim.keys() - required - optional)
    if missing or unknown:
        may = f", and perhaps {', '.join(sorted(optional))}" if optional else ""
        odd = [f"no {', '.join(missing)}"] if missing else []
        odd += [f"unknown {', '.join(unknown)}"[:200]] if unknown else []
        raise InvalidInputError(f"{at}: expected {', '.join(sorted(required))}{may}; found {' and '.join(odd)}")


def _layer_document(layer: LayerShape) -> Document:
    taps: Any = [axis.name for axis in layer.tap_axes] or layer.taps
    claim: Document = {"name": layer.name, "source": layer.source.name, "target": layer.target.name, "taps": taps}
    if layer.groups > 1:
        claim["groups"] = layer.groups
    part = layer.part
    if part is not None:
        claim["part"] = {"parameter": part.parameter}
        if part.sources is not None:
            claim["part"]["sources"] = list(part.sources)
        if part.targets is not None:
            claim["part"]["targets"] = list(part.targets)
        if part.orientation is not None:
            claim["part"]["orientation"] = part.orientation
        if part.order:
            claim["part"]["order"] = list(part.order)
    return claim


def _axes(claims: Any, at: str) -> dict[str, Axis]:
    axes: dict[str, Axis] = {}
    if not isinstance(claims, list):
        raise InvalidInputError(f"{at}: axes: expected a list, found {str(claims)[:80]}")
    for k, claim in enumerate(claims):
        here = _numbered("axes", k, claim, at)
        check_keys(claim, {"name", "size"}, {"fixed"}, here)
        name, size, fixed = _text(claim, "name", here), _whole(claim, "size", here), _flag(claim, "fixed", here)
        if name in axes:
            raise InvalidInputError(f"{here}: expected every axis once, found {name!r} twice")
        try:
            axes[name] = Axis(name, size, fixed)
        except InvalidTopologyError as error:
            raise InvalidInputError(f"{here}: {error.message}") from error
    return axes


def _spaces(claims: Any, axes: Mapping[str, Axis], at: str, *, plain: bool) -> dict[str, Space]:
    spaces: dict[str, Space] = {}
    for k, claim in enumerate(_list(claims, "spaces", at)):
        here = _numbered("spaces", k, claim, at)
        product = not plain and isinstance(claim, dict) and "axes" in claim
        if product:
            check_keys(claim, {"name", "axes"}, set(), here)
            units: Any = [_known(axes, name, "axes", here) for name in _names(claim, "axes", here)]
            labelled = False
        else:
            check_keys(claim, {"name", "size"}, {"labelled"}, here)
            units, labelled = _whole(claim, "size", here), _flag(claim, "labelled", here)
        name = _text(claim, "name", here)
        if name in spaces:
            raise InvalidInputError(f"{here}: expected every space once, found {name!r} twice")
        try:
            spaces[name] = Space(name, units, labelled)
        except InvalidTopologyError as error:
            raise InvalidInputError(f"{here}: {error.message}") from error
    return spaces


def _layer(
    k: int, claim: Any, spaces: Mapping[str, Space], axes: Mapping[str, Axis], at: str, *, plain: bool
) -> LayerShape:
    here = _numbered("layers", k, claim, at)
    check_keys(claim, {"name", "source", "target"}, {"taps"} if plain else {"taps"} | _MORE_LAYER_KEYS, here)
    name = _text(claim, "name", here)
    source, target = (_known(spaces, _text(claim, end, here), end, here) for end in ("source", "target"))
    tap_axes: tuple[Axis, ...] = ()
    if not plain and isinstance(claim.get("taps"), list):
        tap_axes = tuple(_known(axes, axis_name, "taps", here) for axis_name in _names(claim, "taps", here))
        taps = 1
        for axis in tap_axes:
            taps *= axis.size
    else:
        taps = _whole({"taps": 1, **claim}, "taps", here)
    groups = _whole({"groups": 1, **claim}, "groups", here)
    part = _part(claim["part"], f"{here}: part") if "part" in claim else None
    try:
        return LayerShape(name, source, target, taps, groups, tap_axes, part)
    except InvalidTopologyError as error:
        raise InvalidInputError(f"{here}: {error.message}", hint=error.hint) from error


def _part(claim: Any, at: str) -> Part:
    check_keys(claim, {"parameter"}, {"sources", "targets", "orientation", "order"}, at)
    try:
        return Part(
            _text(claim, "parameter", at),
            _range(claim, "sources", at),
            _range(claim, "targets", at),
            claim.get("orientation"),
            tuple(_names(claim, "order", at)) if "order" in claim else (),
        )
    except InvalidTopologyError as error:
        raise InvalidInputError(f"{at}: {error.message}") from error


def _range(claim: Mapping[str, Any], name: str, at: str) -> tuple[int, int] | None:
    if name not in claim:
        return None
    edges = claim[name]
    if not isinstance(edges, list) or len(edges) != 2 or any(type(edge) is not int for edge in edges):
        raise InvalidInputError(f"{at}: {name}: expected [first, beyond the last], found {str(edges)[:80]}")
    return edges[0], edges[1]


def _entry(name: str, value: Any, kind: str, flag: str, where: str) -> Document:
    """An entry of a table as JSON has it: a size, a list of axes, or a table with more."""
    if isinstance(value, list):
        return {"name": name, "axes": value}
    if isinstance(value, dict):
        check_keys(value, {"size"}, {flag}, f"{where}: {kind}.{name}")
        return {"name": name, **value}
    return {"name": name, "size": value}


def _numbered(kind: str, k: int, claim: Any, at: str) -> str:
    name = claim.get("name") if isinstance(claim, dict) else None
    if isinstance(name, str) and name.isprintable():
        return f"{at}: {kind}[{k}] ({name[:80]})"
    return f"{at}: {kind}[{k}]"


def _known(known: Mapping[str, Any], name: str, kind: str, at: str) -> Any:
    if name not in known:
        what = "spaces" if kind in {"source", "target"} else "axes"
        more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
        listed = ", ".join(list(known)[:_LISTED]) + more or "(there are none)"
        raise InvalidInputError(f"{at}: {kind}: expected one of the {what} {listed}, found {name!r}")
    return known[name]


def _list(claim: Any, name: str, at: str) -> list[Any]:
    if not isinstance(claim, list) or not claim:
        raise InvalidInputError(f"{at}: {name}: expected a list with at least one entry, found {str(claim)[:80]}")
    return claim


def _names(claim: Mapping[str, Any], name: str, at: str) -> list[str]:
    names = claim[name]
    if not isinstance(names, list) or not all(isinstance(entry, str) for entry in names):
        raise InvalidInputError(f"{at}: {name}: expected a list of names, found {str(names)[:80]}")
    return names


def _text(claim: Mapping[str, Any], name: str, at: str) -> str:
    if not isinstance(claim[name], str):
        raise InvalidInputError(f"{at}: {name}: expected a text, found {str(claim[name])[:80]}")
    return str(claim[name])


def _whole(claim: Mapping[str, Any], name: str, at: str) -> int:
    if type(claim[name]) is not int or claim[name] < 1:
        raise InvalidInputError(f"{at}: {name}: expected a whole number from 1 on, found {claim[name]!r:.80}")
    return int(claim[name])


def _flag(claim: Mapping[str, Any], name: str, at: str) -> bool:
    value = claim.get(name, False)
    if not isinstance(value, bool):
        raise InvalidInputError(f"{at}: {name}: expected true or false, found {value!r}")
    return value


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _string(name)


def _string(text: str) -> str:
    # A JSON string without escapes beyond the basic plane is a TOML string too; names are printable.
    return json.dumps(text, ensure_ascii=False)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(name)} = {_value(inner)}" for name, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(inner) for inner in value) + "]"
    return _string(value) if isinstance(value, str) else str(value)
