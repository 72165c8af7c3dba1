"""What goes wrong with a Neo4j server, each on a real one: every failure is one clear error that says what to do."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr

from tests import neo4j_server
from tests.neo4j_server import Neo4jServer
from topostrata.archive import Archive, open_archive
from topostrata.errors import SettingsError, StoreUnavailableError
from topostrata.settings import Settings, load_settings
from topostrata.store.failures import check_version
from topostrata.topology import Topology

A = Topology.from_masks([np.eye(4), np.ones((4, 2))])
B = Topology.from_masks([np.ones((4, 4)), np.ones((4, 2))])


@pytest.fixture(scope="module", params=neo4j_server.RELEASES)
def server(request: pytest.FixtureRequest) -> Iterator[Neo4jServer]:
    """A server of this module's own, which the tests stop and configure anew."""
    with neo4j_server.running(request.param, {"db.tx_log.preallocate": "false"}) as running:
        yield running


@contextmanager
def configured(server: Neo4jServer, **settings: str) -> Iterator[None]:
    """The server with other settings for a while."""
    assert server.home is not None
    file = server.home / "conf" / "neo4j.conf"
    before = file.read_text("utf-8")
    try:
        server.kill()
        server.configure(**settings)
        server.start()
        yield
    finally:
        file.write_text(before, "utf-8")
        server.restart()


def refusal(uri: str, settings: Settings) -> str:
    """What opening an archive there is refused with; never with a secret in it."""
    with pytest.raises(StoreUnavailableError) as raised:
        open_archive(uri, settings=settings)
    message = str(raised.value)
    secret = settings.neo4j_password
    assert secret is None or secret.get_secret_value() not in message
    return message


def opened(server: Neo4jServer) -> Archive:
    """An archive on that server."""
    return open_archive(server.uri, settings=server.settings())


@pytest.mark.parametrize("scheme", ["bolt", "neo4j"])
def test_a_server_that_is_away_is_said_to_be_away(server: Neo4jServer, scheme: str) -> None:
    """Opening fails at once, by either scheme, with the reason of the machine."""
    uri = f"{scheme}://127.0.0.1:{neo4j_server.free_port()}"
    assert refusal(uri, server.settings()).startswith(f"{uri}: the database does not answer: Connection refused")


def test_a_host_that_nobody_knows_is_named(server: Neo4jServer) -> None:
    """A host name that does not resolve is told apart from a server that is down."""
    assert "nowhere.invalid: the database does not answer: " in refusal("bolt://nowhere.invalid", server.settings())


@pytest.mark.parametrize("scheme", ["bolt", "neo4j"])
def test_a_wrong_password_is_said_to_be_wrong(server: Neo4jServer, scheme: str) -> None:
    """The error names the settings, and shows neither the right nor the wrong password."""
    uri = server.uri.replace("bolt", scheme)
    message = refusal(uri, Settings(neo4j_user="neo4j", neo4j_password=SecretStr("not-the-password")))
    assert message.startswith(f"{uri}: user or password is wrong (set TOPOSTRATA_NEO4J_USER")


@pytest.mark.parametrize("scheme", ["bolt", "neo4j"])
def test_a_database_that_is_not_there_is_named(server: Neo4jServer, scheme: str) -> None:
    """The error names the database that was asked for and the setting."""
    message = refusal(server.uri.replace("bolt", scheme), server.settings(neo4j_database="elsewhere"))
    assert "the server has no database 'elsewhere'" in message
    assert "TOPOSTRATA_NEO4J_DATABASE" in message


@pytest.mark.parametrize("scheme", ["bolt+s", "bolt+ssc", "neo4j+s", "neo4j+ssc"])
def test_tls_is_asked_for_as_the_scheme_says(server: Neo4jServer, scheme: str) -> None:
    """A server without TLS is refused by a scheme that asks for it, and never spoken to in the open."""
    assert "expected TLS, as the scheme asks for" in refusal(server.uri.replace("bolt", scheme), server.settings())


def test_routing_reaches_a_single_server(server: Neo4jServer) -> None:
    """``neo4j://`` works with a server that stands alone, and the user may stand in the URI."""
    with open_archive(
        server.uri.replace("bolt://", "neo4j://neo4j@"),
        settings=server.settings().model_copy(update={"neo4j_user": "x"}),
    ) as archive:
        assert archive.location == server.uri.replace("bolt", "neo4j")
        assert archive.engine_version() == f"Neo4j/{neo4j_server.RELEASES[server.name].version}"


