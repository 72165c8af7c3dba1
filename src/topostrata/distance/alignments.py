"""What an alignment is: one table, which everything reads that depends on how hidden units are matched.

A new alignment is a name in ``Alignment`` and a row in ``ALIGNMENTS``: the command line, its help, the REST interface
and the store follow. README.md repeats the descriptions, and a test compares them. Nothing heavy is imported here
before a network is compared, so that ``--help`` stays quick.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from topostrata.errors import InvalidInputError, MissingExtraError, NotComparableError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from topostrata.distance.comparison import Comparison, Ready
    from topostrata.distance.prepared import Prepared
    from topostrata.topology import Topology

Alignment = Literal["overlap", "canonical", "reference", "refined", "identity"]
Given = Literal["given"]  # in the place of an alignment: the match came from elsewhere
DEFAULT: Alignment = "overlap"


CompareMany = Callable[[list[Any], "NDArray[np.int64]"], "list[list[float] | None]"]


@dataclass(frozen=True, slots=True)
class Definition:
    """What an alignment is.

    ``description`` is one line for users. ``symmetric``: the distance of a and b is that of b and a, to the bit.
    ``matched`` says which units get a partner by their connections, instead of by their index: ``"all"``, ``"hidden"``
    (labelled outputs too where they are not fixed) or ``"none"``. ``prepared``: a network is prepared once for many
    comparisons, where numba is installed; otherwise the topology itself is compared.
    ``needs_numba``: there is no way to compute it without the compiled kernels. ``version`` is that of the values,
    which are stored with it: it rises when a value changes. ``compare`` takes two networks as ``ready`` gives them;
    ``compare_many`` some of one plan and the pairs of their places, and gives the distance of each row of each pair, or
    None for a pair that is to be compared alone.
    """

    name: Alignment
    description: str
    symmetric: bool
    matched: Literal["all", "hidden", "none"]
    prepared: bool
    needs_numba: bool
    version: int
    compare: Callable[[Any, Any], Comparison]
    compare_many: CompareMany | None = None

    def check_installed(self) -> None:
        """Refuse the alignment where it needs numba and numba is not installed."""
        if self.needs_numba and not has_numba():
            raise MissingExtraError(f"the {self.name} alignment", "distance")

    def ready(
        self,
        topology: Topology,
        *,
        fix_output: bool = True,
        order: tuple[int, ...] | None = None,
    ) -> Ready:
        """The network as this alignment compares it, its layers in ``order`` (``plan.plan_of``)."""
        if not self.prepared or not has_numba():
            from topostrata.distance.comparison import Planned  # noqa: PLC0415 - imports NumPy
            from topostrata.distance.plan import plan_of  # noqa: PLC0415

            return Planned(topology, plan_of(topology.wiring, order, fix_output=fix_output))
        from topostrata.distance.prepared import prepare  # noqa: PLC0415 - needs numba

        return prepare(topology, fix_output=fix_output, order=order)

    def key(self, *, fix_output: bool) -> str:
        """What the value of a distance depends on besides the two networks, as text: stored distances begin with it."""
        return f"{self.name}/{options(fix_output=fix_output)}/{self.version}"


def options(*, fix_output: bool) -> str:
    """The options of a distance as text."""
    return "fix_output" if fix_output else "match_output"


def definition_of(alignment: str) -> Definition:
    """The row of an alignment. ``InvalidInputError``, with the list of those that exist, where there is none.

    >>> definition_of("reference").symmetric
    False
    """
    for definition in ALIGNMENTS.values():
        if definition.name == alignment:
            return definition
    raise InvalidInputError(f"alignment: expected one of {', '.join(ALIGNMENTS)}, found {alignment!r}")


def descriptions() -> dict[str, str]:
    """The alignments with their descriptions, for help texts."""
    default = {DEFAULT: " (the default)"}
    return {name: definition.description + default.get(name, "") for name, definition in ALIGNMENTS.items()}


def has_numba() -> bool:
    """Whether the compiled kernels can be used (the extra ``distance``)."""
    return importlib.util.find_spec("numba") is not None


def _overlap(a: Ready, b: Ready) -> Comparison:
    from topostrata.distance import overlap  # noqa: PLC0415 - needs numba

    return overlap.compare(_prepared(a), _prepared(b))


def _overlap_many(networks: list[Ready], pairs: NDArray[np.int64]) -> list[list[float] | None]:
    from topostrata.distance import overlap  # noqa: PLC0415 - needs numba

    return overlap.compare_many([_prepared(network) for network in networks], pairs)


def _canonical(a: Ready, b: Ready) -> Comparison:
    from topostrata.distance import canonical  # noqa: PLC0415 - needs numba

    return canonical.compare(_prepared(a), _prepared(b))


def _canonical_many(networks: list[Ready], pairs: NDArray[np.int64]) -> list[list[float] | None]:
    from topostrata.distance import canonical  # noqa: PLC0415 - needs numba

    return canonical.compare_many([_prepared(network) for network in networks], pairs)


def _refined(a: Ready, b: Ready) -> Comparison:
    from topostrata.distance import refined  # noqa: PLC0415 - needs numba

    return refined.compare(_prepared(a), _prepared(b))


def _reference(a: Ready, b: Ready) -> Comparison:
    from topostrata.distance.comparison import Planned  # noqa: PLC0415 - imports NumPy

    _check_plain(a, "reference")
    if isinstance(a, Planned) or isinstance(b, Planned):
        from topostrata.distance import simple  # noqa: PLC0415

        return simple.reference(a, b)
    from topostrata.distance import published  # noqa: PLC0415 - needs numba, and loads SciPy's optimisers

    return published.reference(a, b)


def _identity(a: Ready, b: Ready) -> Comparison:
    from topostrata.distance import simple  # noqa: PLC0415 - imports NumPy

    return simple.identity(a, b)


def _check_plain(network: Ready, alignment: str) -> None:
    """Refuse what an alignment is not defined for."""
    beyond = network.wiring.beyond_format_1
    if beyond is not None:
        raise NotComparableError(
            f"the {alignment} alignment: expected a network of plain layers, found {beyond}",
            hint="use the overlap alignment, or identity inside one run",
        )


def _prepared(network: Ready) -> Prepared:
    from topostrata.distance.comparison import Planned  # noqa: PLC0415 - imports NumPy

    if isinstance(network, Planned):
        raise InvalidInputError(
            "compare: expected prepared networks, found one of which nothing is computed",
            hint="`prepare(topology)` prepares one",
        )
    return network


ALIGNMENTS: dict[Alignment, Definition] = {
    definition.name: definition
    for definition in (
        Definition(
            "overlap",
            "the match with most common connections that is found: which unit is which",
            symmetric=True,
            matched="hidden",
            prepared=True,
            needs_numba=True,
            version=1,
            compare=_overlap,
            compare_many=_overlap_many,
        ),
        Definition(
            "canonical",
            "the published procedure made well defined: symmetric, and the same however hidden units are stored",
            symmetric=True,
            matched="hidden",
            prepared=True,
            needs_numba=True,
            version=1,
            compare=_canonical,
            compare_many=_canonical_many,
        ),
        Definition(
            "reference",
            "the procedure as published; not quite symmetric, because optimal matchings tie",
            symmetric=False,
            matched="all",
            prepared=True,
            needs_numba=False,
            version=1,
            compare=_reference,
        ),
        Definition(
            "refined",
            "the smallest distance that a local search finds, never above canonical",
            symmetric=True,
            matched="hidden",
            prepared=True,
            needs_numba=True,
            version=2,
            compare=_refined,
        ),
        Definition(
            "identity",
            "units of the same index are compared, which is what you want inside one run",
            symmetric=True,
            matched="none",
            prepared=False,
            needs_numba=False,
            version=1,
            compare=_identity,
        ),
    )
}
