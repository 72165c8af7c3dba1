"""`topostrata engine`, `push`, `ls` and `show`, and what a verb loads to ask an archive."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.wirings import gpt2
from topostrata import wiring_text
from topostrata.ingest.formats import snapshot_file
from topostrata.service.answers.wiring import dot, graphml
from topostrata.store.embedded import stop
from topostrata.topology import Topology, Wiring

# The loaded modules among those that no question about runs needs, after `topostrata ls`.
LOADED = """
import sys
from topostrata.service.cli import main
heavy = "numpy scipy pandas pyarrow networkx matplotlib numba fastapi uvicorn dask distributed httpx safetensors"
try:
    main.main()
finally:
    print([name for name in heavy.split() if name in sys.modules])
"""

# A process that has a use for data frames of its own, and asks with a value of NumPy.
LIBRARY = """
import sys
import topostrata as ts
with ts.open(sys.argv[1], create=False) as archive:
    import numpy, pandas, pyarrow
    print(archive.cypher("RETURN $x AS x", {"x": numpy.int64(3)}).rows)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An archive with one run of one snapshot, pushed from a file."""
    folder = tmp_path_factory.mktemp("operation")
    snapshot_file.write(folder / "net.npz", Topology.from_masks([[[1, 0], [0, 1]], [[1], [1]]]))
    pushed = run(folder / "archive", "push", str(folder / "net.npz"), "--run", "w0", "--step", "0")
    assert pushed.returncode == 0, pushed.stderr
    yield folder / "archive"
    stop(folder / "archive", force=True)


def run(store: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "topostrata.service.cli.main", *arguments, "--store", str(store)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_status_says_whether_the_engine_is_running(store: Path, tmp_path: Path) -> None:
    """The first word is `running` or `stopped`; `stop` says on stdout what it did."""
    assert run(tmp_path / "none", "engine", "status").stdout.startswith("stopped: ")
    assert run(store, "ls").returncode == 0
    running = run(store, "engine", "status")
    assert running.stdout.splitlines()[0] == "running"
    assert "engine pid" in running.stdout
    assert run(store, "engine", "stop").stdout == "stopped\n"
    stopped = run(store, "engine", "status")
    assert stopped.stdout.splitlines()[0] == "stopped"
    assert "pid" not in stopped.stdout
    assert run(store, "engine", "stop").stdout == "it was not running\n"


def test_a_list_of_runs_loads_nothing_heavy(store: Path) -> None:
    """`topostrata ls` loads the driver, but no arrays, data frames, graphs, pictures or web framework."""
    command = [sys.executable, "-c", LOADED, "ls", "--store", str(store)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, ran.stderr
    listing, loaded = ran.stdout.splitlines()[:-1], ran.stdout.splitlines()[-1]
    assert any(line.split()[:2] == ["w0", "1"] for line in listing)
    assert loaded == "[]"


def test_the_driver_of_a_library_takes_what_numpy_has(store: Path) -> None:
    """Only the command's own process leaves NumPy and pandas out; whoever imports the package can send their values."""
    ran = subprocess.run(
        [sys.executable, "-c", LIBRARY, str(store)], capture_output=True, text=True, check=False, timeout=300
    )
    assert (ran.stdout, ran.returncode) == ("[[3]]\n", 0), ran.stderr


def test_push_says_what_it_did(store: Path) -> None:
    """Snapshots that are new, a tag or a parent that the run gained, or nothing."""
    file = str(store.parent / "net.npz")

    def push(*options: str) -> str:
        ran = run(store, "push", file, "--run", "w1", *options)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    assert (
        push("--step", "0", "--parent", "w0@0") == "w1: 1 snapshot added, 4 connections; the run now has parent w0@0\n"
    )
    assert push("--step", "0") == "w1: nothing new (1 snapshot there already)\n"
    assert push("--step", "0", "--tag", "set") == "w1: the run now has tag set (1 snapshot there already)\n"
    assert push("--step", "0", "--tag", "set") == "w1: nothing new (1 snapshot there already)\n"


def test_show_draws_the_wiring_and_lists_metrics_of_layers(store: Path) -> None:
    """The picture stands above the layers, in characters that the terminal has; --dot and --graphml write files."""
    folder, topology = store.parent, gpt2(1).topology(np.random.default_rng(0))
    snapshot_file.write(folder / "gpt.npz", topology, layer_metrics={"wte": {"flow": 0.25}})
    pushed = run(store, "push", str(folder / "gpt.npz"), "--run", "gpt", "--step", "3")
    assert pushed.returncode == 0, pushed.stderr
    files = ["--dot", str(folder / "gpt.dot"), "--graphml", str(folder / "gpt.graphml")]
    shown = run(store, "show", "gpt", *files)
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    at = lines.index("stream")
    assert lines[at + 1 : at + 6] == [
        " ╠═ h.0.q ═> h.0.q heads 4 x qk 12",
        " ╠═ h.0.k ═> h.0.k heads 4 x qk 12",
        " ╠═ h.0.v ═> h.0.v heads 4 x v 12 ═ h.0.attn.c_proj ═(+)> stream",
        " ╠═ h.0.mlp.c_fc ═> h.0.mlp 192 ═ h.0.mlp.c_proj ═(+)> stream",
        " ╚═ lm_head (tied with wte) ═> logits 50 (labelled)",
    ]
    assert "flow" in shown.stdout
    assert "0.2500" in shown.stdout
    assert (folder / "gpt.dot").read_text(encoding="utf-8") == dot(topology.wiring)
    assert (folder / "gpt.graphml").read_text(encoding="utf-8") == graphml(topology.wiring)
    told = json.loads(run(store, "show", "gpt@3", "--json").stdout)
    assert told["snapshot"]["layer_metrics"] == {"wte": {"flow": 0.25}}
    assert [layer["shared_with"] for layer in told["layers"]][-1] == "wte"
    assert Wiring(wiring_text.from_document(told["wiring"], "answer")) == topology.wiring


def test_metrics_of_a_run_are_drawn(store: Path, tmp_path: Path) -> None:
    """`ls RUN --png` draws those of the snapshots and of the layers; without any, and for several runs, it says so."""
    snapshot_file.write(
        tmp_path / "net.npz", Topology.from_masks([np.eye(3)]), metrics={"loss": 0.5}, layer_metrics={"l0": {"flow": 1}}
    )
    assert run(store, "push", str(tmp_path / "net.npz"), "--run", "drawn", "--step", "1").returncode == 0
    picture = tmp_path / "metrics.svg"
    assert run(store, "ls", "drawn", "--png", str(picture)).returncode == 0
    drawing = picture.read_text(encoding="utf-8")
    assert drawing.index("metric loss") < drawing.index("layer metric flow")
    assert run(store, "ls", "--png", str(picture)).returncode == 2
    none = run(store, "ls", "w0", "--png", str(picture))
    assert (none.returncode, none.stderr.splitlines()[0]) == (
        1,
        "error: run 'w0': expected metrics to draw, found none",
    )
