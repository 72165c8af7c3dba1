"""The compilation of the kernels: numba does it at the first use and keeps the result, or cannot keep it.

It takes some seconds, so it is reported in a log, at level INFO, which the command line shows. Nothing is reported
where the kernels are there already. To be imported before the first of them is declared.
"""

# mypy: disable-error-code="misc,no-untyped-call"

from __future__ import annotations

import atexit
import gc
import hashlib
import logging
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
from numba.core import config, event

from topostrata.errors import EngineError

# For what only compiled functions call: without what Python would need to call it, which takes as long to compile.
_unwrapped: Any = {"cache": True, "nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
inner = numba.njit(**_unwrapped)
# The same, as a part of its callers: each level of calls is compiled once more for the next one.
part = numba.njit(inline="always", **_unwrapped)

logger = logging.getLogger(__name__)

_OURS = "topostrata."
_STAMP = "topostrata-kernels.sha256"  # beside what is compiled: of which sources it is


class _Reporter(event.Listener):
    """Reports that kernels are compiled, at the first one of this process.

    Meanwhile no garbage is looked for: it takes an eighth of the time, again and again, and finds little.
    """

    def __init__(self, *, cached: bool) -> None:
        self._cached = cached
        self._reported = False
        self._depth = 0  # events come in under numba's lock of compilers; callees are compiled within their callers
        self._collecting = False

    def on_start(self, event: Any) -> None:
        if not _is_ours(event):
            return
        if not self._reported:
            self._reported = True
            logger.info(
                "compiling the kernels of the distance (about 25 s; %s)",
                "only the first time"
                if self._cached
                else "each time, since no directory to keep them in can be written: NUMBA_CACHE_DIR may name one",
            )
        if not self._depth:
            self._collecting = gc.isenabled()
            gc.disable()
        self._depth += 1

    def on_end(self, event: Any) -> None:
        if not _is_ours(event):
            return
        self._depth -= 1
        if not self._depth and self._collecting:
            gc.enable()


def _is_ours(event: Any) -> bool:
    return str(event.data["dispatcher"].py_func.__module__).startswith(_OURS)


def prepare() -> None:
    """See that numba has a place for what it compiles, and that compiling is reported."""
    cached = True
    try:
        stats = getattr(numba.njit(cache=True)(_nothing), "stats", None)  # none with NUMBA_DISABLE_JIT
        if stats is not None:
            _forget_others(Path(stats.cache_path))
    except RuntimeError:  # neither beside the sources nor in the user's cache: numba would refuse to go on
        cached = False
        try:
            place = tempfile.mkdtemp(prefix="topostrata-kernels-")
        except OSError as error:
            raise EngineError(
                "the kernels of the distance: expected a directory that can be written, found none",
                hint="let NUMBA_CACHE_DIR or TMPDIR name one",
            ) from error
        vars(config)["CACHE_DIR"] = place
        atexit.register(shutil.rmtree, place, ignore_errors=True)
    event.register("numba:compile", _Reporter(cached=cached))


def _forget_others(place: Path) -> None:
    """Remove what was compiled of other kernels than these, of an earlier release say.

    Numba looks at the file of each function alone. What that function calls is compiled into it, from other files.
    """
    sources = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    digest = hashlib.sha256(
        b"".join(source for source in sources if b"njit" in source or b"compiling import" in source)
    ).hexdigest()
    stamp = place / _STAMP
    with suppress(OSError):  # nobody wrote it yet
        if stamp.read_text("ascii") == digest:
            return
    with suppress(OSError):  # somebody else is at it
        for path in [*place.glob("*.nbi"), *place.glob("*.nbc")]:
            path.unlink(missing_ok=True)
        stamp.write_text(digest, "ascii")


def _nothing() -> None:
    """What numba is asked to find a place for: its source lies beside the kernels."""


prepare()
