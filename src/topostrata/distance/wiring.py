"""Which layer feeds which space: the order in which spaces are matched, and whether two networks have a distance.

Everything that does not depend on single connections is decided here, once, so that the alignments only see numbers:
spaces by their place in the order, layers by their position.
"""

from __future__ import annotations

from dataclasses import dataclass

from topostrata.errors import NotComparableError
from topostrata.topology import Space, Topology


@dataclass(frozen=True, slots=True)
class Wiring:
    """The spaces of a topology in matching order, and its layers as pairs of places in that order.

    First come the spaces that no layer enters (inputs), then the others, each after every space that feeds it: by the
    position of the last layer that enters them. In a plain chain that is the order of the layers.

    >>> import numpy as np
    >>> wiring_of(Topology.from_masks([np.eye(3), np.ones((3, 2))])).layers
    ((0, 1), (1, 2))
    """

    spaces: tuple[Space, ...]
    layers: tuple[tuple[int, int], ...]
    incoming: tuple[tuple[int, ...], ...]
    outgoing: tuple[tuple[int, ...], ...]

    @property
    def targets(self) -> tuple[int, ...]:
        """The spaces that some layer enters, in the order in which they are matched."""
        return tuple(s for s, layers in enumerate(self.incoming) if layers)

    def keeps_place(self, space: int, *, fix_output: bool) -> bool:
        """Whether the units of a space are compared by index instead of being matched.

        So are the spaces that no layer enters (nothing is known by which to match them) and the labelled ones; with
        ``fix_output=False`` a labelled space that no layer reads from, the network's output, is matched all the same.
        """
        if not self.incoming[space]:
            return True
        return self.spaces[space].labelled and (fix_output or bool(self.outgoing[space]))


def wiring_of(topology: Topology) -> Wiring:
    """The matching order of a topology's spaces; ``NotComparableError`` for networks that no alignment knows yet."""
    if topology.wiring.beyond_format_1 is not None:
        raise NotComparableError(f"expected a network of plain layers, found {topology.wiring.beyond_format_1}")
    last = {layer.target.name: k for k, layer in enumerate(topology.layers)}
    entered = sorted((space for space in topology.spaces if space.name in last), key=lambda space: last[space.name])
    spaces = (*(space for space in topology.spaces if space.name not in last), *entered)
    place = {space.name: s for s, space in enumerate(spaces)}
    layers = tuple((place[layer.source.name], place[layer.target.name]) for layer in topology.layers)
    return Wiring(
        spaces=spaces,
        layers=layers,
        incoming=tuple(tuple(k for k, (_, t) in enumerate(layers) if t == s) for s in range(len(spaces))),
        outgoing=tuple(tuple(k for k, (f, _) in enumerate(layers) if f == s) for s in range(len(spaces))),
    )


def check_comparable(a: Topology, b: Topology) -> None:
    """Refuse a pair that has no NNSTD: other layers between other spaces, other taps, other labelled units.

    Hidden spaces may differ in width; names do not matter. Raises ``NotComparableError`` with both wirings.
    """
    wa, wb = wiring_of(a), wiring_of(b)
    taps_a, taps_b = [layer.taps for layer in a.layers], [layer.taps for layer in b.layers]
    labelled_a, labelled_b = [space.labelled for space in wa.spaces], [space.labelled for space in wb.spaces]
    if wa.layers != wb.layers or taps_a != taps_b or labelled_a != labelled_b:
        raise NotComparableError(
            "expected two networks whose layers join the same spaces with the same taps, "
            f"found {describe(a)} and {describe(b)}",
            hint="compare networks of one architecture, or choose the layers they have in common",
        )
    for place, (space, other) in enumerate(zip(wa.spaces, wb.spaces, strict=True)):
        if space.size != other.size and (space.labelled or not wa.incoming[place]):
            raise NotComparableError(
                f"expected {space.size} units in space {other.name!r}, whose units are compared by index, "
                f"found {other.size}: {describe(a)} and {describe(b)}",
                hint="only hidden spaces may differ in width",
            )


def describe(topology: Topology) -> str:
    """The wiring in one line, for messages.

    >>> import numpy as np
    >>> describe(Topology.from_masks([np.eye(3), np.ones((3, 2))]))
    '[l0: input(3) -> hidden1(3), l1: hidden1(3) -> output(2)]'
    """
    parts = [
        f"{layer.name}: {layer.source.name}({layer.source.size}) -> {layer.target.name}({layer.target.size})"
        + (f" x{layer.taps} taps" if layer.taps > 1 else "")
        for layer in topology.layers
    ]
    return f"[{', '.join(parts)}]"
