"""docker-compose.yml, Dockerfile and .dockerignore, rule by rule. What they do when run: test_containers.py."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import compose, container, neo4j_server

ROOT = compose.ROOT
COMPOSE = compose.load()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

pytestmark = pytest.mark.checkout
every_service = pytest.mark.parametrize("name", sorted(SERVICES))


def against_schema(file: Path) -> subprocess.CompletedProcess[str]:
    """The file against the schema of the Compose specification, as packaged with check-jsonschema."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_the_file_is_of_the_compose_specification(tmp_path: Path) -> None:
    """Every key is one; a misspelt one would be found."""
    done = against_schema(compose.FILE)
    assert done.returncode == 0, done.stdout + done.stderr
    text = compose.FILE.read_text("utf-8")
    for right, wrong in (("read_only:", "readonly:"), ("internal: true", "intern: true"), ("mem_limit:", "memlimit:")):
        broken = tmp_path / "docker-compose.yml"
        assert right in text
        broken.write_text(text.replace(right, wrong, 1), "utf-8")
        assert against_schema(broken).returncode == 1, wrong


def test_docker_compose_understands_the_file(tmp_path: Path) -> None:
    """`docker compose config`, where the client has the plugin; it needs no engine."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no docker client with the compose plugin")
    command = [docker, "compose", "--file", str(compose.FILE), "--profile", "explore", "config", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    understood = json.loads(done.stdout)
    assert set(understood["services"]) == set(SERVICES)
    assert done.stderr == ""


@every_service
def test_images_are_pinned(name: str) -> None:
    """By version, those of others by digest too, the own one by the version of this checkout and from no registry."""
    service = SERVICES[name]
    if "build" in service:
        assert service["image"] == f"topostrata:{PROJECT['version']}"
        assert service["pull_policy"] == "build"
    else:
        assert re.fullmatch(r"[a-z0-9]+:\d+\.\d+\.\d+-[a-z]+@sha256:[0-9a-f]{64}", service["image"])


def test_neo4j_is_the_version_that_is_tested() -> None:
    """What stands in the file is what every test of a real server runs on."""
    tag = SERVICES["neo4j"]["image"].partition("@")[0]
    assert tag == f"neo4j:{neo4j_server.RELEASES['neo4j-5.26'].version}-community"


@every_service
def test_containers_are_kept_in(name: str) -> None:
    """Read-only root, a user that is a number and not root, no capabilities, no new privileges, limits, a health check."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", service["user"])
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] > 0
    assert service["memswap_limit"] == service["mem_limit"]
    assert compose.seconds(service["stop_grace_period"]) >= 10
    assert service["logging"]["options"]["max-size"]
    health = service["healthcheck"]
    assert health["test"][0] in {"CMD", "CMD-SHELL"}
    assert compose.seconds(health["start_period"]) >= 30
    assert compose.seconds(health["timeout"]) < compose.seconds(health["interval"])
    assert not set(service) & {
        "privileged",
        "cap_add",
        "network_mode",
        "pid",
        "ipc",
        "devices",
        "env_file",
        "userns_mode",
    }
    for options in compose.tmpfs(service).values():
        assert any(option.startswith("size=") for option in options)
        assert any(option.startswith("mode=") for option in options)


@every_service
def test_ports_are_published_on_loopback_only(name: str) -> None:
    """As 127.0.0.1:PORT:PORT; Neo4j publishes none at all."""
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port), port
    assert name != "neo4j" or "ports" not in SERVICES[name]


@every_service
def test_mounts_are_named_volumes(name: str) -> None:
    """No path of the machine, no socket of the engine."""
    for mount in SERVICES[name].get("volumes", []):
        source, target = mount.split(":")
        assert source in COMPOSE["volumes"]
        assert target.startswith("/")


def test_neo4j_stands_on_a_network_without_a_way_out() -> None:
    """An internal one, alone; what publishes ports has another beside it, since an internal network publishes none."""
    internal = {name for name, network in COMPOSE["networks"].items() if network.get("internal")}
    assert set(SERVICES["neo4j"]["networks"]) == internal == {"store"}
    for name, service in SERVICES.items():
        assert ("ports" in service) is bool(set(service["networks"]) - internal), name
    outside = [set(service["networks"]) - internal for service in SERVICES.values()]
    assert not set.intersection(*(networks for networks in outside if networks)), "explore and the service share one"


def test_browser_is_there_for_those_who_want_it() -> None:
    """Only with the profile; without it two services run."""
    assert [name for name, service in SERVICES.items() if "profiles" not in service] == ["neo4j", "topostrata"]
    assert SERVICES["explore"]["profiles"] == ["explore"]
    routes = [route.split(":") for route in SERVICES["explore"]["command"]]
    assert [f"127.0.0.1:{listen}:{listen}" for listen, _, _ in routes] == SERVICES["explore"]["ports"]
    assert {host for _, host, _ in routes} == {"neo4j"}


