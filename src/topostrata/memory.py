"""How much memory one piece of work may take, said before it is paid."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from topostrata.errors import LimitError

FREE = 256 * 2**20  # work that needs no more is always done: its limit is not looked up
_CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
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

    return load_settings().memory_bytes or _of_machine() // 2


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


def _of_machine() -> int:
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _CGROUPS:
        try:
            sizes.append(int(path.read_text()))
        except (OSError, ValueError):  # there is no such file, or it says "max"
            continue
    return min(sizes)
