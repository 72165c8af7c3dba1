"""Which networks have a distance, and which layer of one is compared with which of the other."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.distance.kinds import KINDS, drawn
from tests.wirings import MODELS, labelled
from topostrata.distance.alignments import Alignment
from topostrata.distance.comparable import plans
from topostrata.distance.nnstd import nnstd
from topostrata.distance.pairwise import distances
from topostrata.errors import NotComparableError
from topostrata.topology import Axis, Layer, LayerShape, Space, Topology, Wiring


def renamed(topology: Topology, order: list[int] | None = None) -> Topology:
    """The same network with other names of layers, spaces and axes, its layers in another order."""
    axes: dict[str, Axis] = {}
    spaces: dict[str, Space] = {}

    def axis(old: Axis) -> Axis:
        return axes.setdefault(old.name, Axis(f"axis {len(axes)}", old.size, old.fixed))

    def space(old: Space) -> Space:
        return spaces.setdefault(old.name, Space(f"space {len(spaces)}", [axis(a) for a in old.axes]))

    layers = [topology.layers[k] for k in order or range(len(topology))]
    return Topology(
        tuple(
            Layer(
                f"layer {k}", space(layer.source), space(layer.target), layer.mask, layer.groups,
                tuple(map(axis, layer.tap_axes)),
            )
            for k, layer in enumerate(layers)
        )
    )  # fmt: skip


@pytest.mark.parametrize("kind", sorted({*KINDS} - {"tied"}))
def test_names_do_not_matter(kind: str) -> None:
    """Networks whose layers, spaces and axes have other names compare as before."""
    rng = np.random.default_rng(4)
    net = drawn(rng, kind)
    a, b = net.topology(rng), net.topology(rng)
    expected = [row.distance for row in nnstd(a, b).layers]
    assert [row.distance for row in nnstd(a, renamed(b)).layers] == expected
    assert [row.distance for row in nnstd(renamed(b), a).layers] == expected


def test_a_wiring_that_is_written_in_another_order_is_the_same() -> None:
    """q and v of one block change places, and k and q of another."""
    rng = np.random.default_rng(5)
    net = MODELS["llama"]()
    a, b = net.topology(rng), net.topology(rng)
    names = [layer.name for layer in b.layers]
    order = list(range(len(names)))
    for first, second in (("layers.0.q_proj", "layers.0.v_proj"), ("layers.1.k_proj", "layers.1.q_proj")):
        i, j = names.index(first), names.index(second)
        order[i], order[j] = order[j], order[i]
    other = Topology(tuple(b.layers[k] for k in order))
    assert [row.distance for row in nnstd(a, other).layers] == [row.distance for row in nnstd(a, b).layers]


def test_gates_are_compared_by_their_names_where_both_networks_have_them() -> None:
    """The normal order leaves open which gate of an LSTM is which; the value is symmetric to the bit all the same."""
    rng = np.random.default_rng(6)
    net = MODELS["lstm"]()
    a = net.topology(rng)
    gates = [layer.name for layer in a.layers]
    order = [gates.index(name) for name in turned_gates(gates)]
    b = Topology(tuple(a.layers[k] for k in order))
    for x, y in ((a, b), (b, a)):
        assert nnstd(x, y).nnstd == 0.0
        assert nnstd(x, y, alignment="identity").nnstd == 0.0
    other = net.topology(rng)
    mixed = Topology(tuple(other.layers[k] for k in order))
    forth, back = nnstd(a, mixed), nnstd(mixed, a)
    assert [row.distance for row in forth.layers] == [row.distance for row in back.layers]
    assert forth.nnstd == pytest.approx(nnstd(a, other).nnstd, abs=1e-12)


def test_plain_networks_that_differ_as_written_are_compared_too() -> None:
    """Two branches in either order; a matrix of them has the values of its pairs."""
    source, out = labelled("x", 4), Space("out", 3)
    left, right = Space("left", 3), Space("right", 2)
    shapes = [
        LayerShape("l", source, left, taps=2),
        LayerShape("r", source, right),
        LayerShape("lo", left, out),
        LayerShape("ro", right, out),
        LayerShape("last", out, labelled("y", 2)),
    ]
    rng = np.random.default_rng(8)

    def network(order: list[int]) -> Topology:
        wiring = Wiring(tuple(shapes[k] for k in order))
        arrays = {layer.name: rng.random((layer.target.size, layer.source.size * layer.taps)) < 0.5 for layer in shapes}
        return wiring.place(arrays, orientation="out-in")

    a, b, c = network([0, 1, 2, 3, 4]), network([1, 0, 3, 2, 4]), network([0, 1, 2, 3, 4])
    assert nnstd(a, b).nnstd == nnstd(b, a).nnstd
    straight = Topology(tuple(b[layer.name] for layer in a.layers))
    assert nnstd(a, b).nnstd == pytest.approx(nnstd(a, straight).nnstd, abs=1e-12)
    alignments: tuple[Alignment, ...] = ("overlap", "canonical")
    for alignment in alignments:
        for networks in ((a, b, c), (b, c, a)):
            matrix = distances(networks, alignment=alignment, workers=1)
            assert matrix.nnstd[0, 1] == nnstd(*networks[:2], alignment=alignment).nnstd
            assert matrix.nnstd[1, 2] == nnstd(*networks[1:], alignment=alignment).nnstd


def test_other_architectures_are_refused_with_both_wirings() -> None:
    """The error of two architectures that differ lists both."""
    rng = np.random.default_rng(9)
    residual, depthwise = (drawn(rng, kind).topology(rng) for kind in ("residual", "depthwise"))
    with pytest.raises(NotComparableError, match=r"stem: image\(3\) -> stream.*depthwise0: wide0.* groups"):
        nnstd(residual, depthwise)


def test_the_error_of_deep_networks_stays_short() -> None:
    """The first layers of each wiring are named, the others counted."""
    deep, deeper = (Topology.from_masks([np.eye(2)] * layers) for layers in (200, 300))
    with pytest.raises(NotComparableError, match=r"l11: .*and 188 more\].*and 288 more\]") as refusal:
        nnstd(deep, deeper)
    assert len(refusal.value.message) < 2000


def test_fixed_axes_have_one_size_and_free_ones_may_differ() -> None:
    """Heads of 2 and of 3 dims have a distance; with rotary positions, whose order means something, they have none."""

    def network(dims: int, *, fixed: bool) -> Topology:
        head = Space("q", [Axis("heads", 2), Axis("dims", dims, fixed=fixed)])
        return Wiring((LayerShape("q", labelled("x", 3), head),)).place({"q": np.ones((3, head.size))})

    distance = nnstd(network(2, fixed=False), network(3, fixed=False))
    assert distance.nnstd == pytest.approx(2 / 6)
    with pytest.raises(NotComparableError):
        nnstd(network(2, fixed=True), network(3, fixed=True))


def test_both_plans_have_one_form() -> None:
    """Whatever the order, layer by layer the same spaces, contexts and rows."""
    rng = np.random.default_rng(10)
    for make in MODELS.values():
        topology = make().topology(rng)
        first, second = plans(topology, topology)
        assert first.form == second.form


def turned_gates(names: list[str]) -> list[str]:
    """The gates of each group of neighbours in the other order."""
    groups: list[list[str]] = []
    for name in names:
        if groups and groups[-1][0][:4] == name[:4]:
            groups[-1].append(name)
        else:
            groups.append([name])
    return [name for group in groups for name in reversed(group)]
