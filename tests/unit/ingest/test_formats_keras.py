"""Files of Keras, written by Keras itself (tests/torch/golden_keras.py): values, order, axes, and what is refused."""

from __future__ import annotations

import io
import random
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import topostrata as ts
from topostrata.errors import InvalidInputError, LimitError, MissingExtraError, TopostrataError
from topostrata.ingest.formats import run_directory
from topostrata.ingest.formats.limits import DEFAULT, Limits
from topostrata.ingest.inspection import inspect

GOLDEN = Path(__file__).resolve().parents[2] / "data" / "keras" / "keras-3.15.1"


def fill(shape: tuple[int, ...], k: int) -> NDArray[Any]:
    """The numbers of the k-th weight of a golden model, as tests/torch/golden_keras.py fills them."""
    at = np.arange(int(np.prod(shape))).reshape(shape)
    return np.where((at * 7 + k) % 3 == 0, at % 5 + 1, 0)


def only(path: Path, **options: Any) -> ts.Topology:
    (frame,) = ts.read(path, **options)
    return frame.topology


def links(layer: ts.Layer) -> set[tuple[int, int, int]]:
    """The connections (source as the mask counts it, target, tap) of a layer."""
    mask = layer.mask
    target, rest = np.divmod(mask.cells, mask.n_source * mask.taps)
    source, tap = np.divmod(rest, mask.taps)
    return set(zip(source.tolist(), target.tolist(), tap.tolist(), strict=True))


def of_kernel(kernel: NDArray[Any], place: Callable[[list[int]], tuple[int, int]]) -> set[tuple[int, int, int]]:
    """The connections of a kernel (height, width, a, b), entry by entry; ``place`` gives source and target of (a, b)."""
    width = kernel.shape[1]
    return {(*place(ends), y * width + x) for y, x, *ends in np.argwhere(kernel).tolist()}


MLP = ["z_first", "m_second", "b_third", "a_out"]


@pytest.mark.parametrize("name", ["mlp.keras", "mlp.weights.h5", "mlp.h5"])
def test_a_dense_network_is_read_in_its_order(name: str) -> None:
    """The order is the model's, though the alphabet says another and all orders chain; momenta are left out."""
    topology = only(GOLDEN / name)
    assert [layer.name for layer in topology] == MLP
    for k, layer in enumerate(topology):
        kernel = fill((5, 3 if k == 3 else 5), 2 * k)
        assert links(layer) == {(source, target, 0) for source, target in np.argwhere(kernel).tolist()}


