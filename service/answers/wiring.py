"""A wiring as a picture in text, and as a graph for programs that draw: DOT (Graphviz) and GraphML.

The picture has a heading for each space at which ways part or meet, and below it the ways that begin there, each up to
the next such space. A chain is one line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a verb loads what it asks for
    from topostrata.topology import Axis, LayerShape, Space, Wiring

_WIDTH = 100


@dataclass(slots=True)
class _Bundle:
    """Layers that join the same two spaces side by side: the gates of an LSTM, the halves of a gated unit."""

    layers: list[LayerShape]

    @property
    def source(self) -> Space:
        return self.layers[0].source

    @property
    def target(self) -> Space:
        return self.layers[0].target


def picture(wiring: Wiring, *, width: int = _WIDTH) -> str:
    """The wiring in lines of at most ``width`` characters, where names allow it.

    ``(+)`` marks an entry into a space that was entered before: the outputs are added.

    >>> from topostrata.topology import Wiring
    >>> print(picture(Wiring.chain([784, 300, 10], names=["fc1", "fc2"])))
    input 784 (labelled) ═ fc1 ═> hidden1 300 ═ fc2 ═> output 10 (labelled)
    """
    return "\n".join(_Picture(wiring, width).lines())


def dot(wiring: Wiring) -> str:
    """A DOT document for Graphviz: spaces are boxes, layers arrows, tied layers dashed."""
    lines = ["digraph wiring {", "  node [shape=box];"]
    for space in wiring.spaces:
        label = f"{space.name}\n{_units(space)}"
        lines.append(f"  {_quoted(space.name)} [label={_quoted(label)}];")
    for layer in wiring:
        more = _details(layer, wiring)
        label = f"{layer.name}\n{more}" if more else layer.name
        style = ", style=dashed" if layer.name in wiring.shared_with else ""
        ends = f"{_quoted(layer.source.name)} -> {_quoted(layer.target.name)}"
        lines.append(f"  {ends} [label={_quoted(label)}{style}];")
    return "\n".join([*lines, "}"]) + "\n"


def graphml(wiring: Wiring) -> str:
    """A GraphML document (Gephi, yEd, igraph, networkx): a node for each space, an edge for each layer."""
    import networkx as nx  # noqa: PLC0415 - behind an extra

    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for space in wiring.spaces:
        graph.add_node(space.name, units=_units(space), size=space.size, labelled=space.labelled)
    for position, layer in enumerate(wiring):
        tied = {"shared_with": wiring.shared_with[layer.name]} if layer.name in wiring.shared_with else {}
        graph.add_edge(
            layer.source.name, layer.target.name, key=layer.name, position=position, taps=layer.taps,
            groups=layer.groups, possible=layer.possible, **tied,
        )  # fmt: skip
    return "\n".join(nx.generate_graphml(graph, named_key_ids=True)) + "\n"


class _Picture:
    def __init__(self, wiring: Wiring, width: int) -> None:
        self._wiring = wiring
        self._width = width
        self._bundles = _bundled(wiring)
        self._reads: dict[str, list[int]] = {space.name: [] for space in wiring.spaces}
        self._entries: dict[str, list[int]] = {space.name: [] for space in wiring.spaces}
        for k, bundle in enumerate(self._bundles):
            self._reads[bundle.source.name].append(k)
            self._entries[bundle.target.name].append(k)
        self._loops: dict[str, list[LayerShape]] = {}
        for layer in wiring:
            if layer.loops:
                self._loops.setdefault(layer.source.name, []).append(layer)
        self._named: set[str] = set()

    def lines(self) -> Iterator[str]:
        heads = [space for space in self._wiring.spaces if self._reads[space.name] and not self._on_the_way(space)]
        heads.sort(key=lambda space: self._reads[space.name][0])
        if len(heads) == len(self._reads[heads[0].name]) == 1:
            yield from self._wrapped("", "    ", [self._space(heads[0]), *self._way(0)])
            return
        for space in heads:
            yield self._space(space)
            ways = self._reads[space.name]
            for k in ways:
                last = k == ways[-1]
                first, rest = (" ╚", "  ") if last else (" ╠", " ║")
                yield from self._wrapped(first, f"{rest}      ", list(self._way(k)))

    def _on_the_way(self, space: Space) -> bool:
        """Whether one way leads in and one on: then the space stands in the middle of a line."""
        entries, reads = self._entries[space.name], self._reads[space.name]
        return len(entries) == len(reads) == 1 and entries[0] < reads[0]

    def _way(self, k: int) -> Iterator[str]:
        """The pieces of a way: a layer with the space that it enters, and so on up to where ways part or meet."""
        while True:
            bundle = self._bundles[k]
            names = ", ".join(layer.name for layer in bundle.layers)
            details = _details(bundle.layers[0], self._wiring)
            arrow = "═(+)>" if self._entries[bundle.target.name][0] != k else "═>"
            yield f"═ {names}{f' ({details})' if details else ''} {arrow} {self._space(bundle.target)}"
            if not self._on_the_way(bundle.target):
                return
            k = self._reads[bundle.target.name][0]

    def _space(self, space: Space) -> str:
        """The name of a space; the first time also its units, and the layers that join it with itself."""
        if space.name in self._named:
            return space.name
        self._named.add(space.name)
        text = f"{space.name} {_units(space)}"
        loops = self._loops.get(space.name, [])
        if loops:
            details = _details(loops[0], self._wiring)
            text += f" ↻ {', '.join(layer.name for layer in loops)}{f' ({details})' if details else ''}"
        return text

    def _wrapped(self, first: str, rest: str, pieces: Sequence[str]) -> Iterator[str]:
        line = first
        for k, piece in enumerate(pieces):
            glue = "" if k == 0 else " "
            if k and len(line) + len(glue) + len(piece) > self._width:
                yield line
                line, glue = rest, ""
            line += glue + piece
        yield line


def _bundled(wiring: Wiring) -> list[_Bundle]:
    """Layers of one source and one target between which no other layer reads the target or enters the source."""
    open_bundles: dict[tuple[str, str], _Bundle] = {}
    order: list[_Bundle] = []
    for layer in wiring:
        if layer.loops:
            continue
        source, target = layer.source.name, layer.target.name
        bundle = open_bundles.get((source, target))
        if bundle is not None and _details(bundle.layers[0], wiring) == _details(layer, wiring):
            bundle.layers.append(layer)
        else:
            bundle = open_bundles[source, target] = _Bundle([layer])
            order.append(bundle)
        for ends in [ends for ends in open_bundles if ends[1] == source or ends[0] == target]:
            del open_bundles[ends]
    return order


def _units(space: Space) -> str:
    """How many units, by axis where there are several: ``heads 12 x dims 64``."""
    if space.plain:
        return f"{space.size} (labelled)" if space.labelled else str(space.size)
    return " x ".join(f"{_word(axis)} {axis.size}{' (fixed)' if axis.fixed else ''}" for axis in space.axes) or "1"


def _details(layer: LayerShape, wiring: Wiring) -> str:
    """Taps, groups and ties of a layer, where it has any."""
    parts = []
    if layer.tap_axes:
        parts.append("taps: " + " x ".join(f"{_word(axis)} {axis.size}" for axis in layer.tap_axes))
    elif layer.taps > 1:
        parts.append(f"{layer.taps} taps")
    if layer.groups > 1:
        parts.append(f"{layer.groups} groups")
    if layer.name in wiring.shared_with:
        parts.append(f"tied with {wiring.shared_with[layer.name]}")
    return ", ".join(parts)


def _word(axis: Axis) -> str:
    return axis.name.rpartition(".")[2] or axis.name


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
