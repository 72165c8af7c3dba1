// Two networks: how far, in which layers, since when.

import * as api from "../api.js";
import { adjacency, legend, unpack } from "../adjacency.js";
import { EDITS, distanceColour } from "../colours.js";
import { lines } from "../charts.js";
import { control, failure, h, later, link, literal, note, number, quoted, same, select, table, to } from "../dom.js";

const ALIGNMENTS = ["overlap", "canonical", "refined", "identity", "reference"];

export async function show({ names, query, signal, change }) {
  const [a, b] = names;
  if (!a || !b) return [h("h1", {}, "A pair"), note("Two snapshots make a pair", "Choose a cell of the matrix, or write them into the address: #/pair/w0@30/w1@30.", h("a", { href: "#/distances" }, "To the matrix"))];
  const alignment = query.alignment || "overlap";
  const distance = await api.get(api.address("/v1/distances", { a, b, alignment, chance: query.chance }), signal);
  const runs = [distance.a, distance.b].map((ref) => ref.split("@")[0]);
  const sections = [];
  if (runs[0] !== runs[1]) {
    sections.push(later("Comparing the two at each of their common steps…", api.get(api.address(api.path("runs", runs[0], "timeline"), { with: runs[1], alignment, chance: query.chance }), signal).then((timeline) => lines({
      title: "Distance over the common steps", note: `A press on a point shows the pair at that step.${query.chance ? "" : " Choose a chance level above to see it beside each."}`, x: timeline.points.map((point) => point.step), y: "distance", range: [0, 1],
      series: [{ name: "distance", values: timeline.points.map((point) => point.distance) }, ...(timeline.points.some((point) => point.chance !== null) ? [{ name: "chance", chance: true, values: timeline.points.map((point) => point.chance) }] : [])],
      press: (step) => { location.hash = to("pair", [`${runs[0]}@${step}`, `${runs[1]}@${step}`], query); },
    }))));
  }
  const columns = [
    { name: "layer", of: (layer) => layer.name, by: (layer) => layer.name },
    { name: "beside chance", of: bar },
    { name: "distance", number: true, of: (layer) => number(layer.distance), by: (layer) => layer.distance },
    { name: "chance", number: true, of: (layer) => (layer.chance === null ? "–" : h("span", { class: "chance" }, `${number(layer.chance)} ± ${number(layer.chance_error, 2)}`)), by: (layer) => layer.chance },
    { name: "z", number: true, of: (layer) => number(layer.z, 3), by: (layer) => layer.z },
    { name: "units", number: true, of: (layer) => number(layer.width), by: (layer) => layer.width },
    { name: "density of the first", number: true, of: (layer) => number(layer.density_a), by: (layer) => layer.density_a },
    { name: "of the second", number: true, of: (layer) => number(layer.density_b), by: (layer) => layer.density_b },
    { name: "undecided by ties", number: true, of: (layer) => number(layer.ambiguous), by: (layer) => layer.ambiguous },
  ];
  const words = `--alignment ${alignment}${query.chance ? ` --chance ${query.chance}` : ""}`;
  return [
    h("h1", {}, `${distance.a} and ${distance.b}`),
    h("p", { class: "lead" }, "The mean over the layers of how much the inputs of matched units differ."),
    h("dl", { class: "facts" }, fact("NNSTD", number(distance.nnstd)), fact("alignment", `${distance.alignment}, version ${distance.version}`), fact("depends on the order of units", distance.canonical ? "no" : "yes"), fact("matching decided by", distance.informed ? "connections" : "mostly ties")),
    h("div", { class: "controls" }, control("Alignment", select(ALIGNMENTS, alignment, (value) => change({ alignment: value === "overlap" ? null : value }))),
      control("Chance level", select([["", "not shown"], ["density", "of the same density"], ["degrees", "of the same degrees (takes seconds once)"]], query.chance ?? "", (value) => change({ chance: value })))),
    distance.held.length ? h("p", { class: "note" }, `Compared by index: ${distance.held.join(", ")}.`) : null,
    table(columns, distance.layers, { caption: "Layer by layer", tall: false }),
    ...sections,
    later("Looking which connections differ…", edits(distance, alignment, signal)),
    later("Looking which neuron is which…", counterparts(distance, alignment, signal)),
    h("p", {}, "Open ", link(distance.a, "evolution", [runs[0]]), " or ", link(distance.b, "evolution", [runs[1]]), "."),
    same({ shell: `topostrata nnstd ${quoted(distance.a)} ${quoted(distance.b)} ${words}`, python: `archive.nnstd(${literal(distance.a)}, ${literal(distance.b)}, alignment=${literal(alignment)}${query.chance ? `, chance=${literal(query.chance)}` : ""})`, rest: api.address("GET /v1/distances", { a: distance.a, b: distance.b, alignment, chance: query.chance }) }),
  ];
}

