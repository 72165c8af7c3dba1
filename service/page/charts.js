// Lines over steps, by uPlot: a true axis, units on both axes, and the numbers behind the picture as a table.

import { behind, h, number } from "./dom.js";
import { DASHES, lineColours, styled } from "./colours.js";

/**
 * A figure of lines. x: steps (ascending). series: [{ name, values, chance?: true }]; `null` is a gap.
 * y: what the values are; range: [least, most] or null; note: a line under the title; press: step => what a press does.
 */
export function lines({ title, note, x, xLabel = "step", series, y, range = null, press = null, height = 240, share = false }) {
  const holder = h("div", { class: "chart" });
  const figure = h("figure", {}, h("figcaption", {}, title, note ? h("small", {}, note) : null), holder,
    behind([{ name: xLabel, number: true, of: (row) => number(row[0]), by: (row) => row[0] },
      ...series.map((entry, index) => ({ name: entry.name, number: true, of: (row) => number(row[index + 1]), by: (row) => row[index + 1] }))],
    () => x.map((step, row) => [step, ...series.map((entry) => entry.values[row])])));
  holder.setAttribute("role", "img");
  holder.setAttribute("aria-label", `${title}: ${series.map((entry) => `${entry.name} from ${number(first(entry.values))} to ${number(last(entry.values))}`).join(", ")}`);
  let chart = null;
  const draw = () => {
    chart?.destroy();
    const colours = lineColours();
    const axis = { stroke: styled("muted"), grid: { stroke: styled("line"), width: 1 }, ticks: { stroke: styled("line"), width: 1 }, font: "12px system-ui", labelFont: "12px system-ui" };
    let shade = -1;
    chart = new uPlot({
      width: Math.max(holder.clientWidth, 220), height,
      scales: { x: { time: false }, y: range ? { range } : { range: (_, low, high) => padded(low, high) } },
      axes: [{ ...axis, label: xLabel, labelSize: 18, size: 34 }, { ...axis, label: y, labelSize: 18, size: 62, values: (_, ticks) => ticks.map((tick) => number(tick)) }],
      series: [{ label: xLabel }, ...series.map((entry) => {
        if (!entry.chance) shade += 1;
        return entry.chance
          ? { label: entry.name, stroke: styled("chance"), width: 2, dash: [4, 4], points: { show: false }, value: (_, value) => number(value) }
          : { label: entry.name, stroke: colours[shade % colours.length], width: 2, dash: DASHES[shade % DASHES.length], points: { show: x.length <= 40, size: 5 }, spanGaps: true, value: (_, value) => (share && value !== null ? `${number(value * 100, 3)} %` : number(value)) };
      })],
      cursor: { drag: { x: true, y: false } },
    }, [x, ...series.map((entry) => entry.values)], holder);
    if (press) chart.over.addEventListener("click", () => { const at = chart.cursor.idx; if (at !== null && at !== undefined) press(x[at]); });
  };
  // The first measure comes when the figure stands in the page; later ones when its width changes.
  let width = 0;
  new ResizeObserver(() => {
    if (holder.clientWidth === width || holder.clientWidth === 0) return;
    width = holder.clientWidth;
    draw();
  }).observe(holder);
  document.addEventListener("theme", () => { if (holder.isConnected) draw(); });
  return figure;
}

const padded = (low, high) => (low === high ? [low - 0.5, high + 0.5] : [low >= 0 ? Math.max(0, low - (high - low) * 0.05) : low - (high - low) * 0.05, high + (high - low) * 0.05]);
const first = (values) => values.find((value) => value !== null && value !== undefined);
const last = (values) => values.findLast((value) => value !== null && value !== undefined);

/** Bars of counts by number (a distribution). */
export function histogram({ title, note, counts, xLabel, yLabel = "units" }) {
  const width = 440, height = 200, left = 46, bottom = 38, top = 8;
  const most = Math.max(1, ...counts);
  const svg = d3.create("svg").attr("viewBox", `0 0 ${width} ${height}`).attr("width", "100%").attr("role", "img")
    .attr("aria-label", `${title}: ${counts.map((count, index) => (count ? `${count} at ${index}` : "")).filter(Boolean).join(", ")}`);
  const x = d3.scaleBand(d3.range(counts.length), [left, width - 8]).padding(0.1);
  const y = d3.scaleLinear([0, most], [height - bottom, top]).nice(4);
  svg.selectAll("rect").data(counts).join("rect").attr("x", (_, index) => x(index)).attr("y", (count) => y(count)).attr("width", x.bandwidth()).attr("height", (count) => y(0) - y(count)).style("fill", "var(--alive)");
  const every = Math.ceil(counts.length / 12);
  svg.append("g").attr("class", "axis").selectAll("text").data(d3.range(0, counts.length, every)).join("text").attr("x", (value) => x(value) + x.bandwidth() / 2).attr("y", height - bottom + 14).attr("text-anchor", "middle").text((value) => value);
  svg.append("g").selectAll("text").data(y.ticks(4).filter(Number.isInteger)).join("text").attr("x", left - 6).attr("y", (value) => y(value) + 4).attr("text-anchor", "end").text((value) => number(value));
  svg.append("text").attr("class", "muted").attr("x", (left + width) / 2).attr("y", height - 6).attr("text-anchor", "middle").text(xLabel);
  svg.append("text").attr("class", "muted").attr("transform", `translate(11 ${(height - bottom) / 2}) rotate(-90)`).attr("text-anchor", "middle").text(yLabel);
  return h("figure", {}, h("figcaption", {}, title, note ? h("small", {}, note) : null), svg.node(),
    behind([{ name: xLabel, number: true, of: (row) => String(row[0]), by: (row) => row[0] }, { name: yLabel, number: true, of: (row) => number(row[1]), by: (row) => row[1] }], () => counts.map((count, index) => [index, count]).filter(([, count]) => count)));
}

/** A small line without axes, its last value beside it. */
export function sparkline(values, label) {
  const shown = values.filter((value) => value !== null && value !== undefined);
  if (!shown.length) return h("span", { class: "note" }, "–");
  const svg = d3.create("svg").attr("width", 90).attr("height", 22).attr("aria-hidden", "true").style("vertical-align", "middle");
  const [low, high] = d3.extent(shown);
  const x = d3.scaleLinear([0, Math.max(1, values.length - 1)], [2, 88]);
  const y = d3.scaleLinear([low, high === low ? low + 1 : high], [19, 3]);
  svg.append("path").attr("d", d3.line().defined((value) => value !== null && value !== undefined).x((_, index) => x(index)).y((value) => y(value))(values)).attr("fill", "none").style("stroke", "var(--alive)").attr("stroke-width", 1.5);
  return h("span", { title: `${label}: ${number(low)} to ${number(high)}` }, svg.node(), " ", number(shown.at(-1)));
}
