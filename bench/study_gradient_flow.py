"""The study of docs/studies/gradient-flow.md: sparse against dense networks of the same capacity, on digits.

Trains 240 networks (four optimisers, with and without batch norm, three widths, five seeds), archives them, and writes
the page's table and pictures. What an archive has already is not trained again.

    python bench/study_gradient_flow.py ARCHIVE        # with the extras [torch], [server], [plot] and scikit-learn
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from surroundings import surroundings

import topostrata as ts
from topostrata.experiments import scsdc
from topostrata.service.demo.training import load_digits

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STUDY = scsdc.Study("digits", dense_widths=(32, 64, 96), sparse_width=256, epochs=60)
PAGE = Path(__file__).resolve().parents[1] / "docs" / "studies" / "gradient-flow.md"
BEGIN, END = "<!-- made by bench/study_gradient_flow.py -->\n", "<!-- end -->"
COLOURS = {"none": "#5b4a9e", "batch_norm": "#d98c21"}
FLOWS = (0.006, 1.2)
MARKS = {"none": "o", "batch_norm": "^"}


def differences(archive: ts.Archive, optimiser: str, regulariser: str) -> dict[int, list[tuple[float, float, float]]]:
    """For each dense width, a row for each seed: sparse minus dense accuracy, and the mean flows of both."""
    rows: dict[int, list[tuple[float, float, float]]] = {}
    chosen = [s for s in STUDY.settings() if (s.optimiser, s.regulariser) == (optimiser, regulariser)]
    for pair in zip(chosen[::2], chosen[1::2], strict=True):
        sparse, dense = (archive.snapshots(STUDY.run_id(setting)) for setting in pair)
        flows = [np.mean([s.metrics["egf_2"] for s in run[:-1] if "egf_2" in s.metrics]) for run in (sparse, dense)]
        gain = sparse[-1].metrics["accuracy"] - dense[-1].metrics["accuracy"]
        rows.setdefault(pair[0].dense_width, []).append((gain, float(flows[0]), float(flows[1])))
    return rows


def pictures(archive: ts.Archive) -> None:
    """Sparse minus dense accuracy by width, and the two flows of each pair against each other."""
    gains = Figure(figsize=(12, 3.6), layout="constrained")
    flows = Figure(figsize=(12, 3.6), layout="constrained")
    upper = gains.subplots(1, len(STUDY.optimisers), sharey=True)
    lower = flows.subplots(1, len(STUDY.optimisers), sharex=True, sharey=True)
    for k, optimiser in enumerate(STUDY.optimisers):
        for shift, regulariser in enumerate(STUDY.regularisers):
            rows = differences(archive, optimiser, regulariser)
            label = {"none": "no batch norm", "batch_norm": "batch norm"}[regulariser]
            style = {"color": COLOURS[regulariser], "marker": MARKS[regulariser], "alpha": 0.8, "label": label}
            places = np.repeat(np.arange(len(rows)), len(STUDY.seeds)) + (0.24 * shift - 0.12)
            upper[k].scatter(places, [100 * gain for row in rows.values() for gain, _, _ in row], s=22, **style)
            every = np.array([(dense, sparse) for row in rows.values() for _, sparse, dense in row])
            lower[k].scatter(every[:, 0], every[:, 1], s=22, **style)
        _gain_axes(upper[k], optimiser)
        _flow_axes(lower[k], optimiser)
    upper[0].set_ylabel("sparse minus dense accuracy\n(percentage points)")
    lower[0].set_ylabel("EGF of the sparse network")
    for figure, axes, name in ((gains, upper, "accuracy"), (flows, lower, "flow")):
        axes[-1].legend(frameon=False, fontsize=8)
        figure.savefig(PAGE.with_name(f"gradient-flow-{name}.png"), dpi=110)


def _gain_axes(axes: Axes, optimiser: str) -> None:
    densities = [(width / STUDY.sparse_width) ** 2 for width in STUDY.dense_widths]
    labels = [f"{width}\n({density:.1%})" for width, density in zip(STUDY.dense_widths, densities, strict=True)]
    axes.axhline(0, color="0.6", linewidth=1, zorder=0)
    axes.set_yscale("symlog", linthresh=2)
    axes.set_yticks([-50, -10, -2, -1, 0, 1, 2], ["-50", "-10", "-2", "-1", "0", "1", "2"])
    axes.set_xticks(range(len(labels)), labels)
    axes.set(title=optimiser, xlabel="dense width (density of the sparse one)")


def _flow_axes(axes: Axes, optimiser: str) -> None:
    axes.set(title=optimiser, xlabel="EGF of the dense network", xscale="log", yscale="log")
    axes.set(xlim=FLOWS, ylim=FLOWS, box_aspect=1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    axes.set_xticks([0.01, 0.1, 1], ["0.01", "0.1", "1"])
    axes.set_yticks([0.01, 0.1, 1], ["0.01", "0.1", "1"])
    axes.plot(FLOWS, FLOWS, color="0.6", linewidth=1, zorder=0)


def main(store: str) -> None:
    began, before = time.perf_counter(), os.times()
    with ts.open(store) as archive:
        table = scsdc.run(STUDY, load_digits(), archive, processes=os.cpu_count() or 1, progress=_say)
        minutes, after = (time.perf_counter() - began) / 60, os.times()
        pictures(archive)
    place = surroundings("torch", "numpy", "scipy")
    work = sum(after[:4]) - sum(before[:4])
    took = f"{minutes:.0f} minutes, {work / 60:.0f} of CPU, for what the archive did not have already."
    print(f"{took}\n\n{table}")
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    PAGE.write_text(f"{head}\n{place}.\n\n{table}\n\n{rest}", encoding="utf-8")


def _say(done: int, total: int) -> None:
    print(f"\r{done} of {total}", end="" if done < total else "\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1]) if len(sys.argv) == 2 else sys.exit(__doc__)
