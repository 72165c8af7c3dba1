// Who descends from whom: declared by the trainings (solid), inferred from the wiring (dashed).

import * as api from "../api.js";
import { control, failure, h, link, literal, note, number, quoted, same, table, to } from "../dom.js";
import { many } from "./jobs.js";

const MOST = 2000;
const AT_ONCE = 200; // runs that are drawn at once

export async function show({ query, signal, change }) {
  const declared = await api.get("/v1/lineage", signal);
  const head = [h("h1", {}, "Lineage"), h("p", { class: "lead" }, "Solid: declared when a run was made. Dashed: inferred from the wiring alone, with how much nearer the parent is than the next best (its margin). Time goes to the right.")];
  if (!declared.nodes.length) return [...head, note("No runs yet", "Descent shows as soon as runs name their parents, or from two snapshots on by inference.")];
  let inferred = null, problem = null;
  const refs = (query.infer ?? "").split(/\s+/).filter(Boolean);
  if (query.job || refs.length) {
    try {
      inferred = await api.get(query.job ? api.path("jobs", query.job, "result") : api.address("/v1/lineage/inferred", { refs, alignment: query.alignment }), signal);
    } catch (error) {
      if (error.name === "AbortError" || error.status === 401) throw error;
      problem = error.status === 413 ? many(error, "Infer it as a job", { kind: "inference", refs, alignment: query.alignment ?? null }) : failure(error);
    }
  }
  const field = h("input", { value: query.infer ?? "", placeholder: "none; or refs as *@last", size: "26" });
  field.addEventListener("change", () => change({ infer: field.value.trim(), job: null }));
  const edges = [...declared.edges.map((edge) => ({ ...edge, declared: true })), ...(inferred?.edges ?? []).map((edge) => ({ ...edge, declared: false }))];
  return [
    ...head,
    h("div", { class: "controls" }, control("Infer descent of these snapshots", field), h("button", { type: "button", onclick: () => change({ infer: query.infer || query.job ? null : "*@last", job: null }) }, query.infer || query.job ? "Hide what is inferred" : "Infer from the last snapshots")),
    problem,
    query.job ? h("p", { class: "note" }, "Inferred by ", link(`job ${query.job.slice(0, 8)}`, "jobs", [query.job]), ".") : null,
    h("figure", {}, h("figcaption", {}, `${number(declared.nodes.length)} runs, ${number(declared.edges.length)} declared ${declared.edges.length === 1 ? "descent" : "descents"}${inferred ? `, ${number(inferred.edges.length)} inferred (${inferred.method}, alignment ${inferred.alignment})` : ""}`,
      declared.cut ? h("small", {}, `${number(declared.cut)} runs are cut off by the service's limit.`) : null),
    h("div", { class: "scroll", style: { border: "0" }, tabindex: "0", role: "region", "aria-label": "Tree of runs" }, tree(declared.nodes, edges)),
    h("div", { class: "legend" }, h("span", {}, "── declared"), inferred ? h("span", { class: "chance" }, "╌╌ inferred") : null)),
    table([
      { name: "parent", of: (edge) => link(`${edge.parent}${edge.step === undefined || edge.step === null ? "" : `@${edge.step}`}`, "evolution", [edge.parent.split("@")[0]]), by: (edge) => edge.parent },
      { name: "child", of: (edge) => link(edge.child, "evolution", [edge.child.split("@")[0]]), by: (edge) => edge.child },
      { name: "how", of: (edge) => (edge.declared ? edge.how : `inferred, direction ${edge.direction}`), by: (edge) => edge.how ?? "inferred" },
      { name: "distance", number: true, of: (edge) => number(edge.distance), by: (edge) => edge.distance },
      { name: "margin", number: true, of: (edge) => number(edge.margin), by: (edge) => edge.margin },
      { name: "support", number: true, of: (edge) => number(edge.support), by: (edge) => edge.support },
    ], edges, { caption: edges.length ? "All descents" : "No descent is declared" }),
    query.job ? same({ shell: `topostrata jobs wait ${query.job} --out inference.json`, python: `archive.jobs.get("${query.job}")`, rest: `GET /v1/jobs/${query.job}/result` }) : same({ shell: query.infer ? `topostrata lineage --infer ${query.infer.split(/\s+/).map(quoted).join(" ")}` : "topostrata lineage", python: query.infer ? `archive.infer([${query.infer.split(/\s+/).map(literal).join(", ")}])` : "archive.lineage()", rest: query.infer ? api.address("GET /v1/lineage/inferred", { refs: query.infer.split(/\s+/) }) : "GET /v1/lineage", cypher: "MATCH (p:Run)<-[d:DESCENDS_FROM]-(c:Run) RETURN p.id, d.step, c.id" }),
  ];
}

