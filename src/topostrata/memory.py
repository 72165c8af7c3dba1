"""How much memory one piece of work may take, said before it is paid."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from topostrata.errors import LimitError

FREE = 256 * 2**20  # work that needs no more is always done: its limit is not looked up
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_GIB = 2**30

_beside: ContextVar[int] = ContextVar("beside", default=0)


@contextmanager
def beside(size: int) -> Iterator[None]:
    """Count ``size`` bytes that are in memory already with whatever is checked meanwhile."""
    token = _beside.set(_beside.get() + size)
    try:
        yield
    finally:
        _beside.reset(token)


def most_memory() -> int:
    """The limit in bytes: the setting ``memory_bytes``, by default half of what this machine or container has."""
    from topostrata.settings import load_settings  # noqa: PLC0415 - with pydantic behind it; small work needs no limit

    return load_settings().memory_bytes or of_machine() // 2


def check_memory(where: str, need: int, *, most: int | None = None, hint: str | None = None) -> None:
    """``LimitError`` for work that needs more bytes than ``most``, or than the limit where none is handed in."""
    need += _beside.get()
    if need <= (FREE if most is None else most):
        return
    limit = most_memory() if most is None else most
    if need > limit:
        raise LimitError(
            f"{where}: expected work that needs at most {shown(limit)} of memory, found one that needs {shown(need)}",
            hint=hint or "TOPOSTRATA_MEMORY_BYTES raises the limit",
        )


def shown(size: int) -> str:
    """A number of bytes to be read: 1.5 GiB."""
    return f"{size / _GIB:,.1f} GiB" if size >= _GIB else f"{size / 2**20:,.1f} MiB"


def of_machine() -> int:
    """What this machine has, or what the control groups that this process is in leave it, in bytes."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _limit_files():
        try:
            sizes.append(int(path.read_text("ascii")))
        except (OSError, ValueError):  # there is no such file, or it says "max"
            continue
    return min(sizes)


def _limit_files() -> Iterator[Path]:
    """Where the limits of our control groups may stand, each group with those above it, whose limits hold too.

    In a container the root of what is mounted is the container's own group, whatever its name is outside.
    """
    try:
        lines = _OWN_CGROUPS.read_text("utf-8").splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if not controllers:
            root, file = _CGROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            root, file = _CGROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = root / name.lstrip("/")
        yield group / file
        if group != root:
            yield from (above / file for above in group.parents if above.is_relative_to(root))
