"""What a file or a match would cost in memory is refused before it is paid, at every door."""

from __future__ import annotations

import io
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import scipy.io
import scipy.sparse as sp

from topostrata import codec, memory
from topostrata.distance.alignments import Alignment
from topostrata.distance.nnstd import nnstd
from topostrata.errors import LimitError, SettingsError
from topostrata.ingest.formats import snapshot_file
from topostrata.ingest.formats.limits import DEFAULT
from topostrata.ingest.formats.reading import read, read_snapshot_bytes
from topostrata.ingest.inspection import inspect
from topostrata.topology import LayerShape, Mask, Space, Topology, Wiring

SIDE = 600


@pytest.fixture(scope="module")
def matrix() -> Any:
    return sp.random_array((SIDE, SIDE), density=0.3, format="csr", rng=np.random.default_rng(1), dtype=np.float32)


def _npz(path: Path, matrix: Any, form: Any) -> Path:
    sp.save_npz(path, matrix.asformat(form))
    return path


def _mat(path: Path, matrix: Any) -> Path:
    scipy.io.savemat(path, {"fc1": sp.csc_matrix(matrix.astype(float))})
    return path


def _mtx(path: Path, matrix: Any) -> Path:
    scipy.io.mmwrite(path, sp.coo_matrix(matrix))
    return path


def _safetensors(path: Path, matrix: Any) -> Path:
    safetensors.numpy.save_file({"fc1.weight": matrix.toarray()}, path)
    return path


def _pickled(path: Path, matrix: Any) -> Path:
    path.write_bytes(pickle.dumps({"fc1": sp.csr_matrix(matrix)}))
    return path


def _snapshot(path: Path, matrix: Any) -> Path:
    snapshot_file.write(path, Topology.from_masks([matrix]))
    return path


def _dense(path: Path, matrix: Any) -> Path:
    np.savez(path, fc1=matrix.toarray())
    return path


FILES: dict[str, Callable[[Path, Any], Path]] = {
    **{form: lambda folder, m, form=form: _npz(folder / "w.npz", m, form) for form in ("csr", "csc", "coo", "bsr")},  # type: ignore[misc]
    "mat": lambda folder, m: _mat(folder / "w.mat", m),
    "mtx": lambda folder, m: _mtx(folder / "w.mtx", m),
    "safetensors": lambda folder, m: _safetensors(folder / "w.safetensors", m),
    "pickle": lambda folder, m: _pickled(folder / "w.pkl", m),
    "snapshot": lambda folder, m: _snapshot(folder / "w.npz", m),
    "dense": lambda folder, m: _dense(folder / "w.npz", m),
}


