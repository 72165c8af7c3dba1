// What happened to a run's connections: what survived, was born, died and came back, and where.

import * as api from "../api.js";
import { adjacency, legend, unpack } from "../adjacency.js";
import { histogram, lines } from "../charts.js";
import { control, failure, h, later, link, literal, loading, note, number, percent, quoted, same, select, table, to } from "../dom.js";
import { fact } from "./pair.js";

export async function show({ names, query, signal, change }) {
  const [run] = names;
  if (!run) return [h("h1", {}, "Evolution"), note("A run has an evolution", "Choose one.", h("a", { href: "#/runs" }, "To the runs"))];
  const [about, history] = await Promise.all([api.get(api.path("runs", run), signal), api.get(api.path("runs", run, "history"), signal)]);
  const head = [h("h1", {}, run), h("p", { class: "lead" }, about.tags.map((tag) => h("span", { class: "tag" }, tag)), ` ${about.status}, since ${about.created_at.slice(0, 16).replace("T", " ")} UTC. `,
    about.parents.map((parent) => ["From ", link(`${parent.parent}${parent.step === null ? "" : `@${parent.step}`}`, "evolution", [parent.parent]), ` (${parent.how}). `]))];
  if (!about.snapshots) return [...head, note("No snapshot yet", "The run exists; its first snapshot appears here by itself.")];
  const steps = history.refs.map((ref) => Number(ref.split("@").at(-1)));
  const layers = history.layers;
  const [survival, metrics] = await Promise.all([api.get(api.path("runs", run, "survival"), signal), api.all(api.address(api.path("runs", run, "metrics"), { limit: 1000 }), "metrics", signal, 20_000)]);
  const last = steps.length - 1;
  const per = (values) => values.map((value, index) => (index === 0 ? null : value / (steps[index] - steps[index - 1])));
  // Layers that are always full, as dense outputs are, cannot change: they would hide what the others do.
  const total = history.rewired ?? history.total;
  const changing = layers.filter((layer) => layer.density.some((density) => density < 1));
  const shownOnly = changing.length ? changing : layers;
  const kept = survival.layers.filter((layer) => shownOnly.some(({ name }) => name === layer.name));
  const without = changing.length && changing.length < layers.length ? ` Without ${layers.filter((layer) => !changing.includes(layer)).map(({ name }) => name).join(", ")}, always full.` : "";
  return [
    ...head,
    h("dl", { class: "facts" }, fact("snapshots", number(steps.length)), fact("steps", `${steps[0]} to ${steps[last]}`), fact("connections", number(history.total.alive[last])), fact("density", percent(history.total.density[last])),
      fact("left of the first", percent(d3.sum(kept, (layer) => layer.survived.at(-1)) / d3.sum(kept, (layer) => layer.survived[0]))), fact("ever explored", percent(total.exploration[last]))),
    without ? h("p", { class: "note" }, `What is left and explored is of the layers that can change.${without}`) : null,
    picture(run, layers, steps, query, signal),
    h("div", { class: "pictures" },
      lines({ title: "Survival", note: `Share of the connections of step ${steps[0]} that never went.`, x: survival.refs.map((ref) => Number(ref.split("@").at(-1))), y: "share", range: [0, 1], share: true, series: kept.map((layer) => ({ name: layer.name, values: layer.share })) }),
      lines({ title: "Births and deaths", note: "Connections a step, between one snapshot and the next, all layers together.", x: steps, y: "connections a step", series: [{ name: "born", values: per(total.born) }, { name: "died", values: per(total.died) }, { name: "of the born: regrown", values: per(total.regrown) }] }),
      lines({ title: "Exploration", note: `Share of all possible connections that were ever alive.${without}`, x: steps, y: "share", range: [0, 1], share: true, series: shownOnly.map((layer) => ({ name: layer.name, values: layer.exploration })) }),
      measured(metrics, query, change),
      later("Counting fan-in…", fanIn(run, steps, query, signal, change)),
      ...(steps.length > 1 ? structures(run, steps, signal) : [])),
    table([
      { name: "layer", of: (layer) => layer.name, by: (layer) => layer.name }, { name: "alive", number: true, of: (layer) => number(layer.alive[last]), by: (layer) => layer.alive[last] },
      { name: "density", number: true, of: (layer) => percent(layer.density[last]), by: (layer) => layer.density[last] },
      { name: "born in all", number: true, of: (layer) => number(d3.sum(layer.born.slice(1))), by: (layer) => d3.sum(layer.born.slice(1)) },
      { name: "died in all", number: true, of: (layer) => number(d3.sum(layer.died)), by: (layer) => d3.sum(layer.died) },
      { name: "explored", number: true, of: (layer) => percent(layer.exploration[last]), by: (layer) => layer.exploration[last] },
    ], layers, { caption: `Layers at step ${steps[last]}`, tall: false }),
    h("p", {}, "A single neuron: ", h("a", { href: to("neuron", [run]) }, "choose one"), ". The run's relatives: ", h("a", { href: "#/lineage" }, "lineage"), "."),
    same({ shell: `topostrata evolution ${quoted(run)}`, python: `archive.history(${literal(run)}); archive.history(${literal(run)}).survival()`, rest: `GET ${api.path("runs", run, "history")}, ${api.path("runs", run, "survival")}`, cypher: `MATCH (:Neuron {run: '${run.replaceAll("'", "\\'")}'})-[c:CONNECTS]->(:Neuron) RETURN c.born_step, count(c) ORDER BY c.born_step` }),
  ];
}

