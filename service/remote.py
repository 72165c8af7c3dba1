"""What an archive computes, asked of the service that it is behind: the part of ``Client`` that ``Analysis`` has."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from typing_extensions import override

from topostrata.archive import Archive
from topostrata.distance.alignments import DEFAULT, Alignment, definition_of
from topostrata.errors import Cancelled, InvalidInputError, NotFoundError
from topostrata.refs import Ref, parse_ref
from topostrata.runs import Snapshot
from topostrata.service.answers.values import value_of
from topostrata.service.transport import Service, error_of, path_of
from topostrata.store.runs import RecordedSnapshot, check_ref

if TYPE_CHECKING:
    from topostrata.distance.chosen import Layers
    from topostrata.distance.edits import Edits
    from topostrata.distance.match import Match
    from topostrata.distance.matrix import DistanceMatrix
    from topostrata.distance.nnstd import Distance
    from topostrata.distance.null_model import Kept
    from topostrata.evolution.between import ConnectionChanges, Evolution
    from topostrata.evolution.neuron import Neuron
    from topostrata.evolution.stored import RunHistory
    from topostrata.evolution.survival import RunSurvival
    from topostrata.lineage.declared import Kinship, Lineage
    from topostrata.lineage.related import Relatedness
    from topostrata.lineage.stored import StoredInference
    from topostrata.lineage.timelines import Timeline
    from topostrata.lineage.unit_terms import Units
    from topostrata.measures.core import Core
    from topostrata.measures.panel import Measures
    from topostrata.measures.run_flow import FlowCorrelation, RunGradientFlow
    from topostrata.measures.structure import Structure

    AnyRef = Ref | Snapshot | RecordedSnapshot | str
    Patterns = Iterable[Ref | Snapshot | str] | Ref | Snapshot | str

_AT_ONCE = 64  # snapshots that one request compares
_LOOK_S = 1.0  # between two looks at a job

T = TypeVar("T")


def _unheard(_done: int, _total: int) -> None:
    """Progress that nobody follows."""


class RemoteAnalysis(Archive):
    """Distances, evolution, lineage and structure, each a request to ``_service``."""

    _service: Service

    def _place(self, ref: AnyRef) -> tuple[str, int]:
        """Run and step of a snapshot; which step is first or last is asked."""
        if isinstance(ref, RecordedSnapshot):
            ref = ref.snapshot
        ref = check_ref(ref)
        if isinstance(ref, str):
            ref = parse_ref(ref)
        if isinstance(ref.step, int):
            return ref.run, ref.step
        run = self.run(ref.run)
        step = run.first_step if ref.step == "first" else run.last_step
        if step is None:
            raise NotFoundError(f"{ref}: expected a snapshot, found a run without any")
        return ref.run, step

    def _fixed(self, ref: AnyRef) -> str:
        """The name of a snapshot that stays its name, whatever the run gains."""
        return "{}@{}".format(*self._place(ref))

    # Distance

    @override
    def nnstd(
        self,
        a: AnyRef,
        b: AnyRef,
        *,
        alignment: Alignment = DEFAULT,
        chance: Kept | None = None,
        partners: Mapping[str, Any] | None = None,
        layers: Layers = None,
        keep: bool = True,
    ) -> Distance:
        from topostrata.distance.nnstd import Distance, matched_later

        self._refuse("nnstd", partners=partners)
        two = {"a": self._fixed(a), "b": self._fixed(b), "alignment": definition_of(alignment).name}
        more = {"chance": chance, "layers": _names(layers), "keep": keep}
        distance = self._service.value(Distance, path_of("distances"), **two, **more)
        return matched_later(distance, lambda: self._match(two).distance.matching)

    @override
    def distances(
        self,
        patterns: Patterns,
        *,
        alignment: Alignment = DEFAULT,
        progress: Callable[[int, int], None] | None = None,
        cancel: threading.Event | None = None,
        scheduler: str | None = None,
        layers: Layers = None,
        chance: Kept | None = None,
        keep: bool = True,
    ) -> DistanceMatrix:
        from topostrata.distance.matrix import DistanceMatrix

        self._refuse("distances", scheduler=scheduler)
        if cancel is not None and cancel.is_set():
            raise Cancelled
        refs = texts_of(patterns)
        if not refs:
            raise InvalidInputError("distances: expected at least one ref, found none")
        how = {"alignment": definition_of(alignment).name, "layers": _names(layers), "chance": chance, "keep": keep}
        named = [str(ref) for ref in self.expand(refs)]
        if keep and len(named) > _AT_ONCE and not self._service.is_pinned:  # a job is about now
            request = {"kind": "distances", "refs": named, **how}
            request.pop("keep")
            return self._worked(DistanceMatrix, request, progress or _unheard, cancel or threading.Event())
        matrix = self._service.value(DistanceMatrix, path_of("distances", "matrix"), refs=refs, **how)
        pairs = len(matrix.labels) * (len(matrix.labels) + 1) // 2
        (progress or _unheard)(pairs, pairs)
        return matrix

    def _worked(
        self,
        kind: type[T],
        request: Mapping[str, Any],
        progress: Callable[[int, int], None],
        cancel: threading.Event,
    ) -> T:
        """What comes of a job, which others may have asked for, too: who is cancelled waits no longer, it goes on."""
        from topostrata.store.jobs import Job

        job = self._service.read(Job, self._service.send("POST", path_of("jobs"), document=request))
        while not job.is_done:
            if cancel.wait(_LOOK_S):
                raise Cancelled
            job = self._service.value(Job, path_of("jobs", job.id))
            progress(job.done, job.total or job.done)
        if job.status == "failed":
            raise error_of(job.error_code, job.error or "the job failed")
        return self._service.value(kind, path_of("jobs", job.id, "result"))

    @override
    def match(
        self,
        a: AnyRef,
        b: AnyRef,
        *,
        alignment: Alignment = DEFAULT,
        partners: Mapping[str, Any] | None = None,
        keep: bool = False,
    ) -> Match:
        self._refuse("match", partners=partners, keep=keep)
        return self._match({"a": self._fixed(a), "b": self._fixed(b), "alignment": definition_of(alignment).name})

    def _match(self, two: Mapping[str, str]) -> Match:
        from topostrata.distance.match import Match

        return self._service.value(Match, path_of("match"), **two)

    @override
    def edits(
        self,
        a: AnyRef,
        b: AnyRef,
        *,
        alignment: Alignment = DEFAULT,
        partners: Mapping[str, Any] | None = None,
    ) -> Edits:
        from topostrata.distance.edits import Edits

        self._refuse("edits", partners=partners)
        two = {"a": self._fixed(a), "b": self._fixed(b)}
        return self._service.value(Edits, path_of("edits"), **two, alignment=definition_of(alignment).name)

    # Evolution

    @override
    def evolution(
        self, run: str, from_step: int | None = None, to_step: int | None = None, *, through_parents: bool = False
    ) -> Evolution:
        from topostrata.evolution.between import Evolution

        query = {"from": from_step, "to": to_step, "through_parents": through_parents}
        return self._service.value(Evolution, path_of("runs", run, "evolution"), **query)

    @override
    def history(self, run: str, *, through_parents: bool = False) -> RunHistory:
        from topostrata.evolution.stored import RunHistory

        return self._service.value(RunHistory, path_of("runs", run, "history"), through_parents=through_parents)

    @override
    def survival(self, run: str, from_step: int | None = None, *, through_parents: bool = False) -> RunSurvival:
        from topostrata.evolution.survival import RunSurvival

        query = {"from": from_step, "through_parents": through_parents}
        return self._service.value(RunSurvival, path_of("runs", run, "survival"), **query)

    @override
    def connections(
        self,
        run: str,
        layer: str,
        from_step: int | None = None,
        to_step: int | None = None,
        *,
        through_parents: bool = False,
    ) -> ConnectionChanges:
        from topostrata.evolution.between import ConnectionChanges

        query = {"layer": layer, "from": from_step, "to": to_step, "through_parents": through_parents}
        return self._service.value(ConnectionChanges, path_of("runs", run, "changes"), **query)

    @override
    def neuron(self, run: str, space: str, unit: int) -> Neuron:
        from topostrata.evolution.neuron import Neuron

        return self._service.value(Neuron, path_of("runs", run, "neuron"), space=space, unit=unit)

    # Snapshots as they are

    @override
    def structure(self, ref: AnyRef) -> Structure:
        from topostrata.measures.structure import Structure

        run, step = self._place(ref)
        return self._service.value(Structure, path_of("runs", run, "snapshots", step, "structure"))

    @override
    def measures(self, ref: AnyRef, *, null: int = 0, seed: int = 0, spectra: bool = True) -> Measures:
        from topostrata.measures.panel import Measures

        run, step = self._place(ref)
        query = {"null": null, "seed": seed, "spectra": spectra}
        return self._service.value(Measures, path_of("runs", run, "snapshots", step, "measures"), **query)

    @override
    def core(
        self,
        *refs: Ref | Snapshot | str,
        alignment: Alignment = DEFAULT,
        layers: Layers = None,
        draws: int = 3,
        seed: int = 0,
    ) -> Core:
        from topostrata.measures.core import Core

        how = {"alignment": definition_of(alignment).name, "layers": _names(layers), "draws": draws, "seed": seed}
        return self._service.value(Core, path_of("core"), refs=texts_of(refs), **how)

    @override
    def gradient_flows(self, patterns: Iterable[str] | str = "*", *, moments: int = 11) -> list[RunGradientFlow]:
        from topostrata.measures.run_flow import RunGradientFlow

        return value_of(list[RunGradientFlow], self._flow(patterns, moments)["runs"])

    @override
    def flow_correlations(
        self, metric: str, patterns: Iterable[str] | str = "*", *, moments: int = 11
    ) -> list[FlowCorrelation]:
        from topostrata.measures.run_flow import FlowCorrelation

        answer = self._flow(patterns, moments, correlate=metric)
        return value_of(list[FlowCorrelation], answer["correlations"])

    def _flow(self, patterns: Iterable[str] | str, moments: int, **more: Any) -> dict[str, Any]:
        runs = [patterns] if isinstance(patterns, str) else list(patterns)
        return self._service.value(dict[str, Any], path_of("gradient-flow"), run=runs, moments=moments, **more)

    # Lineage

    @override
    def lineage(self, run: str | None = None, *, depth: int | None = None) -> Lineage:
        from topostrata.lineage.declared import Lineage

        if run is None:
            return self._service.value(Lineage, path_of("lineage"))
        return self._service.value(Lineage, path_of("runs", run, "lineage"), depth=depth)

    @override
    def kinship(self, a: str, b: str) -> Kinship:
        from topostrata.lineage.declared import Kinship

        return self._service.value(Kinship, path_of("lineage", "common"), a=a, b=b)

    @override
    def infer(
        self,
        patterns: Patterns,
        *,
        name: str | None = "inferred",
        alignment: Alignment | None = None,
        units: Units | None = None,
        depth: int | None = None,
        root: str | None = None,
        by_time: bool = False,
        samples: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        keep: bool | None = None,
    ) -> StoredInference:
        from topostrata.lineage.stored import StoredInference

        if keep is not None and keep != (name is not None):
            raise InvalidInputError(
                f"infer: expected distances to be kept where the answer is stored, found name {name!r} and keep {keep}",
                hint="a job (POST /v1/jobs) keeps them and stores no answer",
            )
        query = {
            "refs": texts_of(patterns),
            "alignment": alignment if alignment is None else definition_of(alignment).name,
            "units": units,
            "depth": depth,
            "root": root,
            "by_time": by_time,
            "samples": samples,
        }
        place = path_of("lineage", "inferred", *([] if name is None else [name]))
        stored = self._service.read(StoredInference, self._service.send("GET" if name is None else "PUT", place, query))
        (progress or _unheard)(1, 1)
        return stored

    @override
    def inference(self, name: str = "inferred") -> StoredInference:
        from topostrata.lineage.stored import StoredInference

        return self._service.value(StoredInference, path_of("lineage", "inferred", name))

    @override
    def related(self, a: AnyRef, b: AnyRef, *, tests: int = 999, seed: int = 0) -> Relatedness:
        from topostrata.lineage.related import Relatedness

        two = {"a": self._fixed(a), "b": self._fixed(b)}
        return self._service.value(Relatedness, path_of("related"), **two, tests=tests, seed=seed)

    @override
    def timeline(
        self,
        run: str,
        other: str | None = None,
        *,
        alignment: Alignment | None = None,
        lag: int | None = None,
        chance: Kept | None = None,
        keep: bool = True,
    ) -> Timeline:
        from topostrata.lineage.timelines import Timeline

        by = alignment if alignment is None else definition_of(alignment).name
        query = {"with": other, "alignment": by, "lag": lag, "chance": chance, "keep": keep}
        return self._service.value(Timeline, path_of("runs", run, "timeline"), **query)

    def _refuse(self, method: str, **arguments: object) -> None:
        """Refuse what REST has not, rather than leave it out in silence."""
        for name, value in arguments.items():
            if value is not None and value is not False:
                raise InvalidInputError(
                    f"{method}: expected no {name} for the archive behind the service at {self.location}, found one",
                    hint="ask where the service runs: on its own store",
                )


def texts_of(patterns: Patterns) -> list[str]:
    """Refs and globs as text."""
    several = [patterns] if isinstance(patterns, Ref | Snapshot | str) else patterns
    return [ref if isinstance(ref, str) else f"{ref.run}@{ref.step}" for ref in map(check_ref, several)]


def _names(layers: Layers) -> list[str] | None:
    return None if layers is None else [layers] if isinstance(layers, str) else list(layers)
