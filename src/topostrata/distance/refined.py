"""The refined alignment: the smallest NNSTD that a local search finds, from the overlap match.

Points D and E of docs/design/013-overlap.md: each hidden space in turn is matched anew by the costs of its fan-in and
fan-out, then by what NNSTD would change to first order, and the new match stays only where NNSTD falls. Where the
canonical match is as good a start, it is climbed from as well, so the result is never above canonical.
"""

from __future__ import annotations

import math

from topostrata.distance.canonical import canonical
from topostrata.distance.climb import Climber, Match
from topostrata.distance.comparison import Comparison
from topostrata.distance.overlap import check_limits, compare_by, described, overlap
from topostrata.distance.prepared import Prepared
from topostrata.distance.proposals import MOST_GAINS
from topostrata.errors import LimitError


def compare(a: Prepared, b: Prepared) -> Comparison:
    """The comparison of two networks that were prepared with their colours."""
    check_limits(a, b)
    largest = min(max(sets.largest for sets in network.outputs) for network in (a, b))
    if largest > MOST_GAINS:
        raise LimitError(
            f"refined: expected units with at most {MOST_GAINS} outputs, found {largest}",
            hint="use the overlap alignment",
        )
    return compare_by(_compare, a, b)


def _compare(a: Prepared, b: Prepared) -> Comparison:
    climber = Climber(a, b)
    start = overlap(climber)
    best = climber.least_distance(start)
    matches = canonical(a, b)
    climber.unique &= matches.unique
    if math.fsum(climber.distances(matches.partner)) <= math.fsum(climber.distances(start.partners)):
        other = climber.least_distance(Match(matches.partner, matches.undecided))
        if math.fsum(other.rows) < math.fsum(best.rows):
            best = other
    return described(climber, best, list(best.rows))
