"""Whether two networks are related at all: related."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from topostrata.service.cli.moments import with_moment
from topostrata.service.cli.networks import networks
from topostrata.service.cli.output import JsonFlag, StoreOption, answer, layers_table, show
from topostrata.service.cli.reading import Reading, with_reading

if TYPE_CHECKING:
    from topostrata.lineage.related import Relatedness

_LEVEL = 0.05


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command()(with_moment(with_reading(related)))


def related(
    a: Annotated[str, typer.Argument(metavar="A", help="A ref (run@STEP) or a path (DIR@50, DIR/epoch_050, a file).")],
    b: Annotated[str, typer.Argument(metavar="B", help="The other one.")],
    reading: Reading,
    tests: Annotated[
        int, typer.Option("--tests", metavar="COUNT", min=1, help="Exchanges a layer; p is at least 1 / (COUNT + 1).")
    ] = 999,
    seed: Annotated[int, typer.Option("--seed", metavar="NUMBER", min=0, help="Which exchanges.")] = 0,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Whether two networks are related at all, with an exact p-value for each layer.

    Hidden units may be named differently. They are matched by the layers below; p is the chance that a layer of
    independent networks whose units have the same fan-in agrees as well.
    """
    from topostrata.lineage.related import related as relatedness_of
    from topostrata.service.answers.lineage import related_answer

    pair = networks([a, b], store, reading)
    if len(pair) > 2:
        raise typer.BadParameter(f"expected two networks, found {len(pair)}")
    (label_a, network_a), (label_b, network_b) = pair[0], pair[-1]
    result = relatedness_of(network_a, network_b, tests=tests, seed=seed)
    as_json = related_answer(label_a, label_b, result)
    if json_:
        answer(as_json)
        return
    rows = [row | {"matched_by": ", ".join(row["matched_by"])} for row in as_json["layers"]]
    show(_verdict(label_a, label_b, result), layers_table(rows), *_untested(result))


def _verdict(a: str, b: str, result: Relatedness) -> str:
    layers = result.related(_LEVEL)
    said = f"p = {result.p:.4g} of {result.tests} tests a layer, seed {result.seed}"
    if not layers:
        return f"{a} and {b}: no sign that they are related; {said}"
    return f"{a} and {b}: related in {', '.join(layers)}; {said}"


def _untested(result: Relatedness) -> list[str]:
    names = [layer.name for layer in result.layers if layer.p is None]
    return [f"no p where no exchange changes anything: {', '.join(names)}"] if names else []
