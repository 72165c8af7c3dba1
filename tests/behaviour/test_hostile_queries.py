"""What users ask in Cypher is read and nothing else: hostile queries are refused or bounded, honest ones answered."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from tests.stores import Target, contents, reading, wipe
from topostrata.archive import Archive
from topostrata.errors import Cancelled, InvalidQueryError, LimitError, QueryRefusedError
from topostrata.topology import Topology

# Where the listener of the tests waits; every query that could make the engine reach it is to leave it alone.
URL = "http://127.0.0.1:{port}/x.csv"

WRITES = [
    "CREATE (:Run {id: 'evil'})",
    "create (:Run {id: 'evil'}) return 1",
    "MATCH (r:Run) SET r.name = 'evil'",
    "MATCH (r:Run) SET r:Evil RETURN r.id",
    "MATCH (r:Run) REMOVE r.name RETURN 1",
    "MATCH (r:Run) DETACH DELETE r",
    "MATCH (r:Run) NODETACH DELETE r",
    "MATCH ()-[c:CONNECTS]->() DELETE c",
    "MERGE (:Run {id: 'evil'}) RETURN 1",
    "MATCH (a:Run) MERGE (a)-[:EVIL]->(a) RETURN 1",
    "MATCH (r:Run) FOREACH (x IN [1] | SET r.name = 'evil')",
    "MATCH (r:Run) WITH r FOREACH (x IN [r] | DETACH DELETE x) RETURN 1",
    "MATCH (n) INSERT (:Evil)",
    "RETURN 1 AS a UNION ALL CREATE (n:Evil) RETURN 1 AS a",
    "RETURN 1 AS a UNION MATCH (n) SET n.evil = 1 RETURN 1 AS a",
    "MATCH (n) WITH * SET n.evil = 1 RETURN 1",
    "MATCH (n) RETURN * SET n.evil = 1",
    "CALL { CREATE (n:Evil) RETURN n } RETURN n",
    "UNWIND [1, 2] AS x CALL (x) { CREATE (n:Evil {x: x}) RETURN n } RETURN n",
    "MATCH (r:Run) CALL { WITH r SET r.name = 'evil' } IN TRANSACTIONS RETURN 1",
    "MATCH (r:Run) CALL (r) { SET r.name = 'evil' } IN 2 CONCURRENT TRANSACTIONS OF 1 ROW RETURN 1",
    "MATCH (r:Run) WHERE EXISTS { CREATE (:Evil) } RETURN r",
    "RETURN COUNT { CREATE (n:Evil) RETURN n } AS n",
    "RETURN COLLECT { MERGE (n:Evil) RETURN n } AS n",
    "MATCH (as) WITH as DELETE as",
    "MATCH (as:Run) WITH as SET as.name = 'evil' RETURN as",
    "MATCH (not) WITH not SET not.name = 'evil' RETURN 1",
    "MATCH (n:Run) RETURN n.name AS set SET n.name = 'evil'",
    "MATCH (n:Run) RETURN n ORDER BY n.id DESC SET n.name = 'evil'",
    "MATCH (n:Run) RETURN [x IN [1] | x] SET n.name = 'evil'",
]
DISGUISED = [
    "MATCH (n:Run) /* only reading */ SET /* honestly */ n.name = 'evil'",
    "MATCH (n:Run) // only reading\nSET n.name = 'evil'",
    "MATCH (n:Run) RETURN 1 // \rSET n.name = 'evil'",
    "MATCH (n:Run) RETURN 1 //\u2028 SET n.name = 'evil'",
    "MATCH (n:Run) RETURN 1 //\x85 SET n.name = 'evil'",
    "\\u0043REATE (:Evil)",
    "MATCH (n:Run) \\u0053ET n.name = 'evil'",
    "MATCH (n:Run) \\u0053\\u0045\\u0054 n.name = 'evil' RETURN 1",
    "MATCH (n:Run) RETURN 'a\\u0027 AS a UNION MATCH (n) DETACH DELETE n //'",
    "MATCH (n:Run) RETURN 'a\\U00000027 AS a DETACH DELETE n //'",
    "MATCH (n:Run) RETURN `a\\u0060 SET n.name = 'evil' //`",
    "MATCH (n:Run) RETURN 'it\\'s' AS a SET n.name = 'evil'",
    'MATCH (n:Run) RETURN "a" AS a SET n.name = "evil"',
    "MATCH (n:Run) RETURN `a``b` SET n.name = 'evil'",
    "MATCH (n:Run)\u00a0SET\u00a0n.name = 'evil'",
    "MATCH (n:Run)\u200bSET n.name = 'evil'",
    "MATCH (n:Run)\x0cSET\x0bn.name = 'evil'",
    "MATCH (n:Run) WITH n, 1SET n.name = 'evil'",
    "MATCH (n:Run) \u017fET n.name = 'evil'",
    "MATCH (n:Run) sEt n.name = 'evil'",
    "EXPLAIN CREATE (:Evil)",
    "PROFILE CREATE (:Evil)",
    "CYPHER 5 CREATE (:Evil)",
    "CYPHER runtime=slotted MATCH (n) DETACH DELETE n",
]
SEVERAL = [
    "RETURN 1; CREATE (:Evil)",
    "RETURN 1;; RETURN 2",
    "MATCH (n:Run) RETURN n; MATCH (n) DETACH DELETE n;",
    "CREATE (:Evil); RETURN 1",
    ":auto RETURN 1",
    "BEGIN; RETURN 1",
    "COMMIT",
]
OUTSIDE = [
    f"LOAD CSV FROM '{URL}' AS row RETURN row",
    f"LOAD CSV WITH HEADERS FROM '{URL}' AS row RETURN row",
    f"load csv from '{URL}' as row return row",
    f"MATCH (n:Run) LOAD CSV FROM '{URL}' AS row RETURN row",
    f"RETURN COLLECT {{ LOAD CSV FROM '{URL}' AS row RETURN row }} AS rows",
    f"WITH '{URL}' AS url LOAD CSV FROM url AS row RETURN row",
    f"CALL {{ LOAD CSV FROM '{URL}' AS row RETURN row }} RETURN row",
    "LOAD CSV FROM 'file:///etc/passwd' AS row RETURN row",
    "LOAD CSV FROM 'file:///conf/neo4j.conf' AS row RETURN row",
    f"CALL apoc.load.json('{URL}') YIELD value RETURN value",
    f"RETURN apoc.load.json('{URL}')",
    f"RETURN genai.vector.encode('x', '{URL}')",
    f"RETURN `genai`.`vector`.`encode`('x', '{URL}')",
    f"RETURN `load`('{URL}')",
    f"RETURN load('{URL}')",
    f"IMPORT DATABASE {URL}",
]
ADMINISTRATION = [
    "SHOW TRANSACTIONS",
    "SHOW SETTINGS",
    "SHOW DATABASES",
    "SHOW USERS",
    "SHOW PROCEDURES YIELD name RETURN name",
    "TERMINATE TRANSACTIONS 'neo4j-transaction-1'",
    "CREATE USER evil SET PASSWORD 'evilevil' CHANGE NOT REQUIRED",
    "ALTER CURRENT USER SET PASSWORD FROM 'a' TO 'evilevil'",
    "ALTER USER neo4j SET PASSWORD 'evilevil'",
    "DROP CONSTRAINT run_id IF EXISTS",
    "DROP INDEX neuron_place",
    "CREATE INDEX evil FOR (n:Run) ON (n.name)",
    "CREATE CONSTRAINT evil FOR (n:Run) REQUIRE n.name IS UNIQUE",
    "DROP DATABASE neo4j",
    "GRANT ROLE admin TO neo4j",
    "REVOKE ROLE admin FROM neo4j",
    "DENY READ {*} ON GRAPH * TO PUBLIC",
    "USE system SHOW USERS",
    "USE neo4j MATCH (n) RETURN n",
    "MATCH (n) RETURN 1 AS a UNION USE system SHOW USERS",
    "CALL dbms.listConfig()",
    "CALL dbms.listConfig() YIELD name, value RETURN name, value",
    "CALL db.labels() YIELD label RETURN label",
    "CALL db.createLabel('Evil')",
    "MATCH (n) CALL db.create.setNodeVectorProperty(n, 'evil', [1.0]) RETURN 1",
    "CALL dbms.killQuery('1')",
    "CALL `dbms`.`listConfig`()",
    "call /* { */ dbms.listConfig()",
    "START n=node(*) RETURN n",
    "DELETE FROM Run",
    "UPDATE Run SET name = 'evil'",
    "INSERT INTO Run SET id = 'evil'",
    "TRUNCATE TYPE Run UNSAFE",
    "SELECT FROM Run",
]
RUNAWAYS = [
    "UNWIND range(1, 100000) AS a UNWIND range(1, 100000) AS b UNWIND range(1, 1000) AS c RETURN count(*)",
    """MATCH (a:Neuron), (b:Neuron), (c:Neuron), (d:Neuron), (e:Neuron), (f:Neuron), (g:Neuron)
    WHERE a.index + b.index + c.index + d.index + e.index + f.index + g.index < 0 RETURN count(*)""",
    "MATCH p = (:Neuron)-[:CONNECTS*1..30]-(:Neuron) RETURN count(p)",
    "UNWIND range(1, 1000000000) AS x WITH x WHERE x < 0 RETURN x",
]
MALFORMED = [
    "",
    "  // nothing\n",
    "MATCH (n",
    "MATCH (n)) RETURN n",
    "RETURN " + "(" * 5000 + "1" + ")" * 5000,
    "RETURN " + "1 + " * 20_000 + "1",
    "RETURN $absent",
    "hello",
    "MATCH (n) RETURN n /* never closed",
    "MATCH (n) RETURN 'never closed",
]
# Nothing but the end of the process would stop these: they are refused before they are sent.
ENDLESS = [
    "RETURN any(x IN range(1, 90000) WHERE any(y IN range(1, 90000) WHERE x * y = -1)) AS x",
    "RETURN size([x IN range(1, 90000) | size([y IN range(1, 90000) | x * y])]) AS x",
    "RETURN reduce(t = 0, x IN range(1, 90000) | t + reduce(u = 0, y IN range(1, 90000) | u + y)) AS x",
    "WITH range(1, 90000) AS xs RETURN all(x IN xs WHERE none(y IN xs WHERE x + y < 0)) AS x",
    "RETURN single(x IN $xs WHERE single(y IN $xs WHERE x = y)) AS x",
    "RETURN reduce(s = 'x', i IN range(1, 40) | s + s) AS x",
    "RETURN reduce(s = [1], i IN range(1, 40) | s + s) AS x",
    "WITH 'x' AS a RETURN reduce(s = a, i IN range(1, 40) | s + s) AS x",
    "RETURN reduce(s = $text, i IN range(1, 40) | s + s) AS x",
    "RETURN reduce(s = 1 + 'x', i IN range(1, 40) | s + s) AS x",
]

HONEST: list[tuple[str, list[list[Any]]]] = [
    ("MATCH (r:Run) RETURN r.id", [["w0"]]),
    ("match (r:Run) where r.id = 'w0' return r.id as id order by id skip 0 limit 1", [["w0"]]),
    ("MATCH (r:Run {id: $run}) RETURN r.id;", [["w0"]]),
    ("MATCH (r:Run) RETURN r.set, r.delete, r.create, r.load", [[None] * 4]),
    ("MATCH (r:Run) RETURN r.`set` AS `delete`", [[None]]),
    ("OPTIONAL MATCH (n:Load) RETURN n", [[None]]),
    ("OPTIONAL MATCH (n:Load)-[:CREATE]->(:Set:Delete) RETURN n", [[None]]),
    ("OPTIONAL MATCH ()-[c:MERGE|REMOVE]->() RETURN c", [[None]]),
    ("RETURN 'CREATE (n) SET n.x = 1; DROP' AS text", [["CREATE (n) SET n.x = 1; DROP"]]),
    ("RETURN \"LOAD CSV FROM 'http://x'\" AS text", [["LOAD CSV FROM 'http://x'"]]),
    ("RETURN 'it\\'s // no comment' AS text", [["it's // no comment"]]),
    ("RETURN 1 AS x // DETACH DELETE", [[1]]),
    ("/* CALL dbms.listConfig() */ RETURN 1 AS x /* SET */", [[1]]),
    ("RETURN {set: 1, load: 2, delete: 'x', call: 3} AS counts", [[{"set": 1, "load": 2, "delete": "x", "call": 3}]]),
    ("WITH {set: 7} AS m RETURN m.set AS x", [[7]]),
    ("RETURN $set AS x", [[5]]),
    ("MATCH (create1:Run) WITH create1, 1 AS set1 RETURN create1.id, set1", [["w0", 1]]),
    ("MATCH (start:Run) RETURN start.id AS stop", [["w0"]]),
    ("RETURN toLower('SET') AS a, toUpper('x') AS b, size([1, 2]) AS c, coalesce(null, 1) AS d", [["set", "X", 2, 1]]),
    ("RETURN CASE WHEN 1 < 2 THEN 'a' ELSE 'b' END AS x, CASE 3 WHEN 3 THEN 4 END AS y", [["a", 4]]),
    ("MATCH (r:Run) RETURN EXISTS { (r)-[:HAS_SNAPSHOT]->(:Snapshot) } AS has", [[True]]),
    ("MATCH (r:Run) RETURN COUNT { (r)-[:HAS_SNAPSHOT]->() } AS counts", [[2]]),
    ("MATCH (r:Run) WHERE NOT EXISTS { MATCH (r)-[:DESCENDS_FROM]->() } RETURN r.id", [["w0"]]),
    ("MATCH (r:Run) CALL { WITH r MATCH (r)-[:HAS_SNAPSHOT]->(s) RETURN count(s) AS n } RETURN n", [[2]]),
    ("UNWIND [3, 1, 2] AS x WITH x ORDER BY x DESC LIMIT 2 RETURN collect(x) AS xs", [[[3, 2]]]),
    ("RETURN 1 AS x UNION RETURN 1 AS x", [[1]]),
    ("RETURN 1 AS x UNION ALL RETURN 1 AS x", [[1], [1]]),
    ("RETURN [x IN range(1, 4) WHERE x % 2 = 0 | x * x] AS xs", [[[4, 16]]]),
    ("RETURN reduce(total = 0, x IN [1, 2, 3] | total + x) AS total", [[6]]),
    (
        "RETURN all(x IN [1] WHERE x > 0) AND any(x IN [1] WHERE x > 0) AND NOT none(x IN [1] WHERE x > 0) AS x",
        [[True]],
    ),
    ("MATCH (r:Run) WHERE r.id STARTS WITH 'w' AND r.id ENDS WITH '0' OR r.id CONTAINS 'x' RETURN r.id", [["w0"]]),
    ("MATCH (r:Run) WHERE r.id IN ['w0'] AND r.nothing IS NULL AND r.id IS NOT NULL RETURN DISTINCT r.id", [["w0"]]),
    ("MATCH p = (a:Neuron)-[:CONNECTS*1..2]->(b:Neuron) RETURN max(length(p)) AS hops", [[2]]),
    ("MATCH (s:Snapshot)-[:HAS_MASK]->(m) RETURN count(DISTINCT s) AS s, count(*) > 1 AS many", [[2, True]]),
    ("MATCH (r:Run) RETURN r.id =~ 'w\\\\d+' AS x, -1 + 2 ^ 2 AS y, 1.5e1 AS z, 0x10 AS h", [[True, 3.0, 15.0, 16]]),
    ("MATCH (r:Run) WITH * MATCH (r)-[:HAS_LAYER]->(y) RETURN y.name ORDER BY y.position ASC LIMIT 1", [["l0"]]),
    (
        """MATCH p = (:Neuron)-[:CONNECTS*2]->(:Neuron) WHERE all(c IN relationships(p) WHERE any(x IN [0] WHERE
        c.born_step = x)) RETURN [n IN nodes(p) | [l IN labels(n) | l]] AS labels LIMIT 1""",
        [[[["Neuron"]] * 3]],
    ),
    ("RETURN [x IN [1, 2] WHERE x IN [2] | [y IN range(1, x) | y]] AS xs", [[[[1, 2]]]]),
    ("RETURN reduce(t = -1.5, x IN [1, 2] | t + x) AS t, reduce(b = true, x IN [1] | b) AS b", [[1.5, True]]),
    ("MATCH (r:Run) RETURN r {.id, set: 1, .load} AS r", [[{"id": "w0", "set": 1, "load": None}]]),
]


@pytest.fixture(scope="module")
def small(target: Target) -> Iterator[Archive]:
    """An archive that holds one small run; nothing in this module may change it."""
    with target.open() as opened:
        wipe(opened)
        opened.push("w0", 0, Topology.from_masks([np.ones((12, 12)), np.ones((12, 12))]), metrics={"loss": 1.0})
        opened.push("w0", 1, Topology.from_masks([np.ones((12, 12)), np.eye(12)]))
        before = contents(opened)
        yield opened
        assert contents(opened) == before


@contextmanager
def listening() -> Iterator[tuple[int, list[str]]]:
    """A port of loopback, and who came."""
    seen: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]

        def wait() -> None:
            while True:
                connection, address = server.accept()
                connection.close()
                if seen and seen[-1] == "end":
                    return
                seen.append(str(address))

        waiter = threading.Thread(target=wait)
        waiter.start()
        yield port, seen
        seen.append("end")
        socket.create_connection(("127.0.0.1", port)).close()
        waiter.join(timeout=10)


@pytest.mark.parametrize("text", WRITES + DISGUISED + SEVERAL + ADMINISTRATION)
def test_a_query_that_would_do_more_than_read_is_refused(small: Archive, text: str) -> None:
    """It is refused, with the place in the query, before anything is sent."""
    with pytest.raises(QueryRefusedError, match=r"at line \d+, column \d+"):
        small.cypher(text)


def test_no_query_reaches_the_network_or_a_file(small: Archive) -> None:
    """What would fetch a page or a file is refused, and nobody knocks at the listener."""
    with listening() as (port, seen):
        for text in OUTSIDE:
            with pytest.raises(QueryRefusedError):
                small.cypher(text.replace("{port}", str(port)))
        assert seen == []


@pytest.mark.parametrize("text", RUNAWAYS)
def test_a_runaway_query_is_ended(small: Archive, text: str) -> None:
    """A query without an end is stopped by its time limit, or by the engine's own, and the store goes on."""
    with pytest.raises(LimitError):
        small.cypher(text, timeout_s=1)
    assert small.cypher("RETURN 1 AS x").rows == [[1]]


