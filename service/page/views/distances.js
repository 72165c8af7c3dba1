// How far apart networks are, beside which chance level.

import * as api from "../api.js";
import { behind, control, h, link, literal, note, number, quoted, same, select, to } from "../dom.js";
import { matrix, scale, unpack } from "../matrix.js";
import { many } from "./jobs.js";

const ALIGNMENTS = ["overlap", "canonical", "refined", "identity", "reference"];

export async function show({ query, signal, change }) {
  const refs = (query.refs || "*@last").split(/\s+/).filter(Boolean);
  let alignment = query.alignment || "overlap";
  const field = h("input", { value: refs.join(" "), size: "34", spellcheck: false });
  field.addEventListener("change", () => change({ refs: field.value.trim(), layer: null, job: null }));
  const head = [h("h1", {}, "Distances"),
    h("p", { class: "lead" }, "NNSTD of all pairs: 0 is the same wiring, 1 nothing in common. The tree above the matrix joins what is near; a press on a cell opens the pair."),
  ];
  const controls = (layers, layer, chance) => h("div", { class: "controls" },
    control("Snapshots: refs or globs, as in w*@last, w*@10", field),
    control("Alignment: which unit is compared with which", select(ALIGNMENTS, alignment, (value) => change({ alignment: value === "overlap" ? null : value, job: null }))),
    layers ? control("Layer", select([["", "mean of the layers"], ...layers], layer, (value) => change({ layer: value }))) : null,
    control("Chance level", select([["", "not shown"], ["density", "of the same density"], ["degrees", "of the same degrees (takes seconds once)"]], query.chance ?? "", (value) => change({ chance: value, job: null }))),
    chance);
  let answer;
  try {
    const where = query.job ? api.address(api.path("jobs", query.job, "result"), { layer: query.layer }) : api.address("/v1/distances/matrix", { refs, alignment, chance: query.chance, layer: query.layer });
    answer = unpack(await api.bytes(where, signal, "application/vnd.topostrata.matrix"));
  } catch (error) {
    if (error.name === "AbortError" || error.status === 401 || error.status === 0) throw error;
    if (error.status === 413) return [...head, controls(), many(error, "Compute them as a job", { kind: "distances", refs, alignment, chance: query.chance ?? null })];
    return [...head, controls(), note("These cannot be compared", error.message, error.hint ? h("p", { class: "note" }, error.hint) : null)];
  }
  alignment = answer.alignment;
  const { refs: names, value } = answer;
  const picked = answer.layer_names.indexOf(query.layer ?? "");
  const index = new Map(names.map((name, at) => [name, at]));
  const order = answer.order.map((name) => index.get(name));
  const single = !query.job && names.every((name) => name.split("@")[1] === names[0].split("@")[1]) && !/\s/.test(query.refs ?? "");
  const open = (i, j) => { if (i !== j) location.hash = to("pair", [names[i], names[j]], { alignment: alignment === "overlap" ? null : alignment }); };
  const steps = single ? stepControl(names[0].split("@")[1], refs, change) : null;
  const words = `--alignment ${alignment}${query.chance ? ` --chance ${query.chance}` : ""}`;
  const pairs = () => names.flatMap((a, i) => names.slice(i + 1).map((b, more) => [i, i + 1 + more])).sort(([i, j], [k, l]) => value(i, j) - value(k, l));
  return [
    ...head, query.job ? h("p", { class: "note" }, "Computed by ", link(`job ${query.job.slice(0, 8)}`, "jobs", [query.job]), "; other choices below ask anew.") : null,
    controls(answer.layer_names, query.layer ?? "", steps),
    names.length < 2 ? note("One snapshot has no distances", `${refs.join(" ")} names only ${names[0]}.`) : null,
    h("figure", {}, h("figcaption", {}, picked < 0 ? "Mean of the layers" : `Layer ${answer.layer_names[picked]}`,
      h("small", {}, `${number(names.length)} snapshots, alignment ${answer.alignment} (version ${answer.version}), average linkage`)),
    matrix({ names, value, order, tree: answer.linkage, press: open }), scale(answer.chance && picked < 0 ? [answer.chance] : []),
    answer.chance ? h("p", { class: "note" }, picked < 0 ? "" : "Chance of the mean of the layers, not of this one: ", chanceInWords(answer.chance)) : null,
    answer.held.length ? h("p", { class: "note" }, `Compared by index, because nothing tells their units apart: ${answer.held.join(", ")}. Distances may be too large there.`) : null,
    answer.chance ? null : h("p", { class: "note" }, "No distance means much without its chance level: choose one above, or see it beside each layer on a pair's page."),
    behind([
      { name: "a", of: ([i]) => names[i], by: ([i]) => names[i] }, { name: "b", of: ([, j]) => names[j], by: ([, j]) => names[j] },
      { name: "distance", number: true, of: ([i, j]) => link(number(value(i, j)), "pair", [names[i], names[j]]), by: ([i, j]) => value(i, j) },
    ], pairs)),
    query.job ? same({ shell: `topostrata jobs wait ${query.job} --out matrix.npz`, python: 'ts.DistanceMatrix.from_npz("matrix.npz")', rest: `GET /v1/jobs/${query.job}/result` }) : same({
      shell: `topostrata distances ${refs.map(quoted).join(" ")} ${words}`, python: `archive.distances([${refs.map(literal).join(", ")}], alignment=${literal(alignment)}${query.chance ? `, chance=${literal(query.chance)}` : ""})`,
      rest: api.address("GET /v1/distances/matrix", { refs, alignment, chance: query.chance }), cypher: "MATCH (a:Snapshot)-[d:DISTANCE]-(b:Snapshot) RETURN a.id, b.id, d.nnstd ORDER BY d.nnstd",
    }),
  ];
}

/** What independent networks have: the mean level of some pairs, its range, and how far from it those pairs lie. */
function chanceInWords(chance) {
  const z = chance.pairs.map((pair) => pair.z).filter((value) => value !== null);
  const away = z.length ? `; these lie ${number(Math.min(...z), 3)} to ${number(Math.max(...z), 3)} standard deviations (z) from it` : "";
  return `Independent networks of the same ${chance.kept} are ${number(chance.level)} apart (${number(chance.low)} to ${number(chance.high)}), by ${number(chance.pairs.length)} of ${number(chance.of)} pairs${away}.`;
}

/** One step for all: the globs are kept, their step changes. */
function stepControl(step, refs, change) {
  const field = h("input", { type: "number", min: "0", value: step, size: "8" });
  field.addEventListener("change", () => change({ refs: refs.map((ref) => `${ref.split("@")[0]}@${field.value}`).join(" ") }));
  return control("Step of all of them", field);
}
