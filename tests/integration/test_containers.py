"""What docker-compose.yml starts, run without a container engine: Neo4j with exactly its settings, the image as it runs.

The Dockerfile is built step by step and the service runs in a mount namespace (tests/container.py); host names and ports
are those of the test's own Neo4j, everything else is read out of the two files.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import neo4j
import numpy as np
import pytest
from neo4j.exceptions import ClientError

from tests import compose, container, neo4j_server
from tests.neo4j_server import Neo4jServer, create_server, free_port
from topostrata.ingest.formats import snapshot_file
from topostrata.topology import Topology

SERVICES: dict[str, dict[str, Any]] = compose.load()["services"]
SETTINGS = compose.neo4j_settings(SERVICES["neo4j"]["environment"])
BOOT = "org.neo4j.server.startup.Neo4jCommand"
START_S = 120.0

pytestmark = [pytest.mark.checkout, pytest.mark.slow]


def poll(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when it is ready; what the process said where it ended or takes too long."""
    deadline = time.monotonic() + START_S
    while not ready():
        assert process.poll() is None, f"ended with {process.returncode}:\n{log.read_text('utf-8', 'replace')}"
        assert time.monotonic() < deadline, f"not ready:\n{log.read_text('utf-8', 'replace')}"
        time.sleep(0.1)


def answers(url: str) -> bool:
    """Whether that URL gives 200."""
    try:
        return httpx.get(url, timeout=10).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The secrets as the documents make them."""
    return compose.make_secrets(tmp_path_factory.mktemp("deploy"))


def boot(server: Neo4jServer, configuration: Path) -> subprocess.CompletedProcess[str]:
    """What the image's entry point asks: the command by which Neo4j's own boot loader would start a configuration."""
    classes = server.command[server.command.index("-cp") : server.command.index("-cp") + 2]
    environment = os.environ | {"NEO4J_HOME": str(server.home), "NEO4J_CONF": str(configuration)}
    command = [server.command[0], *classes, BOOT, "console", "--dry-run"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=START_S)


@pytest.fixture(scope="module")
def http_port() -> int:
    """Where Neo4j's own HTTP is."""
    return free_port()


@pytest.fixture(scope="module")
def server(secrets: dict[str, Path], http_port: int) -> Iterator[Neo4jServer]:
    """A real Neo4j with the settings of the compose file and no others, but for where it listens."""
    user, _, password = secrets["neo4j_auth"].read_text("ascii").partition("/")
    assert user == "neo4j"
    where = {"server.default_listen_address": "127.0.0.1", "server.http.listen_address": f"127.0.0.1:{http_port}"}
    try:
        server = create_server("neo4j-5.26", where, recipe=SETTINGS, password=password)
    except neo4j_server.UnavailableError as reason:
        if os.environ.get("CI"):
            pytest.fail(str(reason))
        pytest.skip(str(reason))
    try:
        assert server.home is not None
        booted = boot(server, server.home / "conf")
        assert booted.returncode == 0, booted.stdout + booted.stderr
        server.command = shlex.split(booted.stdout)
        server.start()
        yield server
    finally:
        server.kill()  # nothing of it is to be kept, and to end in good order takes it long
        server.stop()


def test_neo4j_starts_with_the_settings_of_the_file(server: Neo4jServer) -> None:
    """Each is one that Neo4j knows, has the value that was written, and reaches the Java that runs."""
    with server.driver() as driver, driver.session(database="system") as session:
        rows = session.run("SHOW SETTINGS YIELD name, value, isExplicitlySet RETURN *").data()
    shown_settings = {row["name"]: row["value"] for row in rows if row["isExplicitlySet"]}
    # As Neo4j writes them. What is internal it does not show: see what LOAD CSV reaches.
    written = {"512m": "512.00MiB", "2g": "2.00GiB", "60s": "1m", "import": f"{server.home}/import"}
    options = SETTINGS["server.jvm.additional"].split()
    written[SETTINGS["server.jvm.additional"]] = "\n".join(options)
    shown = {name: written.get(value, value) for name, value in SETTINGS.items() if not name.startswith("internal.")}
    assert {name: shown_settings.get(name) for name in shown} == shown
    command = Path(f"/proc/{server.pid}/cmdline").read_bytes().decode().split("\0")
    assert {"-Xms524288k", "-Xmx2097152k", *options} <= set(command)