/** Generations from left to right, children beside their parents; runs without relatives stand in rows below. */
function tree(nodes, edges) {
  const bare = (ref) => ref.split("@")[0];
  const parents = new Map(nodes.map((node) => [node, []])), children = new Map(nodes.map((node) => [node, []]));
  const ties = edges.map((edge) => ({ ...edge, from: bare(edge.parent), till: bare(edge.child) })).filter((edge) => parents.has(edge.from) && parents.has(edge.till) && edge.from !== edge.till);
  const tie = (edge) => { parents.get(edge.till).push(edge.from); children.get(edge.from).push(edge.till); };
  ties.filter((edge) => edge.declared).forEach(tie);
  // What is inferred places only runs that name no parent, and none above its own ancestors.
  const above = (start, sought) => {
    const seen = new Set([start]); // a set goes on to what is added while it is walked
    for (const node of seen) {
      if (node === sought) return true;
      parents.get(node).forEach((parent) => seen.add(parent));
    }
    return false;
  };
  const founders = new Set(nodes.filter((node) => !parents.get(node).length));
  for (const edge of ties) if (!edge.declared && founders.has(edge.till) && !above(edge.from, edge.till)) tie(edge);
  const generation = new Map();
  const depth = (start) => {
    const stack = [start];
    while (stack.length) {
      const node = stack.at(-1);
      if (generation.has(node)) { stack.pop(); continue; }
      const waiting = parents.get(node).filter((parent) => !generation.has(parent) && !stack.includes(parent));
      if (waiting.length) { stack.push(waiting[0]); continue; }
      generation.set(node, Math.max(-1, ...parents.get(node).map((parent) => generation.get(parent) ?? -1)) + 1);
      stack.pop();
    }
  };
  nodes.forEach(depth);
  const lane = new Map();
  const last = []; // of each lane: the latest generation in it
  let next = 0;
  const tied = new Set(ties.flatMap((edge) => [edge.from, edge.till]));
  const place = (root) => {
    const stack = [root];
    while (stack.length) {
      const node = stack.pop();
      if (lane.has(node)) continue;
      const used = parents.get(node).map((parent) => lane.get(parent)).filter((value) => value !== undefined);
      const free = used.find((value) => last[value] < generation.get(node)) ?? next++;
      lane.set(node, free);
      last[free] = Math.max(last[free] ?? 0, generation.get(node));
      stack.push(...children.get(node).toReversed());
    }
  };
  nodes.filter((node) => tied.has(node) && !parents.get(node).length).forEach(place);
  nodes.filter((node) => tied.has(node)).forEach(place);
  const alone = nodes.filter((node) => !tied.has(node));
  const across = 190, down = 64, columns = 6;
  alone.forEach((node, index) => { generation.set(node, index % columns); lane.set(node, next + 0.6 + Math.floor(index / columns)); });
  const shown = new Set(nodes.slice(0, MOST));
  const width = 60 + across * (1 + Math.max(0, ...nodes.map((node) => generation.get(node)))), height = 84 + down * Math.max(0, ...nodes.map((node) => lane.get(node)));
  const svg = d3.create("svg").attr("width", width).attr("height", height).attr("viewBox", `0 0 ${width} ${height}`).attr("role", "group").attr("aria-label", "Runs and their descent; the table below has the same");
  const x = (node) => 30 + across * generation.get(node), y = (node) => 48 + down * lane.get(node);
  const [lines, marks] = [svg.append("g"), svg.append("g")];
  const drawEdge = (edge) => {
    const [x0, y0, x1, y1] = [x(edge.from) + 7, y(edge.from), x(edge.till) - 7, y(edge.till)];
    const bend = edge.declared ? 0 : -40;
    const line = lines.append("path").attr("d", `M${x0} ${y0}C${(x0 + x1) / 2} ${y0 + bend} ${(x0 + x1) / 2} ${y1 + bend} ${x1} ${y1}`).attr("fill", "none").attr("stroke-width", 1.6).style("stroke", edge.declared ? "var(--ink)" : "var(--chance)");
    if (!edge.declared) line.attr("stroke-dasharray", "5 4");
    if (ties.length <= 80) lines.append("text").attr("class", "muted").attr("x", edge.declared ? (x0 + x1) / 2 : x0 + 0.6 * (x1 - x0)).attr("y", edge.declared ? (y0 + y1) / 2 - 6 : y0 + 0.65 * (y1 - y0) + bend * 0.75 - 5).attr("text-anchor", "middle").style("font-size", "11px").text(edge.declared ? `${edge.how}${edge.step === null ? "" : ` @${edge.step}`}` : `margin ${number(edge.margin, 2)}`);
  };
  const drawNode = (node) => {
    const anchor = marks.append("a").attr("href", to("evolution", [node]));
    anchor.append("circle").attr("cx", x(node)).attr("cy", y(node)).attr("r", 6).style("fill", "var(--alive)");
    anchor.append("text").attr("x", x(node)).attr("y", y(node) + 20).attr("text-anchor", "middle").text(node.length > 22 ? `${node.slice(0, 21)}…` : node);
    anchor.append("title").text(node);
  };
  // What stands at the top is drawn at once, the rest with the frames that follow.
  const upper = (of) => (a, b) => lane.get(of(a)) - lane.get(of(b));
  const edgesDown = ties.filter((edge) => shown.has(edge.from) && shown.has(edge.till)).sort(upper((edge) => edge.till));
  const nodesDown = [...shown].sort(upper((node) => node));
  const draw = (from) => {
    edgesDown.slice(from, from + AT_ONCE).forEach(drawEdge);
    nodesDown.slice(from, from + AT_ONCE).forEach(drawNode);
    if (from + AT_ONCE < Math.max(edgesDown.length, nodesDown.length)) requestAnimationFrame(() => draw(from + AT_ONCE));
  };
  draw(0);
  return nodes.length > MOST ? [svg.node(), h("p", { class: "note" }, `The first ${number(MOST)} of ${number(nodes.length)} runs are drawn; the table has all.`)] : svg.node();
}
