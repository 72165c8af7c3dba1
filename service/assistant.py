"""The archive as tools of an assistant: a server of the Model Context Protocol (extra ``[mcp]``), which only reads.

Each tool is a method of the archive, with the JSON that REST gives. Nothing is written: what is computed is not kept.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from topostrata.archive import Archive
from topostrata.distance.alignments import DEFAULT, Alignment
from topostrata.distance.null_model import Kept
from topostrata.errors import MissingExtraError, TopostrataError
from topostrata.service.answers.cypher import ask, cookbook_answer, cypher_answer
from topostrata.service.answers.distance import distance_answer, distances_answer
from topostrata.service.answers.lineage import inference_answer, related_answer
from topostrata.service.answers.measures import snapshot_answer
from topostrata.service.answers.shape import as_json
from topostrata.service.api.routes.limits import check_count

try:
    from mcp.server import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.types import ToolAnnotations
except ImportError as error:
    raise MissingExtraError("a server for assistants", "mcp") from error

Answer = dict[str, Any]

_PAGE = 100  # of a list: an assistant reads every word of it
_ROWS = 200
_READING = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
_INSTRUCTIONS = """An archive of how the wiring of sparse neural networks evolves while they train.

A run is one training; it has snapshots at steps, each the masks of its sparse layers. A snapshot is named RUN@STEP, as
w0@50; RUN@first, RUN@last, or RUN alone for the last. NNSTD is a distance of two topologies from 0 (the same) to 1
(nothing in common), after hidden units were matched by an alignment. A distance says little without its chance level,
that of independent networks of the same degrees: z counts deviations from it, and below -3 the two are nearer than
chance. Snapshots of one run are compared with alignment "identity", since its units keep their places. Descent is
declared by whoever trained; what is inferred is a guess and is to be told as one."""


def server_of(archive: Archive) -> MCPServer:
    """A server of the tools on an archive, which stays open for as long as the server runs."""
    from topostrata import __version__  # noqa: PLC0415 - the package imports lazily

    server = MCPServer("topostrata", version=__version__, instructions=_INSTRUCTIONS, log_level="WARNING")
    tools = Tools(archive)
    for name in vars(Tools):
        if not name.startswith("_"):
            server.tool(annotations=_READING)(_in_words(getattr(tools, name)))
    return server


def _in_words(tool: Callable[..., Answer]) -> Callable[..., Answer]:
    """The tool, whose errors say what was expected and found, and what to do."""

    @functools.wraps(tool)
    def wrapped(*arguments: Any, **named: Any) -> Answer:
        try:
            return tool(*arguments, **named)
        except TopostrataError as error:
            raise ToolError(f"{error.message}; {error.hint}" if error.hint else error.message) from error

    return wrapped


class Tools:
    """The tools of an archive; an assistant reads their names, types and docstrings."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def runs(self, after: str = "") -> Answer:
        """The runs in the order of their ids: status, tags, config, parents, number of snapshots.

        At most 100, those after the id `after`; `more` says whether others follow.
        """
        page = self._archive.runs_page(limit=_PAGE + 1, after=after)
        return {"runs": as_json(page[:_PAGE]), "more": len(page) > _PAGE}

    def run(self, run: str, after: int = -1) -> Answer:
        """One run with its layers and snapshots (metrics, connections, digest).

        At most 100 snapshots, those after the step `after`; `more` says whether others follow.
        """
        page = self._archive.snapshots_page(run, limit=_PAGE + 1, after=after)
        return {
            "run": as_json(self._archive.run(run)),
            "layers": as_json(self._archive.layers(run)),
            "snapshots": as_json(page[:_PAGE]),
            "more": len(page) > _PAGE,
        }

    def metrics(self, run: str, metric: str | None = None) -> Answer:
        """The numbers recorded of a run over its steps, such as loss and accuracy: all, or one by name."""
        return {"metrics": as_json(self._archive.metrics(run, metric=metric))}

    def distance(self, a: str, b: str, alignment: Alignment = DEFAULT, chance: Kept | None = None) -> Answer:
        """NNSTD of two snapshots, per layer and of the whole network.

        chance="degrees" adds the level of independent networks with the same degrees, and z; that takes some seconds.
        """
        ours, theirs = self._archive.recorded(a, b)
        result = self._archive.nnstd(ours, theirs, alignment=alignment, chance=chance, keep=False)
        return distance_answer(ours.snapshot.id, theirs.snapshot.id, result)

    def distances(self, refs: list[str], alignment: Alignment = DEFAULT) -> Answer:
        """NNSTD of every two of at most 64 snapshots; refs may be globs such as w*@last."""
        check_count(self._archive, refs)
        return {**distances_answer(self._archive.distances(refs, alignment=alignment, keep=False))}

    def evolution(self, run: str, from_step: int | None = None, to_step: int | None = None) -> Answer:
        """How many connections of each layer survived, died, were born and were regrown between two steps of a run."""
        return {**as_json(self._archive.evolution(run, from_step, to_step))}

    def survival(self, run: str, from_step: int | None = None) -> Answer:
        """What is left, at each later step, of the connections that were there at a step, and how long they live."""
        return {**as_json(self._archive.survival(run, from_step))}

    def measures(self, ref: str) -> Answer:
        """The structure of one snapshot: degrees, hubs, dead units, effective density, assortativity, spectra."""
        (entry,) = self._archive.recorded(ref)
        return snapshot_answer(entry.snapshot.id, self._archive.measures(entry))

    def lineage(self, run: str | None = None) -> Answer:
        """Who descends from whom, as it was declared: the family of a run, or of all."""
        return {**as_json(self._archive.lineage(run))}

    def infer_lineage(self, refs: list[str], root: str | None = None) -> Answer:
        """Which run probably descends from which: a guess from distances, whose edges have a margin and a support.

        refs name one snapshot of each run, or are globs such as w*@0.
        """
        check_count(self._archive, refs)
        return inference_answer(self._archive.infer(refs, root=root, name=None))

    def related(self, a: str, b: str) -> Answer:
        """Whether two snapshots are related at all, however their units are named: an exact p-value for each layer."""
        ours, theirs = self._archive.recorded(a, b)
        return related_answer(ours.snapshot.id, theirs.snapshot.id, self._archive.related(ours, theirs))

    def cypher(self, query: str, parameters: dict[str, Any] | None = None) -> Answer:
        """The answer to a Cypher query that only reads, at most 200 rows; `cookbook` shows what stands in the graph."""
        limit = min(_ROWS, self._archive.settings.query_rows)
        table, unprojected = ask(self._archive, query, parameters, limit=limit)
        return cypher_answer(table, unprojected[:_PAGE])

    def cookbook(self) -> Answer:
        """Questions in Cypher that work, each with its text, what it answers, and an example's parameters."""
        return {"queries": cookbook_answer()}

    def stats(self) -> Answer:
        """How much the archive holds."""
        return {**as_json(self._archive.counts())}
