// One neuron: what goes into it and out of it at a step, and since when.

import * as api from "../api.js";
import { control, h, later, link, literal, note, number, quoted, same, select, table, to } from "../dom.js";
import { fact } from "./pair.js";

const DRAWN = 60; // connections of a side that the picture has room for

export async function show({ names, query, signal, change }) {
  const [run, space, unit] = names;
  if (!run) return [h("h1", {}, "A neuron"), note("A neuron belongs to a run", "Choose a run first.", h("a", { href: "#/runs" }, "To the runs"))];
  const about = await api.get(api.path("runs", run), signal);
  const structure = await api.get(api.path("runs", run, "snapshots", String(about.last_step), "structure"), signal);
  const spaces = structure.spaces;
  const chosen = spaces.find(({ name }) => name === space) ?? spaces[Math.min(1, spaces.length - 1)];
  const field = h("input", { type: "number", min: "0", max: String(chosen.size - 1), value: unit ?? "", size: "8" });
  field.addEventListener("change", () => { if (field.value !== "") location.hash = to("neuron", [run, chosen.name, field.value], query); });
  const controls = (more) => h("div", { class: "controls" },
    control("Space", select(spaces.map(({ name, size }) => [name, `${name}, ${size} units`]), chosen.name, (value) => { location.hash = to("neuron", [run, value, "0"], query); })),
    control(`Unit, 0 to ${chosen.size - 1}`, field), more);
  if (unit === undefined || unit === "") {
    const hubs = (chosen.fan_in ?? chosen.fan_out).hubs;
    return [h("h1", {}, `A neuron of ${run}`), controls(),
      table([{ name: "unit", of: (hub) => link(`${chosen.name} ${hub.unit}`, "neuron", [run, chosen.name, String(hub.unit)]), by: (hub) => hub.unit }, { name: "connections", number: true, of: (hub) => number(hub.connections), by: (hub) => hub.connections }], hubs, { caption: `Units of ${chosen.name} with the most connections ${chosen.fan_in ? "in" : "out"}`, tall: false })];
  }
  const [neuron, runs] = await Promise.all([api.get(api.address(api.path("runs", run, "neuron"), { space: chosen.name, unit }), signal), api.all("/v1/runs?limit=1000", "runs", signal, 1000)]);
  const others = runs.filter((other) => other.run !== run && other.snapshots).map((other) => other.run);
  const steps = neuron.steps;
  const at = steps.includes(Number(query.at)) ? Number(query.at) : steps.at(-1);
  const alive = (connection) => connection.lives.some(({ born, died }) => born <= at && (died === null || died > at));
  const position = h("output", {}, `step ${at}`);
  const slider = h("input", { type: "range", min: "0", max: String(steps.length - 1), value: String(steps.indexOf(at)), "aria-label": "Step", "aria-valuetext": `step ${at}` });
  slider.addEventListener("input", () => { position.textContent = `step ${steps[slider.value]}`; slider.setAttribute("aria-valuetext", position.textContent); });
  slider.addEventListener("change", () => change({ at: String(steps[slider.value]) }));
  const inputs = neuron.inputs.filter(alive), outputs = neuron.outputs.filter(alive);
  return [
    h("h1", {}, `${chosen.name} ${unit} of ${run}`),
    h("p", { class: "lead" }, "Its connections at a step, and the life of every connection it ever had. ", link("The run", "evolution", [run]), "."),
    controls([control("Step", slider), position, control("Its counterpart in", select([["", "no other run"], ...others], query.with ?? "", (value) => change({ with: value })))]),
    h("dl", { class: "facts" }, fact(`inputs at step ${at}`, number(inputs.length)), fact("outputs", number(outputs.length)), fact("inputs ever", number(neuron.inputs.length)), fact("outputs ever", number(neuron.outputs.length))),
    h("figure", {}, h("figcaption", {}, `Inputs and outputs at step ${at}`, caps(inputs, outputs)), wheel(run, chosen.name, unit, inputs, outputs)),
    query.with ? later("Looking which neuron it is there…", elsewhere({ run, space: chosen.name, unit: Number(unit), at, last: steps.at(-1), other: query.with, signal })) : null,
    lives("Lives of its inputs", neuron.inputs, steps, at, run),
    lives("Lives of its outputs", neuron.outputs, steps, at, run),
    same({ shell: `topostrata cypher --cookbook inputs -p ${quoted(`id=${run}/${chosen.name}/${unit}`)} -p step=${at}`, python: `archive.neuron(${literal(run)}, ${literal(chosen.name)}, ${unit})`, rest: `GET ${api.address(api.path("runs", run, "neuron"), { space: chosen.name, unit })}`,
      cypher: `MATCH (a:Neuron)-[c:CONNECTS]->(b:Neuron {run: '${run.replaceAll("'", "\\'")}', space: '${chosen.name}', index: ${unit}}) RETURN a.space, a.index, c.born_step, c.died_step` }),
  ];
}

/** Which neuron it is in another run, as the match of the two networks tells. */
async function elsewhere({ run, space, unit, at, last, other, signal }) {
  const match = await api.get(api.address("/v1/match", { a: `${run}@${at}`, b: `${other}@${at === last ? "last" : at}` }), signal);
  const entry = match.spaces.find(({ name }) => name === space);
  if (!entry) return h("p", { class: "note" }, `Units of ${space} are labelled: it is ${space} ${unit} there, too.`);
  const partner = entry.partner[unit];
  if (partner < 0) return h("p", {}, `It has no counterpart in ${match.b}.`);
  return h("p", {}, `In ${match.b} it is `, link(`${entry.name_b} ${partner}`, "neuron", [other, entry.name_b, String(partner)]),
    `: ${number(entry.common_in[unit])} inputs and ${number(entry.common_out[unit])} outputs in common, where the next best has ${number(entry.runner_up[unit])}; ${entry.established[unit] ? "surely the same" : "whether it is the same is not known"}. `,
    link("The pair", "pair", [match.a, match.b]), " lists all.");
}