/** What to delete and what to insert: counts by layer, and one layer as a picture in the first network's units. */
async function edits(distance, alignment, signal) {
  if (alignment === "reference") return h("p", { class: "note" }, "The published reference matches layer by layer: there is no one network under it whose connections could be compared. Choose another alignment to see them.");
  const query = { a: distance.a, b: distance.b, alignment };
  const all = await api.get(api.address("/v1/edits", query), signal);
  const canvas = h("canvas");
  const below = h("div");
  const holder = h("div", { class: "scroll", style: { border: "0" }, tabindex: "0", role: "region", "aria-label": "Picture of the difference" }, canvas);
  let layer = (all.layers.find((entry) => entry.deleted + entry.inserted) ?? all.layers[0]).name;
  async function draw() {
    try {
      const changes = unpack(await api.bytes(api.address("/v1/edits/packed", { ...query, layer }), signal, "application/octet-stream"));
      const { shrink } = adjacency(canvas, changes, Math.max(200, holder.clientWidth - 4), EDITS);
      below.replaceChildren(legend(changes.changes, EDITS), h("p", { class: "note" }, `${number(changes.targets)} target units down, ${number(changes.sources)} source units across, in the order of ${distance.a}${shrink > 1 ? `; a point stands for ${shrink} by ${shrink} units` : ""}.`));
    } catch (error) { if (error.name !== "AbortError") below.replaceChildren(failure(error)); }
  }
  document.addEventListener("theme", () => { if (canvas.isConnected) draw(); });
  let width = 0;
  new ResizeObserver(() => { if (holder.clientWidth && Math.abs(holder.clientWidth - width) > 8) { width = holder.clientWidth; draw(); } }).observe(holder);
  return h("figure", {}, h("figcaption", {}, "What differs", h("small", {}, `${number(all.total)} edits make ${distance.a} what ${distance.b} is, once their units are matched: their shares are the distance.`)),
    h("div", { class: "controls" }, control("Layer", select(all.layers.map((entry) => [entry.name, `${entry.name}: ${number(entry.deleted)} to delete, ${number(entry.inserted)} to insert`]), layer, (value) => { layer = value; draw(); }))), holder, below);
}

/** Which neuron is which, space by space. */
async function counterparts(distance, alignment, signal) {
  if (alignment === "reference") return [];
  const match = await api.get(api.address("/v1/match", { a: distance.a, b: distance.b, alignment }), signal);
  if (!match.spaces.length) return h("p", { class: "note" }, "All units are labelled: each is its own counterpart.");
  const [first, second] = [distance.a, distance.b].map((ref) => ref.split("@")[0]);
  return match.spaces.map((space) => {
    const sure = space.established.filter(Boolean).length;
    const columns = [
      { name: "unit", of: (unit) => link(`${space.name} ${unit}`, "neuron", [first, space.name, String(unit)]), by: (unit) => unit },
      { name: "counterpart", of: (unit) => (space.partner[unit] < 0 ? "none" : link(`${space.name_b} ${space.partner[unit]}`, "neuron", [second, space.name_b, String(space.partner[unit])])), by: (unit) => space.partner[unit] },
      { name: "inputs in common", number: true, of: (unit) => number(space.common_in[unit]), by: (unit) => space.common_in[unit] },
      { name: "outputs in common", number: true, of: (unit) => number(space.common_out[unit]), by: (unit) => space.common_out[unit] },
      { name: "the next best has", number: true, of: (unit) => number(space.runner_up[unit]), by: (unit) => space.runner_up[unit] },
      { name: "surely the same", of: (unit) => (space.established[unit] ? "yes" : "not known"), by: (unit) => Number(space.established[unit]) },
    ];
    return h("details", {}, h("summary", {}, `Which neuron is which: ${space.name}, ${number(sure)} of ${number(space.width_a)} units surely found again`), table(columns, space.partner.map((_, unit) => unit)));
  });
}

export const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));

function bar(layer) {
  const cell = h("span", { class: "bar-cell", role: "img", "aria-label": `distance ${number(layer.distance)}${layer.chance === null ? "" : `, chance ${number(layer.chance)}`}` }, h("i", { style: { width: `${100 * layer.distance}%`, background: distanceColour(layer.distance) } }));
  if (layer.chance !== null) cell.append(h("b", { style: { left: `${100 * layer.chance}%` } }));
  return cell;
}