@pytest.mark.parametrize("name", ["convolutions.keras", "convolutions.h5"])
def test_each_convolution_lies_as_keras_stores_it(name: str) -> None:
    """Depthwise: a target reads its own source; transposed: targets before sources; flattened: channels last."""
    topology = only(GOLDEN / name)
    straight: Callable[[list[int]], tuple[int, int]] = lambda ends: (ends[0], ends[1])  # noqa: E731
    expected = {
        "stem": of_kernel(fill((3, 3, 3, 4), 0), straight),
        "depthwise.depthwise": of_kernel(fill((3, 3, 4, 2), 6), lambda ends: (0, 2 * ends[0] + ends[1])),
        "separable.depthwise": of_kernel(fill((2, 2, 8, 1), 8), lambda ends: (0, ends[0])),
        "separable.pointwise": of_kernel(fill((1, 1, 8, 5), 9), straight),
        "up": of_kernel(fill((2, 2, 3, 5), 11), lambda ends: (ends[1], ends[0])),
        "grouped": of_kernel(fill((1, 1, 1, 6), 13), straight),
        "fc": {(row % 6, target, row // 6) for row, target in np.argwhere(fill((54, 4), 15)).tolist()},
        "out": {(source, target, 0) for source, target in np.argwhere(fill((4, 2), 17)).tolist()},
    }
    assert {layer.name: links(layer) for layer in topology} == expected
    assert [layer.groups for layer in topology] == [1, 4, 8, 1, 1, 3, 1, 1]


def test_weights_alone_ask_for_the_order_of_layers_of_several_classes() -> None:
    """Their paths number each class for itself; with the order said they are what the whole model is."""
    path = GOLDEN / "convolutions.weights.h5"
    with pytest.raises(InvalidInputError, match="expected one order in which the layers chain, found two") as caught:
        only(path)
    assert "--layers 'stem/kernel," in (caught.value.hint or "")
    layers = [array.name for array in inspect(GOLDEN / "convolutions.keras").arrays if array.taken]
    assert only(path, layers=layers) == only(GOLDEN / "convolutions.keras")


def test_channels_that_come_first_are_flattened_first() -> None:
    """The configuration says how a picture lies; only the taps of the linear layer move."""
    topology = only(GOLDEN / "channels_first.keras")
    assert links(topology.layers[1]) == {
        (row // 4, target, row % 4) for row, target in np.argwhere(fill((8, 3), 2)).tolist()
    }
    assert any("flattened channels-first" in line for line in inspect(GOLDEN / "channels_first.keras").evidence)


def test_a_model_within_a_model_stands_in_its_place() -> None:
    """A functional chain with a Sequential as one of its layers."""
    assert [layer.name for layer in only(GOLDEN / "functional.keras")] == ["c", "b", "a", "out"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("residual.keras", "layer 'sum', which reads 'first' and 'second'"),
        ("with_code.keras", "layer 'lambda' of class Lambda, through which units are not followed"),
    ],
)
def test_what_is_no_chain_is_asked(name: str, reason: str) -> None:
    """Layers that would chain are not taken for a chain, where the configuration says otherwise; a choice decides."""
    with pytest.raises(InvalidInputError, match=reason) as caught:
        only(GOLDEN / name)
    assert "--wiring net.toml" in (caught.value.hint or "")
    inspection = inspect(GOLDEN / name)
    assert inspection.question is not None
    layers = [array.name for array in inspection.arrays if len(array.shape) > 1]
    assert len(only(GOLDEN / name, layers=layers)) == len(layers)


def test_nothing_of_a_configuration_runs() -> None:
    """The compiled function in a Lambda is text; no module of Keras or TensorFlow is imported."""
    before = set(sys.modules)
    inspect(GOLDEN / "with_code.keras")
    assert not {name.split(".")[0] for name in set(sys.modules) - before} & {"keras", "tensorflow", "marshal", "pickle"}


def test_a_sum_without_weights_is_seen_in_weights_alone(tmp_path: Path) -> None:
    """Keras leaves a group for each layer: one that adds says that the others are no chain."""
    with zipfile.ZipFile(GOLDEN / "residual.keras") as archive:
        (tmp_path / "net.weights.h5").write_bytes(archive.read("model.weights.h5"))
    with pytest.raises(InvalidInputError, match="layer 'sum' of class 'add', through which units are not followed"):
        only(tmp_path / "net.weights.h5")


def relabelled(path: Path, target: Path, permutations: dict[str, NDArray[np.int64]]) -> Path:
    """A copy whose hidden units of the dense network stand in other places, rewritten by h5py."""
    data = path.read_bytes()
    keras = path.suffix == ".keras"
    if keras:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        data = members["model.weights.h5"]
    content = io.BytesIO(data)
    with h5py.File(content, "r+") as file:
        for name, before, after in zip(MLP, [None, *MLP], [*MLP[:-1], None], strict=False):
            kernels: list[h5py.Dataset] = []
            for number in range(4):
                key = "dense" if number == 0 else f"dense_{number}"
                place = f"layers/{key}/vars"
                if place in file and file[place].attrs["name"] == name:
                    kernels.append(file[place]["0"])
            if "model_weights" in file:
                kernels.append(file[f"model_weights/{name}/sequential/{name}/kernel"])
            (kernel,) = kernels
            values = kernel[()]
            if before is not None:
                moved = np.empty_like(values)
                moved[permutations[before]] = values
                values = moved
            if after is not None:
                moved = np.empty_like(values)
                moved[:, permutations[after]] = values
                values = moved
            kernel[...] = values
    if keras:
        members["model.weights.h5"] = content.getvalue()
        with zipfile.ZipFile(target, "w") as archive:
            for name, member in members.items():
                archive.writestr(name, member)
    else:
        target.write_bytes(content.getvalue())
    return target


@pytest.mark.parametrize("name", ["mlp.keras", "mlp.weights.h5", "mlp.h5"])
def test_a_network_and_its_relabelled_copy_are_the_same(name: str, tmp_path: Path) -> None:
    """Units in other places: other matrices, canonical distance 0."""
    rng = np.random.default_rng(3)
    permutations = {layer: rng.permutation(5) for layer in MLP[:-1]}
    copy = only(relabelled(GOLDEN / name, tmp_path / name, permutations))
    original = only(GOLDEN / name)
    assert copy != original
    spaces = [layer.target.axes[0].name for layer in original][:-1]
    assert copy == original.relabelled(dict(zip(spaces, permutations.values(), strict=True)))
    assert ts.nnstd(original, copy).nnstd == 0


def test_an_hdf5_file_of_someone_else_has_its_arrays_by_path(tmp_path: Path) -> None:
    """Rows are sources, as in npz; packed chunks are read, text and links are left out by name."""
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file.create_dataset("masks/fc1", data=fill((4, 6), 0) != 0, compression="gzip", chunks=(2, 6), shuffle=True)
        file["masks/fc2"] = fill((6, 3), 1).astype(">i4")
        file["about"] = "masks"
        file["again"] = h5py.SoftLink("/masks/fc1")
        file["elsewhere"] = h5py.ExternalLink("other.h5", "/masks")
    topology = only(tmp_path / "net.h5")
    assert [layer.mask.n_source for layer in topology] == [4, 6]
    assert links(topology.layers[0]) == {
        (source, target, 0) for source, target in np.argwhere(fill((4, 6), 0)).tolist()
    }
    notes = inspect(tmp_path / "net.h5").notes
    assert [note.split(":")[1].strip() for note in notes] == ["about", "again", "elsewhere"]


def test_numbers_that_lie_elsewhere_are_not_fetched(tmp_path: Path) -> None:
    """External storage and virtual datasets name other files of the machine; a filter would load a plug-in."""
    (tmp_path / "secret").write_bytes(bytes(96))
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file["fc1"], file["fc2"] = np.eye(4), np.eye(4)
        file.create_dataset("external", (4, 3), "f8", external=[(str(tmp_path / "secret"), 0, 96)])
        layout = h5py.VirtualLayout((4, 4), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "net.h5"), "fc1", shape=(4, 4))
        file.create_virtual_dataset("virtual", layout)
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((4, 4))
        properties.set_filter(32_015, h5py.h5z.FLAG_OPTIONAL)
        h5py.h5d.create(file.id, b"filtered", h5py.h5t.IEEE_F64LE, h5py.h5s.create_simple((4, 4)), properties)
    with run_directory.opened(tmp_path / "net.h5", DEFAULT) as opened:
        assert list(opened.arrays) == ["fc1", "fc2"]
        assert {left.name: left.why.split(" ")[0:4] for left in opened.left_out} == {
            "external": ["its", "numbers", "lie", "in"],
            "filtered": ["it", "is", "packed", "by"],
            "virtual": ["it", "is", "put", "together"],
        }


def claim(path: Path, **how: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("w", dtype="f4", **how)
    return path


def test_an_array_of_many_names_is_read_once(tmp_path: Path) -> None:
    """Hard links cost nothing: the first name has the array, the others are left out, and said."""
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file["a/fc1"] = np.eye(6, 5)
        for k in range(50):
            file[f"copies/{k}"] = file["a/fc1"]
    with run_directory.opened(tmp_path / "links.h5", DEFAULT) as file:
        assert list(file.arrays) == ["a/fc1"]
        assert [item.why for item in file.left_out] == ["it is the array 'a/fc1' under another name"] * 50


def test_what_all_arrays_unpack_to_is_summed_before_any_is_read(tmp_path: Path) -> None:
    """Each alone is within the limit, together they are not."""
    with h5py.File(tmp_path / "many.h5", "w") as file:
        for k in range(4):
            file.create_dataset(f"fc{k}", data=np.zeros((100, 100)), compression="gzip", chunks=(100, 100))
    only_some = Limits(total_bytes=200_000)
    with pytest.raises(LimitError, match=r"'fc2' and those before it: expected at most 200,000 bytes unpacked"):
        list(ts.read(tmp_path / "many.h5", limits=only_some))


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ({"shape": (2**14, 2**14)}, InvalidInputError, "found 0 stored"),
        ({"shape": (2**20, 2**20), "chunks": (16, 16)}, LimitError, "bytes unpacked"),
        ({"shape": (2**14, 2**14), "chunks": (2**10, 2**10)}, LimitError, "times the stored size"),
        ({"shape": (2, 2), "chunks": (2**13, 2**13), "maxshape": (None, None)}, InvalidInputError, "in chunks of"),
    ],
)
def test_what_a_header_claims_is_bounded_before_it_is_allocated(
    how: dict[str, Any], error: type[TopostrataError], said: str, tmp_path: Path
) -> None:
    """Arrays that were never written, and chunks that are larger than their array, cost nothing."""
    path = claim(tmp_path / "net.h5", **how)
    assert path.stat().st_size < 10_000
    with pytest.raises(error, match=said):
        only(path)


