"""The text file of a wiring: what a person may write, and where an error is said to be."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topostrata.errors import InvalidInputError
from topostrata.topology import LayerShape, Space, Wiring

NAMES = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), min_size=1, max_size=12)

PLAIN = """
wiring = 1
spaces.input = { size = 784, labelled = true }
spaces.hidden = 300
spaces.output = { size = 10, labelled = true }
layers = [
    { name = "fc1", source = "input", target = "hidden" },
    { name = "fc2", source = "hidden", target = "output" },
]
"""


def test_a_plain_network_is_a_few_lines() -> None:
    """What a person writes is what is written."""
    wiring = Wiring.from_toml(PLAIN)
    assert wiring.to_toml() == PLAIN.removeprefix("\n")
    assert wiring.format == 1


def test_tables_may_be_written_either_way() -> None:
    """TOML's other spellings of the same tables are the same wiring."""
    longer = """
    wiring = 1
    [spaces]
    input = { size = 784, labelled = true }
    hidden = { size = 300 }
    output = { size = 10, labelled = true }
    [[layers]]
    name = "fc1"
    source = "input"
    target = "hidden"
    taps = 1
    [[layers]]
    name = "fc2"
    source = "hidden"
    target = "output"
    """
    assert Wiring.from_toml(longer) == Wiring.from_toml(PLAIN)


@given(st.lists(NAMES, min_size=2, max_size=4, unique=True), NAMES)
@settings(deadline=None)
def test_any_name_comes_back(names: list[str], layer: str) -> None:
    """Quotes, backslashes, dots, hashes and letters of any script."""
    spaces = [Space(name, k + 1) for k, name in enumerate(names)]
    layers = [LayerShape(f"{layer}{k}", a, b) for k, (a, b) in enumerate(pairwise(spaces))]
    assert Wiring.from_toml(Wiring(tuple(layers)).to_toml()) == Wiring(tuple(layers))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("wiring = 1", "wiring = 2"), "net.toml: wiring: expected version 1, found 2"),
        (("wiring = 1", "wiring = true"), "net.toml: wiring: expected version 1, found True"),
        (("wiring = 1", "wiring = 1\naxes.hidden = 7"), "net.toml: axes: expected every axis in some space's list or some taps, found 'hidden' in none"),
        (("wiring = 1", "wiring 1"), "net.toml: expected TOML, found: "),
        (("wiring = 1", ""), "net.toml: expected layers, spaces, wiring"),
        (("wiring = 1", "wiring = 1\naxes = 3"), "net.toml: axes: expected a table of names, found 3"),
        (("wiring = 1", "wiring = 1\naxes.a = 0"), r"net.toml: axes\[0\] \(a\): size: expected a whole number from 1 on, found 0"),
        (("= 300", "= 300.5"), r"net.toml: spaces\[1\] \(hidden\): size: expected a whole number from 1 on, found 300.5"),
        (("= 300", '= "300"'), r"net.toml: spaces\[1\] \(hidden\): size: expected a whole number from 1 on, found '300'"),
        (("= 300", '= ["heads"]'), r"net.toml: spaces\[1\] \(hidden\): axes: expected one of the axes \(there are none\), found 'heads'"),
        (("= 300", "= [1]"), r"net.toml: spaces\[1\] \(hidden\): axes: expected a list of names, found \[1\]"),
        (("= 300", "= { size = 300, fixed = true }"), "net.toml: spaces.hidden: expected size"),
        (('source = "hidden"', 'source = "hiden"'), r"net.toml: layers\[1\] \(fc2\): source: expected one of the spaces input, hidden, output, found 'hiden'"),
        (('name = "fc2", ', ""), r"net.toml: layers\[1\]: expected name, source, target, .*; found no name"),
        (('name = "fc2", ', 'name = "fc2", tap = 3, '), r"net.toml: layers\[1\] \(fc2\): expected name, source, target, .*; found unknown tap"),
        (('"fc2"', '"fc1"'), "net.toml: layer 'fc1': expected unique layer names"),
        (('target = "hidden"', 'target = "hidden", groups = 2'), r"net.toml: layers\[0\] \(fc1\): layer 'fc1': expected 'input' and 'hidden' to begin"),
        (('target = "hidden"', 'target = "hidden", part = { parameter = "p", targets = [0] }'), r"net.toml: layers\[0\] \(fc1\): part: targets: expected \[first"),
        (('target = "hidden"', 'target = "hidden", part = { parameter = "p", orientation = "x" }'), r"net.toml: layers\[0\] \(fc1\): part: part of 'p': orientation"),
        (("spaces.hidden = 300", "spaces.hidden = 300\nspaces.more = 2"), "net.toml: spaces: expected every space in some layer, found 'more' in none"),
    ],
)  # fmt: skip
def test_an_error_says_where_it_is(change: tuple[str, str], says: str) -> None:
    """File, layer or space, expected and found."""
    with pytest.raises(InvalidInputError, match=says):
        Wiring.from_toml(PLAIN.replace(*change), where="net.toml")
