"""Does a user's Cypher only read? Decided from its words, before anything is sent, by what is allowed.

A query is cut into tokens, as an engine would cut it, and walked with one question in mind: could an operand (a name,
a value, a pattern) stand here, or only a keyword? Where only a keyword can stand, it must be one of those that read;
where an operand can stand, the word of a clause that writes is refused too. So ``n.set``, ``(:Load)``, ``'CREATE'``
and ``AS delete`` are what they are, names, and a clause that nobody here has heard of is refused. Functions must be
known as well: those of plug-ins can do anything. This stands alone: a server that we did not configure may fetch pages
and files for a query that it calls a read (``LOAD CSV``).

What engines might cut differently is refused, not guessed: Unicode escapes (decoded before anything else is looked
at), control characters, characters that are neither letters nor plain white space, a word grown onto a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, NoReturn

from topostrata.errors import InvalidQueryError, LimitError, QueryRefusedError

MAX_CHARACTERS = 50_000
MAX_DEPTH = 100

Kind = Literal["word", "quoted", "value", "sign", "end"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_STARTS = frozenset({"MATCH", "OPTIONAL", "UNWIND", "WITH", "RETURN", "CALL"})
# Keywords after an operand. Those that end one themselves (`ORDER BY n.x DESC`) leave the next word to be a keyword.
_AFTER = _STARTS | _words(
    """AND OR XOR NOT IN IS AS WHERE STARTS ENDS CONTAINS ORDER BY SKIP OFFSET LIMIT UNION WHEN THEN ELSE END
    ASC ASCENDING DESC DESCENDING SHORTEST PATH PATHS GROUP GROUPS DISTINCT"""
)
_CLOSED = frozenset({"END", "ASC", "ASCENDING", "DESC", "DESCENDING", "PATH", "PATHS", "GROUP", "GROUPS"})
# Words in the place of an operand after which an operand is still to come.
_PREFIXES = frozenset({"NOT", "CASE", "WHEN", "DISTINCT"})
_FOLLOWED = {
    "OPTIONAL": frozenset({"MATCH", "CALL"}),
    "ORDER": frozenset({"BY"}),
    "STARTS": frozenset({"WITH"}),
    "ENDS": frozenset({"WITH"}),
    "UNION": frozenset({"ALL", "DISTINCT"}) | _STARTS,
}
# Refused wherever they could be more than a name, should this walk and an engine ever differ in what they see.
_FORBIDDEN = _STARTS | _words(
    """ALTER CREATE CYPHER DELETE DENY DETACH DROP EXPLAIN FOREACH GRANT INSERT LOAD MERGE NODETACH PROFILE REMOVE
    REVOKE SET SHOW TERMINATE TRANSACTIONS USE YIELD"""
)
_FUNCTIONS = _words(
    """abs acos all allshortestpaths any asin atan atan2 avg btrim ceil char_length character_length coalesce collect
    cos cot count date datetime degrees duration e elementid endnode exists exp floor haversin head id isempty isnan
    keys labels last left length localdatetime localtime log log10 lower ltrim max min nodes none normalize nullif
    percentilecont percentiledisc pi point properties radians range reduce relationships replace reverse right round
    rtrim shortestpath sign sin single size split sqrt startnode stdev stdevp substring sum tail tan time timestamp
    toboolean tobooleanlist tobooleanornull tofloat tofloatlist tofloatornull tointeger tointegerlist tointegerornull
    tolower tostring tostringlist tostringornull toupper trim type upper valuetype"""
)
_SPACED_FUNCTIONS = {  # whose names have a dot in them
    "date": {"truncate", "realtime", "statement", "transaction"},
    "datetime": {"truncate", "fromepoch", "fromepochmillis", "realtime", "statement", "transaction"},
    "duration": {"between", "indays", "inmonths", "inseconds"},
    "point": {"distance", "withinbbox"},
}
_SUBQUERIES = frozenset({"EXISTS", "COUNT", "COLLECT", "CALL"})
_SHORT_LISTS = frozenset({"relationships", "nodes", "labels", "keys"})
_OPENS_NAME = frozenset({"{", "(", "[", ","})  # with a colon after it: the key of a map, the variable of a pattern
_BRACKETS = {"(": ")", "[": "]", "{": "}"}

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
    | (?P<comment>//[^\n]*|/\*.*?\*/)
    | (?P<value>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"
        |(?:0[xX][0-9a-fA-F]+|0o[0-7]+|\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)(?!\w)
        |\$(?:\w+|`[^`]+`))
    | (?P<quoted>`[^`\\]*(?:``[^`\\]*)*`)
    | (?P<word>[^\W\d]\w*)
    | (?P<sign>\.\.|::|<=|>=|<>|=~|\+=|\|\||[-+*/%^=<>(){}\[\].,:;|&!])""",
    re.VERBOSE | re.DOTALL,
)
# Control characters (also those that only some engines take for the end of a line, and so of a comment).
_UNCLEAR = re.compile("\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class _Token:
    kind: Kind
    text: str
    at: int

    @property
    def upper(self) -> str:
        return self.text.upper() if self.kind == "word" else ""


def check_read_only(text: str) -> None:
    """Pass a query that can only read; else ``QueryRefusedError``, naming the word and its place.

    >>> check_read_only("MATCH (r:Run) WHERE r.id = $run RETURN r.set")
    >>> check_read_only("MATCH (r:Run) SET r.name = 'mine'")
    Traceback (most recent call last):
    ...
    topostrata.errors.QueryRefusedError: the query wants more than to read: SET at line 1, column 15 ...
    """
    if len(text) > MAX_CHARACTERS:
        raise LimitError(f"a query: expected at most {MAX_CHARACTERS} characters, found {len(text)}")
    escape = re.search(r"\\u", text, re.IGNORECASE)
    if escape:
        _refuse(text, escape.start(), "a Unicode escape", hint="write the character itself, or pass it as a parameter")
    unclear = _UNCLEAR.search(text)
    if unclear:
        _refuse(text, unclear.start(), f"the character U+{ord(unclear[0]):04X}", hint="pass it in a parameter")
    walk = _Walk(text)
    if walk.empty:
        raise InvalidQueryError("expected a query, found none")
    walk.run()
    _check_loops(text, walk.tokens)


def _check_loops(text: str, tokens: Sequence[_Token]) -> None:
    """Refuse what no engine can end once it runs: loops over lists in one another, and ``reduce`` that grows a value.

    A list that is as long as a path, a node's labels or keys, or what is written out, is harmless inside of others.

    >>> check_read_only("RETURN any(x IN range(1, 9) WHERE any(y IN range(1, 9) WHERE x = -y))")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    topostrata.errors.LimitError: the query has loops over lists in one another, at line 1, column ...
    """
    depth = 0
    loops: list[int] = []  # the depths of brackets in which a loop over a list of any length is open
    for at, token in enumerate(tokens):
        if token.text in _BRACKETS:
            depth += 1
        elif token.text in {")", "]", "}"}:
            depth -= 1
            while loops and loops[-1] > depth:
                loops.pop()
        elif token.upper == "REDUCE" and _text(tokens, at + 1) == "(" and not _grows_a_number(tokens, at):
            raise LimitError(
                f"the query has a reduce that does not begin with a number, {_place(text, token.at)}",
                hint="collect() or UNWIND makes lists, and the program that asks makes texts",
            )
        elif token.upper == "IN" and _opens_loop(tokens, at) and not _is_short(tokens, at + 1):
            if loops:
                raise LimitError(
                    f"the query has loops over lists in one another, {_place(text, token.at)}",
                    hint="UNWIND makes rows of a list, over which a query can be ended",
                )
            loops.append(depth)


def _text(tokens: Sequence[_Token], at: int) -> str:
    return tokens[at].text if 0 <= at < len(tokens) else ""


def _grows_a_number(tokens: Sequence[_Token], at: int) -> bool:
    """Whether the accumulator of a reduce, ``reduce(total = 0, ...``, begins as a number or a truth value."""
    sign = 1 if _text(tokens, at + 4) in {"-", "+"} else 0
    first = tokens[min(at + 4 + sign, len(tokens) - 1)]
    number = first.kind == "value" and first.text[0] not in "'\"$"
    return (
        _text(tokens, at + 3) == "="
        and (number or first.upper in {"TRUE", "FALSE", "NULL"})
        and (_text(tokens, at + 5 + sign) == ",")
    )


def _opens_loop(tokens: Sequence[_Token], at: int) -> bool:
    """Whether this IN follows the variable of a loop: ``[x IN ...``, ``any(x IN ...``, ``reduce(t = 0, x IN ...``."""
    before = _text(tokens, at - 2)
    if before == "[":
        return True
    if before == "(":
        return tokens[at - 3].upper in {"ANY", "ALL", "NONE", "SINGLE"}
    return before == "," and any(tokens[back].upper == "REDUCE" for back in range(max(0, at - 9), at))


def _is_short(tokens: Sequence[_Token], at: int) -> bool:
    called = tokens[min(at, len(tokens) - 1)]
    return called.text == "[" or (called.text.lower() in _SHORT_LISTS and _text(tokens, at + 1) == "(")


class _Walk:
    """One pass over the tokens of a query."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.tokens = list(_tokens(text))
        self._at = 0
        self._operand = True  # may an operand stand here?
        self._must: frozenset[str] | None = _STARTS  # the words of which one must come now, if any
        self._alias = False  # did AS stand just before?
        self._open: list[str] = []  # the brackets to be closed, innermost last

    @property
    def empty(self) -> bool:
        return len(self.tokens) == 1

    def run(self) -> None:
        for at, token in enumerate(self.tokens):
            self._at = at
            alias, self._alias = self._alias, False
            if token.kind == "word":
                self._word(token, alias=alias)
            elif self._must is not None and not self._bare_pattern(token):
                self._refuse(token, hint=f"expected one of {', '.join(sorted(self._must))}")
            elif token.kind == "sign":
                self._sign(token)
            elif token.kind != "end":
                self._quoted_function(token)
                self._operand = False

    def _word(self, token: _Token, *, alias: bool) -> None:
        must, self._must = self._must, None
        before, after = self._look(-1), self._look(1)
        type_too = before.text in {"|", "&", "!"} and token.upper in _FORBIDDEN  # no clause can follow these
        if alias or type_too or self._named(before) or (before.text in _OPENS_NAME and after.text == ":"):
            self._operand = False
            self._function(token, before, after)
            return
        keyword = must is not None or not self._operand
        if must is not None and token.upper not in must:
            self._refuse(token, hint=f"expected one of {', '.join(sorted(must))}")
        if (not keyword and token.upper in _FORBIDDEN) or (must is None and keyword and token.upper not in _AFTER):
            self._refuse(token)
        if keyword:
            self._keyword(token, before, after)
        elif token.upper in _PREFIXES:
            self._operand = True
        else:
            self._operand = False
            self._function(token, before, after)

    def _keyword(self, token: _Token, before: _Token, after: _Token) -> None:
        self._operand = token.upper not in _CLOSED
        self._alias = token.upper == "AS"
        self._must = _FOLLOWED.get(token.upper)
        if token.upper == "CALL":
            self._call(token, after)
        elif before.upper == "UNION" and token.upper in {"ALL", "DISTINCT"}:
            self._must = _STARTS

    def _named(self, before: _Token) -> bool:
        """Whether what stands before makes this word a name: ``n.set``, ``$run.load``, ``:Load``."""
        if before.text == ".":
            owner = self._look(-2)
            return owner.kind in {"word", "quoted"} or owner.text in {")", "]", "}", "{", ","} or owner.text[:1] == "$"
        return before.text == ":"

    def _function(self, token: _Token, before: _Token, after: _Token) -> None:
        if after.text != "(":
            return
        name = token.text.lower()
        if before.text == ".":
            owner = self._look(-2)
            plain = self._look(-3).text != "." and owner.kind == "word"
            if not plain or name not in _SPACED_FUNCTIONS.get(owner.text.lower(), ()):
                self._refuse_function(owner, f"{owner.text[:40]}.{token.text[:40]}")
        elif name not in _FUNCTIONS:
            self._refuse_function(token, token.text[:40])

    def _quoted_function(self, token: _Token) -> None:
        if token.kind == "quoted" and self._look(1).text == "(":
            self._refuse(token, hint="functions are named without backticks")

    def _call(self, token: _Token, after: _Token) -> None:
        """``CALL`` is followed by a subquery, in braces, after the names that it takes from outside, in brackets."""
        ahead = 1
        if after.text == "(":
            while self._look(ahead).text != ")":
                if self._look(ahead).kind == "end":
                    self._refuse(token)
                ahead += 1
            ahead += 1
        if self._look(ahead).text != "{":
            self._refuse(token, hint="procedures are not for queries of users; CALL { ... } is")

    def _sign(self, token: _Token) -> None:
        self._must = None
        if token.text in _BRACKETS:
            self._open.append(_BRACKETS[token.text])
            if len(self._open) > MAX_DEPTH:
                raise LimitError(f"a query: expected brackets at most {MAX_DEPTH} deep")
            self._operand = True
            if token.text == "{" and self._opens_subquery():
                self._must = _STARTS
        elif token.text in {")", "]", "}"}:
            if not self._open or self._open.pop() != token.text:
                self._refuse(token, hint="no bracket is open that it closes")
            self._operand = False
        elif token.text == "*" and self._operand:
            self._operand = False  # all columns, all hops
        elif token.text in {"+", "*"} and self._look(-1).text == ")" and self._look(1).upper in _STARTS | {"WHERE"}:
            self._operand = False  # any number of times the pattern before it
        elif token.text == ";":
            if self._open or self._look(1).kind != "end":
                self._refuse(token, hint="one statement at a time")
        else:
            self._operand = True

    def _opens_subquery(self) -> bool:
        before = self._look(-1)
        if before.upper in _SUBQUERIES and self._look(-2).text not in {".", ":"}:
            return True
        if before.text != ")":
            return False
        behind, depth = 1, 0
        while self._look(-behind).kind != "end":
            depth += {")": 1, "(": -1}.get(self._look(-behind).text, 0)
            if depth == 0:
                return self._look(-behind - 1).upper == "CALL"
            behind += 1
        return False

    def _bare_pattern(self, token: _Token) -> bool:
        """Whether a subquery is a pattern without a clause: ``EXISTS { (a)-->(b) }``."""
        return token.text == "(" and self._look(-1).text == "{"

    def _look(self, by: int) -> _Token:
        at = self._at + by
        return self.tokens[at] if 0 <= at < len(self.tokens) else _Token("end", "", len(self._text))

    def _refuse_function(self, token: _Token, name: str) -> NoReturn:
        raise QueryRefusedError(
            f"the query calls {name}, which is no function that is known to read only, {_place(self._text, token.at)}",
            hint=_nearest(name),
        )

    def _refuse(self, token: _Token, *, hint: str = "queries of users are read-only") -> NoReturn:
        _refuse(self._text, token.at, token.text[:40] or "its end", hint=hint)


def _nearest(name: str) -> str:
    near = get_close_matches(name.lower(), sorted(_FUNCTIONS), n=1)
    return f"did you mean {near[0]}?" if near else "those of plug-ins can do anything"


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            if text[at] in "'\"`":
                raise InvalidQueryError(f"the query has a quote that is never closed, {_place(text, at)}")
            what = f"the character {text[at]!r}"
            if text[at].isdigit():
                what = f"the number {text[at : at + 10]!r}"
            _refuse(text, at, what, hint="Cypher in plain letters, signs and spaces")
        kind = match.lastgroup
        if kind == "sign" and text.startswith("/*", at):
            raise InvalidQueryError(f"the query has a comment that is never closed, {_place(text, at)}")
        if kind in {"word", "quoted", "value", "sign"}:
            yield _Token(kind, match[0], at)  # type: ignore[arg-type]
        at = match.end()
    yield _Token("end", "", at)


def _refuse(text: str, at: int, what: str, *, hint: str) -> NoReturn:
    raise QueryRefusedError(f"the query wants more than to read: {what} {_place(text, at)}", hint=hint)


def _place(text: str, at: int) -> str:
    line = text.count("\n", 0, at) + 1
    column = at - (text.rfind("\n", 0, at) + 1) + 1
    return f"at line {line}, column {column}"