/** The adjacency picture with its slider: each layer, each snapshot beside the one before. */
function picture(run, layers, steps, query, signal) {
  let layer = layers.some(({ name }) => name === query.layer) ? query.layer : layers[0].name;
  let at = Math.max(0, steps.indexOf(Number(query.at ?? steps.at(-1))));
  const canvas = h("canvas");
  const below = h("div");
  const holder = h("div", { class: "scroll", style: { border: "0" }, tabindex: "0", role: "region", "aria-label": "Picture of the connections" }, canvas);
  const label = h("output", {});
  const slider = h("input", { type: "range", min: "0", max: String(steps.length - 1), value: String(at), "aria-label": "Snapshot" });
  const cache = new Map();
  let wanted = 0;
  async function draw() {
    const ticket = (wanted += 1);
    const from = steps[Math.max(0, at - 1)], till = steps[at];
    label.textContent = at ? `step ${till}, beside step ${from}` : `step ${till}, the first`;
    slider.setAttribute("aria-valuetext", label.textContent);
    history.replaceState(null, "", to("evolution", [run], { ...query, layer, at: till }));
    const key = `${layer}/${from}/${till}`;
    if (!below.childElementCount) below.replaceChildren(loading());
    try {
      if (!cache.has(key)) {
        if (cache.size > 60) cache.clear();
        cache.set(key, api.bytes(api.address(api.path("runs", run, "changes"), { layer, from, to: till }), signal, "application/octet-stream").then(unpack));
      }
      const changes = await cache.get(key);
      if (ticket !== wanted) return;
      const { shrink } = adjacency(canvas, changes, Math.max(200, holder.clientWidth - 4));
      below.replaceChildren(legend(changes.changes), h("p", { class: "note" }, `${number(changes.targets)} target units down, ${number(changes.sources)} source units across${shrink > 1 ? `; a point stands for ${shrink} by ${shrink} units, because the screen is narrower` : ""}.`));
    } catch (error) {
      cache.delete(key);
      if (error.name !== "AbortError") below.replaceChildren(failure(error));
    }
  }
  slider.addEventListener("input", () => { at = Number(slider.value); draw(); });
  document.addEventListener("theme", () => { if (canvas.isConnected) draw(); });
  let width = 0;
  new ResizeObserver(() => { if (holder.clientWidth && Math.abs(holder.clientWidth - width) > 8) { width = holder.clientWidth; draw(); } }).observe(holder);
  return h("figure", {}, h("figcaption", {}, "Connections", h("small", {}, "Move the slider to see what rewiring did between a snapshot and the one before.")),
    h("div", { class: "controls" }, control("Layer", select(layers.map(({ name }) => name), layer, (value) => { layer = value; draw(); })), control("Snapshot", slider), label), holder, below);
}

