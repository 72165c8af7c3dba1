// A square of values on a canvas: one pixel a cell, scaled by the canvas itself, so that 1,000 x 1,000 move smoothly.

import { distanceBytes, styled } from "./colours.js";
import { h, number } from "./dom.js";

/** A matrix as the service packs it for a picture: what there is to say of it, and `value(i, j)`. */
export function unpack(buffer) {
  const size = new Uint32Array(buffer, 0, 1)[0];
  const about = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
  const numbers = new Float32Array(buffer, 4 + size);
  const count = about.refs.length;
  return { ...about, value: (i, j) => numbers[i * count + j] };
}

/**
 * names, and value(i, j) in 0..1. order: indices as they are drawn. press(i, j) is a click or Enter; tree: SciPy's linkage.
 * Zoom by wheel or + and -, move by dragging or Shift and arrows, choose a cell by arrows; 0 shows all again.
 */
export function matrix({ names, value, order, tree, press, describe }) {
  const count = names.length;
  const top = tree?.length ? 64 : 0;
  const margin = Math.min(150, 16 + 7 * Math.max(...names.map((name) => name.length)));
  const canvas = h("canvas", { tabindex: "0", role: "application", "aria-label": `Matrix of ${count} by ${count} distances. Arrows choose a cell, Enter opens the pair, plus and minus zoom, 0 shows all.` });
  const tip = h("div", { class: "tip", hidden: true });
  const live = h("p", { class: "note", role: "status", "aria-live": "polite" }, `Point at a cell, or choose one with the arrow keys; a press opens the pair.${count > 60 ? " Names and numbers appear where there is room: zoom in by the wheel or +." : ""}`);
  const holder = h("div", { class: "matrix" }, canvas, tip);
  const cells = document.createElement("canvas");
  cells.width = cells.height = count;
  const paint = cells.getContext("2d");
  const colours = distanceBytes();
  const image = paint.createImageData(count, count);
  for (let row = 0; row < count; row += 1) {
    for (let column = 0; column < count; column += 1) {
      const colour = colours[Math.round(Math.max(0, Math.min(1, value(order[row], order[column]))) * 255)];
      const at = 4 * (row * count + column);
      image.data[at] = colour[0]; image.data[at + 1] = colour[1]; image.data[at + 2] = colour[2]; image.data[at + 3] = 255;
    }
  }
  paint.putImageData(image, 0, 0);
  const joins = top ? dendrogram(tree, order, count, top) : null;
  let side = 0, view = d3.zoomIdentity, chosen = null, waiting = 0;
  const soon = () => { waiting ||= requestAnimationFrame(() => { waiting = 0; draw(); }); };

  function draw() {
    const ratio = devicePixelRatio || 1;
    const width = side + margin, height = side + top + margin;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
      canvas.style.width = `${width}px`; canvas.style.height = `${height}px`;
    }
    const at = canvas.getContext("2d");
    at.setTransform(ratio, 0, 0, ratio, 0, 0);
    at.clearRect(0, 0, width, height);
    at.save();
    at.beginPath(); at.rect(0, top, side, side); at.clip();
    at.imageSmoothingEnabled = false;
    const cell = (view.k * side) / count;
    // Only what is in sight is looped over: zoomed in, that is little of a large matrix.
    const sight = (shift) => [Math.max(0, Math.floor(-shift / cell)), Math.min(count, Math.ceil((side - shift) / cell))];
    const [[left, right], [upper, lower]] = [sight(view.x), sight(view.y)];
    at.translate(view.x, top + view.y); at.scale(cell, cell);
    at.drawImage(cells, 0, 0);
    if (cell >= 44) {
      // Room for the numbers themselves: white on dark cells, black on bright ones.
      at.textAlign = "center"; at.textBaseline = "middle"; at.font = "0.19px system-ui";
      for (let row = upper; row < lower; row += 1) {
        for (let column = left; column < right; column += 1) {
          const shown = value(order[row], order[column]);
          at.fillStyle = shown < 0.62 ? "#ffffff" : "#000000";
          at.fillText(number(shown, 3), column + 0.5, row + 0.5);
        }
      }
      at.textAlign = "start";
    }
    if (chosen) { at.lineWidth = 0.12; at.strokeStyle = "#ffffff"; at.strokeRect(chosen[1], chosen[0], 1, 1); at.lineWidth = 0.05; at.strokeStyle = "#000000"; at.strokeRect(chosen[1], chosen[0], 1, 1); }
    at.restore();
    at.fillStyle = styled("ink"); at.strokeStyle = styled("muted"); at.font = "12px system-ui"; at.textBaseline = "middle";
    if (cell >= 9) {
      for (let row = upper; row < lower; row += 1) {
        const middle = (row + 0.5) * cell + view.y;
        if (middle > 0 && middle < side) at.fillText(names[order[row]], side + 6, top + middle);
      }
      for (let column = left; column < right; column += 1) {
        const middle = (column + 0.5) * cell + view.x;
        if (middle > 0 && middle < side) { at.save(); at.translate(middle, top + side + 6); at.rotate(Math.PI / 2); at.fillText(names[order[column]], 0, 0); at.restore(); }
      }
    }
    if (joins) {
      at.save();
      at.beginPath(); at.rect(0, 0, side, top); at.clip();
      at.lineWidth = 1;
      at.beginPath();
      for (const [a, b, ya, yb, y] of joins) {
        const xa = a * cell + view.x, xb = b * cell + view.x;
        if (Math.max(xa, xb) < 0 || Math.min(xa, xb) > side) continue;
        at.moveTo(xa, ya); at.lineTo(xa, y); at.lineTo(xb, y); at.lineTo(xb, yb);
      }
      at.stroke();
      at.restore();
    }
  }

  const where = (event) => {
    const box = canvas.getBoundingClientRect();
    const cell = (view.k * side) / count;
    const column = Math.floor((event.clientX - box.left - view.x) / cell), row = Math.floor((event.clientY - box.top - top - view.y) / cell);
    return event.clientX - box.left < side && event.clientY - box.top > top && row >= 0 && column >= 0 && row < count && column < count ? [row, column] : null;
  };
  const say = ([row, column]) => (describe ? describe(order[row], order[column]) : `${names[order[row]]} and ${names[order[column]]}: ${number(value(order[row], order[column]))}`);
  canvas.addEventListener("pointermove", (event) => {
    const cell = where(event);
    tip.hidden = !cell;
    if (!cell) return;
    tip.textContent = say(cell);
    const box = canvas.getBoundingClientRect();
    const x = event.clientX - box.left;
    tip.style.top = `${event.clientY - box.top + 16}px`;
    tip.style.left = `${Math.max(0, Math.min(x + 12, holder.clientWidth - tip.offsetWidth))}px`;
  });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  const zoom = d3.zoom().scaleExtent([1, Math.max(1, count / 8)]).on("zoom", (event) => { view = event.transform; soon(); });
  const on = d3.select(canvas).call(zoom).on("dblclick.zoom", null);
  canvas.addEventListener("click", (event) => { const cell = where(event); if (cell && !event.defaultPrevented) press?.(order[cell[0]], order[cell[1]]); });
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (event.key === "+" || event.key === "=") on.call(zoom.scaleBy, 1.5);
    else if (event.key === "-") on.call(zoom.scaleBy, 1 / 1.5);
    else if (event.key === "0") on.call(zoom.transform, d3.zoomIdentity);
    else if (event.key === "Enter" && chosen) press?.(order[chosen[0]], order[chosen[1]]);
    else if (event.key in steps && event.shiftKey) on.call(zoom.translateBy, -40 * steps[event.key][1] / view.k, -40 * steps[event.key][0] / view.k);
    else if (event.key in steps) {
      const [row, column] = chosen ?? [0, -1];
      chosen = [Math.max(0, Math.min(count - 1, row + steps[event.key][0])), Math.max(0, Math.min(count - 1, column + steps[event.key][1]))];
      live.textContent = say(chosen);
      const [x, y] = [chosen[1], chosen[0]].map((index) => ((index + 0.5) * side) / count);
      const [seenX, seenY] = [view.applyX(x), view.applyY(y)];
      if (seenX < 0 || seenX > side || seenY < 0 || seenY > side) on.call(zoom.translateTo, x, y);
      soon();
    } else return;
    event.preventDefault();
  });
  new ResizeObserver(() => {
    const wide = Math.min(holder.parentElement?.clientWidth ?? 0, 660) - margin - 26;
    if (wide <= 0 || Math.abs(wide - side) < 1) return;
    side = Math.max(180, Math.floor(wide));
    zoom.extent([[0, 0], [side, side]]).translateExtent([[0, 0], [side, side]]);
    draw();
  }).observe(holder);
  document.addEventListener("theme", () => { if (holder.isConnected) draw(); });
  return h("div", {}, holder, live);
}

