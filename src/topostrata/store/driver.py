"""Importing the database's driver without the data frames that it loads where they are installed.

``import neo4j`` imports NumPy, pandas and PyArrow where it finds them, to accept their values as parameters. That takes
longer than most questions to an archive. A program whose parameters are plain Python values can do without.
"""

from __future__ import annotations

import sys
from importlib import import_module

_OPTIONAL = ("numpy", "pandas", "pyarrow")


def import_driver_alone() -> None:
    """Import the driver as it is where neither NumPy, pandas nor PyArrow are installed; they stay importable.

    Only for a process of one's own, before it starts threads: while the driver loads, nobody else can import the three,
    and afterwards the driver takes no values of theirs as parameters. What the process has imported already is left
    alone, and so is a driver that is there.
    """
    absent = [name for name in _OPTIONAL if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type] # None: importing it fails at once
    try:
        import_module("neo4j")
    except ImportError:  # the archive says which extra is missing
        pass
    finally:
        for name in absent:
            del sys.modules[name]
