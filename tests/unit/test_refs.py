"""Refs: how snapshots and sets of snapshots are named."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topostrata.errors import InvalidRefError
from topostrata.refs import (
    MAX_STEP,
    PathRef,
    Ref,
    check_run_id,
    check_step,
    expand,
    is_glob,
    is_path,
    parse_path_ref,
    parse_ref,
)

_FIRST = string.ascii_letters + string.digits
run_ids = st.builds(lambda a, b: a + b, st.sampled_from(_FIRST), st.text(alphabet=_FIRST + "._-", max_size=20))
steps = st.integers(0, MAX_STEP)

HELD = [
    ("w10", 0),
    ("w10", 7),
    ("w2", 0),
    ("w2", 50),
    ("w2", 55),
    ("w2", 100),
    ("a.b-c_d", 3),
    ("x1y2", 1),
    ("x1y10", 1),
]


@given(run_ids, steps | st.sampled_from(["first", "last"]))
def test_a_ref_reads_back_as_it_is_written(run: str, step: object) -> None:
    """``run@step`` parses to its parts, and writes itself the same."""
    ref = parse_ref(f"{run}@{step}")
    assert (ref.run, ref.step) == (run, step)
    assert parse_ref(str(ref)) == ref


@given(run_ids)
def test_a_bare_run_is_its_last_snapshot(run: str) -> None:
    """Without a step a ref means the last one."""
    assert parse_ref(run) == Ref(run, "last")


@pytest.mark.parametrize(
    "text",
    ["", "@", "@1", "w@", "w@-1", "w@1.5", "w@+1", "w@ 1", "w@1 ", "w@0x1", "w@1_0", "w@LAST", "w@1@2", "w w@1", ".w@1",
     "-w", "_w", "w/x", "w@" + str(MAX_STEP + 1), "w@\N{ARABIC-INDIC DIGIT THREE}", "\N{LATIN SMALL LETTER E WITH ACUTE}",
     "w\n", "w@1\n", "w*", "w" * 129],
)  # fmt: skip
def test_what_is_no_ref_is_refused_with_what_was_found(text: str) -> None:
    """Nothing is guessed: white space, signs, other digits and unknown words are errors."""
    with pytest.raises(InvalidRefError, match="expected") as caught:
        parse_ref(text)
    assert isinstance(caught.value, ValueError)


def test_run_ids_have_a_first_character_and_a_length() -> None:
    """A letter or digit first, 128 characters at most."""
    assert check_run_id("0" * 128) == "0" * 128
    for bad in ("", "0" * 129, "-a", ".a", "_a", "a b", "a/b", "a@b", "a\n"):
        with pytest.raises(InvalidRefError, match="run id"):
            check_run_id(bad)


def test_steps_are_whole_numbers_that_json_keeps() -> None:
    """From 0 to 2**53 - 1; neither booleans nor floats."""
    assert [check_step(step) for step in (0, MAX_STEP)] == [0, 2**53 - 1]
    for bad in (-1, MAX_STEP + 1, True, 1.0, "1", None):
        with pytest.raises(InvalidRefError, match="step"):
            check_step(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("patterns", "refs"),
    [
        (["w2"], ["w2@100"]),
        (["w2@first"], ["w2@0"]),
        (["w2@50"], ["w2@50"]),
        (["w2@*"], ["w2@0", "w2@50", "w2@55", "w2@100"]),
        (["w2@5*"], ["w2@50", "w2@55"]),
        (["w2@5?"], ["w2@50", "w2@55"]),
        (["w*"], ["w2@100", "w10@7"]),
        (["w*@last"], ["w2@100", "w10@7"]),
        (["w*@0"], ["w2@0", "w10@0"]),
        (["w*@7"], ["w10@7"]),
        (["w[0-9]"], ["w2@100"]),
        (["w[!2]*@first"], ["w10@0"]),
        (["x*@1"], ["x1y2@1", "x1y10@1"]),
        (["*@3"], ["a.b-c_d@3"]),
        (["w10@7", "w*@last", "w10"], ["w10@7", "w2@100"]),
        ([], []),
    ],
)
def test_globs_name_snapshots_in_natural_order_and_each_once(patterns: list[str], refs: list[str]) -> None:
    """Runs in the order people count (w2 before w10), steps by number, in the order of the patterns."""
    assert [str(ref) for ref in expand(patterns, HELD)] == refs


@pytest.mark.parametrize("pattern", ["v*", "w3", "w2@51", "w*@9*", "w2@[x]", "w[@1"])
def test_a_pattern_that_names_nothing_is_an_error_that_says_what_is_there(pattern: str) -> None:
    """A set that is quietly smaller than asked for would give a wrong picture."""
    with pytest.raises(InvalidRefError, match=r"expected at least one snapshot, found none \(the archive holds 5 runs"):
        expand(["w2", pattern], HELD)
    with pytest.raises(InvalidRefError, match="no runs"):
        expand([pattern], [])


@pytest.mark.parametrize("pattern", ["", "@1", "w 2", "w2@x", "w2@", "w2@1.0", "w/2", "w{2}", "w*" * 200])
def test_a_pattern_that_cannot_be_read_is_an_error(pattern: str) -> None:
    """Neither refs nor globs."""
    with pytest.raises(InvalidRefError):
        expand([pattern], HELD)


@given(st.lists(st.tuples(run_ids, steps), max_size=8))
def test_star_at_star_names_everything_that_is_there(snapshots: list[tuple[str, int]]) -> None:
    """Every snapshot once, the steps of a run in order."""
    if not snapshots:
        return
    refs = expand(["*@*"], snapshots)
    assert len(refs) == len(set(snapshots))
    assert {(ref.run, ref.step) for ref in refs} == set(snapshots)
    for run in {run for run, _ in snapshots}:
        mine = [ref.step for ref in refs if ref.run == run]
        assert mine == sorted(mine, key=int)


def test_arguments_with_a_slash_or_a_dot_first_are_paths() -> None:
    """Everything else is a ref."""
    assert [is_path(text) for text in ("./w0", "a/b", ".", "..", "/x", "w0", "w0@5", "w.0")] == [True] * 5 + [False] * 3
    assert [is_glob(text) for text in ("w*", "w?", "w[0]", "w0@last")] == [True, True, True, False]


def test_a_path_may_end_in_a_step(tmp_path: Path) -> None:
    """``DIR@50`` is step 50 of a directory of epochs, unless a file of just that name is there."""
    assert parse_path_ref("runs/w0") == PathRef(Path("runs/w0"))
    assert parse_path_ref("runs/w0@50") == PathRef(Path("runs/w0"), 50)
    assert str(parse_path_ref("runs/w0@first")) == "runs/w0@first"
    assert str(parse_path_ref("runs/w0")) == "runs/w0"
    with pytest.raises(InvalidRefError):
        parse_path_ref("runs/w0@fifty")
    odd = tmp_path / "odd@name"
    odd.mkdir()
    assert parse_path_ref(str(odd)) == PathRef(odd)
    assert parse_path_ref(f"{odd}@3") == PathRef(odd, 3)


def test_a_step_of_thousands_of_digits_is_an_invalid_ref() -> None:
    """Not an error of Python's about long numbers."""
    with pytest.raises(InvalidRefError, match="expected run, run@STEP"):
        parse_ref("w0@" + "9" * 5000)
