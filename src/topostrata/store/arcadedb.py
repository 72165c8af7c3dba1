"""How ArcadeDB is found, configured and started: all that depends on which engine the embedded one is.

The wheel ``arcadedb-embedded`` brings a Java runtime and the jars. They are run as a program of their own: no Java is
needed on the machine and no Java virtual machine ever runs inside Python.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import platform
import re
import secrets
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from topostrata.errors import EngineError, MissingExtraError, SettingsError
from topostrata.memory import of_machine
from topostrata.store.engine_files import DATABASE, HOST, EngineFiles, read_json, write_private

logger = logging.getLogger(__name__)

STARTED = "ArcadeDB Server started"  # the line of its log after which the database exists
# Java goes on without a thread that failed, or that it could not start: neither ends the process.
FAILED = 'Exception in thread "main"'
DEAF = 'Exception in thread "ArcadeDB_0 BOLT listening'  # from then on nobody is answered
TAKEN_PORT = "Unable to listen"

# It opens 169 for an archive and one client (26.10, counted); with fewer it fails in words of classes and statements.
_LEAST_FILES = 256
_LEAST_MEMORY = 128  # of the heap, in MB
_BESIDE_HEAP = 370  # MB: what the engine takes beside it, some 200, and a client (docs/design/005-limits.md)
_COLLECT_MS = 5_000  # without any collection of garbage, then there is one

# What Java says where it meets a limit of the machine: what that means, what to do.
_NO_ADDRESSES = ("the system refuses it memory", "raise the limit of addresses (ulimit -v), or free some memory")
_NO_THREADS = (
    "it may start no more threads",
    "raise the limit of processes and threads (ulimit -u), or drop ulimit -v",
)
_LAST_WORDS = (
    ("unable to create native thread", *_NO_THREADS),
    ("Failed to start thread", *_NO_THREADS),
    ("OutOfMemoryError", "its heap of {memory} was too small", "raise TOPOSTRATA_ENGINE_MEMORY, now {memory}"),
    ("Could not reserve enough space", *_NO_ADDRESSES),
    ("Could not allocate", *_NO_ADDRESSES),
    ("insufficient memory", *_NO_ADDRESSES),
    ("Cannot allocate memory", *_NO_ADDRESSES),
    ("Too many open files", "it may open no more files", "raise the limit (ulimit -n)"),
    ("No space left on device", "the disk is full", "free some space"),
    (
        "Could not create the Java Virtual Machine",
        "its Java refuses an option",
        "look at TOPOSTRATA_ENGINE_JAVA_OPTIONS, and at TOPOSTRATA_ENGINE_MEMORY, now {memory}",
    ),
)

_WHEEL = "arcadedb_embedded"
_USE_NEO4J = "use a Neo4j URI: --store neo4j://HOST or TOPOSTRATA_STORE"
_OLDEST_GLIBC = (2, 34)
# Passwords are 256 random bits: there is nothing to guess, so nothing to slow down, and a log-in costs microseconds.
_HASH_ROUNDS = 1000


@dataclass(frozen=True, slots=True)
class Accounts:
    """The engine's two accounts, made once per directory: one writes, one can only read."""

    user: str
    password: str
    reader: str
    reader_password: str


def wheel() -> Path:
    """Where the engine is installed; an error that says what to do where it is not, or cannot be."""
    _check_platform()
    try:
        spec = importlib.util.find_spec(_WHEEL)  # looks, and imports nothing: the import would load JPype
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("the embedded engine", "server")
    home = Path(next(iter(spec.submodule_search_locations)))
    if not (home / "jre" / "bin" / "java").is_file():
        raise EngineError(
            f"{home}: expected a Java runtime in jre/bin, found none",
            hint="the wheel is damaged: pip install --force-reinstall arcadedb-embedded",
        )
    return home


@functools.cache
def version() -> str:
    """Name and version of the engine, as people write it."""
    try:
        return f"ArcadeDB {importlib.metadata.version('arcadedb-embedded')}"
    except importlib.metadata.PackageNotFoundError:
        return "ArcadeDB"


