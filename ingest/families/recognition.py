"""Which family of networks a file holds, what its configuration decides, and the question that is left.

Names and shapes have to agree in full with one family in one order of axes. What they do not tell (heads, ties) is
taken from ``config.json`` beside the file or from what the user says; what stays open is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from topostrata.errors import InvalidInputError
from topostrata.ingest.families.fitting import Fit, MisfitError, Use, fits
from topostrata.ingest.families.structure import Family
from topostrata.ingest.families.table import FAMILIES
from topostrata.ingest.families.wirings import Decisions, wiring_of
from topostrata.ingest.formats.array_file import ArrayFile, AxisOrder
from topostrata.ingest.formats.cells import read_within
from topostrata.ingest.formats.limits import Limits
from topostrata.ingest.formats.options import Options
from topostrata.ingest.formats.roles import ArrayRole
from topostrata.ingest.formats.stored import Entries, StoredArray
from topostrata.topology import Wiring
from topostrata.words import Heads

_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_WITH_HEAD = ("LMHead", "CausalLM", "MaskedLM", "PreTraining")
_RESEMBLES = 2  # how much has to fit, blocks and arrays, for the first array that does not to be worth saying


@dataclass(frozen=True, slots=True)
class Known:
    """A file whose network is of a known family: its wiring, each layer with the array that it is, and why."""

    family: str
    wiring: Wiring
    evidence: tuple[str, ...]
    notes: tuple[str, ...]


class OpenQuestionError(InvalidInputError):
    """The family is known, and something that decides the wiring is not. ``draft`` is the wiring as far as it goes."""

    def __init__(self, message: str, *, hint: str, family: str, draft: Wiring | None) -> None:
        super().__init__(message, hint=hint)
        self.family = family
        self.draft = draft


def recognise(file: ArrayFile, roles: Sequence[ArrayRole], options: Options) -> tuple[Known | None, str | None]:
    """The network of a file, if its family is known; else which family it resembles and where it differs, in words.

    Raises ``OpenQuestionError`` where the family is known and the wiring is not.
    """
    if options.layers or options.bias == "last-row":
        return None, None
    found: list[Fit] = []
    nearest = MisfitError("")
    resembled = ""
    for family in FAMILIES:
        for axes in (options.axes,) if options.axes else family.stored:
            try:
                found.append(fits(family, roles, axes))
            except MisfitError as misfit:
                if misfit.known > nearest.known:
                    nearest, resembled = misfit, family.name
    if not found:
        near = f"; it resembles {_a(resembled)}, but {nearest.reason}" if nearest.known >= _RESEMBLES else None
        return None, near
    if len(found) > 1:
        raise InvalidInputError(
            f"{file.where}: expected names and shapes of one family, found those of "
            f"{' and '.join(f'{_a(fit.family.name)}, {fit.axes}' for fit in found)}",
            hint="say --orientation out-in or in-out, or write the wiring down: --wiring net.toml",
        )
    (fit,) = found
    _check_axes(file, roles, fit, options)
    return _known(file, fit, options), None


def _check_axes(file: ArrayFile, roles: Sequence[ArrayRole], fit: Fit, options: Options) -> None:
    """Where the format does not say how matrices lie, their shapes have to."""
    if options.axes is not None or file.axes == "out-in":
        return
    other: AxisOrder = "in-out" if fit.axes == "out-in" else "out-in"
    try:
        fits(fit.family, roles, other)
    except MisfitError:
        return
    raise InvalidInputError(
        f"{file.where}: expected shapes that tell the order of axes, found {_a(fit.family.name)} that fits both ways",
        hint="say --orientation out-in (as torch stores weights) or --orientation in-out",
    )


def _known(file: ArrayFile, fit: Fit, options: Options) -> Known:
    family = fit.family
    evidence = [f"its names and shapes are those of {_a(family.name)} ({family.writers})"]
    evidence.append(f"rows are {'targets' if fit.axes == 'out-in' else 'sources'} ({fit.axes}), as the shapes tell")
    tied, notes = _ties(file, fit, options)
    heads: Heads = "unknown"
    open_heads = False
    if family.attention is not None:
        stated, why = _heads(file, options)
        open_heads = stated is None
        heads = stated or "unknown"
        evidence.append(why if stated != "unknown" else "the units of attention are held by index, as you said")
    rotary = _turned(file, fit)
    if rotary:
        notes.append("no position embedding is in the file, so positions may turn q and k: their places are fixed")
    try:
        wiring = wiring_of(fit, Decisions(heads, tied, rotary, options.flatten == "channels-last"))
    except MisfitError as misfit:
        if not open_heads:
            raise InvalidInputError(
                f"{file.where}: {_a(family.name)}: expected widths that its heads divide, found {misfit.reason}",
                hint="say how many there are: --heads N",
            ) from misfit
        wiring = None
    if open_heads:
        raise OpenQuestionError(
            f"{file.where}: expected the number of heads of {_a(family.name)}, found neither --heads nor a "
            f"config.json beside the file that says it ({', '.join(_HEADS)})",
            hint="say --heads 12 (or how many there are); --heads unknown holds the units of attention by index, which "
            "makes distances between runs larger than they are",
            family=family.name,
            draft=wiring,
        )
    assert wiring is not None  # noqa: S101 - a misfit was raised, or the heads are open
    _check_norms(file, fit, wiring)
    notes += _headless(file, fit, tied)
    if family.batch_norm and not fit.norms:
        notes.append(
            "no norms are in the file: channels are taken to be interchangeable, as they are with batch norms; with "
            "group norms write the wiring down (--wiring net.toml)"
        )
    if fit.norms:
        notes.append(f"left out, norms and other arrays that work on each unit alone: {_some(fit.norms)}")
    return Known(family.name, wiring, tuple(evidence), tuple(notes))


def _check_norms(file: ArrayFile, fit: Fit, wiring: Wiring) -> None:
    """Batch norms have running statistics; what has none may be a group norm."""
    if not fit.family.batch_norm:
        return
    for name in fit.norms:
        if name.endswith("weight") and name.removesuffix("weight") + "running_mean" not in file.arrays:
            raise OpenQuestionError(
                f"{file.where}: expected batch norms in {_a(fit.family.name)}, found {name!r} without running "
                "statistics: if it is a group norm, channels are interchangeable within groups only",
                hint="write the wiring down: `topostrata inspect FILE --write net.toml` gives it with batch norms; for "
                "group norms give the spaces axes of group and channel (docs/wiring.md); then --wiring net.toml",
                family=fit.family.name,
                draft=wiring,
            )


def _heads(file: ArrayFile, options: Options) -> tuple[Heads | None, str]:
    if options.heads is not None:
        return options.heads, f"heads: {options.heads}, as you said"
    for where, config in (("config.json", file.config), ("the checkpoint", file.numbers)):
        stated = {key: config[key] for key in config if key.rsplit(".", 1)[-1] in _HEADS}
        heads = set(stated.values())
        if len(heads) == 1 and type(number := heads.pop()) is int and number > 0:
            return number, f"heads: {number}, as {where} says ({next(iter(stated))})"
    return None, ""


def _turned(file: ArrayFile, fit: Fit) -> bool:
    """Whether positions may turn queries and keys, since the array of positions that the family has is not there."""
    attention = fit.family.attention
    return attention is not None and not any(attention.positions in name for name in file.arrays)


def _ties(file: ArrayFile, fit: Fit, options: Options) -> tuple[dict[str, Use], list[str]]:
    """Which rows are tied with the array of another: by the configuration, or because the numbers are the same."""
    says = file.config.get("tie_word_embeddings")
    tied: dict[str, Use] = {}
    notes: list[str] = []
    for use in fit.uses:
        owner = fit.use_of(use.row.tied) if use.row.tied else None
        if owner is None or says is False:
            continue
        mask = "mask" in {use.role.role, owner.role.role}
        if (says is True or not mask) and _same(use.role.array, owner.role.array, options.limits, file.where):
            tied[use.row.name] = owner
            notes.append(f"{use.role.name} is tied with {owner.role.name}: one set of connections in two places")
    architectures = file.config.get("architectures")
    with_head = isinstance(architectures, list) and any(
        word in str(name) for name in architectures for word in _WITH_HEAD
    )
    for row in fit.untied:
        owner = fit.use_of(row.tied)
        if owner is not None and with_head and says is not False and row.source in fit.sizes:
            tied[row.name] = owner
            notes.append(f"the output layer is tied with {owner.role.name}, as config.json says")
    return tied, notes


def _same(array: StoredArray, other: StoredArray, limits: Limits, where: str) -> bool:
    if array.shape != other.shape:
        return False
    numbers, others = (read_within(stored, limits, where=where) for stored in (array, other))
    if isinstance(numbers, Entries) or isinstance(others, Entries):
        return (
            isinstance(numbers, Entries)
            and isinstance(others, Entries)
            and np.array_equal(numbers.positions, others.positions)
            and np.array_equal(numbers.values, others.values)
        )
    return np.array_equal(numbers, others)


def _headless(file: ArrayFile, fit: Fit, tied: Mapping[str, Use]) -> list[str]:
    """That the network has no output layer, where it has none."""
    after = {use.name for use in fit.uses if not use.block and any(place in fit.labelled for place in use.targets)}
    if after or tied:
        return []
    notes = ["no output layer is in the file: the units of its last sum are outputs, and held by index"]
    if fit.untied and not file.config:
        notes.append("where the output layer is tied to the embedding, config.json beside the file says so")
    return notes


def table(families: Iterable[Family] = FAMILIES) -> str:
    """The table of docs/formats.md."""
    rows = ["| network | as stored by | its blocks | how it is read |", "| --- | --- | --- | --- |"]
    for family in families:
        blocks = ", ".join(f"`{block.replace('~', family.roots[0])}`" for block in family.block.split("|"))
        rows.append(f"| {family.name} | {family.writers} | {blocks} | {family.what} |")
    return "\n".join(rows) + "\n"


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def _some(names: Sequence[str], most: int = 4) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
