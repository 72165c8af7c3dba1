"""What lets a user's query through, without an engine; tests/behaviour/test_hostile_queries.py asks the engines."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.behaviour.test_hostile_queries import ADMINISTRATION, DISGUISED, HONEST, OUTSIDE, SEVERAL, WRITES
from topostrata import queries
from topostrata.errors import InvalidQueryError, LimitError, QueryRefusedError
from topostrata.store.read_only import MAX_CHARACTERS, check_read_only

HOSTILE = WRITES + DISGUISED + SEVERAL + OUTSIDE + ADMINISTRATION


@pytest.mark.parametrize("text", HOSTILE)
def test_what_would_do_more_than_read_is_refused(text: str) -> None:
    """Whatever it is dressed in."""
    with pytest.raises(QueryRefusedError):
        check_read_only(text)


@pytest.mark.parametrize("text", [text for text, _ in HONEST])
def test_what_only_reads_passes(text: str) -> None:
    """Names, strings and comments may look like clauses."""
    check_read_only(text)


@pytest.mark.parametrize("name", [name for name in queries.names() if not name.startswith(("schema/", "ending/"))])
def test_our_own_queries_are_told_apart(name: str) -> None:
    """What we read with passes, without our hints to the engine, which are refused; what we write with does not."""
    text, hints = re.subn(r"^USING INDEX .*$", "", queries.load(name).text, flags=re.MULTILINE)
    if hints:
        with pytest.raises(QueryRefusedError):
            check_read_only(queries.load(name).text)
    if re.search(r"\b(CREATE|MERGE|SET|DELETE|REMOVE)\b", text):
        with pytest.raises(QueryRefusedError):
            check_read_only(text)
    else:
        check_read_only(text)


def test_the_refusal_names_the_word_and_its_place() -> None:
    """Line and column count from one."""
    with pytest.raises(QueryRefusedError, match="DETACH at line 2, column 3"):
        check_read_only("MATCH (n)\n  DETACH DELETE n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("RETURN 'x", "a quote that is never closed, at line 1, column 8"),
        ("RETURN 1 /* x", "a comment that is never closed, at line 1, column 10"),
        ("RETURN toLowercase('X')", "calls toLowercase, which is no function that is known .*did you mean tolower?"),
        ("RETURN apoc.x('X')", "calls apoc.x, which is no function that is known .*plug-ins"),
    ],
)
def test_what_is_wrong_is_said_to_be_that(text: str, words: str) -> None:
    """An open quote or a function that is none is not called a wish to write."""
    with pytest.raises((InvalidQueryError, QueryRefusedError), match=words) as refused:
        check_read_only(text)
    assert "wants more" not in str(refused.value)


@pytest.mark.parametrize("text", ["RETURN '" + "x" * MAX_CHARACTERS + "'", "RETURN " + "[" * 200 + "]" * 200])
def test_what_no_parser_should_be_given_is_refused(text: str) -> None:
    """Queries have a length and a depth."""
    with pytest.raises(LimitError):
        check_read_only(text)


@given(st.sampled_from(WRITES), st.data())
def test_no_comment_or_case_hides_a_write(text: str, data: st.DataObject) -> None:
    """Comments in the place of spaces, and letters of either case, change nothing."""
    gaps = st.sampled_from([" ", "\n", "\t", "/**/", " /* RETURN */ ", "// ok\n", "/*'*/", "/*`*/"])
    dressed = "".join(data.draw(gaps) if c == " " else c for c in text)
    cased = "".join(c.upper() if data.draw(st.booleans()) else c.lower() for c in dressed)
    with pytest.raises(QueryRefusedError):
        check_read_only(cased)


@given(st.text(max_size=80))
def test_any_text_is_passed_or_refused(text: str) -> None:
    """Nothing else comes of it."""
    with suppress(QueryRefusedError, InvalidQueryError, LimitError):
        check_read_only(f"RETURN {text}")
