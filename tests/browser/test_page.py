"""The page in a real Chromium: every view, what it says when something is wrong, and that it is for everybody."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import axe_playwright_python
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.browser.looks import MOST, changed, looks_as_before, tones
from tests.browser.served import MARKUP, STEPS, Proxy, Service
from topostrata.archive import open_archive
from topostrata.distance.matrix import DistanceMatrix
from topostrata.topology import Topology

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")
VIEWS = {
    "runs": "#/runs",
    "distances": "#/distances?refs=w*@last",
    "pair": "#/pair/w0@40/w1@40?chance=density",
    "evolution": "#/evolution/w1",
    "lineage": "#/lineage?infer=w*@last",
    "choose-neuron": "#/neuron/w1",
    "neuron": "#/neuron/w1/hidden1/5?with=w0",
    "cypher": "#/cypher",
    "jobs": "#/jobs",
    "nowhere": "#/nowhere",
}
WIDE, NARROW = ViewportSize(width=1280, height=900), ViewportSize(width=360, height=740)
TWICE = ViewportSize(width=640, height=450)  # what is left of the wide screen at 200 %
# What is neither in sight nor in something that scrolls, or does not fit what it stands in and is cut off there.
CUT = """() => [...document.querySelectorAll("body *")].filter((node) => {
    if (!node.checkVisibility() || node.closest("svg, .u-wrap, .skip, [hidden]")) return false;
    for (let at = node; at && at !== document.body; at = at.parentElement) {
        if (at !== node && /auto|scroll/.test(getComputedStyle(at).overflowX)) return false;
    }
    const { left, right } = node.getBoundingClientRect();
    const hides = /hidden|clip/.test(getComputedStyle(node).overflowX) && node.scrollWidth > node.clientWidth + 1;
    return left < -1 || right > innerWidth + 1 || hides;
}).map((node) => `${node.tagName} ${node.className}: ${node.textContent.slice(0, 60)}`)"""

Open = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    """Opens an address in a fresh browser profile; whatever the page's scripts complain of fails the test."""
    complaints: list[str] = []
    contexts = []

    def open_page(url: str, *, theme: str = "light", size: ViewportSize = WIDE) -> Page:
        context = browser.new_context(
            viewport=size,
            device_scale_factor=1 if size == WIDE else 2,
            color_scheme="dark" if theme == "dark" else "light",
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "warning" else None)
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def whole(page: Page) -> None:
    """Wait until everything that the view asks for has come."""
    page.locator("main :is(h1, .state-note h2)").first.wait_for()
    expect(page.locator("main [role=status].state-note")).to_have_count(0, timeout=60_000)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_every_view_is_for_everybody(opened: Open, service: Service, view: str, theme: str) -> None:
    """axe finds nothing to complain of, in light and in dark, and it looks as it did."""
    page = opened(service.url + VIEWS[view], theme=theme)
    whole(page)
    expect(page.get_by_text("…", exact=True)).to_have_count(0, timeout=60_000)
    looks_as_before(page, f"{view}-{theme}")
    page.evaluate(AXE)
    violations = page.evaluate("axe.run().then(result => result.violations)")
    assert [(entry["id"], [node["html"] for node in entry["nodes"]]) for entry in violations] == []


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_fits_a_telephone_and_large_letters(opened: Open, service: Service, view: str) -> None:
    """At 360 pixels, and at 200 %, nothing stands beside the screen or is cut off: wide tables scroll in themselves."""
    page = opened(service.url + VIEWS[view], size=NARROW)
    whole(page)
    looks_as_before(page, f"{view}-narrow")
    for size in (NARROW, TWICE):
        page.set_viewport_size(size)
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        assert page.evaluate(CUT) == []


def test_runs_can_be_filtered_sorted_and_compared(opened: Open, service: Service) -> None:
    """The filter takes words, a head sorts, and two ticked runs lead to their distance."""
    page = opened(service.url)
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(5)
    expect(rows.nth(2)).to_contain_text("20 %")
    expect(rows.nth(2)).to_contain_text("0.9")
    page.get_by_role("button", name="run", exact=True).click()
    page.get_by_role("button", name="run", exact=True).click()
    expect(rows.first).to_contain_text("w2")
    page.get_by_label("compare w0").check()
    page.get_by_label("compare w2").check()
    page.get_by_text("Compare the last snapshots of 2 runs").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Distances")
    assert "refs=w2%40last+w0%40last" in page.url or "refs=w0%40last+w2%40last" in page.url
    page.goto(f"{service.url}#/runs?filter=awaited")
    expect(rows).to_have_count(1)
    page.goto(f"{service.url}#/runs?filter=nobody")
    expect(page.get_by_role("heading", name="No run fits")).to_be_visible()


