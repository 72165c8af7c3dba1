// A layer's connections as a picture: target units down, source units across, a point each, coloured by what became of it.

import { STATUS, styled } from "./colours.js";
import { h, number } from "./dom.js";

/** The connections of a layer between two steps, as the service packs them: per status a count, then source and target of each. */
export function unpack(buffer) {
  const numbers = new Uint32Array(buffer);
  const [sources, targets] = numbers;
  const changes = {};
  let at = 2;
  for (const status of ["survived", "regrown", "died", "born"]) {
    const count = numbers[at];
    changes[status] = { sources: numbers.subarray(at + 1, at + 1 + count), targets: numbers.subarray(at + 1 + count, at + 1 + 2 * count) };
    at += 1 + 2 * count;
  }
  return { sources, targets, changes };
}

/** Draws into a canvas; a cell is at least a pixel where the screen has room, and the picture says when it has not. */
export function adjacency(canvas, { sources, targets, changes }, width, words = STATUS) {
  const scale = Math.max(1, Math.min(8, Math.floor(width / sources), Math.floor(640 / targets)));
  const shrink = Math.max(1, Math.ceil(sources / Math.max(width, 1)), Math.ceil(targets / 4000));
  const cell = shrink > 1 ? 1 : scale;
  canvas.width = Math.ceil(sources / shrink) * cell;
  canvas.height = Math.ceil(targets / shrink) * cell;
  canvas.style.width = `${canvas.width}px`;
  canvas.style.height = `${canvas.height}px`;
  const image = canvas.getContext("2d");
  const picture = image.createImageData(canvas.width, canvas.height);
  const ground = d3.rgb(styled("code"));
  for (let at = 0; at < picture.data.length; at += 4) { picture.data[at] = ground.r; picture.data[at + 1] = ground.g; picture.data[at + 2] = ground.b; picture.data[at + 3] = 255; }
  for (const [status, { sources: from, targets: to }] of Object.entries(changes)) {
    const colour = d3.rgb(styled(STATUS[status].colour));
    for (let index = 0; index < from.length; index += 1) {
      const x = Math.floor(from[index] / shrink) * cell, y = Math.floor(to[index] / shrink) * cell;
      for (let down = 0; down < cell; down += 1) {
        for (let across = 0; across < cell; across += 1) {
          // Born and died have a form of their own where cells are large enough: told apart without colour.
          if (cell >= 4 && status === "born" && (across === 0 || down === 0)) continue;
          if (cell >= 4 && status === "died" && across !== down) continue;
          const at = 4 * ((y + down) * canvas.width + x + across);
          picture.data[at] = colour.r; picture.data[at + 1] = colour.g; picture.data[at + 2] = colour.b;
        }
      }
    }
  }
  image.putImageData(picture, 0, 0);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${targets} target units down, ${sources} source units across: ${Object.entries(changes).map(([status, { sources: from }]) => `${number(from.length)} ${(words[status] ?? STATUS[status]).text}`).join(", ")}`);
  return { cell, shrink };
}

export const legend = (changes, words = STATUS) => h("div", { class: "legend" }, Object.keys(words).map((status) =>
  h("span", {}, h("span", { class: "mark", style: { background: `var(--${words[status].colour})` } }), `${words[status].text}: ${number(changes[status].sources.length)}`)));