def test_a_password_may_come_from_a_file(server: Neo4jServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``TOPOSTRATA_NEO4J_PASSWORD_FILE`` holds it, with or without a newline at its end."""
    file = tmp_path / "password"
    file.write_text(server.password + "\n", "utf-8")
    monkeypatch.setenv("TOPOSTRATA_NEO4J_PASSWORD_FILE", str(file))
    with open_archive(server.uri, settings=load_settings()) as archive:
        assert archive.runs() == []


def test_too_little_memory_for_a_transaction_is_said(server: Neo4jServer) -> None:
    """A write that the server has no memory for is an error that names the server's setting; nothing is written."""
    big = Topology.from_masks([np.ones((200, 200))])
    with (
        configured(server, db__memory__transaction__max="6m"),
        opened(server) as archive,
        pytest.raises(StoreUnavailableError, match=r"raise db\.memory\.transaction\.max"),
    ):
        archive.push("big", 0, big)
    with opened(server) as archive:
        archive.push("big", 0, big)
        assert list(archive.verify()) == []


def test_too_many_wrong_passwords_are_said_to_be_too_many(server: Neo4jServer) -> None:
    """A server that no longer listens to a user says so, even to the right password."""
    wrong = Settings(neo4j_user="neo4j", neo4j_password=SecretStr("not-the-password"))
    with configured(server, dbms__security__auth_max_failed_attempts="2", dbms__security__auth_lock_time="1h"):
        for _ in range(3):
            refusal(server.uri, wrong)
        assert "too many wrong passwords" in refusal(server.uri, server.settings())


def test_a_read_only_server_answers_but_takes_nothing(server: Neo4jServer) -> None:
    """What is there can be read; a push is refused with the reason, and changes nothing."""
    with opened(server) as archive:
        archive.push("held", 0, A)
    with configured(server, server__databases__default_to_read_only="true"), opened(server) as archive:
        assert archive.topology("held@0") == A
        with pytest.raises(StoreUnavailableError, match="read-only here, nothing was written"):
            archive.push("held", 1, B)
        assert [snapshot.step for snapshot in archive.snapshots("held")] == [0]


@pytest.mark.slow
def test_a_full_disk_loses_nothing_acknowledged(server: Neo4jServer) -> None:
    """When the server can write no more, the push says so; what was acknowledged stands after a restart.

    A limit on the size of the server's files stands for the full disk: its writes fail as they would there.
    """
    rng = np.random.default_rng(0)
    told = server.command
    server.kill()
    assert server.home is not None
    largest = max(file.stat().st_size for file in server.home.rglob("*") if file.is_file())
    blocks = (largest + 8 * 2**20) // 512
    try:
        server.command = ["sh", "-c", f'ulimit -f {blocks}; exec "$0" "$@"', *told]
        server.start()
        acknowledged: list[Topology] = []
        with opened(server) as archive:
            refused = ""
            archive.create_run("full")
            while not refused:
                assert len(acknowledged) < 100
                topology = Topology.from_masks([rng.random((1500, 1500)) < 0.5])
                try:
                    archive.push("full", len(acknowledged), topology, projection="none")
                except StoreUnavailableError as error:
                    refused = str(error)
                else:
                    acknowledged.append(topology)
            assert "is its disk full?" in refused
            with pytest.raises(StoreUnavailableError, match=r"stopped on that server .*restart it"):
                archive.push("full", len(acknowledged), A)
    finally:
        server.command = told
        server.restart()
    with opened(server) as archive:
        steps = [snapshot.step for snapshot in archive.snapshots("full")]
        assert steps == list(range(len(acknowledged)))
        for step, topology in enumerate(acknowledged):
            assert archive.topology(f"full@{step}") == topology
        assert archive.push("full", len(acknowledged), acknowledged[0]) == "added"
        assert list(archive.verify()) == []


def test_certificates_are_checked_as_the_settings_say(server: Neo4jServer, tmp_path: Path) -> None:
    """``+s`` trusts the machine's certificates or those of ``TOPOSTRATA_NEO4J_CA_FILE``; ``+ssc`` any."""
    assert server.home is not None
    folder = server.home / "certificates" / "bolt"
    folder.mkdir(parents=True, exist_ok=True)
    certify(folder, "127.0.0.1")
    policy = {
        "dbms__ssl__policy__bolt__enabled": "true",
        "dbms__ssl__policy__bolt__base_directory": str(folder),
        "dbms__ssl__policy__bolt__client_auth": "NONE",
        "server__bolt__tls_level": "OPTIONAL",
    }
    certificates = folder / "public.crt"
    with configured(server, **policy):
        for scheme in ("bolt+ssc", "neo4j+ssc"):
            with open_archive(server.uri.replace("bolt", scheme), settings=server.settings()) as archive:
                assert archive.engine_version().startswith("Neo4j/")
        for scheme in ("bolt+s", "neo4j+s"):
            uri = server.uri.replace("bolt", scheme)
            assert "certificate is not one that this machine trusts" in refusal(uri, server.settings())
            with open_archive(uri, settings=server.settings(neo4j_ca_file=certificates)) as archive:
                assert archive.location == uri
    other = tmp_path / "other"
    other.mkdir()
    certify(other, "127.0.0.1")
    with pytest.raises(ssl.SSLError):
        ssl.create_default_context(cafile=str(other / "private.key"))
    with pytest.raises(SettingsError, match="expected a scheme with"):
        open_archive(server.uri, settings=server.settings(neo4j_ca_file=certificates))


def certify(folder: Path, host: str) -> None:
    """A certificate that nobody else has signed, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("expected openssl to make a certificate with, found none")
    files = ["-keyout", str(folder / "private.key"), "-out", str(folder / "public.crt")]
    named = ["-subj", "/CN=topostrata-test", "-addext", f"subjectAltName=IP:{host}"]
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *files, *named],
        check=True,
        capture_output=True,
    )


@pytest.mark.parametrize(
    ("uri", "match"),
    [
        ("bolt://neo4j:hunter22@127.0.0.1", "a password must not stand in the URI"),
        ("bolt://neo4j:@127.0.0.1", "a password must not stand in the URI"),
        ("neo4j+s://neo4j:hunter22@127.0.0.1:7687", "a password must not stand in the URI"),
        ("bolt://neo4j:hunter/22@127.0.0.1", "expected bolt://HOST:PORT"),
        ("bolt://neo4j:hunter#22@127.0.0.1", "expected bolt://HOST:PORT"),
        ("bolt://127.0.0.1:hunter22", "a port that is none"),
        ("bolt://127.0.0.1:7687/elsewhere", "TOPOSTRATA_NEO4J_DATABASE"),
        ("http://127.0.0.1:7687", "expected a path or one of neo4j"),
    ],
)
def test_a_uri_that_will_not_do_is_refused_without_showing_it(uri: str, match: str) -> None:
    """Nothing of what may be a password stands in the error."""
    with pytest.raises(SettingsError, match=match) as raised:
        open_archive(uri, settings=Settings(neo4j_password=SecretStr("long-enough")))
    assert "hunter" not in str(raised.value)


@pytest.mark.parametrize("password", ["", "short", "password", "neo4jneo4j"])
def test_a_password_that_anybody_would_try_is_refused(password: str) -> None:
    """Empty, short and default passwords are errors before anything is sent."""
    with pytest.raises(SettingsError, match="password"):
        open_archive("bolt://127.0.0.1:9", settings=Settings(neo4j_password=SecretStr(password)))


def test_a_password_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """The error names the file and the reason; a password beside a file is refused."""
    missing = tmp_path / "absent"
    with pytest.raises(SettingsError, match="absent cannot be read: No such file"):
        open_archive("bolt://127.0.0.1:9", settings=Settings(neo4j_password_file=missing))
    both = Settings(neo4j_password_file=missing, neo4j_password=SecretStr("long-enough"))
    with pytest.raises(SettingsError, match="found both"):
        open_archive("bolt://127.0.0.1:9", settings=both)


@pytest.mark.parametrize("agent", ["Neo4j/4.4.41", "Neo4j/3.5.0", "Neo4j/v4.1.0"])
def test_a_server_that_is_too_old_is_refused(agent: str) -> None:
    """The error says what was expected and what was found."""
    with pytest.raises(StoreUnavailableError, match=f"expected Neo4j 5 or later, found {agent}"):
        check_version(agent, "bolt://host")


@pytest.mark.parametrize("agent", ["Neo4j/5.0.0", "Neo4j/5.26.28", "Neo4j/2026.08.1", "Neo4j/dev", "ArcadeDB/26.10"])
def test_a_server_that_is_not_known_to_be_too_old_may_try(agent: str) -> None:
    """Only what is known to be too old is refused."""
    check_version(agent, "bolt://host")