def test_text_from_the_archive_is_text(opened: Open, service: Service) -> None:
    """A tag and layers whose names are written as markup stand there as they are written."""
    page = opened(service.url)
    expect(page.get_by_text(MARKUP, exact=True).first).to_be_visible()
    page.goto(f"{service.url}#/evolution/odd")
    whole(page)
    expect(page.locator("option", has_text=f"{MARKUP}0").first).to_be_attached()
    expect(page.get_by_role("rowheader", name=f"{MARKUP}1", exact=True).last).to_be_visible()
    assert page.locator("main img").count() == 0
    assert "owned" not in page.title()


def test_a_cell_of_the_matrix_is_chosen_by_keys(opened: Open, service: Service) -> None:
    """Arrows choose a cell and say its distance; Enter opens the pair."""
    page = opened(service.url + VIEWS["distances"])
    whole(page)
    page.get_by_role("application").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".matrix + [role=status]")).to_have_text(re.compile(r"^w\d@40 and w\d@40: 0\.\d+$"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(r"^w\d@40 and w\d@40$"))


def test_a_matrix_stands_beside_chance(opened: Open, service: Service) -> None:
    """The level is a mark in the scale, and is said in words: of how many pairs, by which null model."""
    page = opened(service.url + VIEWS["distances"])
    whole(page)
    expect(page.get_by_text("choose one above")).to_be_visible()
    page.get_by_label("Chance level").select_option("density")
    expect(page.get_by_text(re.compile(r"^Independent networks of the same density are 0\.\d+ apart"))).to_be_visible()
    expect(page.get_by_role("img", name=re.compile(r"; chance at 0\.\d+$"))).to_be_visible()


def test_the_picture_of_connections_says_what_the_archive_says(opened: Open, service: Service, tmp_path: Path) -> None:
    """At each place of the slider the legend counts what became of the connections since the snapshot before."""
    page = opened(service.url + VIEWS["evolution"])
    whole(page)
    slider = page.get_by_label("Snapshot", exact=True)
    slider.focus()
    slider.press("Home")
    expect(page.locator("output")).to_have_text(f"step {STEPS[0]}, the first")
    for before, step in pairwise(STEPS):
        slider.press("ArrowRight")
        expect(page.locator("output")).to_have_text(f"step {step}, beside step {before}")
        told = page.request.get(f"{service.url}v1/runs/w1/evolution?from={before}&to={step}").json()["layers"][0]
        expect(page.locator(".legend").first).to_contain_text(f"born: {told['born']}")
        expect(page.locator(".legend").first).to_contain_text(f"died: {told['died']}")
    assert f"at={STEPS[-1]}" in page.url
    expect(
        page.get_by_role("img", name=re.compile(r"^Unevenness of fan-in: hidden1 from 0\.\d+ to 0\."))
    ).to_be_visible()
    page.goto(service.url + VIEWS["neuron"])
    match = page.request.get(f"{service.url}v1/match?a=w1@40&b=w0@40&space=hidden1").json()["spaces"][0]
    other = page.get_by_text("In w0@40 it is").get_by_role("link").first
    expect(other).to_have_text(f"hidden1 {match['partner'][5]}")


def test_what_is_pushed_appears_by_itself(opened: Open, service: Service) -> None:
    """A run that another process makes stands in the list without any action."""
    page = opened(service.url)
    expect(page.locator("#state")).to_have_text("live")
    with open_archive(str(service.store)) as archive:
        archive.create_run("newcomer")
    expect(page.get_by_role("link", name="newcomer")).to_be_visible(timeout=60_000)


def test_a_lost_connection_is_said_and_comes_back(opened: Open, service: Service) -> None:
    """While the service is away the page says so; when it is back, the page goes on by itself."""
    page = opened(service.url)
    expect(page.locator("#state")).to_have_text("live")
    service.stop()
    try:
        expect(page.locator("#state")).to_have_text("connection lost, trying again", timeout=60_000)
        page.goto(f"{service.url}#/lineage")
        expect(page.get_by_role("heading", name="The service does not answer")).to_be_visible()
    finally:
        service.start()
    expect(page.locator("#state")).to_have_text("live", timeout=60_000)
    expect(page.get_by_role("heading", level=1)).to_have_text("Lineage")


def test_a_token_is_asked_for_and_kept_nowhere(opened: Open, empty: Service) -> None:
    """A wrong token is asked for again; the right one opens the empty archive; storage and address stay empty."""
    page = opened(empty.url)
    field = page.get_by_role("textbox", name="Token")
    field.fill("wrong")
    page.get_by_role("button", name="Go on").click()
    expect(field).to_have_value("")
    field.fill(empty.token or "")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("heading", name="Nothing is archived yet")).to_be_visible()
    kept = "JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])"
    assert (empty.token or "") not in page.evaluate(kept)
    page.reload()
    expect(page.get_by_role("textbox", name="Token")).to_be_visible()


