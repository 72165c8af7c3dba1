"""Which unit is which: what is counted, what is established, matches from elsewhere, and networks put in order."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.unit.distance.kinds import pairs_of
from tests.unit.distance.networks import pairs, relabelled, rewired
from topostrata.copies import degree_kept
from topostrata.distance.alignments import Alignment
from topostrata.distance.common import common_network, row_values
from topostrata.distance.comparable import plans
from topostrata.distance.given import read_partners
from topostrata.distance.match import _counted, _Counts, align, match
from topostrata.distance.nnstd import nnstd
from topostrata.errors import InvalidInputError, NotComparableError, NotFoundError
from topostrata.topology import Topology

EITHER = st.one_of(pairs_of(), pairs())
SYMMETRIC: tuple[Alignment, ...] = ("overlap", "canonical", "identity")


def hidden(topology: Topology) -> list[str]:
    return [space.name for space in topology.spaces if not space.labelled]


@given(EITHER)
@settings(max_examples=30)
def test_a_network_put_in_order_is_compared_by_index(pair: tuple[Topology, Topology]) -> None:
    """The identity distance of A and the aligned B is the alignment's, in every kind of wiring, and B stays B."""
    a, b = pair
    narrow = any(y.size < x.size for x, y in zip(*(plan.spaces for plan in plans(a, b)), strict=True))
    for alignment in SYMMETRIC:
        if narrow:
            with pytest.raises(NotComparableError, match="at least as wide"):
                align(b, to=a, alignment=alignment)
            continue
        moved = align(b, to=a, alignment=alignment)
        distance = nnstd(a, b, alignment=alignment)
        rows = nnstd(a, moved, alignment="identity").layers
        assert [row.distance for row in rows] == pytest.approx([row.distance for row in distance.layers], abs=1e-14)
        assert nnstd(b, moved, alignment="overlap").nnstd == 0 or not distance.canonical


@given(EITHER)
@settings(max_examples=30)
def test_a_match_that_comes_back_gives_its_distance(pair: tuple[Topology, Topology]) -> None:
    """What an alignment found, handed in as partners of spaces, has the same rows; so the counts are of its match."""
    a, b = pair
    for alignment in SYMMETRIC:
        distance = nnstd(a, b, alignment=alignment)
        rows = [row.distance for row in distance.layers]
        assert row_values(common_network(a, b, plans(a, b), distance.matching)) == pytest.approx(rows, abs=1e-14)
        if not distance.held:
            own = nnstd(a, b, partners={name: distance.matching[name] for name in hidden(a)})
            assert [row.distance for row in own.layers] == pytest.approx(rows, abs=1e-14)
            assert (own.alignment, own.canonical, own.held) == ("given", False, ())


@given(EITHER)
@settings(max_examples=25)
def test_what_two_units_share_is_counted_from_their_sets(pair: tuple[Topology, Topology]) -> None:
    """Inputs and outputs in common are those of the definition; those that all units have are not counted."""
    a, b = pair
    assume([space.size for space in a.spaces] == [space.size for space in b.spaces])
    for name, count in counted(a, b, nnstd(a, b, alignment="identity").matching).items():
        assert count.common_in.tolist() == slow_counts(a, b, name, inputs=True)
        assert count.common_out.tolist() == slow_counts(a, b, name, inputs=False)


def counted(a: Topology, b: Topology, matching: Mapping[str, np.ndarray]) -> dict[str, _Counts]:
    """The counts alone, by the names of the spaces, without the independent networks that tell what they are worth."""
    both = plans(a, b)
    return {both[0].spaces[s].name: count for s, count in _counted(common_network(a, b, both, matching)).items()}


