"""What Flax and Orbax themselves write: parameters and training states, as they load them again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import linen as nn
from flax import nnx, serialization
from flax.training.train_state import TrainState

import topostrata as ts
from topostrata.ingest.formats import run_directory
from topostrata.ingest.formats.limits import DEFAULT
from topostrata.ingest.inspection import inspect

# Orbax warns of what it does without a cluster, and of its own older interfaces.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


class Net(nn.Module):
    """Two convolutions, the second depthwise, then a picture that is flattened; the last layer in bfloat16."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        """A forward pass."""
        x = nn.Conv(4, (3, 3))(x)
        x = nn.Conv(4, (3, 3), feature_group_count=4)(x)
        x = nn.Dense(5)(x.reshape((x.shape[0], -1)))
        return nn.Dense(3, param_dtype=jnp.bfloat16)(x)


def sparse_params(seed: int = 0) -> Any:
    """Parameters of which two thirds are 0."""
    params = Net().init(jax.random.key(seed), jnp.ones((1, 4, 4, 3)))
    return jax.tree.map(
        lambda leaf: leaf * (jnp.arange(leaf.size).reshape(leaf.shape) % 3 == 0).astype(leaf.dtype), params
    )


def links(layer: ts.Layer) -> set[tuple[int, int, int]]:
    """The connections (source as the mask counts it, target, tap) of a layer."""
    mask = layer.mask
    target, rest = np.divmod(mask.cells, mask.n_source * mask.taps)
    source, tap = np.divmod(rest, mask.taps)
    return set(zip(source.tolist(), target.tolist(), tap.tolist(), strict=True))


def expected(params: Any) -> dict[str, set[tuple[int, int, int]]]:
    """The same, entry by entry: kernels are (height, width, source, target), pictures have channels last."""
    content = {name: np.asarray(layer["kernel"], "f4") for name, layer in params["params"].items()}
    convolutions = {
        name: {(s, t, 3 * y + x) for y, x, s, t in np.argwhere(content[name]).tolist()} for name in ("Conv_0", "Conv_1")
    }
    flattened = {(row % 4, target, row // 4) for row, target in np.argwhere(content["Dense_0"]).tolist()}
    return {
        **convolutions,
        "Dense_0": flattened,
        "Dense_1": {(s, t, 0) for s, t in np.argwhere(content["Dense_1"]).tolist()},
    }


def read(path: Path) -> dict[str, set[tuple[int, int, int]]]:
    (frame,) = ts.read(path)
    assert [layer.groups for layer in frame.topology] == [1, 4, 1, 1]
    return {layer.name: links(layer) for layer in frame.topology}


def state(params: Any) -> TrainState:
    return TrainState.create(apply_fn=Net().apply, params=params, tx=optax.adam(0.1))


def test_to_bytes_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Parameters, and a training state with its optimiser."""
    params = sparse_params()
    for name, content in (("net.msgpack", params), ("state.msgpack", state(params))):
        (tmp_path / name).write_bytes(serialization.to_bytes(content))
        assert read(tmp_path / name) == expected(params)


def test_every_array_of_flax_has_its_values(tmp_path: Path) -> None:
    """Dtypes of JAX, scalars, lists and tuples."""
    weight = np.array([[0.0, 1.5], [-2.0, 0.0]])
    names = ("float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int8", "uint32", "bool", "int4")
    tree = {name: jnp.asarray(np.abs(weight), name) for name in names} | {"list": [np.float32(2), (1, 2.5)], "step": 3}
    (tmp_path / "tree.msgpack").write_bytes(serialization.to_bytes(tree))
    loaded = serialization.msgpack_restore((tmp_path / "tree.msgpack").read_bytes())
    with run_directory.opened(tmp_path / "tree.msgpack", DEFAULT) as opened:
        assert list(opened.arrays) == list(names)
        for name, array in opened.arrays.items():
            assert array.dtype == name
            np.testing.assert_array_equal(np.asarray(array.read(), "f8"), np.asarray(loaded[name], "f8"))
        assert opened.numbers == {"list.0": 2, "list.1.0": 1, "list.1.1": 2.5, "step": 3}


def test_an_array_in_pieces_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Flax does above 1 GiB, at 16 bytes."""
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 16)
    params = sparse_params()
    (tmp_path / "net.msgpack").write_bytes(serialization.to_bytes(params))
    assert b"__msgpack_chunked_array__" in (tmp_path / "net.msgpack").read_bytes()
    assert read(tmp_path / "net.msgpack") == expected(params)


@pytest.mark.parametrize("ocdbt", [True, False])
@pytest.mark.parametrize("zarr3", [True, False])
def test_what_orbax_saves_is_read_as_it_was_written(ocdbt: bool, zarr3: bool, tmp_path: Path) -> None:
    """Both containers, both versions of Zarr, with the optimiser."""
    params = sparse_params()
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=ocdbt, use_zarr3=zarr3)
    with ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(tmp_path / "net", {"params": params, "opt_state": optax.adam(0.1).init(params)})
    assert read(tmp_path / "net") == expected(params)


def test_steps_of_a_manager_are_a_run(tmp_path: Path) -> None:
    """A step is a directory called by its number."""
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        for step in (0, 10, 200):
            manager.save(step, args=ocp.args.StandardSave(sparse_params(step)))
        manager.wait_until_finished()
    assert [frame.step for frame in ts.read(tmp_path / "run")] == [0, 10, 200]
    assert inspect(tmp_path / "run").steps == (0, 10, 200)
    assert read(tmp_path / "run" / "10") == expected(sparse_params(10))


def test_nnx_variables_are_named_without_their_boxes(tmp_path: Path) -> None:
    """The state of an ``nnx`` model, saved by Orbax."""

    class Mlp(nnx.Module):
        """Two layers."""

        def __init__(self) -> None:
            self.linear1 = nnx.Linear(6, 5, rngs=nnx.Rngs(0))
            self.linear2 = nnx.Linear(5, 3, rngs=nnx.Rngs(1))

    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "net", nnx.state(Mlp()))
    (frame,) = ts.read(tmp_path / "net")
    assert [(layer.name, layer.source.size, layer.target.size) for layer in frame.topology] == [
        ("linear1", 6, 5),
        ("linear2", 5, 3),
    ]


def test_packed_masks_of_jax_are_unpacked(tmp_path: Path) -> None:
    """``jnp.packbits``, as JaxPruner calls it, beside the parameters."""
    params = sparse_params()
    masks = jax.tree.map(lambda leaf: jnp.packbits(leaf != 0), params)
    dense = jax.tree.map(jnp.ones_like, params)
    sparse = {"masks": masks, "inner_state": optax.adam(0.1).init(params), "count": jnp.zeros([], jnp.int32)}
    (tmp_path / "state.msgpack").write_bytes(serialization.to_bytes({"params": dense, "opt_state": sparse}))
    assert read(tmp_path / "state.msgpack") == expected(params)