def test_a_file_of_something_else_is_said_to_be_none(tmp_path: Path) -> None:
    """A text called .h5 is no HDF5 file; one that is cut off is a damaged one."""
    (tmp_path / "notes.h5").write_text("hello")
    with pytest.raises(InvalidInputError, match="expected an HDF5 file, found one of 5 bytes that is none"):
        only(tmp_path / "notes.h5")
    (tmp_path / "cut.h5").write_bytes((GOLDEN / "mlp.h5").read_bytes()[:500])
    with pytest.raises(InvalidInputError, match=r"found a damaged one.*being written"):
        only(tmp_path / "cut.h5")


def test_a_larger_file_than_allowed_is_refused_by_its_size() -> None:
    """A limit of a service holds for every format."""
    with pytest.raises(LimitError, match="bytes unpacked"):
        only(GOLDEN / "mlp.h5", limits=Limits(total_bytes=1000))


@pytest.mark.parametrize("name", ["mlp.keras", "mlp.weights.h5", "mlp.h5"])
def test_damaged_files_give_one_clear_error(name: str, tmp_path: Path) -> None:
    """300 mutations of each: an error of ours that begins with the file, or a file that is sound still."""
    golden, path, messages = (GOLDEN / name).read_bytes(), tmp_path / name, list[str]()
    for seed in range(300):
        rng = random.Random(seed)
        data = bytearray(golden)
        for _ in range(rng.choice([1, 2, 8])):
            at = rng.randrange(len(data) if rng.random() < 0.5 else 4000)
            data[at : at + rng.choice([1, 4, 8])] = rng.choice([b"\0", b"\xff" * 8, rng.randbytes(4)])
        path.write_bytes(data[: rng.randrange(len(data))] if rng.random() < 0.1 else data)
        try:
            with run_directory.opened(path, DEFAULT) as opened:
                for array in opened.arrays.values():
                    array.read()
        except TopostrataError as error:
            messages.append(error.message)
    assert [message for message in messages if not message.startswith(str(path)) or "\n" in message] == []
    assert len(messages) > 50