def slow_counts(a: Topology, b: Topology, space: str, *, inputs: bool) -> list[int]:
    """The definition, unit by unit, of two networks of the same widths whose units are in place."""
    plan_a, plan_b = plans(a, b)
    counts: Counter[int] = Counter()
    for k, shape in enumerate(plan_a.shapes):
        if (shape.target if inputs else shape.source).name != space:
            continue
        if not inputs and not all(axis.fixed for axis in shape.tap_axes):
            continue
        sets, full = [], set()
        for network, plan in ((a, plan_a), (b, plan_b)):
            layer = network.layers[plan.order[k]]
            sources, targets, taps = (x.tolist() for x in layer.shape.units_of(layer.mask.cells))
            near, far = (targets, sources) if inputs else (sources, targets)
            members = set(zip(near, far, taps, strict=True))
            could = (layer.target.size if inputs else layer.source.size) // layer.groups
            holders = Counter((unit, tap) for _, unit, tap in members)
            full |= {element for element, count in holders.items() if count == could}
            sets.append(members)
        counts.update(unit for unit, far, tap in sets[0] & sets[1] if (far, tap) not in full)
    (size,) = (entry.size for entry in plan_a.spaces if entry.name == space)
    return [counts[unit] for unit in range(size)]


@given(pairs())
@settings(max_examples=25)
def test_runners_up_are_the_next_best(pair: tuple[Topology, Topology]) -> None:
    """No unit of B has more in common with a unit of A than its runner-up says, nor a unit of A with its partner."""
    a, b = pair
    matching = nnstd(a, b, alignment="identity").matching
    for name, count in counted(a, b, matching).items():
        size = len(count.partner)
        if size > 5 or (count.partner < 0).any() or topology_size(b, name) != size:
            continue
        most = [0] * size
        for turn in range(1, size):
            turned = np.roll(count.partner, turn)
            shared = counted(a, b, {**matching, name: turned})[name]
            for unit, (total, other) in enumerate(zip(shared.common_in + shared.common_out, turned, strict=True)):
                for rival in (unit, count.partner.tolist().index(other)):
                    most[rival] = max(most[rival], int(total))
        assert count.runner_up.tolist() == most or any(layer.shape.loops for layer in a)


def renamed(seed: int, topology: Topology) -> tuple[Topology, dict[str, np.ndarray]]:
    places = {name: np.random.default_rng(seed).permutation(topology_size(topology, name)) for name in hidden(topology)}
    return topology.relabelled(places), places


def topology_size(topology: Topology, name: str) -> int:
    return next(space.size for space in topology.spaces if space.name == name)


@pytest.mark.parametrize(
    ("a", "b", "least"),
    [
        ("e5_s0_w0/epoch_050", "e5_s0_w4/epoch_050", (0.98, 0.98, 0.75)),
        ("e5_s0_w0/epoch_000", "e5_s0_w4/epoch_050", (0.98, 0.98, 0.75)),
    ],
)
def test_established_units_of_trained_networks_are_right(
    reference_topologies: dict[str, Topology], a: str, b: str, least: tuple[float, ...]
) -> None:
    """Two or more common connections: 99 % of the established units are the true ones, and most are established."""
    other, places = renamed(3, reference_topologies[b])
    answer = match(reference_topologies[a], other)
    assert (answer.digest_a, answer.digest_b) == (reference_topologies[a].digest, other.digest)
    assert (answer.alignment, answer.version) == ("overlap", 1)
    for space, share in zip(answer.spaces, least, strict=True):
        known = space.established
        assert space.level == 2
        assert space.told
        assert known.tolist() == (space.common >= 2).tolist()
        assert known.mean() > share
        assert (space.partner == places[space.name])[known].mean() > 0.99
        assert not known[space.common < 2].any()
    back = match(other, reference_topologies[a])
    assert (back.established, back.nnstd) == (answer.established, answer.nnstd)
    for forth, turned in zip(answer.spaces, back.spaces, strict=True):
        assert turned.margin[forth.partner].tolist() == forth.margin.tolist()
        assert turned.score[forth.partner].tolist() == forth.score.tolist()


def test_units_of_independent_networks_are_unknown(reference_topologies: dict[str, Topology]) -> None:
    """With the degrees kept and all else drawn anew, six units in ten share two connections, and none is established."""
    a, b = reference_topologies["e5_s0_w0/epoch_050"], degree_kept(reference_topologies["e5_s0_w4/epoch_050"], 5)
    answer = match(a, b)
    assert sum(int((space.common >= 2).sum()) for space in answer.spaces) > 0.5 * answer.units
    assert answer.established == 0
    assert not any(space.told for space in answer.spaces)


