"""docs/wiring.md: every file on the page is a wiring, and says what its picture says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from topostrata.topology import Wiring

PAGE = Path(__file__).parents[2] / "docs" / "wiring.md"

pytestmark = pytest.mark.checkout


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_each_picture_has_a_file_that_is_read() -> None:
    """Six files, each written as the product would write it."""
    wirings = [Wiring.from_toml(block) for block in blocks("toml")]
    assert [wiring.to_toml() for wiring in wirings] == blocks("toml")
    assert len(wirings) == len(blocks("text")) == 6
    assert [(wiring.beyond_format_1 or "plain").split(" (")[0] for wiring in wirings] == [
        "plain", "plain", "a residual stream", "a self-loop", "a residual stream", "a self-loop",
    ]  # fmt: skip
    assert [len(wiring) for wiring in wirings] == [2, 4, 4, 4, 6, 9]
    assert wirings[4].shared_with == {"head": "wte"}


def test_the_names_in_a_picture_are_those_in_its_file() -> None:
    """No layer stands in a file that its picture lacks, but for the gates, which are drawn together."""
    for picture, block in zip(blocks("text")[:5], blocks("toml")[:5], strict=True):
        for layer in Wiring.from_toml(block):
            assert layer.name in picture


def test_the_python_on_the_page_runs() -> None:
    """The example of placing masks holds what it asserts."""
    for block in blocks("python"):
        exec(compile(block, str(PAGE), "exec"), {})
