// Two networks: how far, in which layers, since when.

import * as api from "../api.js";
import { distanceColour } from "../colours.js";
import { lines } from "../charts.js";
import { control, h, later, link, literal, note, number, quoted, same, select, table, to } from "../dom.js";

const ALIGNMENTS = ["overlap", "canonical", "refined", "identity", "reference"];

export async function show({ names, query, signal, change }) {
  const [a, b] = names;
  if (!a || !b) return [h("h1", {}, "A pair"), note("Two snapshots make a pair", "Choose a cell of the matrix, or write them into the address: #/pair/w0@30/w1@30.", h("a", { href: "#/distances" }, "To the matrix"))];
  const alignment = query.alignment || "overlap";
  const distance = await api.get(api.address("/v1/distances", { a, b, alignment, chance: query.chance }), signal);
  const runs = [distance.a, distance.b].map((ref) => ref.split("@")[0]);
  const sections = [];
  if (runs[0] !== runs[1]) {
    sections.push(later("Comparing the two at each of their common steps…", api.get(api.address(api.path("runs", runs[0], "timeline"), { with: runs[1], alignment }), signal).then((timeline) => lines({
      title: "Distance over the common steps", note: "A press on a point shows the pair at that step.", x: timeline.points.map((point) => point.step), y: "distance", range: [0, 1],
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
    h("p", {}, "Open ", link(distance.a, "evolution", [runs[0]]), " or ", link(distance.b, "evolution", [runs[1]]), "."),
    same({ shell: `topostrata nnstd ${quoted(distance.a)} ${quoted(distance.b)} ${words}`, python: `archive.nnstd(${literal(distance.a)}, ${literal(distance.b)}, alignment=${literal(alignment)}${query.chance ? `, chance=${literal(query.chance)}` : ""})`, rest: api.address("GET /v1/distances", { a: distance.a, b: distance.b, alignment, chance: query.chance }) }),
  ];
}

export const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));

function bar(layer) {
  const cell = h("span", { class: "bar-cell", role: "img", "aria-label": `distance ${number(layer.distance)}${layer.chance === null ? "" : `, chance ${number(layer.chance)}`}` }, h("i", { style: { width: `${100 * layer.distance}%`, background: distanceColour(layer.distance) } }));
  if (layer.chance !== null) cell.append(h("b", { style: { left: `${100 * layer.chance}%` } }));
  return cell;
}
