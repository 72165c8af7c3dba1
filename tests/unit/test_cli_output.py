"""How the command line shows tables."""

from __future__ import annotations

import pytest

from topostrata.runs import Unprojected
from topostrata.service.cli.output import projected_extent, show, table

HEADS = ["layer", "alive before", "alive after", "survived", "regrown", "jaccard distance", "revived"]
ROWS = [[f"hidden{k}", 47, 47, 39, 1, 0.2593, 0] for k in range(5)]


def lines_at(width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    show(table(HEADS, ROWS))
    return capsys.readouterr().out.splitlines()


def test_a_table_that_fits_has_a_line_for_each_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At 120 characters each row is one line and no head is broken."""
    lines = [line.split() for line in lines_at(120, monkeypatch, capsys)]
    assert [line for line in lines if line and line[0].startswith("hidden")] == [
        [f"hidden{k}", "47", "47", "39", "1", "0.2593", "0"] for k in range(5)
    ]


def test_heads_are_broken_between_words_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At 70 characters the heads take two lines, every word of them whole, and the table fits."""
    lines = lines_at(70, monkeypatch, capsys)
    assert max(map(len, lines)) <= 70
    words = [word for line in lines for word in line.split()]
    assert {word for head in HEADS for word in head.split()} <= set(words)
    assert sum(line.strip().startswith("hidden") for line in lines) == len(ROWS)


@pytest.mark.parametrize("width", [30, 40, 50])
def test_a_table_that_is_too_wide_is_laid_on_its_side(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line for each column and a column for each row, in as many blocks as the width takes; nothing is lost."""
    lines = lines_at(width, monkeypatch, capsys)
    assert max(map(len, lines)) <= width
    headings = [line.split()[1:] for line in lines if line.strip().startswith("layer ")]
    assert [name for heading in headings for name in heading] == [f"hidden{k}" for k in range(5)]
    survived = [line.split()[1:] for line in lines if line.strip().startswith("survived ")]
    assert [value for line in survived for value in line] == ["39"] * 5
    assert [len(values) for values in survived] == [len(heading) for heading in headings]


def test_a_pipe_gets_whole_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal no line is broken, however long it is."""
    monkeypatch.delenv("COLUMNS", raising=False)
    show(table(["a", "b", "c"], [["x" * 200, "y" * 200, 1]]))
    assert f"{'x' * 200}  {'y' * 200}  1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("step", "says"),
    [(None, "none of its connections are in the graph"), (5, "up to step 5, the run goes on to 9")],
)
def test_what_cypher_does_not_see_is_said(step: int | None, says: str) -> None:
    """A layer that is not projected at all, and one that is up to a step."""
    text = projected_extent(Unprojected("w0", "l0", "off", step, 9))
    assert text.startswith("run w0, layer l0: ")
    assert text.endswith(says)