def test_a_misspelt_setting_would_be_found(server: Neo4jServer, tmp_path: Path) -> None:
    """The validation is strict: the same configuration with one name misspelt is refused."""
    assert server.home is not None
    right = (server.home / "conf" / "neo4j.conf").read_text("utf-8")
    (tmp_path / "neo4j.conf").write_text(right.replace("pagecache.size", "pagecache.sise"), "utf-8")
    refused = boot(server, tmp_path)
    assert refused.returncode != 0
    assert "No declared setting with name: server.memory.pagecache.sise" in refused.stdout + refused.stderr


@pytest.mark.parametrize(
    ("address", "refusal"),
    [
        ("http://127.0.0.1:1/x.csv", "internal.dbms.cypher_ip_blocklist"),
        ("http://[::1]:1/x.csv", "internal.dbms.cypher_ip_blocklist"),
        ("file:///etc/passwd", "dbms.security.allow_csv_import_from_file_urls"),
    ],
)
def test_load_csv_reaches_nothing(server: Neo4jServer, address: str, refusal: str) -> None:
    """Not the network behind the server, and not its files."""
    query = "LOAD CSV FROM $address AS row RETURN row"
    with (
        server.driver() as driver,
        driver.session(database="neo4j") as session,
        pytest.raises(ClientError, match=refusal),
    ):
        session.run(query, address=address).consume()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[container.Image]:
    """The image of the Dockerfile, built from this checkout; half a gigabyte, so it goes at the end."""
    try:
        container.check_available()
    except container.UnavailableError as reason:
        pytest.skip(str(reason))
    place = tmp_path_factory.mktemp("image")
    yield container.build(compose.ROOT, place)
    assert str(place) not in Path("/proc/self/mountinfo").read_text("utf-8"), "the machine's folders are mounted there"
    shutil.rmtree(place)


@contextmanager
def running(
    image: container.Image, name: str, log: Path, changes: dict[str, Any] | None = None, **more: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A service of the file as a process; whatever happens, it is gone afterwards."""
    with container.start(image, SERVICES[name] | (changes or {}), log=log, **more) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def service(
    image: container.Image, server: Neo4jServer, secrets: dict[str, Path], tmp_path: Path
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The service of the file with its own entry point, against that Neo4j: its URL, and its process."""
    port, log = free_port(), tmp_path / "log"
    environment = {"TOPOSTRATA_STORE": server.uri, "TOPOSTRATA_API_HOSTS": "archive.example.org"}
    assert image.command == ["serve", "--host", "0.0.0.0"]
    with running(
        image, "topostrata", log, secrets=secrets, environment=environment, arguments=["--port", str(port)]
    ) as process:
        url = f"http://127.0.0.1:{port}"
        poll(lambda: answers(f"{url}/readyz"), process, log)
        yield url, process


def test_nothing_but_the_tmpfs_and_the_volume_can_be_written(image: container.Image, tmp_path: Path) -> None:
    """As the service's user: the root is read-only, /tmp and /spool (temporary files) are not, and there is no way up."""
    code = """
import os, pathlib, tempfile
print(tempfile.gettempdir(), os.getuid(), os.getgid(), os.getgroups(), os.environ["HOME"])
for top in ("/", "/opt", "/opt/topostrata/bin", "/run/secrets", "/spool", "/tmp", "/usr/local/lib", "/var", "/etc", "/root"):
    try:
        pathlib.Path(top, "x").write_text("x")
        print("wrote", top)
    except OSError:
        pass
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print({name: status[name].strip() for name in ("CapEff", "CapPrm", "CapBnd", "NoNewPrivs")})
"""
    log = tmp_path / "log"
    changes = {"entrypoint": ["python", "-c", code], "command": [], "secrets": []}
    with running(image, "topostrata", log, changes, secrets={}, environment={}) as process:
        assert process.wait(START_S) == 0, log.read_text("utf-8")
    none = "0" * 16
    assert log.read_text("utf-8").splitlines() == [
        "/spool 10001 10001 [] /",
        "wrote /spool",
        "wrote /tmp",
        str({"CapEff": none, "CapPrm": none, "CapBnd": none, "NoNewPrivs": "1"}),
    ]


def test_the_image_holds_no_engine_and_no_installer(image: container.Image) -> None:
    """Neither Java nor pip: what is not there cannot be used."""
    packages = {path.name.lower() for path in image.root.glob("opt/topostrata/lib/python3*/site-packages/*")}
    assert {"topostrata", "neo4j", "numba", "fastapi"} <= packages
    assert not {name for name in packages if name.startswith(("arcadedb", "jpype", "pip", "setuptools"))}


def test_the_service_answers_as_it_is_deployed(
    service: tuple[str, subprocess.Popen[bytes]], secrets: dict[str, Path]
) -> None:
    """Snapshots go in and their distance comes out with the token; without it 401; other names are refused."""
    url, process = service
    token = secrets["api_token"].read_text("ascii")
    draw = np.random.default_rng(7)
    with httpx.Client(base_url=url, timeout=120) as client:
        assert client.get("/v1/runs").status_code == 401
        assert client.get("/v1/runs", headers={"Authorization": f"Bearer {token[:-1]}"}).status_code == 401
        client.headers["Authorization"] = f"Bearer {token}"
        for run in ("a", "b"):
            body = BytesIO()
            topology = Topology.from_masks([draw.random((30, 20)) < 0.3, draw.random((20, 5)) < 0.5])
            snapshot_file.write(body, topology)
            put = client.put(f"/v1/runs/{run}/snapshots/0", content=body.getvalue())
            assert (put.status_code, put.json()["digest"]) == (201, topology.digest), put.text
        distance = client.get("/v1/distances", params={"a": "a", "b": "b"})
        assert distance.status_code == 200, distance.text
        assert 0 < distance.json()["nnstd"] < 1
        assert client.get("/v1/runs", headers={"Host": "elsewhere.example"}).status_code == 400
        assert client.get("/v1/runs", headers={"Host": "archive.example.org"}).status_code == 200
    # What Numba compiled for that lies in the tmpfs, where the next process of the container finds it.
    assert list(Path(f"/proc/{process.pid}/root/tmp/numba").rglob("*.nbi"))


def test_its_health_check_sees_whether_it_is_well(service: tuple[str, subprocess.Popen[bytes]]) -> None:
    """The command of the file, with the port of the test: 0 while it answers, not 0 when SIGTERM has ended it, with 0."""
    url, process = service
    kind, program, *arguments = SERVICES["topostrata"]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "python")
    command = [sys.executable, *(word.replace(":8321/", f":{url.rpartition(':')[2]}/") for word in arguments)]
    assert command[1:] != arguments
    assert subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0
    process.terminate()
    assert process.wait(compose.seconds(SERVICES["topostrata"]["stop_grace_period"])) == 0
    assert subprocess.run(command, capture_output=True, check=False, timeout=60).returncode != 0