def test_many_rows_are_cut(small: Archive) -> None:
    """No more rows come than were asked for, and the answer says that there were more."""
    table = small.cypher("UNWIND range(1, 100000) AS x RETURN x", limit=10)
    assert (table.rows, table.truncated) == ([[x] for x in range(1, 11)], True)


def test_huge_rows_are_refused(small: Archive) -> None:
    """Rows that together are larger than an answer may be are an error, not a full memory."""
    text = "UNWIND range(1, 1000) AS x RETURN $text AS x"
    with pytest.raises(LimitError, match="bytes"):
        small.cypher(text, {"text": "x" * 40_000}, limit=1000)
    assert small.cypher("RETURN 1 AS x").rows == [[1]]


@pytest.mark.parametrize("text", ENDLESS)
def test_what_nothing_would_end_is_not_sent(small: Archive, text: str) -> None:
    """Loops over lists in one another, and values that double, have no end that an engine knows; the place is named."""
    with pytest.raises(LimitError, match=r"at line 1, column \d+"):
        small.cypher(text, {"xs": [1], "text": "x"})


def test_a_cancelled_query_is_ended_in_the_database(small: Archive) -> None:
    """Nothing of it runs on: the database lists no statement that holds its words."""
    cancel = threading.Event()
    timer = threading.Timer(0.5, cancel.set)
    timer.start()
    with pytest.raises(Cancelled):
        small.cypher(RUNAWAYS[1], timeout_s=60, cancel=cancel)
    timer.join()
    assert wait_until_ended(small)


