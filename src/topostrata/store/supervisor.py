"""The process that owns the engine of one directory: starts it, replaces it when it dies, stops it when nobody is left.

It is started by the first client (``embedded.py``) as ``python -m topostrata.store.supervisor``, outlives it, and ends
when no client has held ``clients.lock`` for a while. It has one thread; signals only wake its loop.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import ctypes
import json
import logging
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from topostrata.errors import EngineError, TopostrataError
from topostrata.store import arcadedb, bolt_probe
from topostrata.store.engine_files import (
    DATABASE,
    HOST,
    POLL_S,
    SERVING,
    STARTING,
    STOPPING,
    EngineFiles,
    boot_id,
    end_engine,
    explained,
    hand_over,
    host_name,
    last_lines,
    network,
    open_log,
    read_json,
    write_private,
)

LOOK_S = 0.25  # how often the loop looks at the clients' lock and at the engine
STOP_GRACE_S = 30.0  # an engine that has not stopped by then is killed; its log makes that safe
FAILED_GRACE_S = 1.0  # one that lacks a thread mostly cannot stop by itself
LOG_S = 120.0
READY_S = 900.0  # replaying the log of a large database takes long; a client gives up earlier, the supervisor does not
DEATHS, DEATHS_WITHIN_S = 5, 60.0  # that many deaths in so short a time mean that starting again does not help

# Below the ports that systems hand out by themselves (from 32,768 on Linux): so no connection of another program takes
# the engine's port while the engine is being replaced.
_PORTS = range(20_000, 32_000)

_PR_SET_PDEATHSIG = 1

log = logging.getLogger("topostrata.supervisor")


class EngineDiedError(EngineError):
    """The engine ended before it answered."""


class _StopAskedError(Exception):
    """A signal asked the supervisor to stop while it was waiting for the engine."""


class _Report:
    """The pipe to the client that started us; it hears one line, if it is still there."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    def __call__(self, **words: object) -> None:
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        with contextlib.suppress(OSError):  # it may have died meanwhile
            os.write(fd, json.dumps(words).encode() + b"\n")
        os.close(fd)


