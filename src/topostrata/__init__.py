"""Topostrata: an archive of how sparse neural networks' wiring evolves.

>>> import topostrata as ts
>>> a = ts.Topology.from_masks([[[1, 0], [0, 1]]])
>>> ts.nnstd(a, a, alignment="identity").nnstd
0.0

The public names load when they are first used, so that a training job pays only for what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from topostrata.archive import Archive
    from topostrata.copies import degree_kept
    from topostrata.distance.edits import Edits, LayerEdits, RowEdits, UnitEdits, UnitInput, edits
    from topostrata.distance.given import read_partners
    from topostrata.distance.match import Match, SpaceMatch, align, match
    from topostrata.distance.matrix import DistanceMatrix
    from topostrata.distance.nnstd import Distance, LayerDistance, nnstd
    from topostrata.distance.null_model import Chance
    from topostrata.distance.pairwise import distances
    from topostrata.errors import (
        Cancelled,
        ChangedError,
        ClusterError,
        Code,
        ConflictError,
        CorruptError,
        EngineError,
        InputError,
        InvalidInputError,
        InvalidQueryError,
        InvalidRefError,
        InvalidTopologyError,
        LimitError,
        LineageCycleError,
        MissingExtraError,
        NotComparableError,
        NotFoundError,
        QueryRefusedError,
        SettingsError,
        StepOrderError,
        StoreUnavailableError,
        TopostrataError,
        UnavailableError,
        UnsupportedFormatError,
    )
    from topostrata.evolution.between import ConnectionChanges, Evolution, LayerEvolution
    from topostrata.evolution.history import LayerHistory
    from topostrata.evolution.neuron import Life, Neuron, NeuronConnection
    from topostrata.evolution.stored import Moment, RunHistory
    from topostrata.evolution.survival import KaplanMeier, LayerSurvival, Lifetimes, RunSurvival
    from topostrata.frames import Table
    from topostrata.ingest.backup import BackedUp
    from topostrata.ingest.formats.limits import Limits
    from topostrata.ingest.formats.reading import Frame, ReadOptions, read
    from topostrata.ingest.hook.run import RecordedCounts, TrainingRun, init
    from topostrata.ingest.hook.tracing.trace import TraceReport, trace, trace_first_batch, trace_report
    from topostrata.ingest.inspection import InspectedArray, Inspection, inspect
    from topostrata.ingest.lifecycle import Purged, RemovedRun
    from topostrata.ingest.loose import Collected
    from topostrata.ingest.migration import Migrated
    from topostrata.ingest.pushing import CheckedFiles, Pushed, PushedSnapshot, check_files
    from topostrata.ingest.transfer import Exported, Moved
    from topostrata.ingest.verify import Violation
    from topostrata.lineage.declared import Kinship, Lineage
    from topostrata.lineage.exports import to_graphml, to_openlineage, to_prov
    from topostrata.lineage.inferred import Inference, InferredEdge
    from topostrata.lineage.related import LayerRelatedness, Relatedness, related
    from topostrata.lineage.stored import StoredInference
    from topostrata.lineage.timelines import Point, Timeline
    from topostrata.measures.core import Core, LayerCore, core
    from topostrata.measures.degrees import PowerLaw
    from topostrata.measures.gradients import GradientFlow, ParameterFlow, gradient_flow
    from topostrata.measures.panel import LayerMeasures, Measures, NullLevel, SpaceMeasures, measure
    from topostrata.measures.paths import effective_paths
    from topostrata.measures.rules import BrokenRule, Checked, check
    from topostrata.measures.run_flow import FlowCorrelation, RunGradientFlow
    from topostrata.measures.spectra import Ramanujan
    from topostrata.measures.structure import Degrees, Hub, LayerStructure, SpaceStructure, Structure
    from topostrata.refs import Ref
    from topostrata.runs import (
        ArchiveCounts,
        Change,
        Descent,
        Parent,
        Run,
        RunFilter,
        RunLayer,
        RunState,
        Snapshot,
        StepMetrics,
        Unprojected,
    )
    from topostrata.service.client import Client
    from topostrata.service.opening import open_archive as open  # noqa: A004 - ts.open reads like what it does
    from topostrata.service.pictures import Picture
    from topostrata.service.plots import (
        births_and_deaths,
        change_bars,
        clustered_map,
        descent_tree,
        edit_map,
        heat_maps,
        layer_bars,
        match_bars,
        metric_curves,
        survival_curves,
        timeline_curve,
    )
    from topostrata.settings import Settings
    from topostrata.store.bolt_gate import BoltAccess
    from topostrata.store.jobs import Job, JobQueue, JobState
    from topostrata.store.runs import RecordedSnapshot
    from topostrata.topology import Axis, Layer, LayerShape, Mask, Part, Space, Topology, Wiring

__version__ = "0.1.0"

__all__ = [
    "Archive",
    "ArchiveCounts",
    "Axis",
    "BackedUp",
    "BoltAccess",
    "BrokenRule",
    "Cancelled",
    "Chance",
    "Change",
    "ChangedError",
    "Checked",
    "CheckedFiles",
    "Client",
    "ClusterError",
    "Code",
    "Collected",
    "ConflictError",
    "ConnectionChanges",
    "Core",
    "CorruptError",
    "Degrees",
    "Descent",
    "Distance",
    "DistanceMatrix",
    "Edits",
    "EngineError",
    "Evolution",
    "Exported",
    "FlowCorrelation",
    "Frame",
    "GradientFlow",
    "Hub",
    "Inference",
    "InferredEdge",
    "InputError",
    "InspectedArray",
    "Inspection",
    "InvalidInputError",
    "InvalidQueryError",
    "InvalidRefError",
    "InvalidTopologyError",
    "Job",
    "JobQueue",
    "JobState",
    "KaplanMeier",
    "Kinship",
    "Layer",
    "LayerCore",
    "LayerDistance",
    "LayerEdits",
    "LayerEvolution",
    "LayerHistory",
    "LayerMeasures",
    "LayerRelatedness",
    "LayerShape",
    "LayerStructure",
    "LayerSurvival",
    "Life",
    "Lifetimes",
    "LimitError",
    "Limits",
    "Lineage",
    "LineageCycleError",
    "Mask",
    "Match",
    "Measures",
    "Migrated",
    "MissingExtraError",
    "Moment",
    "Moved",
    "Neuron",
    "NeuronConnection",
    "NotComparableError",
    "NotFoundError",
    "NullLevel",
    "ParameterFlow",
    "Parent",
    "Part",
    "Picture",
    "Point",
    "PowerLaw",
    "Purged",
    "Pushed",
    "PushedSnapshot",
    "QueryRefusedError",
    "Ramanujan",
    "ReadOptions",
    "RecordedCounts",
    "RecordedSnapshot",
    "Ref",
    "Relatedness",
    "RemovedRun",
    "RowEdits",
    "Run",
    "RunFilter",
    "RunGradientFlow",
    "RunHistory",
    "RunLayer",
    "RunState",
    "RunSurvival",
    "Settings",
    "SettingsError",
    "Snapshot",
    "Space",
    "SpaceMatch",
    "SpaceMeasures",
    "SpaceStructure",
    "StepMetrics",
    "StepOrderError",
    "StoreUnavailableError",
    "StoredInference",
    "Structure",
    "Table",
    "Timeline",
    "Topology",
    "TopostrataError",
    "TraceReport",
    "TrainingRun",
    "UnavailableError",
    "UnitEdits",
    "UnitInput",
    "Unprojected",
    "UnsupportedFormatError",
    "Violation",
    "Wiring",
    "align",
    "births_and_deaths",
    "change_bars",
    "check",
    "check_files",
    "clustered_map",
    "core",
    "degree_kept",
    "descent_tree",
    "distances",
    "edit_map",
    "edits",
    "effective_paths",
    "gradient_flow",
    "heat_maps",
    "init",
    "inspect",
    "layer_bars",
    "match",
    "match_bars",
    "measure",
    "metric_curves",
    "nnstd",
    "open",
    "read",
    "read_partners",
    "related",
    "survival_curves",
    "timeline_curve",
    "to_graphml",
    "to_openlineage",
    "to_prov",
    "trace",
    "trace_first_batch",
    "trace_report",
]

_HOMES = {
    "archive": ("Archive",),
    "distance.edits": ("Edits", "LayerEdits", "RowEdits", "UnitEdits", "UnitInput", "edits"),
    "distance.given": ("read_partners",),
    "distance.match": ("Match", "SpaceMatch", "align", "match"),
    "distance.matrix": ("DistanceMatrix",),
    "distance.nnstd": (
        "Distance",
        "LayerDistance",
        "nnstd",
    ),
    "distance.null_model": ("Chance",),
    "distance.pairwise": ("distances",),
    "errors": (
        "Cancelled",
        "ClusterError",
        "Code",
        "ChangedError",
        "ConflictError",
        "CorruptError",
        "EngineError",
        "InputError",
        "InvalidInputError",
        "InvalidQueryError",
        "InvalidRefError",
        "InvalidTopologyError",
        "LimitError",
        "LineageCycleError",
        "MissingExtraError",
        "NotComparableError",
        "NotFoundError",
        "QueryRefusedError",
        "SettingsError",
        "StepOrderError",
        "StoreUnavailableError",
        "TopostrataError",
        "UnavailableError",
        "UnsupportedFormatError",
    ),
    "evolution.between": (
        "ConnectionChanges",
        "Evolution",
        "LayerEvolution",
    ),
    "evolution.history": ("LayerHistory",),
    "evolution.neuron": (
        "Life",
        "Neuron",
        "NeuronConnection",
    ),
    "evolution.stored": (
        "Moment",
        "RunHistory",
    ),
    "evolution.survival": (
        "KaplanMeier",
        "LayerSurvival",
        "Lifetimes",
        "RunSurvival",
    ),
    "frames": ("Table",),
    "ingest.formats.limits": ("Limits",),
    "ingest.formats.reading": (
        "Frame",
        "ReadOptions",
        "read",
    ),
    "ingest.hook.run": (
        "RecordedCounts",
        "TrainingRun",
        "init",
    ),
    "ingest.hook.tracing.trace": (
        "TraceReport",
        "trace",
        "trace_first_batch",
        "trace_report",
    ),
    "ingest.inspection": (
        "InspectedArray",
        "Inspection",
        "inspect",
    ),
    "ingest.backup": ("BackedUp",),
    "ingest.pushing": (
        "CheckedFiles",
        "Pushed",
        "PushedSnapshot",
        "check_files",
    ),
    "ingest.transfer": (
        "Exported",
        "Moved",
    ),
    "ingest.lifecycle": (
        "Purged",
        "RemovedRun",
    ),
    "ingest.loose": ("Collected",),
    "ingest.migration": ("Migrated",),
    "ingest.verify": ("Violation",),
    "lineage.declared": (
        "Kinship",
        "Lineage",
    ),
    "lineage.exports": ("to_graphml", "to_openlineage", "to_prov"),
    "lineage.inferred": (
        "Inference",
        "InferredEdge",
    ),
    "lineage.related": ("LayerRelatedness", "Relatedness", "related"),
    "lineage.stored": ("StoredInference",),
    "lineage.timelines": (
        "Point",
        "Timeline",
    ),
    "measures.core": ("Core", "LayerCore", "core"),
    "measures.degrees": ("PowerLaw",),
    "measures.gradients": (
        "GradientFlow",
        "ParameterFlow",
        "gradient_flow",
    ),
    "copies": ("degree_kept",),
    "measures.panel": (
        "LayerMeasures",
        "Measures",
        "NullLevel",
        "SpaceMeasures",
        "measure",
    ),
    "measures.paths": ("effective_paths",),
    "measures.rules": ("BrokenRule", "Checked", "check"),
    "measures.run_flow": (
        "FlowCorrelation",
        "RunGradientFlow",
    ),
    "measures.spectra": ("Ramanujan",),
    "measures.structure": (
        "Degrees",
        "Hub",
        "LayerStructure",
        "SpaceStructure",
        "Structure",
    ),
    "refs": ("Ref",),
    "runs": (
        "ArchiveCounts",
        "Change",
        "Descent",
        "Parent",
        "Run",
        "RunFilter",
        "RunLayer",
        "RunState",
        "Snapshot",
        "StepMetrics",
        "Unprojected",
    ),
    "service.client": ("Client",),
    "service.pictures": ("Picture",),
    "service.plots": (
        "births_and_deaths",
        "change_bars",
        "clustered_map",
        "descent_tree",
        "edit_map",
        "heat_maps",
        "layer_bars",
        "match_bars",
        "metric_curves",
        "survival_curves",
        "timeline_curve",
    ),
    "settings": ("Settings",),
    "store.bolt_gate": ("BoltAccess",),
    "store.jobs": (
        "Job",
        "JobQueue",
        "JobState",
    ),
    "store.runs": ("RecordedSnapshot",),
    "topology": ("Axis", "Layer", "LayerShape", "Mask", "Part", "Space", "Topology", "Wiring"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names} | {"open": "service.opening"}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'topostrata' has no attribute {name!r}")
    value = getattr(import_module(f"topostrata.{_HOME_OF[name]}"), "open_archive" if name == "open" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
