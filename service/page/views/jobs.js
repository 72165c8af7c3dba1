// Long work that the service was asked for: how far it is, what came of it, and an end to it.

import * as api from "../api.js";
import { control, h, link, note, number, same, select, table, to } from "../dom.js";

const MOST = 1000;
const OPEN = ["queued", "running"];
const SHOWN = { distances: ["Show the matrix", "distances"], inference: ["Show the ancestry", "lineage"] };
const ALIGNMENTS = ["overlap", "canonical", "refined", "identity", "reference"];

export async function show({ names, query, signal, change }) {
  if (names.length) return one(names[0], signal);
  const jobs = await api.all("/v1/jobs?limit=100", "jobs", signal, MOST);
  const shown = query.status ? jobs.filter((job) => job.status === query.status) : jobs;
  const said = h("div", { role: "status" });
  return [
    h("h1", {}, "Jobs"),
    h("p", { class: "lead" }, "Work that takes long goes on here by itself, whether this page is open or not. Whoever asks for the same gets the same job; results are kept for seven days."),
    asking(said), said,
    jobs.length ? h("div", { class: "controls" }, control("Status", select([["", "any"], ...OPEN, "finished", "failed"], query.status ?? "", (value) => change({ status: value })))) : null,
    shown.length ? table([
      { name: "job", of: (job) => link(job.id.slice(0, 8), "jobs", [job.id]), by: (job) => job.id },
      { name: "status", of: status, by: (job) => job.status },
      { name: "progress", of: extent, by: (job) => (job.total ? job.done / job.total : 0) },
      { name: "kind", of: (job) => job.kind, by: (job) => job.kind },
      { name: "of", of: about, by: about, wrap: true },
      { name: "asked at", of: (job) => time(job.created_at), by: (job) => job.created_at },
      { name: "took", number: true, of: (job) => took(job), by: (job) => seconds(job) },
      { name: "what to do", of: (job) => actions(job, said, () => change({})) },
    ], shown, { caption: `${number(shown.length)} of ${number(jobs.length)} jobs, newest first${jobs.cut ? "; there are more, ask for them by REST" : ""}` })
      : jobs.length ? note("No job is like that", `None of ${number(jobs.length)} jobs is ${query.status}.`, h("a", { href: "#/jobs" }, "Show all"))
        : note("No jobs", "Nobody asked for long work lately. A matrix of more than 64 snapshots becomes a job."),
    same({ shell: "topostrata jobs ls", python: "archive.jobs.page()", rest: "GET /v1/jobs", cypher: "MATCH (j:Job) RETURN j.id, j.kind, j.status, j.done, j.total ORDER BY j.number DESC" }),
  ];
}

async function one(id, signal) {
  const job = await api.get(api.path("jobs", id), signal);
  const said = h("div", { role: "status" });
  const fact = (name, value) => (value === null || value === undefined || value === "" ? null : h("div", {}, h("dt", {}, name), h("dd", {}, value)));
  return [
    h("h1", {}, `${job.kind[0].toUpperCase()}${job.kind.slice(1)} of ${about(job)}`),
    h("p", { class: "lead" }, `Job ${job.id}`),
    h("dl", { class: "facts" }, fact("status", status(job)), fact("progress", extent(job)), fact("asked at", time(job.created_at)), fact("took", took(job)), fact("result", job.bytes === null ? null : `${number(Math.ceil(job.bytes / 1024))} kB`)),
    job.error ? h("div", { class: "state-note bad", role: "alert" }, h("h2", {}, "It failed"), h("p", {}, job.error), h("p", { class: "note" }, "The same request once more tries it anew.")) : null,
    h("div", { class: "controls" }, actions(job, said, () => { location.hash = to("jobs"); })), said,
    table([{ name: "asked", of: ([name]) => name }, { name: "value", of: ([, value]) => [value].flat().join(" "), wrap: true }],
      Object.entries(job.request).filter(([, value]) => value !== null), { caption: "What was asked; globs stand for what they named then" }),
    same({ shell: `topostrata jobs wait ${job.id} --out ${{ distances: "matrix.npz", export: "runs.zip" }[job.kind] ?? `${job.kind}.json`}`, python: `archive.jobs.get("${job.id}")`, rest: `GET /v1/jobs/${job.id}`, cypher: `MATCH (j:Job {id: '${job.id}'}) RETURN j` }),
  ];
}