def test_it_does_not_start_without_a_token(image: container.Image, server: Neo4jServer, tmp_path: Path) -> None:
    """A container listens on all its addresses: with no secret, or an empty one, there is no service."""
    empty = tmp_path / "empty"
    empty.touch()
    without_secrets = dict(SERVICES["topostrata"]["environment"])
    del without_secrets["TOPOSTRATA_API_TOKEN_FILE"], without_secrets["TOPOSTRATA_NEO4J_PASSWORD_FILE"]
    cases: list[tuple[dict[str, Any], str]] = [
        ({"environment": without_secrets, "secrets": []}, "expected a loopback address"),
        ({"secrets": ["api_token", "neo4j_password"]}, "expected 32 random characters"),
    ]
    for k, (changes, message) in enumerate(cases):
        log = tmp_path / f"log-{k}"
        secrets = {"api_token": empty, "neo4j_password": empty}
        environment = {"TOPOSTRATA_STORE": server.uri, "TOPOSTRATA_API_HOSTS": ""}
        with running(image, "topostrata", log, changes, secrets=secrets, environment=environment) as process:
            assert process.wait(START_S) == 2
        assert message in log.read_text("utf-8")


def test_browser_and_bolt_come_through_the_forwarder(
    image: container.Image, server: Neo4jServer, http_port: int, tmp_path: Path
) -> None:
    """The profile `explore`: a driver and HTTP by its ports; SIGTERM ends it well, with a connection open."""
    bolt_port = server.uri.rpartition(":")[2]
    here = {"7474": free_port(), "7687": free_port()}
    there = {"7474": str(http_port), "7687": bolt_port}
    routes = [route.split(":") for route in SERVICES["explore"]["command"]]
    changes = {"command": [f"{here[listen]}:127.0.0.1:{there[port]}" for listen, _, port in routes]}
    log = tmp_path / "log"
    with running(image, "explore", log, changes, secrets={}, environment={}) as process:
        poll(lambda: answers(f"http://127.0.0.1:{here['7474']}"), process, log)
        uri, auth = f"bolt://127.0.0.1:{here['7687']}", (server.user, server.password)
        with neo4j.GraphDatabase.driver(uri, auth=auth) as driver, driver.session() as session:
            query = "UNWIND range(1, 200000) AS n RETURN collect(n) AS all"
            assert len(session.run(query).single(strict=True)["all"]) == 200_000
            process.terminate()
            assert process.wait(compose.seconds(SERVICES["explore"]["stop_grace_period"])) == 0
