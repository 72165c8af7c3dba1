"""What each extra promises, tried where it alone is installed: `python extras.py EXTRA` in an empty directory.

Without an argument it prints the extras, for ``check_wheel.sh``, which makes an environment for each and runs this in it;
the checkout is out of reach there. That every extra has a promise, tests/unit/test_packaging.py holds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from urllib.request import urlopen

import numpy as np

import topostrata as ts
from topostrata.ingest.formats import snapshot_file

COMMAND = Path(sys.executable).with_name("topostrata")
FILES = ["./a.npz", "./b.npz", "./c.npz"]
ALIGNMENTS = ("overlap", "canonical", "refined", "reference", "identity")


def topostrata(*arguments: str) -> str:
    """What the command prints; it has to end well."""
    ran = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, f"topostrata {' '.join(arguments)}: {ran.stderr}"
    return ran.stdout


def refused(extra: str, *arguments: str) -> None:
    """The command fails, and says by which extra it would not."""
    ran = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=300)
    command = f"topostrata {' '.join(arguments)}: {ran.stderr}"
    assert ran.returncode == 1, command
    assert f"pip install '.[{extra}]'" in ran.stderr, command
    assert "Traceback" not in ran.stderr, command


def written(*arguments: str, file: str) -> None:
    """The command writes that file."""
    topostrata(*arguments, file)
    assert Path(file).stat().st_size > 0, file


def base() -> None:
    """Files are read and compared without a kernel; the rest is refused by the name of the extra."""
    home = Path(ts.__file__).parent
    assert list((home / "queries").glob("*/*.cypher")), "the queries are not in the wheel"
    assert (home / "py.typed").is_file(), "py.typed is not in the wheel"
    assert ts.__version__ == metadata.version("topostrata")
    for module in ("neo4j", "numba", "networkx", "matplotlib", "pandas", "fastapi"):
        assert find_spec(module) is None, f"the base install pulled in {module}"
    assert "Usage" in topostrata("--help")
    for name in ts.__all__:
        with suppress(ts.MissingExtraError):  # any other error would be one of Python's, without a command that helps
            getattr(ts, name)
    for alignment in ("identity", "reference"):
        assert 0 < json.loads(topostrata("nnstd", *FILES[:2], "--alignment", alignment, "--json"))["nnstd"] < 1
    plain = ["distances", *FILES, "--alignment", "identity"]
    written(*plain, "--csv", file="d.csv")
    refused("distance", "nnstd", *FILES[:2])
    refused("distance", *plain, "--graphml", "d.graphml")
    refused("plot", *plain, "--png", "d.png")
    refused("parquet", *plain, "--parquet", "d.parquet")
    refused("dask", *plain, "--scheduler", "tcp://127.0.0.1:1")
    refused("server", "ls", "--store", "archive")
    refused("server", "serve", "--store", "archive")
    refused("mcp", "mcp", "--store", "archive")
    nobody = subprocess.run(
        [COMMAND, "ls", "--store", "http://127.0.0.1:9"], capture_output=True, text=True, check=False, timeout=300
    )
    assert "the service does not answer" in nobody.stderr, f"a service is asked by the base install: {nobody.stderr}"
    refused("demo", "demo", "--no-serve")
    Path("a.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    Path("a.msgpack").write_bytes(b"\x80")
    Path("a.orbax").mkdir()
    Path("a.orbax/_METADATA").write_text("{}", "utf-8")
    for extra, suffix in (("keras", "h5"), ("flax", "msgpack"), ("orbax", "orbax")):
        refused(extra, "inspect", f"a.{suffix}")


def distance() -> None:
    """Every alignment, of two files and of many, and the files that need no other program."""
    for alignment in ALIGNMENTS:
        assert 0 < json.loads(topostrata("nnstd", *FILES[:2], "--alignment", alignment, "--json"))["nnstd"] < 1
    topostrata("nnstd", *FILES[:2], "--chance", "density")
    written("distances", *FILES, "--nearest", "2", "--graphml", "d.graphml", "--npz", "d.npz", "--csv", file="d.csv")
    assert "<graphml" in Path("d.graphml").read_text("utf-8")


def plot() -> None:
    """A picture of distances that need no kernel."""
    written("distances", *FILES, "--alignment", "identity", "--png", file="d.png")


def distance_plot() -> None:
    """A picture of the default distance, without an archive."""
    written("distances", *FILES, "--png", file="d.png")


def pandas() -> None:
    """Answers as data frames."""
    frame = ts.distances(networks(), alignment="identity").to_pandas()
    assert frame.shape == (3, 3)


def mcp() -> None:
    """The tools for assistants."""
    from topostrata.service.assistant import server_of

    with ts.open("archive") as archive:
        assert server_of(archive).name == "topostrata"


def parquet() -> None:
    """A Parquet file with a row for each pair."""
    import pyarrow.parquet as pq

    written("distances", *FILES, "--alignment", "identity", "--parquet", file="d.parquet")
    assert pq.read_table("d.parquet").num_rows == 3


def keras() -> None:
    """A file of weights in HDF5."""
    import h5py

    with h5py.File("net.h5", "w") as file:
        file["fc1"], file["fc2"] = np.eye(4, 6), np.eye(6, 3)
    assert [frame.topology.nnz for frame in ts.read("net.h5")] == [7]


def flax() -> None:
    """A file of Flax."""
    import msgpack

    kernel = msgpack.ExtType(1, msgpack.packb(((4, 3), "float32", np.eye(4, 3, dtype="f4").tobytes())))
    Path("net.msgpack").write_bytes(msgpack.packb({"params": {"Dense_0": {"kernel": kernel}}}))
    assert [frame.topology.nnz for frame in ts.read("net.msgpack")] == [3]


def orbax() -> None:
    """A checkpoint of Orbax."""
    import tensorstore

    place = Path("net").absolute()
    kvstore = {"driver": "file", "path": f"{place}/params.Dense_0.kernel/"}
    store = tensorstore.open(
        {"driver": "zarr", "kvstore": kvstore}, create=True, dtype="float32", shape=[4, 3]
    ).result()
    store.write(np.eye(4, 3, dtype="f4")).result()
    keys = [{"key": key, "key_type": 2} for key in ("params", "Dense_0", "kernel")]
    leaf = {"key_metadata": keys, "value_metadata": {"value_type": "jax.Array"}}
    tree = {"tree_metadata": {"kernel": leaf}, "use_ocdbt": False}
    (place / "_METADATA").write_text(json.dumps(tree), "utf-8")
    assert [frame.topology.nnz for frame in ts.read("net")] == [3]


def dask() -> None:
    """Distances that need no kernel, on a cluster."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        there = ts.distances(networks(), alignment="identity", scheduler=address)
    assert np.array_equal(there.nnstd, ts.distances(networks(), alignment="identity").nnstd)