def test_a_question_of_the_cookbook_is_answered(opened: Open, service: Service) -> None:
    """The query stands ready with its example; Run shows rows."""
    page = opened(f"{service.url}#/cypher?recipe=best_snapshots")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("main table tbody tr")).to_have_count(3)
    page.get_by_label("Parameters as JSON").fill("no json")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("not JSON")


def test_long_work_is_asked_for_followed_and_cancelled(opened: Open, service: Service) -> None:
    """A job has an address and shows its progress by itself; its matrix is a view; what is many becomes one; it ends."""
    page = opened(f"{service.url}#/jobs")
    whole(page)
    expect(page.get_by_role("heading", name="No jobs")).to_be_visible()
    page.get_by_label("All distances of these snapshots").fill("w*@40")
    page.get_by_label("Alignment").select_option("identity")
    page.get_by_role("button", name="Compute").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Distances of 3 snapshots, w0@40 to w2@40, identity")
    expect(page.locator("dl.facts")).to_contain_text("finished", timeout=120_000)
    expect(page.locator("dl.facts")).to_contain_text("6 of 6 pairs")
    page.evaluate(AXE)
    assert page.evaluate("axe.run().then(result => result.violations.map(entry => entry.id))") == []
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save the result").click()
    assert DistanceMatrix.from_npz(Path(saved.value.path())).labels == ("w0@40", "w1@40", "w2@40")
    page.get_by_role("link", name="Show the matrix").click()
    whole(page)
    expect(page.locator("figcaption")).to_contain_text("3 snapshots, alignment identity")
    with page.expect_response("**/result?layer=*") as asked:
        page.get_by_label("Layer").select_option("l1")
    expect(page.locator("figcaption")).to_contain_text("Layer l1")
    size = int.from_bytes(asked.value.body()[:4], "little")
    assert len(asked.value.body()) == 4 + size + 3 * 3 * 4
    page.get_by_role("link", name="Jobs").click()
    expect(page.locator("tbody tr")).to_contain_text("finished")
    page.evaluate(AXE)
    assert page.evaluate("axe.run().then(result => result.violations.map(entry => entry.id))") == []
    page.get_by_role("button", name="Forget").click()
    expect(page.get_by_role("heading", name="No jobs")).to_be_visible()
    page.route("**/v1/distances/matrix*", lambda route: route.fulfill(status=413, json={"detail": "found 65"}))
    page.goto(f"{service.url}#/distances?refs=w*@*")
    page.get_by_role("button", name="Compute them as a job").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Distances of 12 snapshots, w0@0 to w2@40, overlap")
    page.get_by_role("button", name=re.compile("Cancel|Forget")).click()
    expect(page.get_by_role("heading", name="No jobs")).to_be_visible()
    page.unroute("**/v1/distances/matrix*")
    page.route("**/v1/lineage/inferred*", lambda route: route.fulfill(status=413, json={"detail": "found 65"}))
    page.goto(f"{service.url}#/lineage?infer=w*@last")
    page.get_by_role("button", name="Infer it as a job").click()
    expect(page.locator("dl.facts")).to_contain_text("finished", timeout=120_000)
    page.get_by_role("link", name="Show the ancestry").click()
    expect(page.locator("figcaption")).to_contain_text("2 inferred")
    page.get_by_role("link", name=re.compile("^job ")).click()
    page.get_by_role("button", name="Forget").click()
    expect(page.get_by_role("heading", name="No jobs")).to_be_visible()


