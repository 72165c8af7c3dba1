"""Runs, their layers and snapshots as values: what the archive knows about a network besides its masks."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from topostrata.errors import InvalidInputError

if TYPE_CHECKING:
    from topostrata.topology import LayerShape, Space

LayerMetrics = Mapping[str, Mapping[str, float]]  # layer -> name -> value

Status = Literal["open", "finished", "failed"]
How = Literal["resume", "fork", "perturbation", "pruned", "declared"]
ProjectionState = Literal["follow", "off", "limit"]
Connections = Literal["now", "later"]
ChangeKind = Literal[
    "run", "snapshot", "metrics", "step-metrics", "name", "status", "tags", "parent", "removed", "purged"
]
HOWS: tuple[How, ...] = ("resume", "fork", "perturbation", "pruned", "declared")

MAX_METRICS = 64
MAX_NAMES = 10_000  # of layers and parameters that have metrics at a step
MAX_NAME = 256  # characters of such a name
_METRIC = re.compile(r"[a-z][a-z0-9_]{0,63}")
_TAG = re.compile(r"[^\s,]{1,100}")


@dataclass(frozen=True, slots=True)
class Parent:
    """Where a run comes from: the snapshot it started at, and how it departed from it."""

    json_names: ClassVar = {"run": "parent"}

    run: str
    step: int
    how: How


@dataclass(frozen=True, slots=True, order=True)
class Descent:
    """``child`` started from the snapshot ``parent@step`` and departed from it by ``how``."""

    parent: str
    step: int
    child: str
    how: How


@dataclass(frozen=True, slots=True)
class RunState:
    """How far a run has come: its last snapshot, ``None`` before the first, and its status."""

    last_step: int | None
    status: Status


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One recorded step of one run. ``recorded_at`` is in UTC; ``digest`` is its topology's.

    ``layer_metrics`` are numbers of single layers at this step, by the name of the layer; only layers that have some.
    """

    json_names: ClassVar = {"id": "ref", "nnz": "connections"}

    run: str
    step: int
    digest: str
    nnz: int
    recorded_at: datetime
    epoch: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    layer_metrics: LayerMetrics = field(default_factory=dict)

    @property
    def id(self) -> str:
        """``run@step``."""
        return f"{self.run}@{self.step}"


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """Numbers of a run at a step, where it may have a snapshot or none. ``recorded_at`` is in UTC.

    ``layer_metrics`` are those of single layers and parameters, also of biases and norms, by name.
    """

    run: str
    step: int
    recorded_at: datetime
    epoch: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    layer_metrics: LayerMetrics = field(default_factory=dict)

    @property
    def id(self) -> str:
        """``run@step``."""
        return f"{self.run}@{self.step}"

    def only(self, metric: str | None = None, layer: str | None = None) -> StepMetrics | None:
        """Those of that name (None: all), of that layer alone (None: of all and of the run); None where it has none.

        >>> from datetime import UTC, datetime
        >>> entry = StepMetrics("w0", 1, datetime(2026, 1, 1, tzinfo=UTC), metrics={"loss": 1.0, "egf_2": 0.5})
        >>> entry.only("loss").metrics, entry.only("accuracy")
        ({'loss': 1.0}, None)
        """

        def chosen(metrics: Mapping[str, float]) -> dict[str, float]:
            return {name: value for name, value in metrics.items() if metric in {None, name}}

        of_run = chosen(self.metrics) if layer is None else {}
        of_layers = {name: chosen(metrics) for name, metrics in self.layer_metrics.items() if layer in {None, name}}
        of_layers = {name: metrics for name, metrics in of_layers.items() if metrics}
        return replace(self, metrics=of_run, layer_metrics=of_layers) if of_run or of_layers else None


