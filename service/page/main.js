// The frame: which view stands at the address, the theme, the token, and whether the service answers.

import * as api from "./api.js";
import { failure, h, loading, to } from "./dom.js";

const VIEWS = [
  ["runs", "Runs"], ["distances", "Distances"], ["lineage", "Lineage"], ["cypher", "Cypher"],
];
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
  const known = VIEWS.some(([name]) => name === view) || view in DEEPER;
  nav.replaceChildren(...VIEWS.map(([name, text]) => h("a", { href: to(name), "aria-current": name === (DEEPER[view] ?? view) ? "page" : null }, text)));
  if (!quiet) main.replaceChildren(loading());
  try {
    if (!known) throw Object.assign(new Error(`There is no view named ${view}.`), { hint: `There are: ${[...VIEWS.map(([name]) => name), ...Object.keys(DEEPER)].join(", ")}.` });
    const module = await import(`./views/${view}.js`);
    const content = await module.show({ names, query, signal, change });
    if (signal.aborted) return;
    main.replaceChildren(...content.flat(3).filter((node) => node !== null && node !== undefined && node !== false));
    const title = main.querySelector("h1");
    document.title = `${title?.textContent ?? "Topostrata"} · Topostrata`;
    if (!quiet) main.focus({ preventScroll: true });
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) return;
    if (error.status === 401) { askToken(); return; }
    console.error(error);
    main.replaceChildren(failure(error));
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
  box.addEventListener("close", () => { box.remove(); api.setToken(field.value.trim() || null); show(); });
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

// While the service is away its health is asked for every two seconds; then the view comes anew.
api.connection.addEventListener("lost", () => {
  state.textContent = "connection lost, trying again";
  state.classList.add("lost");
  const timer = setInterval(async () => { try { await api.get("/healthz"); clearInterval(timer); } catch { /* still away */ } }, 2000);
});
api.connection.addEventListener("back", () => { state.textContent = "connected again"; state.classList.remove("lost"); show({ quiet: true }); });

addEventListener("hashchange", () => show());
show();