def wait_until_ended(archive: Archive) -> bool:
    """Whether no user's query runs any more, within a minute."""
    for _ in range(600):
        with reading(archive) as session:
            rows = session.run("SHOW TRANSACTIONS YIELD currentQuery").data()
        if not any("a.index + b.index" in str(row["currentQuery"]) for row in rows):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_query_is_an_error_of_its_own(small: Archive, text: str) -> None:
    """What is no query at all, or one too deep or too long, is said to be so; the store goes on."""
    with pytest.raises((InvalidQueryError, QueryRefusedError, LimitError)):
        small.cypher(text)
    assert small.cypher("RETURN 1 AS x").rows == [[1]]


@pytest.mark.parametrize(("text", "rows"), HONEST)
def test_an_honest_query_is_answered(small: Archive, text: str, rows: list[list[Any]]) -> None:
    """Names, strings and comments may look like clauses."""
    assert small.cypher(text, {"run": "w0", "set": 5}).rows == rows


def test_the_lists_are_as_long_as_promised() -> None:
    """At least sixty hostile queries and thirty honest ones, none twice."""
    hostile = WRITES + DISGUISED + SEVERAL + OUTSIDE + ADMINISTRATION + RUNAWAYS + ENDLESS + MALFORMED
    honest = [text for text, _ in HONEST]
    assert len(set(hostile)) == len(hostile) >= 60
    assert len(set(honest)) == len(honest) >= 30