class Supervisor:
    """Keeps one engine running in one directory for as long as clients hold it."""

    def __init__(
        self,
        directory: Path,
        *,
        idle_seconds: float,
        memory: str,
        java_options: list[str],
        command_timeout_ms: int,
        report: Callable[..., None],
    ) -> None:
        self._files = EngineFiles(directory)
        self._idle_seconds = idle_seconds
        self._memory = memory
        self._java_options = java_options
        self._command_timeout_ms = command_timeout_ms
        self._report = report
        self._own = self._files.lock("supervisor")
        self._start = self._files.lock("start")
        self._clients = self._files.lock("clients")
        self._engine_lock = self._files.lock("engine")
        self._engine: subprocess.Popen[bytes] | None = None
        self._accounts: arcadedb.Accounts | None = None
        self._port = 0
        self._log_start = 0
        self._last_death: str | None = None
        self._died = 0  # how often
        self._log_read = 0
        self._deaths: collections.deque[float] = collections.deque(maxlen=DEATHS)
        self._stop_asked = False
        self._wake, wake_end = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake_end, False)
        signal.set_wakeup_fd(wake_end)
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, self._ask_to_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._record: dict[str, Any] = {}
        self._record_mark: tuple[int, int, int] | None = None

    def run(self) -> None:
        """Serve until nobody is left; returns at once if another supervisor has the directory."""
        if not self._own.wait_exclusive(time.monotonic() + 2):  # `engine status` may be looking at it just now
            log.info("another supervisor has this directory")
            self._report(taken=True)
            return
        try:
            self._publish(STARTING)
            self._free_engine_lock()
            self._prepare()
            self._start_first()
            self._report(ready=True)
            self._keep()
        except _StopAskedError:
            log.info("stopped by a signal while the engine was starting")
        finally:
            self._end()

    def _keep(self) -> None:
        seen = time.monotonic()
        touched = self._touched()
        while not self._stop_asked:
            self._sleep(LOOK_S)
            self._end_deaf_engine()
            if self._engine is not None and self._engine.poll() is not None:
                self._replace()
                seen = time.monotonic()
            if not self._still_ours():
                log.warning("the directory is gone or was replaced: stopping")
                return
            self._mend_endpoint()
            before, touched = touched, self._touched()
            if touched != before or self._clients.taken_elsewhere():
                seen = time.monotonic()
            elif time.monotonic() - seen >= self._idle_seconds and self._nobody_comes():
                log.info("no client for %.0f s: stopping", self._idle_seconds)
                return

    def _nobody_comes(self) -> bool:
        """Refuse newcomers and look once more. The start lock stays taken, so that who comes now waits for the end."""
        if not self._start.try_exclusive():
            return False
        if self._clients.taken_elsewhere():
            self._start.release()
            return False
        return True

    def _free_engine_lock(self) -> None:
        if end_engine(self._files, self._engine_lock):
            log.warning("ended an engine whose supervisor had died")

    def _prepare(self) -> None:
        self._files.engine.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._accounts = arcadedb.accounts(self._files)
        arcadedb.write_configuration(self._files, self._accounts)
        remembered = (read_json(self._files.directory / "port.json") or {}).get("port")
        self._port = free_port(remembered if isinstance(remembered, int) else None)

    def _start_first(self) -> None:
        """The first start tells its failure to the client, except for a port that somebody took just before us."""
        for attempt in range(3):
            try:
                self._launch()
                self._wait_until_ready()
            except EngineDiedError as error:
                if attempt == 2 or arcadedb.TAKEN_PORT not in str(error):
                    raise
                self._port = free_port(None)
            else:
                return

    def _replace(self) -> None:
        """Start a dead engine again: same port, same accounts, so that drivers simply connect again."""
        why, hint = self._death()
        while True:
            self._deaths.append(time.monotonic())
            self._last_death = why if hint is None else f"{why}: {hint}"
            self._died += 1
            log.warning("the engine died: %s. Starting it again", self._last_death)
            if len(self._deaths) == DEATHS and self._deaths[-1] - self._deaths[0] < DEATHS_WITHIN_S:
                raise EngineError(
                    f"the engine died {DEATHS} times within {DEATHS_WITHIN_S:.0f} s: giving up, the next client tries "
                    f"again. Of the last one: {why}. Its last words:\n{last_lines(self._files.engine_log)}",
                    hint=hint,
                )
            self._publish(STARTING)
            try:
                self._launch()
                self._wait_until_ready()
            except EngineDiedError as error:
                why, hint = error.message, error.hint
                self._port = free_port(self._port)
            else:
                return

    def _launch(self) -> None:
        """Start the engine so that its lock and its pid can be believed whatever happens to us meanwhile."""
        # Gone before the child exists: a pid on file together with a held lock is always the holder's own.
        self._files.engine_pid.unlink(missing_ok=True)
        command = arcadedb.command_line(
            self._port,
            memory=self._memory,
            java_options=self._java_options,
            command_timeout_ms=self._command_timeout_ms,
        )
        script = 'echo $$ > "$0" && exec "$@"'
        output = open_log(self._files.engine_log)
        self._log_start = self._log_read = os.fstat(output).st_size
        try:
            self._engine = subprocess.Popen(
                ["/bin/sh", "-c", script, str(self._files.engine_pid), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._files.engine,
                env=arcadedb.environment(),
                pass_fds=(self._engine_lock.fd,),
                # Safe: this process has one thread.
                preexec_fn=_end_with_parent(os.getpid()),  # noqa: PLW1509
            )
        finally:
            os.close(output)

    def _wait_until_ready(self) -> None:
        """Ready is what a client would see: an answer, in the database, to both accounts."""
        deadline = time.monotonic() + READY_S
        self._wait_for_log(deadline)
        who = self._accounts
        assert who is not None  # noqa: S101 - _prepare made them
        for user, password in ((who.user, who.password), (who.reader, who.reader_password)):
            while refusal := bolt_probe.answers(HOST, self._port, DATABASE, user, password):
                self._end_deaf_engine()
                self._check_alive()
                if time.monotonic() > deadline:
                    raise EngineDiedError(f"the engine does not answer {user}: {refusal}")
                self._sleep(0.1)
        self._publish(SERVING)
        write_private(self._files.directory / "port.json", json.dumps({"port": self._port}))
        log.info("the engine serves on port %d, pid %s", self._port, self._engine and self._engine.pid)

    def _wait_for_log(self, deadline: float) -> None:
        """Wait until the log says how the start went, so that no password goes to whoever else may have the port."""
        wait_until = min(deadline, time.monotonic() + LOG_S)
        while time.monotonic() < wait_until:
            self._check_alive()
            with self._files.engine_log.open("rb") as file:
                file.seek(self._log_start)
                text = file.read()
            if arcadedb.STARTED.encode() in text:
                return
            if arcadedb.FAILED.encode() in text:
                self._stop_engine(grace_s=FAILED_GRACE_S)
            else:
                self._sleep(POLL_S)
        log.warning("the engine has not said within %.0f s that it started: asking it", LOG_S)

    def _end_deaf_engine(self) -> None:
        """An engine that could not start a thread may go on without answering anybody: its log tells, and it is asked.

        The log repeats words of queries, so it alone proves nothing.
        """
        with contextlib.suppress(OSError), self._files.engine_log.open("rb") as file:
            file.seek(self._log_read)
            text = file.read()
            self._log_read += text.rfind(b"\n") + 1
            words = (arcadedb.FAILED.encode(), arcadedb.DEAF.encode())
            if any(line.startswith(words) for line in text.splitlines()) and not bolt_probe.greets(HOST, self._port):
                self._stop_engine(grace_s=FAILED_GRACE_S)

    def _check_alive(self) -> None:
        if self._stop_asked:
            raise _StopAskedError
        if self._engine is None or self._engine.poll() is not None:
            why, hint = self._death()
            words = last_lines(self._files.engine_log, after=self._log_start) or "(none)"
            raise EngineDiedError(
                f"the engine ended before it answered: {why}. Its last words:\n{words}",
                hint=hint or f"its whole log: {self._files.engine_log}",
            )

    def _death(self) -> tuple[str, str | None]:
        """Why the engine that has ended did, and what to do."""
        code = self._engine.returncode if self._engine else None
        return arcadedb.death(code, last_lines(self._files.engine_log, after=self._log_start), self._memory)

    def _publish(self, state: str) -> None:
        """Say where things stand. The file stands there from the first moment, so that other hosts see the claim."""
        self._record = {
            "format": 1,
            "state": state,
            "host": host_name(),
            "boot_id": boot_id(),
            "supervisor_pid": os.getpid(),
            "network": network(),
            "memory": self._memory,
            "died": self._died,
            "last_death": self._last_death,
        }
        if state == SERVING and self._accounts is not None and self._engine is not None:
            self._record |= {
                "engine_pid": self._engine.pid,
                "address": HOST,
                "port": self._port,
                "database": DATABASE,
                "user": self._accounts.user,
                "password": self._accounts.password,
                "reader": self._accounts.reader,
                "reader_password": self._accounts.reader_password,
                "version": arcadedb.version(),
                "idle_seconds": self._idle_seconds,
            }
        self._write_record()

    def _write_record(self) -> None:
        write_private(self._files.endpoint, json.dumps(self._record, indent=2) + "\n")
        self._record_mark = self._mark()
        hand_over(self._files.directory)

    def _mend_endpoint(self) -> None:
        """An endpoint file that somebody damaged or removed would keep clients waiting for ever."""
        if self._mark() != self._record_mark:
            log.warning("the endpoint file was changed by somebody else: written again")
            self._write_record()

    def _mark(self) -> tuple[int, int, int] | None:
        try:
            stat = self._files.endpoint.stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def _touched(self) -> int:
        try:
            return self._clients.path.stat().st_mtime_ns
        except OSError:
            return 0

    def _still_ours(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._own.fd), self._own.path.stat())
        except OSError:
            return False

    def _end(self) -> None:
        """Stop the engine, take back the endpoint, then drop the locks: in this order nobody believes too much."""
        ours = self._own.held and self._still_ours()
        if ours:
            with contextlib.suppress(OSError):
                self._publish(STOPPING)
        self._stop_engine(grace_s=STOP_GRACE_S)
        if ours:
            with contextlib.suppress(OSError):
                self._files.engine_pid.unlink(missing_ok=True)
                self._files.remove_endpoint()
            hand_over(self._files.directory)
        self._engine_lock.release()
        self._own.release()
        self._start.release()
        log.info("ended")

    def _stop_engine(self, *, grace_s: float) -> None:
        if self._engine is None or self._engine.poll() is not None:
            return
        self._engine.terminate()
        try:
            self._engine.wait(grace_s)
        except subprocess.TimeoutExpired:
            log.warning("the engine did not stop within %.0f s: killing it", grace_s)
            self._engine.kill()
            self._engine.wait()

    def _sleep(self, seconds: float) -> None:
        """Sleep until something happens: a signal, the death of the engine, or the end of the time."""
        if self._stop_asked:
            return
        ready, _, _ = select.select([self._wake], [], [], seconds)
        if ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 512)

    def _ask_to_stop(self, *_: object) -> None:
        self._stop_asked = True