def test_who_needs_neo4j_waits_for_it_and_tries_again() -> None:
    """Until it is healthy; and a service that ends is started again."""
    for name, service in SERVICES.items():
        assert service["restart"] == "unless-stopped"
        if name != "neo4j":
            assert service["depends_on"] == {"neo4j": {"condition": "service_healthy"}}


def test_no_secret_stands_in_the_file() -> None:
    """They are files that git and the image ignore; no value, no default."""
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"./secrets/{name}.txt"}
        ignored = subprocess.run(["git", "check-ignore", "-q", secret["file"]], cwd=ROOT, check=False)
        assert ignored.returncode == 0
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN|AUTH|SECRET", variable):
                assert variable.endswith("_FILE")
                assert value.removeprefix("/run/secrets/") in service["secrets"]
    assert SERVICES["neo4j"]["environment"]["NEO4J_AUTH_FILE"] == "/run/secrets/neo4j_auth"
    defaults = re.findall(r"\$\{(\w+):-([^}]*)\}", compose.FILE.read_text("utf-8"))
    assert defaults == [("TOPOSTRATA_API_HOSTS", "")]


def test_the_documents_make_the_secrets(tmp_path: Path) -> None:
    """Long, random, the password twice, in a directory of their owner, readable for the containers' users."""
    secrets = {name: file.read_text("ascii") for name, file in compose.make_secrets(tmp_path).items()}
    assert re.fullmatch(r"[0-9a-f]{64}", secrets["api_token"])
    assert re.fullmatch(r"[0-9a-f]{64}", secrets["neo4j_password"])
    assert secrets["neo4j_auth"] == f"neo4j/{secrets['neo4j_password']}"
    assert secrets["api_token"] != secrets["neo4j_password"]
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "secrets").iterdir()} == {0o444}


def test_memory_fits() -> None:
    """Heap and page cache take at most two thirds of what Neo4j may have: buffers, threads and code need the rest."""
    neo4j = compose.neo4j_settings(SERVICES["neo4j"]["environment"])
    heap, pages = (
        compose.size(neo4j["server.memory.heap.max_size"]),
        compose.size(neo4j["server.memory.pagecache.size"]),
    )
    limit = compose.size(SERVICES["neo4j"]["mem_limit"])
    assert (heap + pages) * 3 <= limit * 2
    assert compose.size(neo4j["server.memory.heap.initial_size"]) <= heap
    assert compose.size(neo4j["db.memory.transaction.max"]) <= heap
    for name, service in SERVICES.items():
        secrets = [option for options in compose.tmpfs(service).values() for option in options]
        taken = sum(compose.size(option.removeprefix("size=")) for option in secrets if option.startswith("size="))
        assert taken < compose.size(service["mem_limit"]) / 10, name


def test_results_of_jobs_are_written_to_a_volume_on_their_way() -> None:
    """Up to a gigabyte each, which in a tmpfs would count as memory; the image has the folder, with the service's user."""
    service = SERVICES["topostrata"]
    (spool,) = (mount.partition(":")[2] for mount in service["volumes"])
    assert service["environment"]["TMPDIR"] == spool
    assert f"COPY --from=build --chown={service['user']} {spool} {spool}\n" in DOCKERFILE


def test_neo4j_can_write_where_it_has_to_and_nowhere_else() -> None:
    """Data and logs are volumes; configuration and pid are its own tmpfs; Java may load libraries from /tmp."""
    service = SERVICES["neo4j"]
    assert sorted(mount.partition(":")[2] for mount in service["volumes"]) == ["/data", "/logs"]
    writable = compose.tmpfs(service)
    assert sorted(writable) == ["/tmp", "/var/lib/neo4j/conf", "/var/lib/neo4j/run"]
    assert "exec" in writable["/tmp"]  # without, it ends with an UnsatisfiedLinkError of JNA (seen with Docker)
    user, _, group = service["user"].partition(":")
    for path in ("/var/lib/neo4j/conf", "/var/lib/neo4j/run"):
        assert {f"uid={user}", f"gid={group}", "mode=0700"} <= writable[path]


def test_neo4j_is_closed_as_far_as_it_can_be() -> None:
    """LOAD CSV reaches nothing, plug-ins are none, nobody is told; and each setting is one of a strict validation."""
    environment = SERVICES["neo4j"]["environment"]
    settings = compose.neo4j_settings(environment)
    assert settings["internal.dbms.cypher_ip_blocklist"] == "0.0.0.0/0,::/0"
    assert settings["dbms.security.allow_csv_import_from_file_urls"] == "false"
    assert settings["dbms.security.procedures.allowlist"] == "db.*,dbms.components"
    assert settings["dbms.usage_report.enabled"] == settings["client.allow_telemetry"] == "false"
    assert settings["server.config.strict_validation.enabled"] == "true"
    assert not set(environment) & {"NEO4J_PLUGINS", "NEO4J_AUTH", "NEO4J_dbms_security_auth__enabled"}
    assert "dbms.security.procedures.unrestricted" not in settings