def test_a_job_that_failed_says_of_what(opened: Open, service: Service) -> None:
    """In words, with nothing to save; it can be forgotten."""
    page = opened(f"{service.url}#/jobs")
    whole(page)
    page.get_by_label("All distances of these snapshots").fill("w0@40 odd@0")
    page.get_by_role("button", name="Compute").click()
    expect(page.locator("dl.facts")).to_contain_text("failed", timeout=120_000)
    expect(page.locator("main")).to_contain_text("expected 3 layers in both networks, found 2")
    expect(page.get_by_role("button", name="Save the result")).to_have_count(0)
    page.evaluate(AXE)
    assert page.evaluate("axe.run().then(result => result.violations.map(entry => entry.id))") == []
    page.get_by_role("button", name="Forget").click()
    expect(page.get_by_role("heading", name="No jobs")).to_be_visible()


def test_every_view_shows_the_published_networks(
    opened: Open, published: Service, expected: dict[str, np.ndarray], reference_topologies: dict[str, Topology]
) -> None:
    """On networks of 784-784-784-784-10 no view fails; a distance and a neuron are what others computed of them."""
    page = opened("about:blank")
    for view in ("runs", "distances?refs=w*@last", "evolution/w1", "lineage", "neuron/w1", "cypher", "jobs"):
        page.goto(f"{published.url}#/{view}")
        whole(page)
        expect(page.get_by_role("alert")).to_have_count(0)
    page.goto(f"{published.url}#/pair/w0@50/w1@50?alignment=canonical")
    whole(page)
    names = [str(name) for name in expected["names"]]
    layers = expected["canonical"][names.index("e5_s0_w0/epoch_050"), names.index("e5_s0_w1/epoch_050")]
    expect(page.locator("main")).to_contain_text(f"{layers.mean():.4f}")
    page.goto(f"{published.url}#/neuron/w1/hidden1/7")
    whole(page)
    inputs = int((reference_topologies["e5_s0_w1/epoch_050"].layers[0].mask.cells // 784 == 7).sum())
    expect(page.locator("dl.facts")).to_contain_text(f"inputs at step 50{inputs}")


def test_the_page_stands_below_a_path_of_a_proxy(opened: Open, service: Service) -> None:
    """All that it loads, asks for, sends and links to lies below that path; events come through it."""
    with Service(service.store, root_path="/nets/one") as behind, Proxy(behind, "/nets/one") as proxy:
        page = opened("about:blank")
        answers: list[tuple[str, int]] = []
        page.on("response", lambda answer: answers.append((answer.url, answer.status)))
        page.goto(proxy.url)
        expect(page.locator("#state")).to_have_text("live")
        page.get_by_role("link", name="w1", exact=True).first.click()
        whole(page)
        page.get_by_role("link", name="Jobs").click()
        page.get_by_label("All distances of these snapshots").fill("w*@10")
        page.get_by_role("button", name="Compute").click()
        page.get_by_role("button", name=re.compile("Cancel|Forget")).click()
        expect(page.get_by_role("heading", name="No jobs")).to_be_visible()
        assert [answer for answer in answers if not answer[0].startswith(proxy.url) or answer[1] >= 400] == []


def test_what_is_missing_looks_otherwise(opened: Open, service: Service) -> None:
    """In another font a view is what it was; without its picture, its table or its style, or in other colours, not."""
    page = opened(service.url + VIEWS["lineage"])
    whole(page)
    expect(page.locator("#state")).to_have_text("live")
    before = tones(page.screenshot())

    def change(script: str) -> float:
        page.evaluate(script)
        return changed(tones(page.screenshot()), before)

    assert change("document.documentElement.style.fontFamily = 'Liberation Sans Narrow, sans-serif'") <= MOST
    assert change("document.documentElement.style.fontFamily = ''") == 0
    assert change("document.getElementById('theme').click()") > MOST
    assert change("document.getElementById('theme').click()") == 0
    for part in ("main svg", "main .scroll:has(table)", "link[rel=stylesheet]"):
        assert change(f"document.querySelectorAll('{part}').forEach(node => node.remove())") > MOST, part
        page.reload()
        whole(page)
