#!/usr/bin/env bash
# Build the wheel; try it, and each of its extras alone, in fresh environments where the sources are out of reach; run the
# tests that need no checkout against it.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
topologies=${TOPOSTRATA_REFERENCE_TOPOLOGIES:-$root/../shared/set-topologies}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
unset PYTHONPATH
export UV_OVERRIDE=$root/tests/torch/overrides.txt # [torch] without what a CPU never loads

python -m build --wheel --outdir "$place/dist" "$root" >"$place/build.log" 2>&1 || { cat "$place/build.log"; exit 1; }
wheel=$(echo "$place"/dist/topostrata-*.whl)

# Make a fresh environment with the wheel, extras or none, and other packages.
environment() {
  uv venv --quiet --python "$(command -v python)" "$1"
  uv pip install --quiet --python "$1/bin/python" "$wheel${2:+[$2]}" "${@:3}"
}

# Install one extra alone and try what it promises.
try() {
  SECONDS=0
  environment "$place/$1" "${1#base}"
  mkdir "$place/$1/empty"
  (cd "$place/$1/empty" && ../bin/python -P "$root/tests/extras.py" "$1")
  echo "alone in a fresh environment, as promised: $1 ($SECONDS s)"
}

export root place wheel
export -f environment try
python -P "$root/tests/extras.py" | xargs -P 2 -I {} bash -euo pipefail -c 'try "$1"' try {}

echo "the whole install passes the tests"
environment "$place/whole" demo,pandas,parquet,keras,flax,orbax httpx pytest pytest-timeout pytest-xdist hypothesis
cp -r "$root/tests" "$root/docs" "$root/pyproject.toml" "$place/"
cd "$place"
TOPOSTRATA_REFERENCE_TOPOLOGIES=$topologies whole/bin/python -m pytest -q --numprocesses 2 --dist loadfile -o pythonpath= -o addopts=--import-mode=importlib \
  -m "not slow and not checkout" tests/unit tests/oracle
