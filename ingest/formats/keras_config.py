"""What the configuration of a Keras model says: its layers in the order of execution, and whether they are a chain.

A configuration is read as text. No model is built of it and nothing that it names is imported, because a ``Lambda`` in
it holds code. ``Sequential`` models are chains; a functional model says of each layer what it reads. Both may hold
models that are layers of theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from topostrata.ingest.formats.safe_tensors import parse_json
from topostrata.words import Flatten

_MAX_LAYERS = 8192
_MAX_DEPTH = 32

# The variables of each class of layers in the order of their numbers, without those of one axis that no wiring reads.
VARIABLES: dict[str, tuple[str, ...]] = {
    "Dense": ("kernel", "bias"),
    **{f"Conv{n}D": ("kernel", "bias") for n in (1, 2, 3)},
    **{f"Conv{n}DTranspose": ("kernel", "bias") for n in (1, 2, 3)},
    **{f"DepthwiseConv{n}D": ("depthwise_kernel", "bias") for n in (1, 2)},
    **{f"SeparableConv{n}D": ("depthwise_kernel", "pointwise_kernel", "bias") for n in (1, 2)},
}
# Layers that hand each unit on as itself, whatever they do to its value or its position in a picture.
_PASS = {
    "InputLayer", "Flatten", "Identity", "Masking", "Rescaling", "Normalization", "Resizing", "CenterCrop",
    "Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "ThresholdedReLU", "Softmax", "ActivityRegularization",
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout", "GaussianDropout",
    "GaussianNoise", "BatchNormalization", "SyncBatchNormalization", "LayerNormalization", "GroupNormalization",
    "UnitNormalization", "RMSNormalization", "RandomFlip", "RandomRotation", "RandomZoom", "RandomContrast",
    "RandomBrightness", "RandomTranslation", "RandomCrop", "RandomHeight", "RandomWidth",
    *(f"{kind}{n}D" for n in (1, 2, 3) for kind in (
        "MaxPooling", "AveragePooling", "GlobalMaxPooling", "GlobalAveragePooling", "AdaptiveMaxPooling",
        "AdaptiveAveragePooling", "ZeroPadding", "Cropping", "UpSampling",
    )),
}  # fmt: skip
KNOWN = _PASS | VARIABLES.keys()


@dataclass(frozen=True, slots=True)
class KerasLayer:
    """A layer of a configuration; ``parent`` is the path of the models that hold it."""

    name: str
    kind: str
    config: Mapping[str, Any]
    parent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KerasModel:
    """The layers of a model. ``branches`` says why they are no chain; None where they follow each other."""

    layers: tuple[KerasLayer, ...]
    branches: str | None

    @property
    def flatten(self) -> Flatten:
        """How a picture is flattened: channels last, unless they came first and ``Flatten`` left them there."""
        first = any(layer.kind.startswith("Conv") and _channels_first(layer) for layer in self.layers)
        turned = any(layer.kind == "Flatten" and _channels_first(layer) for layer in self.layers)
        return "channels-first" if first and not turned else "channels-last"


def keras_model(text: str | bytes, *, where: str) -> KerasModel | None:
    """The model of a configuration in JSON; None where it is a class of the user's, which says no layers.

    >>> layers = '[{"class_name": "Dense", "config": {"name": "a"}}, {"class_name": "Lambda", "config": {"name": "b"}}]'
    >>> model = keras_model(f'{{"class_name": "Sequential", "config": {{"layers": {layers}}}}}', where="config.json")
    >>> [layer.name for layer in model.layers], model.branches
    (['a', 'b'], "layer 'b' of class Lambda, through which units are not followed")
    """
    content = parse_json(text, where=where)
    listed = _listed(content)
    if listed is None:
        return None
    layers = list(_layers(content, ()))
    return KerasModel(tuple(layers), _branches(content, 0) or _not_followed(layers))


def _listed(model: Any) -> list[dict[str, Any]] | None:
    """The layers of a model by its own list."""
    config = model.get("config") if isinstance(model, dict) else None
    layers = config.get("layers") if isinstance(config, dict) else config  # Keras before 2.2 has the list itself
    if not isinstance(layers, list) or not layers or len(layers) > _MAX_LAYERS:
        return None
    listed = [layer for layer in layers if isinstance(layer, dict) and isinstance(layer.get("config"), dict | list)]
    return listed if len(listed) == len(layers) else None


def _layers(model: Any, parent: tuple[str, ...]) -> Iterator[KerasLayer]:
    for layer in _listed(model) or ():
        name = _name(layer)
        if _listed(layer) is not None and len(parent) < _MAX_DEPTH:
            yield from _layers(layer, (*parent, name))
        else:
            config = layer["config"] if isinstance(layer["config"], dict) else {}
            yield KerasLayer(name, str(layer.get("class_name", ""))[:80], config, parent)


def _name(layer: Mapping[str, Any]) -> str:
    config = layer.get("config")
    name = layer.get("name") or (config.get("name") if isinstance(config, dict) else None)
    return name[:200] if isinstance(name, str) else ""


def _branches(model: Any, depth: int) -> str | None:
    """The first layer that reads several others, is read by several, or stands in several places."""
    readers: dict[str, str] = {}
    for layer in _listed(model) or ():
        name = _name(layer)
        if depth < _MAX_DEPTH and (inside := _branches(layer, depth + 1)) is not None:
            return inside
        nodes = layer.get("inbound_nodes") or []
        if not isinstance(nodes, list):
            continue
        if len(nodes) > 1:
            return f"layer {name!r}, which stands in {len(nodes)} places"
        sources = list(dict.fromkeys(_sources(nodes, 0)))
        if len(sources) > 1:
            return f"layer {name!r}, which reads {' and '.join(map(repr, sources[:4]))}"
        for source in sources:
            other = readers.setdefault(source, name)
            if other != name:
                return f"layer {source!r}, which {other!r} and {name!r} read"
    return None


def _sources(node: Any, depth: int) -> Iterator[str]:
    """The layers that a node reads: tensors with their history (Keras 3), or ``[name, node, tensor]`` (Keras 2)."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(node, dict):
        config = node.get("config")
        history = config.get("keras_history") if isinstance(config, dict) else None
        if isinstance(history, list) and history and isinstance(history[0], str):
            yield history[0]
            return
        node = list(node.values())
    if isinstance(node, list):
        if len(node) in {3, 4} and isinstance(node[0], str) and isinstance(node[1], int) and isinstance(node[2], int):
            yield node[0]
            return
        for part in node:
            yield from _sources(part, depth + 1)


def _not_followed(layers: list[KerasLayer]) -> str | None:
    other = next((layer for layer in layers if layer.kind not in KNOWN), None)
    if other is None:
        return None
    return f"layer {other.name!r} of class {other.kind}, through which units are not followed"


def _channels_first(layer: KerasLayer) -> bool:
    return bool(layer.config.get("data_format") == "channels_first")