def test_names_of_settings_are_those_of_the_image() -> None:
    """A dot is one underscore, an underscore two (Neo4j's manual, "Docker-specific configuration settings")."""
    assert compose.neo4j_settings(
        {
            "NEO4J_db_tx__log_rotation_size": "1",
            "NEO4J_browser_post__connect__cmd": "2",
            "NEO4J_AUTH_FILE": "3",
            "X": "4",
        }
    ) == {"db.tx_log.rotation.size": "1", "browser.post_connect_cmd": "2"}


def test_the_health_check_of_neo4j_speaks_bolt_with_the_password(tmp_path: Path) -> None:
    """The line as a shell runs it: the password from its file in the environment, on no command line."""
    kind, line = SERVICES["neo4j"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    secret = compose.make_secrets(tmp_path)["neo4j_auth"]
    shell = tmp_path / "cypher-shell"
    shell.write_text('#!/bin/sh\necho "$NEO4J_USERNAME $NEO4J_PASSWORD $@"\n')
    shell.chmod(0o755)
    assert "$$(" in line  # one dollar is Compose's own
    line = line.replace("$$", "$").replace("/run/secrets/neo4j_auth", str(secret))
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(["sh", "-c", line], env={"PATH": path}, capture_output=True, text=True, check=True)
    password = secret.read_text("ascii").removeprefix("neo4j/")
    assert done.stdout == f"neo4j {password} -a bolt://127.0.0.1:7687 RETURN 1\n"
    assert done.stderr == ""


def test_the_image_is_small_and_nobody_in_particular() -> None:
    """Two stages of one base, pinned; the last holds no shell form, no root, no tool that installs."""
    assert DOCKERFILE.count("\nFROM ${BASE}") == 2
    base = re.search(r"^ARG BASE=python:(\d+)\.(\d+)\.\d+-slim-\w+$", DOCKERFILE, re.MULTILINE)
    assert base
    assert f"Programming Language :: Python :: {base[1]}.{base[2]}" in PROJECT["classifiers"]
    last = DOCKERFILE.rpartition("FROM ${BASE}")[2]
    instructions = [line.split()[0] for line in last.splitlines() if re.match("[A-Z]+ ", line)]
    assert "RUN" not in instructions
    assert "ADD" not in DOCKERFILE
    assert f"USER {SERVICES['topostrata']['user']}\n" in last
    assert last.rstrip().endswith('ENTRYPOINT ["topostrata"]\nCMD ["serve", "--host", "0.0.0.0"]')
    for stage in DOCKERFILE.split("FROM ")[1:]:
        assert "/root/.cache" not in stage or "--mount=type=cache" in stage
    # Numba keeps what it compiled where the service may write.
    cache = re.search(r"NUMBA_CACHE_DIR=(\S+)", last)
    assert cache
    assert any(cache[1].startswith(path + "/") for path in compose.tmpfs(SERVICES["topostrata"]))


def test_only_what_is_needed_comes_into_the_image() -> None:
    """No history, no secrets, no tests, no caches; and all that the wheel is made of."""
    taken = container.admitted(ROOT)
    tops = {path.partition("/")[0] for path in taken}
    assert tops == {"LICENSE", "README.md", "docker", "ingest", "pyproject.toml", "queries", "service", "src"}
    assert not [path for path in taken if "__pycache__" in path or ".egg-info" in path]
    assert {"src/topostrata/queries", "queries/runs/runs.cypher", "docker/requirements.txt"} <= set(taken)


def test_packages_of_the_image_are_those_of_the_extra() -> None:
    """Each requirement of the base install and of [server] stands in the list, in a version that it allows, with hashes."""
    listed = dict(
        re.findall(r"^(\S+)==(\S+) \\$", (ROOT / "docker" / "requirements.txt").read_text("utf-8"), re.MULTILINE)
    )
    assert len(listed) > 20
    extras = PROJECT["optional-dependencies"]
    for line in [*PROJECT["dependencies"], *extras["server"], *extras["distance"]]:
        wanted = Requirement(line)
        name = canonicalize_name(wanted.name)
        if name == "topostrata":
            assert wanted.extras == {"distance"}
        elif name == "arcadedb-embedded":
            assert name not in listed, "the embedded engine has no place beside Neo4j"
        else:
            assert wanted.specifier.contains(listed[name]), f"{line}: found {listed[name]}"


@pytest.mark.parametrize("name", ["requirements.txt", "build.txt"])
def test_every_package_has_its_hashes(name: str) -> None:
    """A package that was changed since is refused."""
    text = (ROOT / "docker" / name).read_text("utf-8")
    entries = [entry for entry in re.split(r"^(?=\S+==)", text, flags=re.MULTILINE) if "==" in entry.splitlines()[0]]
    assert entries
    for entry in entries:
        assert "--hash=sha256:" in entry, entry
    assert "://" not in text
