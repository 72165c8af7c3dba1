"""The embedded engine as a client sees it: open it and it runs, close it and it may stop.

The engine is a child process of a supervisor of its own (``supervisor.py``), shared by all clients of a directory. A
client only holds a lock while it is open and reads where the engine answers; it sets no signal handler, starts no
thread and leaves nothing to run at exit. Why it is built so: docs/design/002-embedded-engine.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from topostrata.errors import EngineError, StoreUnavailableError
from topostrata.store import arcadedb, bolt_probe
from topostrata.store.engine_files import (
    HOST,
    POLL_S,
    Endpoint,
    EngineFiles,
    as_endpoint,
    boot_id,
    end_engine,
    explained,
    hand_over,
    host_name,
    last_lines,
    network,
    open_log,
    resident_bytes,
    signal_holder,
)

__all__ = ["EmbeddedEngine", "Endpoint", "status", "stop"]

# The longest that one statement may run, of readers and of the writer alike: the engine knows no other limit that it
# keeps (docs/design/002-embedded-engine.md). A transaction may run for longer.
COMMAND_TIMEOUT_MS = 60_000

# `python -m topostrata.store.supervisor`, for an interpreter that must be told first where the package lies.
_SUPERVISE = (
    "import sys; end = sys.argv.index('--'); sys.path += sys.argv[1:end]; del sys.argv[1 : end + 1]; "
    "from topostrata.store.supervisor import main; main()"
)


class EmbeddedEngine:
    """A client's hold on the engine of one directory; while it is open, the engine is kept running.

    ``idle_seconds``, ``memory`` (of Java's heap, such as ``1g``; by default what suits the machine), ``java_options``
    (further ones, separated by spaces) and ``command_timeout_ms`` (the longest that one statement may run) take effect
    if this client is the one that starts the engine; otherwise the first one's stand.
    """

    def __init__(
        self,
        directory: Path,
        *,
        idle_seconds: float = 60.0,
        memory: str | None = None,
        java_options: str = "",
        command_timeout_ms: int = COMMAND_TIMEOUT_MS,
        start_timeout_s: float = 60.0,
    ) -> None:
        self._files = EngineFiles(Path(directory).absolute())
        self._idle_seconds = idle_seconds
        self._memory = arcadedb.check_memory(arcadedb.default_memory() if memory is None else memory)
        self._java_options = java_options
        self._command_timeout_ms = command_timeout_ms
        self._start_timeout_s = start_timeout_s
        self._hold = self._files.lock("clients")
        self._deaths: tuple[object, object] | None = None  # the supervisor, and how many it has seen

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def connect(self) -> Endpoint:
        """Find the engine, or start it, and say where it answers; to be called again when a connection was lost."""
        arcadedb.wheel()
        deadline = time.monotonic() + self._start_timeout_s
        with explained(self._files.directory):
            self._files.create()
            refuse_foreign(self._files)
            refuse_unreachable(self._files)
            # Before anything else: a supervisor that is about to stop sees the hold, or makes us wait for its end.
            if not self._hold.held and not self._hold.wait_shared(deadline):
                self._give_up(f"{self._hold.path} is held by another program")
            self._hold.touch()
            start = self._files.lock("start")
            if not start.wait_exclusive(deadline):
                self._give_up("another client is still starting the engine")
            try:
                endpoint = self._find_or_start(deadline)
            finally:
                start.release()
                hand_over(self._files.directory)
            self._deaths = self._deaths or self._counted()
            return endpoint

    def death(self) -> str | None:
        """Why the engine died since this client connected, or last asked this; None where nobody knows of a death."""
        before, self._deaths = self._deaths, self._counted()
        if before is None or self._deaths is None or self._deaths == before or self._deaths[0] != before[0]:
            return None
        why = self._record().get("last_death")
        return None if why is None else str(why)

    def _counted(self) -> tuple[object, object] | None:
        record = self._record()
        return (record.get("supervisor_pid"), record.get("died")) if record else None

    def _record(self) -> dict[str, Any]:
        try:
            return self._files.read_endpoint() or {}
        except OSError:  # no file may be opened now, say: nothing that was done is undone by that
            return {}

    def close(self) -> None:
        """Drop the hold: when nobody holds the engine, it stops after its idle time."""
        with contextlib.suppress(OSError):
            if self._hold.held:
                self._hold.touch()
            self._hold.release()

    def _find_or_start(self, deadline: float) -> Endpoint:
        supervisor = self._files.lock("supervisor")
        while True:
            if supervisor.try_exclusive():
                # Nobody is there, so nothing that stands in the file is true any more; while we hold the lock, nobody
                # can come and write anew what we are about to remove.
                self._files.remove_endpoint()
                supervisor.release()
                self._spawn(deadline)
            record = self._files.read_endpoint()
            endpoint = as_endpoint(record) if record is not None else None
            if endpoint is not None and bolt_probe.greets(endpoint.host, endpoint.port):
                return endpoint
            if time.monotonic() >= deadline:
                self._give_up(_where_it_stands(record))
            time.sleep(POLL_S)

    def _spawn(self, deadline: float) -> None:
        """Start a supervisor and wait for its word. None comes if we run out of time; it goes on starting then."""
        arcadedb.check_files(self._files.directory)
        arcadedb.tell_of_memory(self._files.directory, self._memory)
        listen, speak = os.pipe()
        try:
            try:
                self._run_supervisor(speak)
            finally:
                os.close(speak)
            word = _read_line(listen, deadline)
        finally:
            os.close(listen)
        if word is None:
            return
        try:
            report: dict[str, Any] = json.loads(word)
        except ValueError:
            report = {
                "error": f"the engine's supervisor ended without a word:\n{last_lines(self._files.supervisor_log)}",
                "hint": f"its log: {self._files.supervisor_log}",
            }
        if "error" in report:
            place = f"{self._files.directory}: "
            raise EngineError(place + report["error"].removeprefix(place), hint=report.get("hint"))

    def _run_supervisor(self, speak: int) -> None:
        if not sys.executable:
            raise EngineError("expected a Python interpreter to run the engine's supervisor with, found none")
        # It must find what we found, wherever that came from, but after the standard library: a `random.py` in the
        # directory of the user's script is none of its business. So not through PYTHONPATH.
        places = (Path(__file__).resolve().parents[2], arcadedb.wheel().parent)
        command = [
            *(sys.executable, "-P", "-c", _SUPERVISE, *map(str, places), "--", str(self._files.directory)),
            *("--ready-fd", str(speak)),
            *("--idle-seconds", str(self._idle_seconds)),
            *("--memory", self._memory),
            f"--java-options={self._java_options}",
            *("--command-timeout-ms", str(self._command_timeout_ms)),
        ]
        output = open_log(self._files.supervisor_log)
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                pass_fds=(speak,),
                start_new_session=True,
            )
            child.wait()  # it forks and ends at once
        finally:
            os.close(output)

    def _give_up(self, why: str) -> NoReturn:
        raise StoreUnavailableError(
            f"{self._files.directory}: the embedded engine did not answer within {self._start_timeout_s:.0f} s: {why}",
            hint=f"try again; `topostrata engine status` and {self._files.engine_log} tell more",
        )


def status(directory: Path) -> dict[str, Any] | None:
    """What runs in a directory, without starting anything; None if no embedded archive was ever opened there."""
    files = EngineFiles(Path(directory).absolute())
    with explained(files.directory):
        if not files.engine.is_dir():
            return None
        record = files.read_endpoint() or {}
        supervised = files.lock("supervisor").taken_elsewhere()
        alive = files.lock("engine").taken_elsewhere()
        pid = files.read_engine_pid() if alive else None
        return {
            "directory": str(files.directory),
            "running": supervised and alive,
            "state": record.get("state") if supervised else ("orphan" if alive else "stopped"),
            "host": record.get("host"),
            "supervisor_pid": record.get("supervisor_pid") if supervised else None,
            "engine_pid": pid,
            "port": record.get("port") if supervised else None,
            "database": record.get("database") if supervised else None,
            "version": record.get("version") or arcadedb.version(),
            "clients": files.lock("clients").taken_elsewhere(),
            "memory": record.get("memory") if supervised else None,
            "resident_bytes": resident_bytes(pid) if pid is not None else None,
            "last_death": record.get("last_death") if supervised else None,
            "log": str(files.engine_log),
        }


def stop(directory: Path, *, timeout: float = 60.0, force: bool = False) -> bool:
    """Stop the engine of a directory cleanly, now; False if none ran. Refuses while clients hold it, unless forced."""
    files = EngineFiles(Path(directory).absolute())
    if not files.engine.is_dir():
        return False
    deadline = time.monotonic() + timeout
    with explained(files.directory):
        refuse_foreign(files)
        start = files.lock("start")
        if not start.wait_exclusive(deadline):
            raise StoreUnavailableError(
                f"{files.directory}: a client has been starting the engine for {timeout:.0f} s", hint="try again"
            )
        try:
            return _stop(files, deadline, force=force)
        finally:
            start.release()
            hand_over(files.directory)


def refuse_foreign(files: EngineFiles) -> None:
    """Refuse a directory whose engine runs on another machine: its locks may not reach us, its loopback does not.

    With the boot id of our own kernel the locks tell the truth, whatever the host is called by now (laptops change
    their names, containers have their own). Another boot id under our own name is this machine before it was started
    anew, unless the supervisor's lock is held: then it is another machine of the same name.
    """
    record = files.read_endpoint()
    if record is None or not isinstance(record.get("host"), str) or record.get("boot_id") == boot_id():
        return  # nothing there, damaged, or ours
    if record.get("host") == host_name() and not files.lock("supervisor").taken_elsewhere():
        return
    raise EngineError(
        f"{files.directory}: expected an embedded archive of this machine ({host_name()}), "
        f"found one in use on {record.get('host')!r}",
        hint="an embedded archive serves one machine: use a Neo4j server for several; "
        f"if that machine is gone for certain, remove {files.endpoint}",
    )


def refuse_unreachable(files: EngineFiles) -> None:
    """Refuse at once where no engine can be reached: this process has no loopback, or the engine sees another one."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((HOST, 9))  # nothing is sent: the system looks whether there is a way
    except OSError as error:
        raise EngineError(
            f"{files.directory}: expected a loopback network, on which an engine answers, found none "
            f"({HOST}: {error.strerror})",
            hint="`ip link set lo up` where this process runs, or use a Neo4j server",
        ) from error
    ours = network()
    if ours is None:  # this system does not tell
        return
    if _is_elsewhere(files, ours) and files.lock("supervisor").taken_elsewhere() and _is_elsewhere(files, ours):
        raise EngineError(
            f"{files.directory}: expected an engine in this process's network, found it in another one "
            "(of a container or a service)",
            hint="`topostrata engine stop` there, or let both share a network, or use a Neo4j server for both",
        )


def _is_elsewhere(files: EngineFiles, network: str) -> bool:
    """Whether the engine's record names another network; one of an engine that is gone is replaced by the next."""
    return (files.read_endpoint() or {}).get("network") not in {None, network}


def _stop(files: EngineFiles, deadline: float, *, force: bool) -> bool:
    supervisor = files.lock("supervisor")
    if not force and files.lock("clients").taken_elsewhere():
        if not supervisor.taken_elsewhere():
            return False
        raise EngineError(
            f"{files.directory}: expected an engine that nobody uses, found clients that hold it",
            hint="end them first, or stop it all the same with --force: they will find it started again",
        )
    signalled = was_running = False
    while not supervisor.try_exclusive():
        was_running = True
        pid = (files.read_endpoint() or {}).get("supervisor_pid")
        if not signalled and isinstance(pid, int):
            signalled = signal_holder(pid, supervisor.path, signal.SIGTERM)
        if time.monotonic() >= deadline:
            raise StoreUnavailableError(
                f"{files.directory}: the engine has not stopped yet", hint=f"see {files.supervisor_log}"
            )
        time.sleep(POLL_S)
    try:
        files.remove_endpoint()
        engine = files.lock("engine")
        was_running = end_engine(files, engine) or was_running
        engine.release()
    finally:
        supervisor.release()
    return was_running


def _read_line(fd: int, deadline: float) -> bytes | None:
    """What is said up to the end of the line or of the speaker; None if the time runs out before."""
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return None
            more = os.read(fd, 65536)
            if not more:
                break
            line += more
    return line


def _where_it_stands(record: dict[str, Any] | None) -> str:
    if record is None:
        return "its supervisor has written nothing yet"
    if record.get("boot_id") == boot_id() and record.get("host") != host_name():
        return f"it seems to run in another container ({record.get('host')})"
    return f"its supervisor says that it is {record.get('state')}"
