// The graph itself: a query that only reads, its rows as a table, and what they name as a graph.

import * as api from "../api.js";
import { control, failure, h, loading, note, number, same, select, table } from "../dom.js";

const DRAWN = 200;

export async function show({ query, signal, change }) {
  const recipes = await api.get("/v1/cypher/cookbook", signal);
  const recipe = recipes.find(({ name }) => name === query.recipe) ?? recipes.find(({ name }) => name === "best_snapshots") ?? recipes[0];
  const editor = h("textarea", { rows: "9", spellcheck: false, "aria-label": "Query", value: query.query ?? recipe.text });
  const parameters = h("textarea", { rows: "3", spellcheck: false, "aria-label": "Parameters as JSON", value: query.parameters ?? JSON.stringify(recipe.example) });
  editor.value = query.query ?? recipe.text;
  parameters.value = query.parameters ?? JSON.stringify(recipe.example);
  const result = h("div", { "aria-live": "polite" });
  let running = null;
  async function run() {
    let values;
    try { values = JSON.parse(parameters.value || "{}"); } catch (error) { result.replaceChildren(failure({ title: "The parameters are not JSON", message: error.message, hint: 'For example {"run": "w0", "step": 30}.' })); return; }
    running?.abort();
    running = new AbortController();
    signal.addEventListener("abort", () => running.abort(), { once: true });
    result.replaceChildren(loading("Asking the graph…"));
    const began = performance.now();
    try {
      const answer = await api.send("/v1/cypher", { query: editor.value, parameters: values }, running.signal);
      result.replaceChildren(...rows(answer, (performance.now() - began) / 1000));
    } catch (error) {
      if (error.name !== "AbortError") result.replaceChildren(failure(error));
    }
  }
  editor.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); run(); } });
  return [
    h("h1", {}, "Cypher"),
    h("p", { class: "lead" }, "Questions to the graph in its own language, read-only. Begin with one of the cookbook and change it; Ctrl + Enter runs it."),
    h("div", { class: "controls" }, control("Cookbook", select(recipes.map(({ name, title }) => [name, title]), recipe.name, (value) => change({ recipe: value, query: null, parameters: null })))),
    h("p", { class: "note" }, recipe.purpose),
    h("label", {}, h("span", { class: "note" }, "Query"), editor), h("label", {}, h("span", { class: "note" }, "Parameters, as JSON"), parameters),
    h("div", { class: "controls" }, h("button", { type: "button", class: "primary", onclick: run }, "Run"), h("button", { type: "button", onclick: () => change({ recipe: recipe.name, query: editor.value, parameters: parameters.value }) }, "Put the query into the address")),
    result,
    same({ shell: `topostrata cypher --cookbook ${recipe.name}${Object.entries(recipe.example).map(([name, value]) => ` -p ${name}=${value}`).join("")}`, python: `archive.cypher(${JSON.stringify("MATCH …")}, ${JSON.stringify(recipe.example)})`, rest: `POST /v1/cypher {"query": …, "parameters": …}` }),
  ];
}

function rows(answer, seconds) {
  const parts = [];
  const columns = answer.columns;
  const caption = `${number(answer.rows.length)} ${answer.rows.length === 1 ? "row" : "rows"} in ${number(seconds, 2)} s${answer.truncated ? "; there are more" : ""}`;
  if (!answer.rows.length) return [note("No rows", "The query is right, and nothing in the graph fits it."), ...hidden(answer)];
  const drawing = graph(answer);
  if (drawing) parts.push(drawing);
  parts.push(table(columns.map((name, index) => ({ name, number: answer.rows.every((row) => row[index] === null || typeof row[index] === "number"), wrap: true, of: (row) => (typeof row[index] === "number" ? number(row[index]) : row[index] === null ? "–" : typeof row[index] === "object" ? JSON.stringify(row[index]) : String(row[index])), by: (row) => row[index] })), answer.rows, { caption }));
  return [...parts, ...hidden(answer)];
}

const hidden = (answer) => (answer.unprojected?.length ? [h("p", { class: "note" }, `Not all connections are in the graph: ${answer.unprojected.slice(0, 6).map((layer) => `${layer.run} ${layer.layer}${layer.projected_from === null ? "" : ` before step ${layer.projected_from}`}`).join(", ")}${answer.unprojected.length > 6 ? ` and ${answer.unprojected.length - 6} more` : ""}. The masks have them: a run's evolution shows them.`)] : []);

/** Columns named source and target (or parent and child) are the ends of arrows: they are drawn as a graph. */
function graph(answer) {
  const ends = [["source", "target"], ["parent", "child"], ["a", "b"], ["from_unit", "to_unit"]].find((pair) => pair.every((name) => answer.columns.includes(name)));
  if (!ends) return null;
  const [from, till] = ends.map((name) => answer.columns.indexOf(name));
  const drawn = answer.rows.slice(0, DRAWN);
  const two = ends[0] === "source"; // units of two spaces: the same number on both sides is another unit
  const id = (value, side) => (two ? `${side}:${value}` : String(value));
  const nodes = [...new Map(drawn.flatMap((row) => [[id(row[from], "s"), { id: id(row[from], "s"), text: String(row[from]), side: 0 }], [id(row[till], "t"), { id: id(row[till], "t"), text: String(row[till]), side: 1 }]])).values()];
  const edges = drawn.map((row) => ({ source: id(row[from], "s"), target: id(row[till], "t") }));
  const width = 760, height = 420;
  const force = d3.forceSimulation(nodes).force("link", d3.forceLink(edges).id((node) => node.id).distance(46)).force("charge", d3.forceManyBody().strength(-70)).force("x", d3.forceX((node) => (two ? width * (0.25 + 0.5 * node.side) : width / 2)).strength(two ? 0.5 : 0.06)).force("y", d3.forceY(height / 2).strength(0.08)).stop();
  force.tick(200);
  const keep = (value, most) => Math.max(14, Math.min(most - 14, value));
  const svg = d3.create("svg").attr("viewBox", `0 0 ${width} ${height}`).attr("width", "100%").style("max-width", `${width}px`).attr("role", "img").attr("aria-label", `${nodes.length} ends and ${edges.length} arrows; the table below has them`);
  svg.selectAll("line").data(edges).join("line").attr("x1", (edge) => keep(edge.source.x, width)).attr("y1", (edge) => keep(edge.source.y, height)).attr("x2", (edge) => keep(edge.target.x, width)).attr("y2", (edge) => keep(edge.target.y, height)).style("stroke", "var(--muted)").attr("stroke-opacity", 0.6);
  const node = svg.selectAll("g").data(nodes).join("g").attr("transform", (entry) => `translate(${keep(entry.x, width)} ${keep(entry.y, height)})`);
  node.append("circle").attr("r", 5).style("fill", (entry) => (entry.side ? "var(--born)" : "var(--alive)"));
  if (nodes.length <= 80) node.append("text").attr("x", 8).attr("y", 4).text((entry) => entry.text.slice(0, 24));
  return h("figure", {}, h("figcaption", {}, "As a graph", h("small", {}, `${ends[0]} (blue) and ${ends[1]} (green)${answer.rows.length > DRAWN ? `; the first ${DRAWN} of ${number(answer.rows.length)} rows` : ""}`)), svg.node());
}
