// The frame: which view stands at the address, the theme, the token, and whether the service answers.

import * as api from "./api.js";
import { failure, h, loading, to } from "./dom.js";
import * as cypher from "./views/cypher.js";
import * as distances from "./views/distances.js";
import * as evolution from "./views/evolution.js";
import * as jobs from "./views/jobs.js";
import * as lineage from "./views/lineage.js";
import * as neuron from "./views/neuron.js";
import * as pair from "./views/pair.js";
import * as runs from "./views/runs.js";

const VIEWS = [
  ["runs", "Runs"], ["distances", "Distances"], ["lineage", "Lineage"], ["cypher", "Cypher"], ["jobs", "Jobs"],
];
const SHOWN = { cypher, distances, evolution, jobs, lineage, neuron, pair, runs };
const DEEPER = { evolution: "runs", pair: "distances", neuron: "runs" };

const main = document.getElementById("main");
const nav = document.getElementById("nav");
const state = document.getElementById("state");
let leaving = new AbortController();

function place() {
  const [path, search = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [view = "", ...names] = path.split("/").map(decodeURIComponent);
  return { view: view || "runs", names, query: Object.fromEntries(new URLSearchParams(search)) };
}

async function show({ quiet = false } = {}) {
  const { view, names, query } = place();
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  nav.replaceChildren(...VIEWS.map(([name, text]) => h("a", { href: to(name), "aria-current": name === (DEEPER[view] ?? view) ? "page" : null }, text)));
  if (!quiet) main.replaceChildren(loading());
  try {
    if (!Object.hasOwn(SHOWN, view)) throw Object.assign(new Error(`There is no view named ${view}.`), { hint: `There are: ${Object.keys(SHOWN).join(", ")}.` });
    const content = await SHOWN[view].show({ names, query, signal, change });
    if (signal.aborted) return;
    main.replaceChildren(...content.flat(3).filter((node) => node !== null && node !== undefined && node !== false));
    const title = main.querySelector("h1");
    document.title = `${title?.textContent ?? "Topostrata"} · Topostrata`;
    if (!quiet) main.focus({ preventScroll: true });
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) return;
    if (error.status === 401) { askToken(); return; }
    console.error(error);
    main.replaceChildren(failure(error, "h1"));
  }
}

/** The same view with other values in its address; `null` takes one out. */
function change(values) {
  const { view, names, query } = place();
  const next = to(view, names, { ...query, ...values });
  if (next === location.hash) show({ quiet: true });
  else location.hash = next;
}

function askToken() {
  const field = h("input", { type: "password", autocomplete: "off", required: true, id: "token" });
  const box = h("dialog", { "aria-labelledby": "token-title" }, h("form", { method: "dialog" },
    h("h2", { id: "token-title", style: { "margin-top": "0" } }, "This service needs a token"),
    h("p", {}, "It is kept in this tab's memory until the tab is closed or loaded anew, and nowhere else."),
    h("div", { class: "controls" }, h("label", {}, "Token", field), h("button", { class: "primary" }, "Go on"))));
  box.addEventListener("close", () => { box.remove(); api.setToken(field.value.trim() || null); show(); live(); });
  main.replaceChildren(loading("Waiting for a token"));
  document.body.append(box);
  box.showModal();
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  document.getElementById("theme").textContent = name === "dark" ? "☀ Light" : "☾ Dark";
  document.dispatchEvent(new Event("theme"));
}
const dark = matchMedia("(prefers-color-scheme: dark)");
theme(dark.matches ? "dark" : "light");
dark.addEventListener("change", () => theme(dark.matches ? "dark" : "light"));
document.getElementById("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));

// What is new comes as events: a view that shows it comes anew, but not while somebody types in it.
let following = null;
let waiting = null;
function live() {
  following?.abort();
  following = new AbortController();
  api.follow((name, data) => {
    if (name === "ready") { say("live", false); return; }
    const { view, names } = place();
    if (data.job) {
      if (view === "jobs" && (!names.length || names[0] === data.job)) renew();
      return;
    }
    if (view === "runs" || (view === "evolution" && names[0] === data.run)) renew();
  }, following.signal).catch((error) => { if (error.status !== 401) say("not live: load the page anew to see what is new", true); });
}
function renew() {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    if (main.contains(document.activeElement) && document.activeElement !== main && document.activeElement.matches("input, textarea, select")) renew();
    else show({ quiet: true });
  }, 1000);
}
function say(text, lost) {
  state.textContent = text;
  state.classList.toggle("lost", lost);
}
api.connection.addEventListener("lost", () => say("connection lost, trying again", true));
api.connection.addEventListener("back", () => { say("connected again", false); renew(); });

addEventListener("hashchange", () => show());
show();
live();