def peak_of(work: Callable[[], object]) -> int:
    """The most bytes that were taken at once."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("with_wiring", [False, True])
@pytest.mark.parametrize("kind", FILES)
def test_the_estimate_is_not_below_the_peak(tmp_path: Path, matrix: Any, kind: str, *, with_wiring: bool) -> None:
    """One byte less than what reading takes is refused, four times of it is enough: no lie, and no fright."""
    path = FILES[kind](tmp_path, matrix)
    options: dict[str, Any] = {"orientation": "out-in"} if kind == "safetensors" else {"bias": "none"}
    if with_wiring:
        if kind == "snapshot":
            pytest.skip("a snapshot has its wiring")
        options = {"wiring": _wiring(path)}
    list(read(path, **options))  # what is loaded once is no cost of a file
    peak = peak_of(lambda: list(read(path, **options)))
    with pytest.raises(LimitError, match=r"expected work that needs at most .* of memory, found one that needs"):
        list(read(path, **options, limits=replace(DEFAULT, memory=peak - 1)))
    assert next(read(path, **options, limits=replace(DEFAULT, memory=4 * peak))).topology.nnz == matrix.nnz


def _wiring(path: Path) -> Wiring:
    """One layer, by the name that its array has in the file."""
    (array,) = inspect(path, bias="none").arrays
    ends = (Space("i", SIDE, labelled=True), Space("o", SIDE, labelled=True))
    return Wiring((LayerShape(array.name, *ends),))


@pytest.mark.parametrize("kind", FILES)
def test_a_refusal_costs_little(tmp_path: Path, matrix: Any, kind: str) -> None:
    """A file over the limit is refused by its head: a quarter of what reading it takes, at most."""
    path = FILES[kind](tmp_path, matrix)
    peak = peak_of(lambda: list(read(path, bias="none")))

    def refused() -> None:
        with pytest.raises(LimitError):
            list(read(path, bias="none", limits=replace(DEFAULT, memory=2**16)))

    assert peak_of(refused) < max(peak // 4, 2**20)


def test_layers_are_counted_together(tmp_path: Path) -> None:
    """Each layer fits alone, all of them do not: the sum is what memory has to hold."""
    masks: dict[str, Any] = {f"fc{k}": np.ones((200, 200), dtype=bool) for k in range(20)}
    np.savez(tmp_path / "net.npz", **masks)
    list(read(tmp_path / "net.npz"))
    limits = replace(DEFAULT, memory=8 * 10 * 200 * 200)
    with pytest.raises(LimitError, match="of memory"):
        list(read(tmp_path / "net.npz", limits=limits))
    np.savez(tmp_path / "one.npz", fc0=masks["fc0"], fc1=masks["fc1"])
    assert next(read(tmp_path / "one.npz", limits=limits)).topology.nnz == 2 * 200 * 200


def test_a_body_and_an_inspection_are_bounded_too(tmp_path: Path, matrix: Any) -> None:
    """A body is refused as a file is; an inspection shows shapes, and no density of what it does not read."""
    limits = replace(DEFAULT, memory=2**20)
    packed = io.BytesIO()
    snapshot_file.write(packed, Topology.from_masks([matrix]))
    with pytest.raises(LimitError, match="of memory"):
        read_snapshot_bytes(packed.getvalue(), limits=limits)
    (array,) = inspect(FILES["dense"](tmp_path, matrix), bias="none", limits=limits).arrays
    assert (array.shape, array.density) == ((SIDE, SIDE), None)


def test_the_setting_is_the_limit_where_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names need, limit and the setting; small work is done without looking it up."""
    monkeypatch.setenv("TOPOSTRATA_MEMORY_BYTES", str(2**30))
    with pytest.raises(LimitError) as caught:
        memory.check_memory("net.npz", 3 * 2**30)
    assert caught.value.message == (
        "net.npz: expected work that needs at most 1.0 GiB of memory, found one that needs 3.0 GiB"
    )
    assert caught.value.hint == "TOPOSTRATA_MEMORY_BYTES raises the limit"
    memory.check_memory("net.npz", 2**30)
    monkeypatch.setenv("TOPOSTRATA_MEMORY_BYTES", "a lot")
    memory.check_memory("net.npz", memory.FREE)
    with pytest.raises(SettingsError, match="TOPOSTRATA_MEMORY_BYTES"):
        memory.check_memory("net.npz", memory.FREE + 1)


def test_a_packed_mask_is_bounded_by_its_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes of zstd can claim hundreds of millions of gaps: what they would take is refused unread."""
    monkeypatch.setenv("TOPOSTRATA_MEMORY_BYTES", str(2**20))
    side = 5000
    packed = codec.encode(Mask(side, side, np.arange(side * side // 2, dtype=np.int64)))
    assert len(packed.data) < 10_000

    def refused() -> None:
        with pytest.raises(LimitError, match=r"packed mask: expected work that needs at most 1\.0 MiB"):
            codec.decode(packed.data)

    assert peak_of(refused) < 2**20


def wide(units: int, connections: int, seed: int) -> Topology:
    """A wide hidden space of which most units have neither inputs nor outputs."""
    rng = np.random.default_rng(seed)
    masks = [
        sp.coo_array((np.ones(connections), (rng.integers(0, a, connections), rng.integers(0, b, connections))), (a, b))
        for a, b in ((units, units), (units, 10))
    ]
    return Topology.from_masks(masks)


@pytest.mark.parametrize("alignment", ["canonical", "refined", "reference"])
def test_wide_layers_are_refused_before_pairs_are_listed(monkeypatch: pytest.MonkeyPatch, alignment: Alignment) -> None:
    """The message says which layer, how many units, what they need, and that the identity alignment needs none."""
    monkeypatch.setenv("TOPOSTRATA_MEMORY_BYTES", str(300 * 2**20))
    a, b = wide(8000, 200, 1), wide(8000, 200, 2)
    with pytest.raises(
        LimitError, match=r"layer 'l0': matching 8,000 units.*at most 300.0 MiB of memory, found one that needs"
    ) as caught:
        nnstd(a, b, alignment=alignment)
    assert "identity needs none: --alignment identity" in (caught.value.hint or "")
    assert 0 < nnstd(a, b, alignment="identity").nnstd <= 1


def test_a_zip_that_is_no_number_is_not_asked_for_memory(tmp_path: Path) -> None:
    """A head that lies about an array of terabytes is refused by its size, before the limit of memory."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (2**40,)})
    with zipfile.ZipFile(tmp_path / "lie.npz", "w") as archive:
        archive.writestr("fc1.npy", stream.getvalue())
    assert peak_of(lambda: _raises(tmp_path / "lie.npz")) < 2**22


def _raises(path: Path) -> None:
    with pytest.raises(ValueError, match="fc1"):
        list(read(path))