@pytest.mark.parametrize(
    ("at", "change", "said"),
    [
        (-8, (255).to_bytes(8, "little"), "found"),
        (-8, b"\xff" * 8, "an object of 18,446,744,073,709,551,615 bytes in a heap"),
        (-8, (2).to_bytes(8, "little"), "a text of 7 bytes where 2 are"),
    ],
)
def test_texts_that_would_hang_hdf5_are_refused(at: int, change: bytes, said: str, tmp_path: Path) -> None:
    """HDF5 2.0 loops for ever over such heaps, or takes gigabytes; so it never sees them."""
    data = bytearray((GOLDEN / "mlp.weights.h5").read_bytes())
    begin = data.index(b"b_third") + at
    data[begin : begin + len(change)] = change
    (tmp_path / "net.weights.h5").write_bytes(data)
    with pytest.raises(InvalidInputError, match=said):
        only(tmp_path / "net.weights.h5")


def test_without_h5py_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The base install says what to install."""
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r"mlp\.keras: an HDF5 file needs the extra \[keras\]"):
        only(GOLDEN / "mlp.keras")


def test_a_keras_file_is_known_under_another_name(tmp_path: Path) -> None:
    """By its first bytes: a zip with metadata.json, or HDF5."""
    for name, other in (("mlp.keras", "backup"), ("mlp.h5", "weights")):
        (tmp_path / other).write_bytes((GOLDEN / name).read_bytes())
        assert only(tmp_path / other) == only(GOLDEN / name)


def test_weights_of_before_keras_3_have_their_layers_in_order(tmp_path: Path) -> None:
    """``save_weights`` of Keras 2: no configuration, names of bytes, variables with ``:0``."""
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs["layer_names"] = np.array([b"z_first", b"dropout", b"a_out"])
        file.create_group("dropout").attrs["weight_names"] = np.zeros(0)
        for k, name in enumerate(("z_first", "a_out")):
            file[f"{name}/{name}/kernel:0"] = fill((4, 4), k).astype("f4")
            file[f"{name}/{name}/bias:0"] = np.zeros(4)
    topology = only(tmp_path / "old.h5")
    assert [layer.name for layer in topology] == ["z_first", "a_out"]
    assert links(topology.layers[1]) == {
        (source, target, 0) for source, target in np.argwhere(fill((4, 4), 1)).tolist()
    }
