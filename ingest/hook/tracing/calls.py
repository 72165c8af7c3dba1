"""One operation of the forward pass, as a rule sees it: its arguments as labels, and the layers that it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from topostrata.ingest.hook.tracing.axes_of_tensors import Dim
from topostrata.ingest.hook.tracing.labels import Labels


@dataclass(slots=True)
class Contraction:
    """A weight that meets an activation: the labels read and written, and the dimensions of the weight that hold them.

    ``reads`` is the activation, ``result`` what comes out. ``by_index``: its sources are looked up (an embedding), so
    they are no units that another layer enters.
    """

    weight: Labels
    source: Dim
    target: Dim
    source_dims: tuple[int, ...]
    target_dims: tuple[int, ...]
    tap_dims: tuple[int, ...] = ()
    groups: int = 1
    by_index: bool = False
    reads: Labels | None = None
    result: Labels | None = None


@dataclass(slots=True)
class Call:
    """An operation with its arguments, in which labels stand in the place of tensors, and the shapes of its results.

    A rule leaves here the layers that it is (``contractions``), the dimensions of two activations that meet in a
    product (``meetings``: numbered alike, but the units of two spaces), and the parameters that were multiplied with
    what is no activation (``multiplied``).
    """

    name: str
    args: Sequence[Any]
    named: Mapping[str, Any]
    shapes: Sequence[tuple[int, ...]]
    contractions: list[Contraction] = field(default_factory=list)
    meetings: list[tuple[Dim, Dim]] = field(default_factory=list)
    multiplied: set[str] = field(default_factory=set)

    def arg(self, place: int, name: str = "", default: Any = None) -> Any:
        """An argument by its place, or by its name."""
        value = self.args[place] if place < len(self.args) else self.named.get(name)
        return default if value is None else value

    def tensor(self, place: int, name: str = "") -> Labels:
        """An argument that is a tensor, with labels of its own where it is blank."""
        labels: Labels = self.arg(place, name)
        return labels.for_use()

    def optional(self, place: int, name: str = "") -> Labels | None:
        """An argument that may be a tensor."""
        value = self.arg(place, name)
        return value.for_use() if isinstance(value, Labels) else None

    def dim(self, value: int, rank: int) -> int:
        """A dimension counted from the front."""
        return value % max(1, rank)

    @property
    def tensors(self) -> list[Labels]:
        """All arguments that are tensors."""
        return [value.for_use() for value in self.raw_tensors]

    @property
    def raw_tensors(self) -> list[Labels]:
        """All arguments that are tensors, blank ones as they are."""
        flat: list[Labels] = []
        for value in (*self.args, *self.named.values()):
            values = value if isinstance(value, list | tuple) else (value,)
            flat += [item for item in values if isinstance(item, Labels)]
        return flat


Rule = Callable[[Call], Sequence[Labels]]
