"""The page with much to show, in a real Chromium: when a view is painted, bytes over the wire, frames while zooming.

    python bench/page.py

Two archives, behind `topostrata serve`: 1,000 runs of a snapshot each, with the matrix of all as the result of a job,
and a run with a layer of 4,000 x 4,000; and 2,000 runs that descend from each other. Each view is opened three times
in a fresh profile; the median is told. "Painted" is from the start of the navigation to the second frame after the
first row or the picture stands in the document, "all of it" to that after the last row or the foot of the view.
Frames are those of 180 in which the wheel zooms in and out again. What a cell says under the pointer then is compared
with the matrix as npz. Needs Chromium (`apt-get install chromium`).
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import scipy.sparse as sp
from playwright.sync_api import Browser, Page, sync_playwright
from surroundings import surroundings

from topostrata.archive import Archive, open_archive
from topostrata.distance.matrix import DistanceMatrix
from topostrata.runs import Parent
from topostrata.service import jobs
from topostrata.store.embedded import stop
from topostrata.topology import Topology

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.browser.served import FLAGS, Service, chromium

RUNS, FAMILY, WIDE, TIMES = 1000, 2000, 4000, 3
WIDTHS = (64, 32, 32, 10)
# Says when what was waited for is on the screen: a frame after the one that it is drawn in.
PAINTED = """(selectors) => {
    window.painted = [];
    const look = (index) => requestAnimationFrame(() => {
        if (!document.querySelector(selectors[index])) { look(index); return; }
        requestAnimationFrame(() => requestAnimationFrame(() => { window.painted[index] = performance.now() / 1000; }));
    });
    look(0); look(1);
}"""
AWAITED = """() => new Promise((resolve) => {
    const timer = setInterval(() => {
        if (window.painted[0] && window.painted[1]) { clearInterval(timer); resolve(); }
    }, 20);
})"""
ZOOMED = """async () => {
    const canvas = document.querySelector(".matrix canvas");
    const box = canvas.getBoundingClientRect();
    const times = [];
    for (let frame = 0; frame < 180; frame += 1) {
        canvas.dispatchEvent(new WheelEvent("wheel", {
            deltaY: frame < 90 ? -40 : 40, clientX: box.left + box.width / 2, clientY: box.top + box.height / 2,
            bubbles: true, cancelable: true,
        }));
        times.push(await new Promise(requestAnimationFrame));
    }
    return times;
}"""
WIRE = "performance.getEntriesByType('resource').reduce((sum, entry) => sum + entry.transferSize, 0)"


class Seen(NamedTuple):
    """What opening a view took: seconds to its first rows or picture and to all of it, bytes over the wire."""

    first: float
    whole: float
    wire: int


def network(rng: np.random.Generator, widths: tuple[int, ...], density: float) -> Topology:
    return Topology.from_masks([sp.random_array(shape, density=density, rng=rng) for shape in pairwise(widths)])


def fill_many(archive: Archive) -> None:
    """Runs with snapshots and metrics, in 30 families of similar wiring, and one run with a wide layer."""
    rng = np.random.default_rng(0)
    families = [network(rng, WIDTHS, 0.2) for _ in range(30)]
    for number in range(RUNS):
        masks = [np.asarray(layer.mask) for layer in families[number % 30].layers]
        moved = [mask ^ (rng.random(mask.shape) < 0.02) for mask in masks]
        run = f"run-{number:04d}"
        archive.push(run, 0, Topology.from_masks(moved), metrics={"accuracy": 0.5}, projection="none")
        archive.push_metrics(run, 10, {"accuracy": 0.5 + number / 2500})
    for step in range(2):
        archive.push("wide", step, network(rng, (WIDE, WIDE), 0.01), projection="none")


def compared(archive: Archive) -> str:
    """The id of the job whose result is the matrix of all runs, units compared by index.

    The worker takes minutes for these 500,000 pairs; one product of matrices a unit is quicker, and some of the pairs
    are held against the archive's own.
    """
    entries = archive.recorded(*archive.expand(["run-*@last"]))
    networks = [archive.topology(entry) for entry in entries]
    layers = []
    for name in (layer.name for layer in networks[0]):
        masks = np.stack([np.asarray(network[name].mask) for network in networks]).astype(np.float32)
        distance = np.zeros((len(networks), len(networks)))
        for inputs in masks.transpose(2, 0, 1):
            common, counts = inputs @ inputs.T, inputs.sum(axis=1)
            union = counts[:, None] + counts[None, :] - common
            distance += 1 - np.divide(common, union, out=np.ones_like(common), where=union > 0)
        layers.append(distance / masks.shape[2])
    labels, names = tuple(entry.snapshot.id for entry in entries), tuple(layer.name for layer in networks[0])
    matrix = DistanceMatrix(labels, "identity", np.mean(layers, axis=0), np.stack(layers, axis=2), names)
    for i, j in ((0, 1), (0, 30), (999, 500)):
        own = archive.nnstd(labels[i], labels[j], alignment="identity", keep=False).nnstd
        if abs(own - matrix.nnstd[i, j]) > 1e-6:
            raise SystemExit(f"expected {own} between {labels[i]} and {labels[j]}, found {matrix.nnstd[i, j]}")
    file = BytesIO()
    matrix.write_npz(file)
    plan = jobs.plan(
        archive, "distances", {"refs": list(labels), "alignment": "identity", "layers": None, "chance": None}
    )
    job, _ = jobs.submit(archive, "distances", plan)
    archive.jobs.claim("bench")
    file.seek(0)
    archive.jobs.finish(job.id, "bench", jobs.NPZ, file)
    return job.id


def fill_family(archive: Archive) -> None:
    """Runs of one snapshot, each a fork of one of those before."""
    rng = np.random.default_rng(1)
    first = network(rng, WIDTHS, 0.2)
    for number in range(FAMILY):
        before = f"run-{rng.integers(max(0, number - 200), max(1, number)):04d}"
        archive.create_run(f"run-{number:04d}", parents=[] if number < 10 else [Parent(before, 0, "fork")])
        archive.push(f"run-{number:04d}", 0, first, projection="none")


def opened(browser: Browser, url: str, first: str, last: str) -> Iterator[tuple[Page, Seen]]:
    """A view in a fresh profile, once all of it is painted."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.add_init_script(f"({PAINTED})({[first, last]!r})")
        page.goto(url)
        page.evaluate(AWAITED)
        first_s, whole_s = page.evaluate("window.painted")
        yield page, Seen(first_s, whole_s, page.evaluate(WIRE))


