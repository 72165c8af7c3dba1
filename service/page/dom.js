// Elements without markup: what comes from the archive is only ever text.

/** An element: its attributes (functions are listeners, `class` and `dataset` as one expects), then its children. */
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name.replace(/^on/, ""), value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) node.style.setProperty(key, text);
    else if (name in node && typeof value !== "string") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** The address of a view: `to("pair", ["w0@1", "w1@1"], { alignment: "overlap" })`. */
export function to(view, names = [], query = {}) {
  const path = [view, ...names].map((part) => encodeURIComponent(part).replaceAll("%40", "@")).join("/");
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = new URLSearchParams(given).toString();
  return `#/${path}${text ? `?${text}` : ""}`;
}

/** A link to a view. */
export const link = (text, ...where) => h("a", { href: to(...where) }, text);

/** A number as people read it: 4 significant digits, thousands apart, a dash for nothing. */
export function number(value, digits = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en-US");
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) return value.toExponential(2);
  return size >= 1000 ? Math.round(value).toLocaleString("en-US") : String(Number(value.toPrecision(digits)));
}

/** A share as a percentage. */
export const percent = (value) => (value === null || value === undefined ? "–" : `${number(value * 100, 3)} %`);

const AT_ONCE = 100; // rows that are drawn at once; the others follow, some with each frame

/**
 * A table. Columns: { name, of: row => node or text, number: right-aligned, by: row => value to sort by }.
 * Columns with `by` are sorted by a press on their head; the order is announced.
 */
export function table(columns, rows, { caption, tall = true, sorted = null, most = 2000, rowClass } = {}) {
  let order = sorted, latest = null;
  const body = h("tbody");
  const heads = columns.map((column, index) =>
    h("th", { scope: "col", class: column.number ? "number" : null },
      column.by ? h("button", { type: "button", class: "sort", onclick: () => press(index) }, column.name) : column.name),
  );
  function press(index) {
    order = { index, down: order?.index === index ? !order.down : Boolean(columns[index].number) };
    fill();
  }
  function fill() {
    let shown = rows;
    if (order) {
      const { by } = columns[order.index];
      shown = [...rows].sort((a, b) => compare(by(a), by(b)) * (order.down ? -1 : 1));
    }
    heads.forEach((head, index) => {
      if (order?.index === index) head.setAttribute("aria-sort", order.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    shown = shown.slice(0, most);
    body.replaceChildren(...shown.slice(0, AT_ONCE).map(line));
    const rest = (from) => {
      if (from >= shown.length || shown !== latest) return;
      body.append(...shown.slice(from, from + AT_ONCE).map(line));
      requestAnimationFrame(() => rest(from + AT_ONCE));
    };
    latest = shown;
    requestAnimationFrame(() => rest(AT_ONCE));
  }
  function line(row) {
    return (
      h("tr", { class: rowClass?.(row) }, columns.map((column, index) => {
        const value = column.of(row);
        return h(index === 0 ? "th" : "td", { scope: index === 0 ? "row" : null, class: column.number ? "number" : column.wrap ? "wrap" : null }, value);
      }))
    );
  }
  fill();
  const cut = rows.length > most ? ` The first ${number(most)} of ${number(rows.length)} rows are shown.` : "";
  return h("div", { class: `scroll${tall ? " tall" : ""}`, tabindex: "0", role: "region", "aria-label": caption ?? "Table" },
    h("table", {}, caption || cut ? h("caption", {}, (caption ?? "") + cut) : null, h("thead", {}, h("tr", {}, heads)), body));
}

function compare(a, b) {
  if (a === b) return 0;
  if (a === null || a === undefined) return -1;
  if (b === null || b === undefined) return 1;
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
}

/** The table behind a picture, closed until it is wanted. */
export function behind(columns, rows) {
  let filled = false;
  const details = h("details", {}, h("summary", {}, "The numbers as a table"));
  details.addEventListener("toggle", () => {
    if (filled || !details.open) return;
    filled = true;
    details.append(table(columns, rows()));
  });
  return details;
}

/** A labelled control. */
export const control = (label, field) => h("label", {}, label, field);

/** A list to choose from: entries are texts, or [value, text]. */
export function select(entries, value, onchange) {
  const field = h("select", {}, entries.map((entry) => {
    const [key, text] = Array.isArray(entry) ? entry : [entry, entry];
    return h("option", { value: key, selected: key === value }, text);
  }));
  field.addEventListener("change", () => onchange(field.value));
  return field;
}

/** What stands where nothing else can: loading, nothing there, or what went wrong and what to do. */
export const note = (title, text, ...more) => h("div", { class: "state-note" }, h("h2", {}, title), h("p", {}, text), more);
export const failure = (error, head = "h2") =>
  h("div", { class: "state-note bad", role: "alert" }, h(head, {}, error.title ?? "This cannot be shown"), h("p", {}, error.message), error.hint ? h("p", { class: "note" }, error.hint) : null);
export const loading = (text = "Loading…") => h("p", { class: "state-note", role: "status" }, text);

/** A place that fills itself when its content has come: what takes long never holds up the rest. */
export function later(text, content) {
  const place = h("div", {}, loading(text));
  content.then((nodes) => place.replaceChildren(...[nodes].flat(3)), (error) => { if (error.name !== "AbortError") place.replaceChildren(failure(error)); });
  return place;
}

/** How to ask the same elsewhere. */
export function same({ shell, python, rest, cypher }) {
  const rows = [["Command line", shell], ["Python", python], ["REST", rest], ["Cypher", cypher]].filter(([, text]) => text);
  return h("section", { class: "same", "aria-label": "The same elsewhere" }, h("h2", {}, "The same elsewhere"),
    h("dl", {}, rows.map(([name, text]) => [h("dt", {}, name), h("dd", {}, h("code", {}, text))])));
}

/** A word as a shell takes it. */
export const quoted = (text) => (/^[\w@.:/=+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
/** A text as Python takes it. */
export const literal = (text) => JSON.stringify(text);