def free_port(preferred: int | None) -> int:
    """A port that nobody listens on, the preferred one if possible."""
    candidates = [] if preferred is None else [preferred]
    candidates += random.SystemRandom().sample(_PORTS, 100)
    for port in candidates:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # Java sets it too
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise EngineError(f"expected a free port on {HOST} from {_PORTS.start} to {_PORTS.stop}, found none")


def main(arguments: list[str] | None = None) -> NoReturn:
    """Detach from the client that started us, then serve."""
    parser = argparse.ArgumentParser(description="Keeps the engine of one directory; started by its first client.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--ready-fd", type=int, required=True)
    parser.add_argument("--idle-seconds", type=float, required=True)
    parser.add_argument("--memory", required=True)
    parser.add_argument("--java-options", type=str.split, required=True)
    parser.add_argument("--command-timeout-ms", type=int, required=True)
    options = parser.parse_args(arguments)
    # The client waits for its child at once; the grandchild is nobody's zombie and never disturbs the client's waits.
    report = _Report(options.ready_fd)
    try:
        with explained(options.directory):
            parent = os.fork()
    except TopostrataError as error:
        report(error=error.message, hint=error.hint)
        sys.exit(1)
    if parent:
        os._exit(0)
    os.umask(0o077)
    os.set_inheritable(options.ready_fd, False)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(process)d %(message)s")
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        with explained(options.directory):
            supervisor = Supervisor(
                options.directory,
                idle_seconds=options.idle_seconds,
                memory=options.memory,
                java_options=options.java_options,
                command_timeout_ms=options.command_timeout_ms,
                report=report,
            )
            supervisor.run()
    except TopostrataError as error:
        log.error("%s", error)  # noqa: TRY400 - the error says it all
        report(error=error.message, hint=error.hint)
        sys.exit(1)
    except Exception as error:
        log.exception("the supervisor failed")
        report(error=f"the engine's supervisor failed: {error!r}", hint=f"see supervisor.log in {options.directory}")
        sys.exit(1)
    sys.exit(0)


def _end_with_parent(parent: int) -> Callable[[], None] | None:
    """On Linux the kernel asks the engine to stop when the supervisor dies, so that none is left behind for ever.

    Elsewhere an orphan lives until the next client comes and replaces it.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


if __name__ == "__main__":
    main()
