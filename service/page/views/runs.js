// Which runs there are: filter, sort, how they went.

import * as api from "../api.js";
import { sparkline } from "../charts.js";
import { control, h, link, note, number, percent, same, select, table, to } from "../dom.js";

const MOST = 5000;

export async function show({ query, signal, change }) {
  const runs = await api.all("/v1/runs?limit=1000", "runs", signal, MOST);
  const head = [h("h1", {}, "Runs"), h("p", { class: "lead" }, "Every training whose wiring is archived. A run opens its evolution; tick two or more to see how far apart they are.")];
  if (!runs.length) {
    return [...head, note("Nothing is archived yet", "Put snapshots in from files, or record a training job; they appear here by themselves."),
      same({ shell: "topostrata push weights/ --run first", python: 'run = ts.init("first"); run.log(model, step=0)' })];
  }
  const wanted = (query.filter ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const has = (run) => wanted.every((word) => [run.run, run.name, run.status, ...run.tags].some((text) => String(text).toLowerCase().includes(word)));
  const shown = runs.filter(has);
  const details = new Map();
  const metric = query.metric || "accuracy";
  const known = new Set([metric]);
  const metrics = h("datalist", { id: "metrics" });
  const chosen = new Set();
  const compare = h("a", { class: "note", hidden: true }, "");
  const tick = (run, on) => {
    if (on) chosen.add(run); else chosen.delete(run);
    compare.hidden = chosen.size < 2;
    compare.textContent = `Compare the last snapshots of ${chosen.size} runs`;
    compare.href = to("distances", [], { refs: [...chosen].map((name) => `${name}@last`).join(" ") });
  };

  // What a row adds to its run is asked for when the row comes into sight.
  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      fill(target);
    }
  }, { rootMargin: "120px" });
  signal.addEventListener("abort", () => seen.disconnect());
  async function fill(cell) {
    const { run } = cell.dataset;
    try {
      if (!details.has(run)) details.set(run, api.get(api.address(api.path("runs", run, "overview"), { metric }), signal));
      const overview = await details.get(run);
      overview.metrics.forEach((name) => { if (!known.has(name)) { known.add(name); metrics.append(h("option", { value: name })); } });
      if (cell.dataset.what === "density") cell.replaceChildren(percent(overview.density));
      else cell.replaceChildren(sparkline(overview.values, metric));
    } catch (error) {
      if (error.name !== "AbortError") cell.replaceChildren("–");
    }
  }
  const later = (run, what) => {
    const cell = h("span", {}, "…");
    cell.dataset.run = run.run;
    cell.dataset.what = what;
    if (run.snapshots) seen.observe(cell); else cell.textContent = "–";
    return cell;
  };

  const field = h("input", { type: "search", value: query.filter ?? "", placeholder: "name, tag or status" });
  field.addEventListener("change", () => change({ filter: field.value }));
  const measure = h("input", { value: metric, list: "metrics", size: "14" });
  measure.addEventListener("change", () => change({ metric: measure.value === "accuracy" ? null : measure.value }));
  const statuses = [...new Set(runs.map((run) => run.status))].sort();
  const columns = [
    { name: "run", of: (run) => [h("input", { type: "checkbox", "aria-label": `compare ${run.run}`, checked: chosen.has(run.run), onchange: (event) => tick(run.run, event.target.checked) }), " ", link(run.run, "evolution", [run.run])], by: (run) => run.run },
    { name: "status", of: (run) => h("span", { class: `status-${run.status}` }, run.status), by: (run) => run.status },
    { name: "tags", of: (run) => run.tags.map((tag) => h("span", { class: "tag" }, tag)), by: (run) => run.tags.join(" "), wrap: true },
    { name: "from", of: (run) => run.parents.map((parent) => [link(`${parent.parent}${parent.step === null ? "" : `@${parent.step}`}`, "evolution", [parent.parent]), " "]), by: (run) => run.parents[0]?.parent ?? "" },
    { name: "snapshots", number: true, of: (run) => number(run.snapshots), by: (run) => run.snapshots },
    { name: "steps", of: (run) => (run.snapshots ? `${run.first_step} to ${run.last_step}` : "–"), by: (run) => run.last_step },
    { name: "density", number: true, of: (run) => later(run, "density") },
    { name: metric, of: (run) => later(run, "metric") },
    { name: "created", of: (run) => h("time", { datetime: run.created_at, title: run.created_at }, run.created_at.slice(0, 16).replace("T", " ")), by: (run) => run.created_at },
  ];
  return [
    ...head,
    h("div", { class: "controls" }, control("Filter", field), control("Status", select([["", "any"], ...statuses], wanted.find((word) => statuses.includes(word)) ?? "", (value) => change({ filter: value }))), control("Metric", measure), metrics, compare),
    shown.length ? table(columns, shown, { caption: `${number(shown.length)} of ${number(runs.length)} runs${runs.cut ? "; the archive has more, ask for them by REST" : ""}` })
      : note("No run fits", `None of ${number(runs.length)} runs has all of: ${wanted.join(", ")}.`, h("a", { href: "#/runs" }, "Show all")),
    same({ shell: "topostrata ls", python: "archive.runs()", rest: "GET /v1/runs", cypher: "MATCH (r:Run) RETURN r.id, r.status, r.last_step ORDER BY r.id" }),
  ];
}
