// Everything the page asks of the service. The token lives in this module's memory and nowhere else.

/** An answer that is a problem (RFC 9457), or no answer at all. */
export class Problem extends Error {
  constructor(status, title, detail, hint) {
    super(detail);
    this.status = status;
    this.title = title;
    this.hint = hint;
  }
}

// Where the service is: not at the root of its host where a proxy gives it a path of its own.
const base = new URL(".", document.baseURI).pathname.replace(/\/$/, "");

let token = null;
/** Says "lost" and "back" as the service goes and comes. */
export const connection = new EventTarget();
let reachable = true;

function heard(now) {
  if (now === reachable) return;
  reachable = now;
  connection.dispatchEvent(new Event(now ? "back" : "lost"));
}

export const setToken = (text) => { token = text; };

/** An address with its query; a list gives a name several times. */
export function address(path, query = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const entry of Array.isArray(value) ? value : [value]) {
      if (entry !== null && entry !== undefined && entry !== "") search.append(name, entry);
    }
  }
  const text = search.toString();
  return text ? `${path}?${text}` : path;
}

/** Path parts, safely put together. */
export const path = (...parts) => `/v1/${parts.map((part) => encodeURIComponent(part)).join("/")}`;

async function ask(url, { signal, method = "GET", body, headers = {} } = {}) {
  let answer;
  try {
    answer = await fetch(base && !url.startsWith(`${base}/`) ? base + url : url, {
      signal, method, body, cache: "no-cache", credentials: "omit",
      headers: { ...(token ? { Authorization: `Bearer ${token}` } : {}), ...headers },
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    heard(false);
    throw new Problem(0, "The service does not answer", "The connection was lost; the page goes on when the service is back.", "topostrata serve starts it.");
  }
  heard(true);
  if (answer.ok) return answer;
  let problem = {};
  try { problem = await answer.json(); } catch { /* no problem document: the status says all there is */ }
  throw new Problem(answer.status, problem.title ?? `Status ${answer.status}`, problem.detail ?? "The service gave no reason.", problem.hint);
}

export const get = async (url, signal) => (await ask(url, { signal })).json();
export const text = async (url, signal) => (await ask(url, { signal })).text();
export const bytes = async (url, signal, accept) => (await ask(url, { signal, headers: accept ? { Accept: accept } : {} })).arrayBuffer();
export const raw = ask;
export const send = async (url, value, signal, method = "POST") =>
  (await ask(url, { signal, method, body: value === undefined ? undefined : JSON.stringify(value), headers: { "Content-Type": "application/json" } })).json();

/** All entries of a list that comes in pages, to a bound; `cut` says that there are more. */
export async function all(url, key, signal, most = 10_000) {
  const entries = [];
  let next = url;
  while (next && entries.length < most) {
    const page = await get(next, signal);
    entries.push(...page[key]);
    next = page.next;
  }
  return Object.assign(entries, { cut: Boolean(next) });
}

/**
 * What is new, as it comes: heard(name, data) for every event, until the signal. Where the stream breaks off, the
 * connection is lost until it is back; where the service refuses it, nothing is live and the page says so.
 */
export async function follow(tell, signal) {
  while (!signal.aborted) {
    try {
      const answer = await ask("/v1/events", { signal, headers: { Accept: "text/event-stream" } });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        const parts = (rest + value).split("\n\n");
        rest = parts.pop();
        for (const part of parts) {
          const fields = Object.fromEntries(part.split("\n").filter((line) => line && !line.startsWith(":")).map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
          if (fields.event) tell(fields.event, JSON.parse(fields.data));
        }
      }
      heard(false);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error.status > 0 && error.status !== 503) throw error;
      heard(false);
    }
    await new Promise((resolve) => { setTimeout(resolve, 2000); });
  }
}
