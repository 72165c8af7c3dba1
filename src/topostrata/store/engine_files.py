"""The files and locks by which the clients, the supervisor and the engine of one directory know of each other.

A pid in a file proves nothing: it may be old, recycled, or of another container. What can be believed is a lock that
the kernel drops when its holder dies, however it dies. So every question ("is a supervisor there?", "does anyone still
use this engine?", "does that orphan still run?") is put to a ``flock``, and files only say how to reach who holds it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import platform
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from topostrata import format_1
from topostrata.errors import EngineError, TopostrataError

try:
    import fcntl
except ImportError:  # Windows: embedded.py refuses before any lock is asked for
    fcntl = None  # type: ignore[assignment]

HOST = "127.0.0.1"
DATABASE = format_1.EMBEDDED_DATABASE
_ENGINE = "engine"  # the folder that is the engine's
# What stands in an archive's directory, and the drafts of it.
_OURS = re.compile(
    r"engine|\.gitignore|\w+\.lock|\.?(endpoint|accounts|port|tokens)\.json[.\w]*|\.?engine\.pid[.\w]*|\w+\.log(\.1)?"
)
POLL_S = 0.02

_PROC = Path("/proc/self/fd")

STARTING, SERVING, STOPPING = "starting", "serving", "stopping"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the engine of one directory answers, and the accounts it answers to."""

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)
    reader: str
    reader_password: str = field(repr=False)
    version: str
    engine_pid: int
    supervisor_pid: int


class FileLock:
    """One open file description with a lock on it; dropped by ``release``, or by the kernel when its holders die."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None
        self._pid = 0

    @property
    def fd(self) -> int:
        """The descriptor that carries the lock, for a child that shall carry it on."""
        if self._fd is None:
            raise EngineError(f"{self.path}: expected a lock that is held, found it free")
        return self._fd

    @property
    def held(self) -> bool:
        """Whether this process took the lock; a fork of it has only borrowed it."""
        return self._fd is not None and self._pid == os.getpid()

    def try_exclusive(self) -> bool:
        """Take the lock alone if nobody has it."""
        return self._try(fcntl.LOCK_EX)

    def try_shared(self) -> bool:
        """Take the lock together with others if nobody has it alone."""
        return self._try(fcntl.LOCK_SH)

    def wait_exclusive(self, deadline: float) -> bool:
        """``try_exclusive`` until it works or ``time.monotonic()`` reaches the deadline."""
        return self._wait(fcntl.LOCK_EX, deadline)

    def wait_shared(self, deadline: float) -> bool:
        """``try_shared`` until it works or ``time.monotonic()`` reaches the deadline."""
        return self._wait(fcntl.LOCK_SH, deadline)

    def taken_elsewhere(self) -> bool:
        """Whether somebody else holds the lock now."""
        if not self.path.exists():
            return False
        if self.try_exclusive():
            self.release()
            return False
        return True

    def touch(self) -> None:
        """Leave a mark that the lock was held, for who looks only now and then."""
        os.utime(self.fd)

    def release(self) -> None:
        """Drop the lock. In a fork only the copy of the descriptor is closed: the lock is the parent's."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        try:
            # Closing is not enough: a worker forked meanwhile by another thread has a copy of the descriptor.
            if self._pid == os.getpid():
                fcntl.flock(fd, fcntl.LOCK_UN)
        finally:
            os.close(fd)

    def _wait(self, operation: int, deadline: float) -> bool:
        while not self._try(operation):
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_S)
        return True

    def _try(self, operation: int) -> bool:
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, operation | fcntl.LOCK_NB)
            # A directory that was removed and made anew has another file here: a lock on the old one says nothing.
            if not os.path.samestat(os.fstat(fd), self.path.stat()):
                os.close(fd)
                return False
        except (BlockingIOError, FileNotFoundError):
            os.close(fd)
            return False
        except BaseException:
            os.close(fd)
            raise
        self.release()
        self._fd, self._pid = fd, os.getpid()
        return True