const caps = (inputs, outputs) => {
  const hidden = Math.max(0, inputs.length - DRAWN) + Math.max(0, outputs.length - DRAWN);
  return hidden ? h("small", {}, `${number(hidden)} of them are not drawn; the bars and tables below have all.`) : null;
};

/** Inputs on the left, the neuron in the middle, outputs on the right. */
function wheel(run, space, unit, inputs, outputs) {
  const sides = [inputs.slice(0, DRAWN), outputs.slice(0, DRAWN)];
  const rows = Math.max(1, ...sides.map((side) => side.length));
  const height = Math.max(120, rows * 17 + 20), width = 640;
  const svg = d3.create("svg").attr("viewBox", `0 0 ${width} ${height}`).attr("width", "100%").style("max-width", `${width}px`).attr("role", "group").attr("aria-label", `${inputs.length} inputs and ${outputs.length} outputs; the tables below list them`);
  sides.forEach((side, index) => {
    const x = index ? width - 130 : 130;
    const y = d3.scalePoint(d3.range(side.length), [14, height - 14]).padding(0.5);
    side.forEach((connection, row) => {
      svg.append("path").attr("d", `M${x} ${y(row)}C${(x + width / 2) / 2} ${y(row)} ${(x + width / 2) / 2} ${height / 2} ${width / 2} ${height / 2}`).attr("fill", "none").style("stroke", "var(--alive)").attr("stroke-opacity", 0.6);
      const anchor = svg.append("a").attr("href", to("neuron", [run, connection.space, String(connection.unit)]));
      anchor.append("text").attr("x", index ? x + 8 : x - 8).attr("y", y(row) + 4).attr("text-anchor", index ? "start" : "end").text(`${connection.space} ${connection.unit}${connection.tap ? ` tap ${connection.tap}` : ""}`);
    });
  });
  svg.append("circle").attr("cx", width / 2).attr("cy", height / 2).attr("r", 9).style("fill", "var(--alive)");
  svg.append("text").attr("x", width / 2).attr("y", height / 2 - 16).attr("text-anchor", "middle").style("font-weight", 600).text(`${space} ${unit}`);
  return svg.node();
}

/** A bar for each life of each connection, on the axis of steps. */
function lives(title, connections, steps, at, run) {
  if (!connections.length) return null;
  const first = steps[0], last = steps.at(-1), end = last + Math.max(1, (last - first) / Math.max(1, steps.length - 1));
  const drawn = [...connections].sort((a, b) => a.lives[0].born - b.lives[0].born || a.unit - b.unit).slice(0, 4 * DRAWN);
  const row = 13, left = 120, width = 900, height = drawn.length * row + 38;
  const x = d3.scaleLinear([first, end], [left, width - 12]);
  const svg = d3.create("svg").attr("viewBox", `0 0 ${width} ${height}`).attr("width", "100%").attr("role", "img").attr("aria-label", `${title}: ${connections.length} connections; the table below has them`);
  for (const tick of x.ticks(8)) {
    svg.append("line").attr("x1", x(tick)).attr("x2", x(tick)).attr("y1", 4).attr("y2", height - 32).style("stroke", "var(--line)");
    svg.append("text").attr("class", "muted").attr("x", x(tick)).attr("y", height - 18).attr("text-anchor", "middle").text(tick);
  }
  svg.append("text").attr("class", "muted").attr("x", (left + width) / 2).attr("y", height - 4).attr("text-anchor", "middle").text("step");
  drawn.forEach((connection, index) => {
    svg.append("text").attr("x", left - 6).attr("y", index * row + 14).attr("text-anchor", "end").style("font-size", "10.5px").text(`${connection.space} ${connection.unit}`);
    connection.lives.forEach(({ born, died }, life) => svg.append("rect").attr("x", x(born)).attr("y", index * row + 6).attr("width", Math.max(1.5, x(died ?? end) - x(born) - 1)).attr("height", row - 4).style("fill", life ? "var(--regrown)" : died === null ? "var(--alive)" : "var(--muted)").append("title").text(`${connection.space} ${connection.unit}: born at ${born}, ${died === null ? "alive" : `died at ${died}`}`));
  });
  svg.append("line").attr("x1", x(at)).attr("x2", x(at)).attr("y1", 2).attr("y2", height - 32).style("stroke", "var(--ink)").attr("stroke-dasharray", "2 3");
  return h("figure", {}, h("figcaption", {}, title, h("small", {}, `Blue: alive at the end; grey: died; amber: a later life of a connection that had died. The dotted line is step ${at}.${drawn.length < connections.length ? ` The first ${drawn.length} of ${number(connections.length)}.` : ""}`)), svg.node(),
    h("details", {}, h("summary", {}, "The lives as a table"), table([
      { name: "unit", of: (connection) => link(`${connection.space} ${connection.unit}`, "neuron", [run, connection.space, String(connection.unit)]), by: (connection) => connection.unit },
      { name: "layer", of: (connection) => connection.layer, by: (connection) => connection.layer },
      { name: "tap", number: true, of: (connection) => number(connection.tap), by: (connection) => connection.tap },
      { name: "lives, steps born to died", of: (connection) => connection.lives.map(({ born, died }) => `${born} to ${died ?? "now"}`).join(", "), by: (connection) => connection.lives[0].born, wrap: true },
    ], connections)));
}