def measured(browser: Browser, url: str, first: str, last: str) -> Seen:
    """The median of each number of some openings."""
    seen = [numbers for _ in range(TIMES) for _, numbers in opened(browser, url, first, last)]
    return Seen(*(statistics.median(column) for column in zip(*seen, strict=True)))


def row(what: str, goal: str, seen: Seen, more: str = "") -> None:
    print(
        f"| {what} | {seen.first:.2f} | {seen.whole:.2f} | {seen.wire / 1e6:.2f} | {more or '-'} | {goal} |",
        flush=True,
    )


def checked(page: Page, matrix: DistanceMatrix) -> None:
    """A cell says under the pointer, zoomed in, what the matrix has there, and opens that pair."""
    box = page.locator(".matrix canvas").bounding_box()
    if box is None:
        raise SystemExit("expected a matrix, found none")
    place = box["x"] + 300, box["y"] + 340
    page.mouse.move(*place)
    for _ in range(8):
        page.mouse.wheel(0, -300)
    page.mouse.move(place[0] + 3, place[1])
    a, _, b = (said := page.locator(".tip").inner_text()).rpartition(":")[0].partition(" and ")
    expected = matrix.nnstd[matrix.labels.index(a), matrix.labels.index(b)]
    if abs(float(said.rpartition(":")[2]) - expected) > 1e-4:
        raise SystemExit(f"expected {expected} of {a} and {b}, found {said}")
    page.mouse.click(place[0] + 3, place[1])
    page.locator("h1", has_text=f"{a} and {b}").wait_for()


def many(browser: Browser, service: Service, job: str) -> None:
    row(
        f"{RUNS:,} runs in the list",
        "painted in 1.5 s",
        measured(browser, f"{service.url}#/runs", "tbody tr", f"tbody tr:nth-child({RUNS})"),
    )
    with httpx.Client(base_url=service.url, timeout=120) as client:
        npz = client.get(f"/v1/jobs/{job}/result", headers={"Accept": "application/x-npz"}).content
    url, drawn = f"{service.url}#/distances?job={job}", (".matrix canvas[style*=width]", ".same")
    seen = measured(browser, url, *drawn)
    for page, _ in opened(browser, url, *drawn):
        times = page.evaluate(ZOOMED)
        frames = sorted(later - earlier for earlier, later in pairwise(times))
        checked(page, DistanceMatrix.from_npz(BytesIO(npz)))
    told = f"{1000 * len(frames) / sum(frames):.0f} a second, 99 % within {frames[int(0.99 * len(frames))]:.0f} ms"
    row(f"the matrix of {RUNS:,} x {RUNS:,}", "painted in 1.5 s, 16 MB, 60 frames a second", seen, told)
    wide = measured(browser, f"{service.url}#/evolution/wide", ".legend .mark", ".same")
    row(f"the connections of a layer of {WIDE:,} x {WIDE:,}, 1 %", "painted in 1.5 s", wide)


def main() -> None:
    executable = chromium() or sys.exit("expected Chromium, found none: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        print(f"{surroundings('playwright')}, Chromium {browser.version}, load {os.getloadavg()[0]:.1f}.\n")
        print("| view | painted, s | all of it, s | MB over the wire | frames while zooming | goal |")
        print("| --- | --- | --- | --- | --- | --- |", flush=True)
        stores = Path(folder) / "many", Path(folder) / "family"
        try:
            with open_archive(str(stores[0])) as archive:
                fill_many(archive)
                job = compared(archive)
            with Service(stores[0]) as service:
                many(browser, service, job)
            stop(stores[0], force=True)
            with open_archive(str(stores[1])) as archive:
                fill_family(archive)
            with Service(stores[1]) as service:
                seen = measured(browser, f"{service.url}#/lineage", "main svg a", ".same")
                row(f"a lineage of {FAMILY:,} runs", "painted in 1.5 s", seen)
        finally:
            browser.close()
            for store in stores:
                stop(store, force=True)


if __name__ == "__main__":
    main()