class EngineFiles:
    """Every file of an embedded archive's directory that is not the database's own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.engine = directory / _ENGINE
        self.endpoint = directory / "endpoint.json"
        self.accounts = directory / "accounts.json"
        self.engine_pid = directory / "engine.pid"
        self.engine_log = directory / "engine.log"
        self.supervisor_log = directory / "supervisor.log"

    def lock(self, name: str) -> FileLock:
        """A lock of this directory, not yet taken: start, clients, supervisor or engine."""
        return FileLock(self.directory / f"{name}.lock")

    def create(self) -> None:
        """Make the directory, closed to everybody else and to version control: it holds passwords."""
        if not self.directory.is_dir():
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        ignore = self.directory / ".gitignore"
        if not ignore.exists():
            write_private(ignore, "*\n")

    def read_endpoint(self) -> dict[str, Any] | None:
        """What the supervisor wrote of itself; None if nothing is there, or nothing that can be read."""
        return read_json(self.endpoint)

    def remove_endpoint(self) -> None:
        """Forget what a supervisor wrote of itself."""
        self.endpoint.unlink(missing_ok=True)

    def read_engine_pid(self) -> int | None:
        """The pid that the engine wrote of itself before it became Java."""
        try:
            return int(self.engine_pid.read_text("ascii"))
        except (OSError, ValueError):
            return None


def as_endpoint(record: dict[str, Any]) -> Endpoint | None:
    """The endpoint in a supervisor's record; None while the engine does not serve yet, or if the record is damaged."""
    try:
        if record["state"] != SERVING:
            return None
        return Endpoint(
            host=str(record["address"]),
            port=int(record["port"]),
            database=str(record["database"]),
            user=str(record["user"]),
            password=str(record["password"]),
            reader=str(record["reader"]),
            reader_password=str(record["reader_password"]),
            version=str(record["version"]),
            engine_pid=int(record["engine_pid"]),
            supervisor_pid=int(record["supervisor_pid"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None if it is missing, cut off or not an object."""
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, all of it or nothing."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:  # noqa: PTH123 - the mode must be right from the first byte
            file.write(text)
            file.flush()
            os.fsync(fd)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def open_log(path: Path, *, limit: int = 4 << 20) -> int:
    """A log to append to; one that has grown large is put aside first, so that at most two of them stand there."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > limit:
            path.replace(path.with_name(f"{path.name}.1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def last_lines(path: Path, *, after: int = 0) -> str:
    """The end of a log without Java's stack traces, for an error message."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(after, size - 8192))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return "\n".join(line for line in lines if line.strip() and not line.startswith("\tat "))[-2000:]


@functools.cache
def boot_id() -> str:
    """What tells one run of a kernel from the next, and one machine from another: "" where the system does not say."""
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip()
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def network() -> str | None:
    """Which network the process sees: containers and services have ones of their own. None where there is but one."""
    try:
        return os.readlink("/proc/self/ns/net")  # noqa: PTH115 - it names nothing that is there
    except OSError:
        return None


def host_name() -> str:
    """This machine's name, as the endpoint file of another machine would show it."""
    return socket.gethostname() or platform.node()


def signal_holder(pid: int, path: Path, signum: signal.Signals) -> bool:
    """Send the signal to that process if it is for certain one that has the file open; False if it is not.

    Where the kernel lets us, the process is pinned first, so that it cannot die and hand its pid to another in between.
    """
    try:
        pin = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
    except OSError:
        return False
    try:
        if not _has_open(pid, path):
            return False
        if pin is None:
            os.kill(pid, signum)
        else:
            signal.pidfd_send_signal(pin, signum)
    except ProcessLookupError:
        return False
    finally:
        if pin is not None:
            os.close(pin)
    return True


def end_engine(files: EngineFiles, lock: FileLock, *, grace_s: float = 20.0) -> bool:
    """End an engine whose supervisor is dead, and take its lock; False if there was none.

    Called only by who holds the supervisor's lock or the start lock. The engine wrote its pid itself, while it held the
    lock and before it became Java, and the file was removed before that: pid and held lock belong together.
    """
    if lock.try_exclusive():
        return False
    started = time.monotonic()
    ended = killed = False
    while not lock.try_exclusive():
        pid = files.read_engine_pid()
        waited = time.monotonic() - started
        if pid is not None and not ended:
            ended = signal_holder(pid, lock.path, signal.SIGTERM)
        elif pid is not None and not killed and waited > grace_s:
            killed = signal_holder(pid, lock.path, signal.SIGKILL)
        if (not ended and waited > 5) or waited > grace_s + 10:
            raise EngineError(
                f"{lock.path}: expected the lock of an engine that can be ended, "
                f"found one held by a process that is not visible from here (pid {pid} on file)",
                hint="does it run in another container or as another user? end it there",
            )
        time.sleep(POLL_S)
    return True


def resident_bytes(pid: int) -> int | None:
    """Memory that the process has in use; None if it is gone."""
    if _PROC.is_dir():
        try:
            return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError, ValueError):
            return None
    done = subprocess.run(["/bin/ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return int(done.stdout) * 1024 if done.stdout.strip().isdigit() else None


def hand_over(directory: Path) -> None:
    """Give what root made in a user's archive to that user, the owner of the directory, who could not write it else.

    Only what bears a name that we or the engine make, plain files and folders of root's with no other name, and
    without following links: a user who puts a link to somebody's file there is not given that file. (One who moves a
    file of root's to such a name is.)
    """
    if os.geteuid():
        return
    with contextlib.suppress(OSError):  # not there
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:  # from here on by this descriptor: the path may come to mean another place
            owner = os.fstat(fd)
            if owner.st_uid:
                _give(filter(_OURS.fullmatch, os.listdir(fd)), fd, owner)  # noqa: PTH208 - of a descriptor
                for _, folders, names, folder in os.fwalk(_ENGINE, dir_fd=fd):
                    _give([*folders, *names], folder, owner)
        finally:
            os.close(fd)


def _give(names: Iterable[str], folder: int, owner: os.stat_result) -> None:
    for name in names:
        with contextlib.suppress(OSError):  # gone meanwhile, or a link
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
            try:
                file = os.fstat(fd)
                alone = stat.S_ISDIR(file.st_mode) or (stat.S_ISREG(file.st_mode) and file.st_nlink == 1)
                if alone and not file.st_uid:
                    os.fchown(fd, owner.st_uid, owner.st_gid)
            finally:
                os.close(fd)


def refuse_others_files(directory: Path) -> None:
    """Refuse an archive of ours in which another user left what we cannot write, naming what."""
    if not os.access(directory, os.W_OK):
        return  # a copy to be read
    ours = os.geteuid()
    sealed = []
    for path in _made_here(directory):
        with contextlib.suppress(FileNotFoundError):  # what is written goes and comes
            entry = path.lstat()
            if entry.st_uid != ours and not stat.S_ISLNK(entry.st_mode) and not os.access(path, os.W_OK):
                sealed.append((path, entry.st_uid))
    if sealed:
        (path, user), more = sealed[0], f" and {len(sealed) - 1} more" if len(sealed) > 1 else ""
        raise EngineError(
            f"{path}{more}: expected files that user {ours} may write, found them to be of user {user}",
            hint=f"as root: `chown -R {ours} {directory}`",
        )


def _made_here(directory: Path) -> Iterator[Path]:
    """All in a directory that bears a name that we or the engine make, whatever of it may be looked into."""
    yield from (path for path in directory.glob("*") if _OURS.fullmatch(path.name))
    for folder, folders, names in os.walk(directory / _ENGINE):
        yield from (Path(folder, name) for name in (*folders, *names))


@contextlib.contextmanager
def explained(directory: Path) -> Iterator[None]:
    """Turn what the file system refuses into an error that says what to do about it."""
    try:
        yield
    except TopostrataError:  # some of them are OSErrors too
        raise
    except OSError as error:
        at_fault = error.filename if isinstance(error.filename, str) else str(directory)
        where = at_fault if at_fault.startswith(str(directory)) else str(directory)
        raise EngineError(f"{where}: {error.strerror or error}", hint=_advice(error)) from error


def _advice(error: OSError) -> str:  # noqa: PLR0911 - one line for each kind of refusal
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return "the disk is full: free some space, or name another directory"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return "this user must be able to write it: make it so, or name another directory"
        case errno.ENOLCK | errno.ENOTSUP | errno.ENOSYS:
            return "the file system has no locks: use a local disk, or a Neo4j URI"
        case errno.EMFILE | errno.ENFILE:
            return "too many files are open: raise the limit (ulimit -n)"
        case errno.EAGAIN:
            return "no more processes may be started: raise the limit (ulimit -u)"
        case errno.EEXIST | errno.ENOTDIR:
            return "expected a directory, found a file of that name"
        case _:
            return "the directory of an embedded archive must be on a working local disk"


def _has_open(pid: int, path: Path) -> bool:
    descriptors = Path(f"/proc/{pid}/fd")
    if not _PROC.is_dir():
        return True  # macOS has no such list; no containers share its directories either
    wanted = path.stat()
    try:
        for descriptor in descriptors.iterdir():
            with contextlib.suppress(OSError):
                if os.path.samestat(descriptor.stat(), wanted):
                    return True
    except OSError:
        return False
    return False