def check_memory(memory: str) -> str:
    """A size as Java writes it, such as ``1g`` or ``512m``; an error for anything else, or for too little to run."""
    match = re.fullmatch(r"([1-9][0-9]{0,8})([mMgG])", memory)
    if match is None or _megabytes(memory) < _LEAST_MEMORY:
        raise SettingsError(f"engine memory: expected at least 128m, such as 512m or 2g, found {memory!r}")
    return memory


def default_memory() -> str:
    """A heap that leaves room for the client: a quarter of what the machine or container has, from 128m to 1g."""
    return f"{min(1024, max(_LEAST_MEMORY, of_machine() // 4 // 2**20))}m"


def tell_of_memory(directory: Path, memory: str) -> None:
    """Warn where an engine with this heap and one client take more than the machine or container has."""
    has, takes = of_machine() // 2**20, _megabytes(memory) + _BESIDE_HEAP
    if has < takes:
        logger.warning(
            "%s: this machine or container has %d MB of memory, an engine with a heap of %s and one client take %d MB: "
            "the system may end the engine, which loses nothing and takes long; give the machine or container more "
            "memory, or the engine less by TOPOSTRATA_ENGINE_MEMORY (at least %dm)",
            directory, has, memory, takes, _LEAST_MEMORY,
        )  # fmt: skip


def death(code: int | None, words: str, memory: str) -> tuple[str, str | None]:
    """Why the engine ended, and what to do: read off its exit status and the last lines of its log."""
    if code == -signal.SIGKILL and FAILED not in words and DEAF not in words:  # those we kill ourselves
        what = "it was killed (signal 9), as the system does where memory runs out"
        mend = "give the machine or container more memory, or the engine less by TOPOSTRATA_ENGINE_MEMORY"
        return what, f"{mend}, now {memory} (at least {_LEAST_MEMORY}m)"
    for part, what, hint in _LAST_WORDS:
        if part in words:
            return what.format(memory=memory), hint.format(memory=memory)
    return f"exit status {code}", None


def check_files(directory: Path) -> None:
    """Refuse to start an engine that could not open the files it needs."""
    import resource  # noqa: PLC0415 - not on Windows, which the wheel refuses before

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)  # Java itself takes as many as it may
    if most != resource.RLIM_INFINITY and most < _LEAST_FILES:
        raise EngineError(
            f"{directory}: expected an engine that may open at least {_LEAST_FILES} files, found a limit of {most}",
            hint=f"raise the limit of open files (ulimit -Hn), now {most}",
        )


def command_line(port: int, *, memory: str, java_options: list[str], command_timeout_ms: int) -> list[str]:
    """The program to run in the engine's directory. Any user can read it, so no password is in it."""
    home = wheel()
    options = {
        # Relative, since Java mangles what is not ASCII in a path under some locales; it is started in the directory.
        "server.rootPath": ".",
        "server.defaultDatabases": f"{DATABASE}[root]",
        "server.plugins": "Bolt:com.arcadedb.bolt.BoltProtocolPlugin",
        "bolt.host": HOST,
        "bolt.port": str(port),
        # The HTTP server cannot be left out: on loopback, on any free port, with the same passwords.
        "server.httpIncomingHost": HOST,
        "server.httpIncomingPort": "0",
        # In production mode every error of a query reads "check the server log", with which no analyst can do anything.
        "server.mode": "development",
        "txWalFlush": "1",
        # Of indexes made from now on. Each of some two dozen has a page from the beginning, and a transaction copies
        # and logs those that it changes whole: pages of 256 KB, the engine's own size, were most of a small archive.
        "indexDefaultPageSize": "65536",
        "command.timeout": str(command_timeout_ms),
        # Its own gate counts writers with readers: four queries that cannot be ended would stop every write. Users'
        # queries are bounded where they are asked (graph.py), and what one list or one sort may hold, here.
        "queryMaxConcurrent": "0",
        "queryMaxRangeSize": "100000",
        # Nothing that a query says may reach files, the network or other languages.
        "opencypher.loadCsv.allowFileUrls": "false",
        "opencypher.loadCsv.allowRemoteUrls": "false",
        "polyglotEngineEnabled": "false",
        "support.autoRegister": "false",
        "serverMetrics": "false",
    }
    return [
        str(home / "jre" / "bin" / "java"),
        f"-Xms{min(256, _megabytes(memory))}m",
        f"-Xmx{memory}",
        # An engine out of memory half lives on; a dead one is started again and replays its log.
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        # What the groups of a CALL subquery reserve of the memory for queries is given back by the next collection of
        # garbage only: an idle engine would refuse everybody's groups until there is one.
        f"-XX:G1PeriodicGCInterval={_COLLECT_MS}",
        "-Djava.awt.headless=true",
        *java_options,
        "--add-modules",
        "jdk.incubator.vector",
        "-cp",
        str(home / "jars" / "*"),
        *(f"-Darcadedb.{name}={value}" for name, value in options.items()),
        "com.arcadedb.server.ArcadeDBServer",
    ]