/** The joins of the tree: where its two sides stand, in cells, how high these are, and how high the join is. */
function dendrogram(tree, order, count, height) {
  const place = new Map(order.map((leaf, index) => [leaf, [index + 0.5, height - 2]]));
  const tallest = tree.at(-1)[2] || 1;
  return tree.map(([a, b, distance], index) => {
    const [xa, ya] = place.get(a), [xb, yb] = place.get(b);
    const y = height - 4 - (distance / tallest) * (height - 10);
    place.set(count + index, [(xa + xb) / 2, y]);
    return [xa, xb, ya, yb, y];
  });
}

/** The scale of distances, with each level of chance in it: a mark at its mean, a band from the lowest to the highest. */
export function scale(chance = []) {
  const svg = d3.create("svg").attr("viewBox", "0 0 360 58").attr("width", "min(360px, 100%)").attr("role", "img").attr("aria-label", `Colours from 0, the same wiring, to 1, nothing in common${chance.length ? `; chance at ${chance.map((entry) => number(entry.level)).join(", ")}` : ""}`);
  const gradient = svg.append("defs").append("linearGradient").attr("id", "distance-scale");
  d3.range(0, 1.001, 0.1).forEach((stop) => gradient.append("stop").attr("offset", stop).attr("stop-color", d3.interpolateViridis(stop)));
  svg.append("rect").attr("x", 8).attr("y", 18).attr("width", 344).attr("height", 12).attr("fill", "url(#distance-scale)");
  [["0 same wiring", 8, "start"], ["0.5", 180, "middle"], ["1 nothing in common", 352, "end"]].forEach(([words, x, anchor]) => svg.append("text").attr("x", x).attr("y", 46).attr("text-anchor", anchor).text(words));
  for (const entry of chance) {
    const [x, low, high] = [entry.level, entry.low, entry.high].map((value) => 8 + 344 * value);
    svg.append("rect").attr("x", low).attr("y", 13).attr("width", high - low).attr("height", 20).style("fill", "var(--chance)").attr("fill-opacity", 0.45);
    svg.append("line").attr("x1", x).attr("x2", x).attr("y1", 12).attr("y2", 34).style("stroke", "var(--chance)").attr("stroke-width", 2).attr("stroke-dasharray", "3 2");
    svg.append("text").attr("x", x).attr("y", 10).attr("text-anchor", x > 260 ? "end" : "middle").style("fill", "var(--chance)").text(`chance ${number(entry.level)}`);
  }
  return svg.node();
}
