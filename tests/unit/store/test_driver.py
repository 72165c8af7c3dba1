"""Importing the driver without what it would load besides."""

from __future__ import annotations

import subprocess
import sys

import pytest

ALONE = """
import sys
{before}
from topostrata.store.driver import import_driver_alone
import_driver_alone()
print("neo4j" in sys.modules, [name for name in ("numpy", "pandas", "pyarrow") if name in sys.modules])
import numpy, pandas, pyarrow.parquet
print(pandas.DataFrame({{"x": numpy.arange(2)}}).x.sum(), pyarrow.array([1]).to_pylist())
"""


@pytest.mark.parametrize(("before", "loaded"), [("", []), ("import numpy", ["numpy"])])
def test_the_driver_loads_alone(before: str, loaded: list[str]) -> None:
    """What was not loaded stays unloaded and can be imported afterwards; what was there stays there."""
    command = [sys.executable, "-c", ALONE.format(before=before)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.stdout.splitlines() == [f"True {loaded}", "1 [1]"], ran.stderr