def environment() -> dict[str, str]:
    """The few variables that Java may see: options meant for other programs must not change the engine."""
    names = ("PATH", "HOME", "TMPDIR", "TZ", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in names if name in os.environ} | {"LC_ALL": "C.UTF-8"}


def accounts(files: EngineFiles) -> Accounts:
    """The accounts of this directory; made anew if there are none, or if their file is damaged."""
    record = read_json(files.accounts) or {}
    try:
        return Accounts(
            user=str(record["user"]),
            password=str(record["password"]),
            reader=str(record["reader"]),
            reader_password=str(record["reader_password"]),
        )
    except KeyError:
        new = Accounts("root", secrets.token_urlsafe(32), "reader", secrets.token_urlsafe(32))
        write_private(files.accounts, json.dumps({name: getattr(new, name) for name in Accounts.__slots__}))
        return new


def write_configuration(files: EngineFiles, who: Accounts) -> None:
    """Tell the engine, before it starts, who may do what; it reads only hashes of the passwords."""
    config = files.engine / "config"
    config.mkdir(mode=0o700, parents=True, exist_ok=True)
    users = [
        {"name": who.user, "databases": {"*": ["admin"]}, "password": _hashed(who.password)},
        {"name": who.reader, "databases": {DATABASE: ["readers"]}, "password": _hashed(who.reader_password)},
    ]
    write_private(config / "server-users.jsonl", "".join(json.dumps(user) + "\n" for user in users))
    every = ["createRecord", "readRecord", "updateRecord", "deleteRecord"]
    may_alter = ["updateSecurity", "updateSchema", "updateDatabaseSettings"]
    groups = {
        "admin": _group(may_alter, every),
        "readers": _group([], ["readRecord"]),
        "*": _group([], []),
    }
    text = json.dumps({"databases": {"*": {"groups": groups}}, "version": 2}, indent=2)
    write_private(config / "server-groups.json", text)


def _group(access: list[str], records: list[str]) -> dict[str, Any]:
    return {"resultSetLimit": -1, "readTimeout": -1, "access": access, "types": {"*": {"access": records}}}


def _hashed(password: str) -> str:
    salt = base64.b64encode(secrets.token_bytes(32)).decode("ascii")  # the text itself is the salt, not what it encodes
    digest = hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), _HASH_ROUNDS, 32)
    return f"PBKDF2WithHmacSHA256${_HASH_ROUNDS}${salt}${base64.b64encode(digest).decode('ascii')}"


def _megabytes(memory: str) -> int:
    return int(memory[:-1]) * (1024 if memory[-1] in "gG" else 1)


def _check_platform() -> None:
    machine = platform.machine().lower()
    if sys.platform == "linux" and machine in {"x86_64", "aarch64"}:
        glibc = _glibc()
        if glibc >= _OLDEST_GLIBC:
            return
        platform_text = f"glibc {glibc[0]}.{glibc[1]}" if glibc > (0, 0) else "a C library that is not glibc"
    elif sys.platform == "darwin" and machine == "arm64":
        return
    else:
        platform_text = f"{platform.system()} on {machine}"
    raise EngineError(
        "the embedded engine does not exist for this platform: "
        f"expected Linux (x86-64 or ARM, glibc 2.34 or later) or macOS on Apple silicon, found {platform_text}",
        hint=_USE_NEO4J,
    )


def _glibc() -> tuple[int, int]:
    try:
        name = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        name = ""
    match = re.fullmatch(r"glibc (\d+)\.(\d+).*", name)
    return (int(match[1]), int(match[2])) if match else (0, 0)
