// Colours have one meaning each. Distances: viridis, dark = near, bright = far, always from 0 to 1.

export const distanceColour = (value) => d3.interpolateViridis(Math.max(0, Math.min(1, value)));

/** 256 colours of the distance scale as bytes, for canvases. */
export const distanceBytes = () => Array.from({ length: 256 }, (_, index) => {
  const colour = d3.rgb(distanceColour(index / 255));
  return [Math.round(colour.r), Math.round(colour.g), Math.round(colour.b)];
});

/** The colour of a name in the style sheet, as it is in this theme. */
export const styled = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Colours for lines that stand for layers: told apart in light and dark, and their dashes differ too. */
export function lineColours() {
  return document.documentElement.dataset.theme === "dark"
    ? ["#6fb1d8", "#e0b054", "#6ccf86", "#f28b82", "#c7a3ee", "#7fd6cf", "#e7eaee", "#d9a58a"]
    : ["#31688e", "#8a5a00", "#1f7a3f", "#b3261e", "#6a3d9a", "#0f766e", "#1c2027", "#8b4513"];
}
export const DASHES = [[], [6, 3], [2, 2], [8, 3, 2, 3], [], [6, 3], [2, 2], [8, 3, 2, 3]];

export const EDITS = {
  survived: { colour: "alive", text: "in both" },
  died: { colour: "died", text: "only in the first: delete" },
  born: { colour: "born", text: "only in the second: insert" },
};
export const STATUS = {
  survived: { colour: "alive", text: "alive before and after" },
  born: { colour: "born", text: "born" },
  regrown: { colour: "regrown", text: "regrown" },
  died: { colour: "died", text: "died" },
};