def dense_stem(rng: np.random.Generator, full: int) -> Topology:
    masks = [rng.random((20, 150)) < 0.1, rng.random((150, 150)) < 0.04, rng.random((150, 10)) < 0.1]
    masks[full] = np.ones_like(masks[full])
    return Topology.from_masks(masks)


@pytest.mark.parametrize("full", [0, 2])
def test_what_all_units_have_is_no_evidence(full: int) -> None:
    """A dense first layer and a full last one: their connections are common to all, and are counted for nobody."""
    rng = np.random.default_rng(0)
    a = dense_stem(rng, full)
    b, places = renamed(1, rewired(rng, a, 0.05))
    space = match(a, b)["hidden1" if full == 0 else "hidden2"]
    counts = space.common_in if full == 0 else space.common_out
    assert counts.tolist() == [0] * 150
    assert space.told
    known = space.established
    assert known.mean() > 0.8
    assert (space.partner == places[space.name])[known].mean() > 0.98
    nothing = Topology.from_masks([np.ones((5, 8)), np.ones((8, 3))])
    assert match(nothing, nothing).established == 0


def test_twins_have_no_margin() -> None:
    """Where two units of B have the same connections, neither is surely the counterpart: the margin says so."""
    rng = np.random.default_rng(2)
    masks = [rng.random((60, 90)) < 0.05, rng.random((90, 60)) < 0.05]
    masks[0][:, 1], masks[1][1] = masks[0][:, 0], masks[1][0]
    a = Topology.from_masks(masks)
    b, _ = renamed(4, a)
    margins = match(a, b)["hidden1"].margin
    assert margins[:2].tolist() == [0, 0]
    assert np.median(margins[2:]) > 3


