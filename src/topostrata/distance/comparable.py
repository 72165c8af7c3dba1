"""Whether two networks have a distance, and which layer of one is which of the other."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

from topostrata.distance.plan import Plan, plan_of, standard_order
from topostrata.errors import NotComparableError
from topostrata.topology import Axis, LayerShape, Topology, Wiring

Order = tuple[int, ...]


class Wired(Protocol):
    """A topology, or what was made of one."""

    @property
    def wiring(self) -> Wiring:
        """All but the connections."""

    @property
    def digest(self) -> str:
        """The topology's digest."""


_DESCRIBED = 12  # layers of a wiring in a message


def check_comparable(a: Topology, b: Topology) -> None:
    """Refuse a pair that has no NNSTD: other layers between other spaces, other taps, other axes.

    Free axes may differ in size. Raises ``NotComparableError`` with both wirings.
    """
    plans(a, b)


def plans(a: Wired, b: Wired, *, fix_output: bool = True) -> tuple[Plan, Plan]:
    """The plans of two comparable networks, layer by layer alike; raises as ``check_comparable``."""
    order_a, order_b = _orders(a.wiring, b.wiring)
    if (order_a, order_b) != (standard_order(a.wiring), standard_order(b.wiring)) and a.digest > b.digest:
        order_b, order_a = _orders(b.wiring, a.wiring)  # one of them stands in the other's order: always the same one
    return (
        plan_of(a.wiring, order_a, fix_output=fix_output),
        plan_of(b.wiring, order_b, fix_output=fix_output),
    )


@lru_cache(maxsize=256)
def _orders(a: Wiring, b: Wiring) -> tuple[Order, Order]:
    """The orders of the layers in which two wirings are alike.

    Plain networks as they are written, if that will do; otherwise B's layers stand as their counterparts in A.
    """
    order = standard_order(a)
    if a.beyond_format_1 is None and b.beyond_format_1 is None and _alike(a, order, b, standard_order(b)):
        return order, standard_order(b)
    try:
        partners = a.counterparts(b)
    except NotComparableError as error:
        raise NotComparableError(f"{error.message}: {describe(a)} and {describe(b)}", hint=error.hint) from error
    other = tuple(partners[k] for k in order)
    if not _alike(a, order, b, other):
        raise NotComparableError(
            f"expected two networks with the same interchangeable units, found {describe(a)} and {describe(b)}",
            hint="compare networks of one architecture, or choose the layers they have in common",
        )
    return order, other


def _alike(a: Wiring, order_a: Order, b: Wiring, order_b: Order) -> bool:
    """Whether two wirings are compared in the same way, their layers in these orders."""
    plan_a, plan_b = plan_of(a, order_a), plan_of(b, order_b)
    if plan_a.form != plan_b.form:
        return False
    _check_sizes(plan_a, plan_b)
    return True


def _check_sizes(a: Plan, b: Plan) -> None:
    for mine, other, theirs in zip(a.contexts, b.spaces, b.contexts, strict=False):
        sizes = [[size for axis, size in context if a.stays(axis)] for context in (mine, theirs)]
        if sizes[0] != sizes[1]:
            texts = [" x ".join(map(str, lengths)) for lengths in sizes]
            raise NotComparableError(
                f"expected {texts[0]} units in space {other.name!r}, whose units are compared by index, "
                f"found {texts[1]}: {_described(a.shapes)} and {_described(b.shapes)}",
                hint="only hidden spaces may differ in width",
            )


def describe(wiring: Wiring) -> str:
    """The wiring in one line, for messages.

    >>> import numpy as np
    >>> describe(Topology.from_masks([np.eye(3), np.ones((3, 2))]).wiring)
    '[l0: input(3) -> hidden1(3), l1: hidden1(3) -> output(2)]'
    """
    return _described(wiring.layers)


def _sizes(axes: tuple[Axis, ...]) -> str:
    return " x ".join(str(axis.size) for axis in axes) or "1"


def _described(layers: tuple[LayerShape, ...]) -> str:
    parts = [
        f"{layer.name}: {layer.source.name}({_sizes(layer.source.axes)}) -> "
        f"{layer.target.name}({_sizes(layer.target.axes)})"
        + (f" x{layer.taps} taps" if layer.taps > 1 else "")
        + (f" in {layer.groups} groups" if layer.groups > 1 else "")
        for layer in layers[:_DESCRIBED]
    ]
    if len(layers) > _DESCRIBED:
        parts.append(f"and {len(layers) - _DESCRIBED} more")
    return f"[{', '.join(parts)}]"