/** The one kind that is asked for without naming two snapshots: a matrix. */
function asking(said) {
  const refs = h("input", { value: "*@last", size: "26", spellcheck: false, required: true });
  let alignment = "overlap";
  const press = async (event) => {
    event.preventDefault();
    try {
      await ask({ kind: "distances", refs: refs.value.trim().split(/\s+/), alignment });
    } catch (error) { tell(said, error); }
  };
  return h("form", { class: "controls", onsubmit: press }, control("All distances of these snapshots", refs),
    control("Alignment", select(ALIGNMENTS, alignment, (value) => { alignment = value; })), h("button", { class: "primary" }, "Compute"));
}

/** More than one request may ask for: the same as a job. */
export function many(error, words, request) {
  const said = h("div", { role: "status" });
  const press = async () => {
    try { await ask(request); } catch (problem) { tell(said, problem); }
  };
  return note("These are many", error.message, h("p", {}, h("button", { class: "primary", type: "button", onclick: press }, words)), said);
}

/** Ask for a job, and go where it is shown. */
async function ask(request) {
  const job = await api.send("/v1/jobs", request);
  location.hash = to("jobs", [job.id]);
}

function about({ kind, request }) {
  if (request.a) return `${request.a} and ${request.b}`;
  if (request.refs) return request.refs.length === 1 ? request.refs[0] : `${number(request.refs.length)} snapshots, ${request.refs[0]} to ${request.refs.at(-1)}${request.alignment ? `, ${request.alignment}` : ""}`;
  return kind === "export" && request.runs ? request.runs.join(", ") : "all runs";
}

const status = (job) => h("span", { class: `status-${job.status}`, title: job.error ?? null }, job.status);
const time = (text) => h("time", { datetime: text, title: text }, text.slice(0, 16).replace("T", " "));

function extent(job) {
  if (!job.total) return job.status === "finished" ? "done" : "–";
  const words = `${number(job.done)} of ${number(job.total)}${job.kind === "distances" ? " pairs" : ""}`;
  return h("span", { class: "extent" }, h("progress", { max: String(job.total), value: String(job.done), "aria-label": words }), ` ${words}`);
}

const seconds = (job) => (job.started_at ? (new Date(job.finished_at ?? Date.now()) - new Date(job.started_at)) / 1000 : null);
function took(job) {
  const value = seconds(job);
  if (value === null) return "–";
  return value < 90 ? `${number(Math.round(value))} s` : value < 5400 ? `${number(Math.round(value / 60))} min` : `${number(Math.round(value / 360) / 10)} h`;
}

function actions(job, said, done) {
  const short = job.id.slice(0, 8);
  const end = async () => {
    try { await api.raw(api.path("jobs", job.id), { method: "DELETE" }); done(); } catch (error) { tell(said, error); }
  };
  const verb = OPEN.includes(job.status) ? "Cancel" : "Forget";
  return [
    job.status === "finished" && SHOWN[job.kind] ? [link(SHOWN[job.kind][0], SHOWN[job.kind][1], [], { job: job.id }), " "] : null,
    job.status === "finished" ? [h("button", { type: "button", "aria-label": `Save the result of ${short}`, onclick: () => save(job, said) }, "Save"), " "] : null,
    h("button", { type: "button", "aria-label": `${verb} ${short}`, onclick: end }, verb),
  ];
}

/** The result as a file: fetched with the token, which a link could not carry. */
async function save(job, said) {
  try {
    const bytes = await api.bytes(api.path("jobs", job.id, "result"), undefined, job.media_type);
    const ending = { "application/json": "json", "application/zip": "zip" }[job.media_type] ?? "npz";
    const url = URL.createObjectURL(new Blob([bytes], { type: job.media_type }));
    h("a", { href: url, download: `${job.kind}-${job.id.slice(0, 8)}.${ending}` }).click();
    URL.revokeObjectURL(url);
  } catch (error) { tell(said, error); }
}

function tell(said, error) {
  said.replaceChildren(h("p", { class: "state-note bad" }, `${error.message} ${error.hint ?? ""}`));
}