def test_rows_go_out_as_frames_and_files(tmp_path: Path) -> None:
    """A row a unit in pandas and in CSV, the same."""
    rng = np.random.default_rng(0)
    a = Topology.from_masks([rng.random((6, 5)) < 0.5, rng.random((5, 3)) < 0.5])
    answer = match(a, relabelled(rng, a))
    table = answer.to_pandas()
    assert list(table["partner"]) == answer["hidden1"].partner.tolist()
    assert list(table.columns) == [
        "space",
        "unit",
        "partner",
        "common_in",
        "common_out",
        "runner_up",
        "margin",
        "score",
        "established",
    ]
    answer.to_csv(tmp_path / "match.csv")
    lines = (tmp_path / "match.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].split(",") == list(table.columns)
    assert [line.split(",")[2] for line in lines[1:]] == [str(unit) for unit in table["partner"]]
    with pytest.raises(NotFoundError, match="expected one of hidden1"):
        answer["hidden2"]


SMALL = Topology.from_masks([[[1, 0, 1], [1, 1, 0]], [[1, 0], [0, 1], [1, 1]], [[1], [1]]])
TURNED = SMALL.relabelled({"hidden1": np.array([1, 2, 0]), "hidden2": np.array([1, 0])})


def test_partners_have_the_name_of_a_space_or_of_the_layer_that_enters_it() -> None:
    """Both ways; without them the same match, by index, is another distance."""
    for names in (("hidden1", "hidden2"), ("l0", "l1")):
        assert nnstd(SMALL, TURNED, partners={names[0]: [1, 2, 0], names[1]: np.array([1, 0])}).nnstd == 0
    assert nnstd(SMALL, TURNED, alignment="identity").nnstd > 0
    assert match(SMALL, TURNED, partners={"hidden1": [1, 2, 0], "hidden2": [1, 0]}).alignment == "given"


@pytest.mark.parametrize(
    ("partners", "message"),
    [
        ({"hidden1": [1, 2, 0]}, "missing hidden2"),
        (
            {"hidden1": [1, 2, 0], "hidden2": [1, 1]},
            "expected a permutation of the 2 units, found unit 1 more than once",
        ),
        ({"hidden1": [1, 2, 3], "hidden2": [1, 0]}, "found 3"),
        ({"hidden1": [1, 2], "hidden2": [1, 0]}, "found 2 entries where A has 3"),
        ({"hidden1": [1, 2, -1], "hidden2": [1, 0]}, "found 1 units without a partner"),
        ({"hidden1": [1.0, 2.0, 0.0], "hidden2": [1, 0]}, "expected a flat array of whole numbers"),
        ({"hidden1": [[1, 2], [0]], "hidden2": [1, 0]}, "expected a flat array of whole numbers"),
        ({"hidden3": [1, 0]}, "expected the names of A's spaces"),
        ({"l0": [1, 2, 0], "hidden1": [1, 2, 0], "hidden2": [1, 0]}, "found two"),
        ({"hidden1": [1, 2, 0], "hidden2": [1, 0], "input": [1, 0]}, "an order of their own"),
    ],
)
def test_partners_that_are_no_permutations_are_refused(partners: dict[str, object], message: str) -> None:
    """Each error names the space, what was expected and what was found."""
    with pytest.raises(InvalidInputError, match=message):
        nnstd(SMALL, TURNED, partners=partners)


def test_partners_and_chance_exclude_each_other() -> None:
    """Chance is matched by an alignment, which partners are not."""
    with pytest.raises(InvalidInputError, match="found both"):
        nnstd(SMALL, SMALL, partners={"hidden1": [0, 1, 2], "hidden2": [0, 1]}, chance="degrees")


def test_partners_are_read_from_files(tmp_path: Path) -> None:
    """npz and JSON, with the same arrays; what is neither is refused by the file's name."""
    np.savez(tmp_path / "found.npz", hidden1=np.array([1, 2, 0]), hidden2=np.array([1, 0], dtype=np.int32))
    (tmp_path / "found.json").write_text(json.dumps({"hidden1": [1, 2, 0], "hidden2": [1, 0]}), encoding="utf-8")
    for name in ("found.npz", "found.json"):
        partners = read_partners(tmp_path / name)
        assert {key: array.tolist() for key, array in partners.items()} == {"hidden1": [1, 2, 0], "hidden2": [1, 0]}
    for text in ("[1, 2]", "{}", '{"hidden1": "x"}', "nothing", '{"hidden1": 3}'):
        (tmp_path / "bad.json").write_text(text, encoding="utf-8")
        with pytest.raises(InvalidInputError, match=r"bad\.json: "):
            read_partners(tmp_path / "bad.json")
    with pytest.raises(InvalidInputError, match="nowhere"):
        read_partners(tmp_path / "nowhere.json")
    np.savez(tmp_path / "objects.npz", hidden1=np.array([{}], dtype=object))
    with pytest.raises(InvalidInputError, match=r"objects\.npz: "):
        read_partners(tmp_path / "objects.npz")


def test_a_wider_network_keeps_what_is_left_over_behind() -> None:
    """Its first units are those of the narrower one, and nothing of it is lost."""
    rng = np.random.default_rng(5)
    wide = Topology.from_masks([rng.random((30, 40)) < 0.2, rng.random((40, 6)) < 0.3])
    chosen = rng.permutation(40)[:30]
    narrow = Topology.from_masks([np.asarray(wide["l0"].mask)[:, chosen], np.asarray(wide["l1"].mask)[chosen]])
    moved = align(wide, to=narrow)
    assert (np.asarray(moved["l0"].mask)[:, :30] == np.asarray(narrow["l0"].mask)).all()
    assert nnstd(wide, moved).nnstd == 0
    with pytest.raises(NotComparableError, match="align the wider one"):
        align(narrow, to=wide)


def test_labelled_units_stay_where_they_are() -> None:
    """The reference matches outputs too; where they change places, no network in order can show it."""
    a = Topology.from_masks([[[1, 0], [0, 1]]])
    b = Topology.from_masks([[[0, 1], [1, 0]]])
    with pytest.raises(NotComparableError, match="order of their own"):
        align(b, to=a, alignment="reference")
    assert align(b, to=a) == b
