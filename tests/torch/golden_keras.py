"""Writes golden files with real Keras, into a folder of its version: KERAS_BACKEND=jax python tests/torch/golden_keras.py.

No environment of the project has Keras: make one (``uv venv``, ``uv pip install keras jax h5py``). The weights follow a
rule that tests/unit/ingest/test_formats_keras.py knows too, so that no expected values are stored.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers


def fill(shape: tuple[int, ...], k: int) -> Any:
    """The numbers of the k-th weight of a model: a third of them is not 0."""
    at = np.arange(int(np.prod(shape))).reshape(shape)
    return np.where((at * 7 + k) % 3 == 0, at % 5 + 1, 0).astype("float32")


def mlp() -> keras.Model:
    """Layers whose names sort the other way round than they stand."""
    dense = [layers.Dense(n, name=name) for n, name in ((5, "z_first"), (5, "m_second"), (5, "b_third"), (3, "a_out"))]
    return keras.Sequential([keras.Input((5,)), *dense])


def convolutions() -> keras.Model:
    """Every kind of convolution, and a picture that is flattened."""
    return keras.Sequential([
        keras.Input((8, 8, 3)),
        layers.Conv2D(4, 3, padding="same", name="stem"),
        layers.BatchNormalization(),
        layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise"),
        layers.SeparableConv2D(5, 2, name="separable"),
        layers.Conv2DTranspose(3, 2, name="up"),
        layers.MaxPooling2D(2),
        layers.Conv2D(6, 1, groups=3, name="grouped"),
        layers.Flatten(),
        layers.Dense(4, name="fc", dtype="bfloat16"),
        layers.Dense(2, name="out"),
    ])  # fmt: skip


def channels_first() -> keras.Model:
    """A picture whose channels come first, flattened as it is."""
    return keras.Sequential([
        keras.Input((3, 4, 4)),
        layers.Conv2D(2, 3, data_format="channels_first", name="stem"),
        layers.Flatten(),
        layers.Dense(3, name="out"),
    ])  # fmt: skip


def residual() -> keras.Model:
    """A functional model that is no chain."""
    inputs = keras.Input((4,))
    first = layers.Dense(4, name="first")(inputs)
    second = layers.Dense(4, name="second")(first)
    return keras.Model(inputs, layers.Dense(2, name="out")(layers.Add(name="sum")([first, second])))


def functional() -> keras.Model:
    """A functional model that is a chain, with a model inside that is one."""
    inputs = keras.Input((4,))
    body = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="b"), layers.Dense(4, name="a")], name="body")
    return keras.Model(inputs, layers.Dense(2, name="out")(body(layers.Dense(4, name="c")(inputs))))


def with_code() -> keras.Model:
    """A layer whose configuration holds compiled Python."""
    return keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="a"), layers.Lambda(lambda x: x + 1), layers.Dense(2)]
    )


MODELS = (mlp, convolutions, channels_first, residual, functional, with_code)


def write(folder: Path) -> Iterator[Path]:
    """All files."""
    folder.mkdir(parents=True, exist_ok=True)
    for build in MODELS:
        model = build()
        if build is mlp:  # its files hold the state of an optimiser too
            model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
            model.fit(np.ones((1, 5)), np.ones((1, 3)), verbose=0)
        model.set_weights([fill(weight.shape, k) for k, weight in enumerate(model.get_weights())])
        name = build.__name__
        model.save(folder / f"{name}.keras")
        yield folder / f"{name}.keras"
        if build in {mlp, convolutions}:
            model.save_weights(folder / f"{name}.weights.h5")
            model.save(folder / f"{name}.h5")
            yield from (folder / f"{name}.weights.h5", folder / f"{name}.h5")


if __name__ == "__main__":
    golden = Path(__file__).resolve().parents[1] / "data" / "keras" / f"keras-{keras.__version__}"
    sizes = {path.name: path.stat().st_size for path in write(Path(sys.argv[1]) if len(sys.argv) > 1 else golden)}
    sys.stdout.write(json.dumps(sizes, indent=1) + "\n")