/** Any metric over steps: of the network, or of its layers. */
function measured(metrics, query, change) {
  const names = [...new Set(metrics.flatMap((entry) => Object.keys(entry.metrics)))].sort();
  const ofLayers = [...new Set(metrics.flatMap((entry) => Object.values(entry.layer_metrics).flatMap(Object.keys)))].sort();
  const choices = [...names.map((name) => [name, name]), ...ofLayers.map((name) => [`layers ${name}`, `${name}, by layer`])];
  if (!choices.length) return note("No metrics", "None were recorded with the snapshots: run.log(..., metrics={\"accuracy\": 0.9}) keeps them.");
  const key = choices.some(([name]) => name === query.metric) ? query.metric : choices.find(([name]) => name === "accuracy")?.[0] ?? choices[0][0];
  const layered = key.startsWith("layers ");
  const name = layered ? key.slice(7) : key;
  const x = metrics.map((entry) => entry.step);
  const series = layered
    ? [...new Set(metrics.flatMap((entry) => Object.keys(entry.layer_metrics).filter((layer) => name in entry.layer_metrics[layer])))].map((layer) => ({ name: layer, values: metrics.map((entry) => entry.layer_metrics[layer]?.[name] ?? null) }))
    : [{ name, values: metrics.map((entry) => entry.metrics[name] ?? null) }];
  const figure = lines({ title: "Metrics", x, y: name, series });
  figure.querySelector("figcaption").append(" ", select(choices, key, (value) => change({ metric: value })));
  figure.querySelector("figcaption select").setAttribute("aria-label", "Metric");
  return figure;
}

const LOOKS = 12; // snapshots whose structure is asked for

/** How the structure went over the steps: how unevenly inputs are spread, and how many units have none. */
function structures(run, steps, signal) {
  const at = steps.length <= LOOKS ? steps : d3.range(LOOKS).map((k) => steps[Math.round((k * (steps.length - 1)) / (LOOKS - 1))]);
  const some = at.length < steps.length ? ` At ${at.length} of ${number(steps.length)} snapshots, evenly chosen.` : "";
  const asked = Promise.all(at.map((step) => api.get(api.path("runs", run, "snapshots", String(step), "structure"), signal)));
  const figure = (about, of) => later("Measuring the structure…", asked.then((found) => {
    const names = found[0].spaces.filter((space) => space.fan_in).map(({ name }) => name);
    return lines({ ...about, note: about.note + some, x: at, series: names.map((name) => ({ name, values: found.map((entry) => of(entry.spaces.find((space) => space.name === name)?.fan_in)) })) });
  }));
  return [
    figure({ title: "Unevenness of fan-in", note: "Coefficient of variation of the inputs of a space's units.", y: "coefficient" }, (fan) => fan?.cv ?? null),
    figure({ title: "Units without inputs", note: "Units that nothing goes into.", y: "units" }, (fan) => fan?.dead.length ?? null),
  ];
}

/** How many connections go into the units of a space. */
async function fanIn(run, steps, query, signal, change) {
  const at = query.at && steps.includes(Number(query.at)) ? Number(query.at) : steps.at(-1);
  const structure = await api.get(api.path("runs", run, "snapshots", String(at), "structure"), signal);
  const spaces = structure.spaces.filter((space) => space.fan_in);
  if (!spaces.length) return [];
  const space = spaces.find(({ name }) => name === query.space) ?? spaces[0];
  const figure = histogram({ title: "Fan-in", note: `Of ${space.name} at step ${at}: ${number(space.fan_in.mean)} in the mean, coefficient of variation ${number(space.fan_in.cv)}, ${space.fan_in.dead.length} without any.`, counts: space.fan_in.histogram, xLabel: "connections into a unit" });
  figure.querySelector("figcaption").append(" ", select(spaces.map(({ name }) => name), space.name, (value) => change({ space: value })));
  figure.querySelector("figcaption select").setAttribute("aria-label", "Space");
  return figure;
}
