#!/usr/bin/env bash
# Build the wheel, install it where the sources are out of reach, and run the tests that need no checkout against it.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
topologies=${TOPOSTRATA_REFERENCE_TOPOLOGIES:-$root/../shared/set-topologies}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

python -m build --wheel --outdir "$place/dist" "$root" >"$place/build.log" 2>&1 || { cat "$place/build.log"; exit 1; }
wheel=$(echo "$place"/dist/topostrata-*.whl)
python -m venv "$place/venv"
cp -r "$root/tests" "$root/pyproject.toml" "$place/"
cd "$place"

echo "the base install imports, answers and says what is missing"
venv/bin/python -m pip install --quiet "$wheel"
venv/bin/topostrata --help >/dev/null
venv/bin/python - <<'PY'
import importlib.util, pathlib, topostrata as ts
home = pathlib.Path(ts.__file__).resolve().parent
assert (home / "queries/read/run.cypher").is_file(), "the queries are not in the wheel"
assert (home / "py.typed").is_file(), "py.typed is not in the wheel"
assert importlib.util.find_spec("neo4j") is None, "the base install pulled in the server"
a = ts.Topology.from_masks([[[1, 0], [0, 1]]])
assert ts.nnstd(a, a, alignment="identity").nnstd == 0
try:
    ts.open("nowhere")
except ImportError as error:
    assert "topostrata[server]" in str(error), error
else:
    raise AssertionError("ts.open worked without the server extra")
PY

echo "the whole install passes the tests"
venv/bin/python -m pip install --quiet "$wheel[demo,pandas,parquet]" pytest pytest-timeout pytest-xdist hypothesis
TOPOSTRATA_REFERENCE_TOPOLOGIES=$topologies venv/bin/python -m pytest -q --numprocesses 2 --dist loadfile -o pythonpath= -o addopts=--import-mode=importlib \
  -m "not slow and not checkout" tests/unit tests/oracle