def server() -> None:
    """An archive with its engine: pushed, listed, compared, asked in Cypher and over REST."""
    for name in "ab":
        topostrata("push", f"./{name}.npz", "--run", name, "--step", "0")
    assert [run["run"] for run in json.loads(topostrata("ls", "--json"))["runs"]] == ["a", "b"]
    assert 0 < json.loads(topostrata("nnstd", "a", "b", "--alignment", "identity", "--json"))["nnstd"] < 1
    topostrata("lineage")
    assert ts.__version__ in topostrata("doctor")
    topostrata("cypher", "MATCH (r:Run) RETURN r.id")
    written("distances", "*@last", "--alignment", "identity", "--graphml", file="d.graphml")
    with subprocess.Popen([COMMAND, "serve", "--port", "0"], stderr=subprocess.PIPE, text=True) as serving:
        ask(serving)
    topostrata("engine", "stop", "--force")


def ask(serving: subprocess.Popen[str]) -> None:
    """A service answers one request, and is ended."""
    assert serving.stderr is not None
    line = serving.stderr.readline()
    with urlopen(line.split()[1], timeout=60) as answer:
        assert answer.status == 200
    serving.terminate()


def otel() -> None:
    """A trace of a request has the template of its route."""
    command = [COMMAND.with_name("opentelemetry-instrument"), COMMAND, "serve", "--port", "0"]
    exporters = {"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": os.environ | exporters}
    with subprocess.Popen(command, **pipes) as serving:  # type: ignore[call-overload]
        ask(serving)
        assert '"http.route": "/v1/runs"' in serving.stdout.read()
    topostrata("engine", "stop", "--force")


def py2neo() -> None:
    """The archive as a py2neo graph."""
    with ts.open("archive") as archive:
        archive.push("a", 0, networks()[0])
        graph = archive.py2neo()
        assert graph.evaluate("MATCH (r:Run) RETURN r.id") == "a"
    topostrata("engine", "stop", "--force", "--store", "archive")


def demo() -> None:
    """The whole story, short, with its pictures."""
    topostrata("demo", "--epochs", "2", "--no-serve", "--out", "demo-out")
    assert {file.name for file in Path("demo-out").glob("*.png")} >= {"distances.png", "survival.png", "descent.png"}
    topostrata("engine", "stop", "--force", "--store", "demo-out/archive")


def torch() -> None:
    """A comparison of a sparse with a dense network, in an archive."""
    from topostrata.experiments import scsdc

    rng = np.random.default_rng(0)
    points, classes = rng.normal(0, 1, (40, 6)).astype(np.float32), np.arange(40) % 2
    data = SimpleNamespace(train=points, train_classes=classes, test=points, test_classes=classes)
    study = scsdc.Study("s", (3,), 6, 1, ("sgd",), ("none",), seeds=(0,), epochs=1)
    with ts.open("archive") as archive:
        assert scsdc.run(study, data, archive).cells[0].pairs == 1
    topostrata("engine", "stop", "--force", "--store", "archive")


PROMISES: dict[str, Callable[[], None]] = {
    "base": base,
    "dask": dask,
    "demo": demo,
    "distance": distance,
    "distance,plot": distance_plot,
    "flax": flax,
    "keras": keras,
    "orbax": orbax,
    "pandas": pandas,
    "mcp": mcp,
    "otel": otel,
    "parquet": parquet,
    "plot": plot,
    "py2neo": py2neo,
    "server": server,
    "torch": torch,
}


def networks() -> list[ts.Topology]:
    """Three of 20-30-5 units, a fifth of the connections each."""
    rng = np.random.default_rng(0)
    return [ts.Topology.from_masks([rng.random((20, 30)) < 0.2, rng.random((30, 5)) < 0.2]) for _ in FILES]


def main(extra: str) -> None:
    """Try what an extra promises, in an empty directory."""
    checkout = Path(__file__).resolve().parents[1]
    assert not Path(ts.__file__).resolve().is_relative_to(checkout), f"tried on {ts.__file__}, not on the wheel"
    os.environ["TOPOSTRATA_STORE"] = str(Path("archive").absolute())
    for file, network in zip(FILES, networks(), strict=True):
        snapshot_file.write(Path(file), network)
    PROMISES[extra]()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        sys.stdout.writelines(f"{extra}\n" for extra in PROMISES)