@dataclass(frozen=True, slots=True)
class Run:
    """One training run: its config, its status, its snapshots and its parents."""

    json_names: ClassVar = {"id": "run"}

    id: str
    name: str
    status: Status
    created_at: datetime
    config: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    parents: tuple[Parent, ...] = ()
    snapshots: int = 0
    first_step: int | None = None
    last_step: int | None = None


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs are meant: those that meet all that is stated.

    ``tags`` are all of a run's; its snapshots reach from ``step_from`` or later to ``step_to`` or earlier where the two
    overlap; ``metric`` is that of its last snapshot, which has it, ``at_least`` and ``at_most`` these values. Raises
    ``InvalidInputError`` for bounds without a metric.

    >>> RunFilter(metric="accuracy", at_least=0.9).accepts({"accuracy": 0.95}), RunFilter(metric="loss").accepts({})
    (True, False)
    """

    tags: tuple[str, ...] = ()
    status: Status | None = None
    step_from: int | None = None
    step_to: int | None = None
    metric: str | None = None
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        check_tags(self.tags)
        if self.metric is None and not self.at_least is self.at_most is None:
            raise InvalidInputError("at least, at most: expected the metric that they bound, found none")

    def covers(self, run: Run) -> bool:
        """Whether a run has such tags, status and steps; what its last snapshot has, ``accepts`` says."""
        reaches = run.first_step is not None and run.last_step is not None
        return (
            self.status in {None, run.status}
            and set(self.tags) <= set(run.tags)
            and (self.step_from is None or (reaches and run.last_step >= self.step_from))  # type: ignore[operator]
            and (self.step_to is None or (reaches and run.first_step <= self.step_to))  # type: ignore[operator]
        )

    def accepts(self, metrics: Mapping[str, float]) -> bool:
        """Whether the last snapshot of a run has such metrics."""
        if self.metric is None:
            return True
        value = metrics.get(self.metric)
        return (
            value is not None
            and (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
        )


@dataclass(frozen=True, slots=True)
class RunLayer:
    """A layer of a run, the same at all its steps; what changes from step to step is its mask.

    ``projection`` says whether its connections are written into the graph for Cypher: ``"follow"``, ``"off"``, or
    ``"limit"`` where they went over the limit of relationships and stopped. The graph has them up to ``projected_step``
    (``None``: not at all), as ``lifetimes`` relationships. A tied layer names in ``shared_with`` the layer that owns
    its connections; the graph has them once, as that layer's. Of a run pushed with ``projection="last N"``
    (``projected_last``) the graph has what lived at the steps from ``projected_from`` on (``None``: from the first on),
    with its true birth; ``trimming`` says that some of what died before may still be there.
    """

    run: str
    shape: LayerShape
    projection: ProjectionState = "follow"
    projected_step: int | None = None
    lifetimes: int = 0
    shared_with: str | None = None
    projected_last: int | None = None
    projected_from: int | None = None
    trimming: bool = False

    @property
    def id(self) -> str:
        """``run/name``."""
        return f"{self.run}/{self.name}"

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.shape.name

    @property
    def source(self) -> Space:
        """The space that it reads."""
        return self.shape.source

    @property
    def target(self) -> Space:
        """The space that it enters."""
        return self.shape.target

    @property
    def taps(self) -> int:
        """Positions at which a source unit may feed a target unit."""
        return self.shape.taps


@dataclass(frozen=True, slots=True)
class Unprojected:
    """A layer whose connections are not in the graph at all steps of its run: what Cypher does not see.

    They are there from ``projected_from`` (``None``: from the first step) to ``projected_step`` (``None``: not at all).
    Where ``projection`` is ``"follow"`` the last ones are drawn now, or wait for it; else they stay away.
    """

    run: str
    layer: str
    projection: ProjectionState
    projected_step: int | None
    last_step: int
    projected_from: int | None = None

    @property
    def is_behind(self) -> bool:
        """Whether its last connections are drawn now, or wait for it."""
        return self.projection == "follow" and (self.projected_step is None or self.projected_step < self.last_step)


@dataclass(frozen=True, slots=True)
class Change:
    """Something that was acknowledged and changed answers, at its ``moment``: the count of acknowledgements until then.

    ``kind`` says what: a ``run`` was made, a ``snapshot`` taken, ``metrics`` added to one or, as ``step-metrics``, to
    a step beside them; ``name``, ``status`` or ``tags`` set, a ``parent`` gained or lost; the run was ``removed`` or
    brought back, or ``purged``. ``details`` say how that was before. ``at`` is the writer's clock, which may be wrong:
    the order is that of the moments. What one transaction changed has one moment.
    """

    moment: int
    at: datetime
    kind: ChangeKind
    run: str
    step: int | None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ref(self) -> str:
        """``run@step``, or the run alone."""
        return self.run if self.step is None else f"{self.run}@{self.step}"


@dataclass(frozen=True, slots=True)
class ArchiveCounts:
    """How much an archive holds; ``mask_bytes`` is what the packed masks take.

    ``disk`` has the bytes of the embedded engine's files, by what they hold: ``connections``, ``neurons``, ``masks``,
    ``distances``, ``indexes``, ``log`` (most of it goes when the engine stops) and ``other``, the largest first. It is
    empty where a server keeps the archive, which does not tell.
    """

    runs: int
    snapshots: int
    masks: int
    mask_bytes: int
    neurons: int
    disk: Mapping[str, int] = field(default_factory=dict)


def check_metrics(metrics: Mapping[str, float] | None) -> dict[str, float]:
    """The metrics as finite floats, or an error that names the one that is not."""
    checked: dict[str, float] = {}
    if metrics is not None and not isinstance(metrics, Mapping):
        raise InvalidInputError(f"metrics: expected names with numbers, found {type(metrics).__name__}")
    for name, value in (metrics or {}).items():
        if not isinstance(name, str) or not _METRIC.fullmatch(name):
            raise InvalidInputError(
                f"metric {name!r}: expected a name of lower-case letters, digits and '_', at most 64, from a letter on"
            )
        checked[name] = _finite(value, f"metric {name!r}")
    if len(checked) > MAX_METRICS:
        raise InvalidInputError(f"metrics: expected at most {MAX_METRICS}, found {len(checked)}")
    return checked


def check_layer_metrics(layer_metrics: LayerMetrics | None) -> dict[str, dict[str, float]]:
    """The metrics of layers as finite floats, without layers that have none; an error that names the wrong one."""
    checked: dict[str, dict[str, float]] = {}
    if layer_metrics is not None and not isinstance(layer_metrics, Mapping):
        raise InvalidInputError(f"layer metrics: expected layers with metrics, found {type(layer_metrics).__name__}")
    for layer, metrics in (layer_metrics or {}).items():
        try:
            numbers = check_metrics(metrics)
        except InvalidInputError as error:
            raise InvalidInputError(f"layer {layer!r}: {error.message}") from None
        if numbers:
            checked[layer] = numbers
    return checked


def check_step_layer_metrics(layer_metrics: LayerMetrics | None) -> dict[str, dict[str, float]]:
    """The metrics of layers and parameters at a step, which need be no layers of a wiring, as ``check_layer_metrics``.

    The names are of 1 to 256 characters that can be printed, at most 10,000.
    """
    checked = check_layer_metrics(layer_metrics)
    for name in checked:
        if not (isinstance(name, str) and 0 < len(name) <= MAX_NAME and name.isprintable()):
            raise InvalidInputError(
                f"layer metrics: expected a name of 1 to {MAX_NAME} characters that can be printed, "
                f"found {str(name)[:80]!r}"
            )
    if len(checked) > MAX_NAMES:
        raise InvalidInputError(f"layer metrics: expected at most {MAX_NAMES} names, found {len(checked)}")
    return checked


def check_connections(connections: Connections) -> bool:
    """Whether connections are drawn later; raises ``InvalidInputError`` for another word than ``now`` and ``later``."""
    words = get_args(Connections)
    if connections not in words:
        raise InvalidInputError(f"connections: expected {' or '.join(words)}, found {str(connections)[:80]!r}")
    return connections == "later"


def check_epoch(epoch: float | None) -> float | None:
    """The epoch as a finite number, or ``None`` where there is none."""
    return None if epoch is None else _finite(epoch, "epoch")


def _finite(value: Any, what: str) -> float:
    """A number of Python, NumPy or torch; a truth value or text, which ``float`` takes too, is none."""
    dtype = str(getattr(value, "dtype", type(value).__name__))
    try:
        number = math.nan if isinstance(value, str | bytes) or dtype.endswith("bool") else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InvalidInputError(f"{what}: expected a finite number, found {value!r}")
    return number


def check_tag(tag: str) -> str:
    """The tag, or an error: 1 to 100 characters without white space or commas."""
    if not isinstance(tag, str) or not _TAG.fullmatch(tag):
        raise InvalidInputError(f"tag: expected 1 to 100 characters without white space or commas, found {tag!r}")
    return tag


def check_tags(tags: Iterable[str]) -> list[str]:
    """The tags, each once, or an error; a text alone would be taken for a tag a letter."""
    if isinstance(tags, str):
        raise InvalidInputError(f"tags: expected several, found the text {tags!r}", hint=f"[{tags!r}] is one tag")
    if not isinstance(tags, Iterable):
        raise InvalidInputError(f"tags: expected several, found {type(tags).__name__}")
    return [check_tag(tag) for tag in dict.fromkeys(tags)]


EVERY_RUN = RunFilter()
