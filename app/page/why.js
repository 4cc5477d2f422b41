import { ask, make, pictureOf } from "./dom.js";

/** Query and item side by side, each with a map of what in it matters for their match; throws what the server says against it. */
export async function whyView({ asked, options, picture }, { id, index }) {
  asked.set("item", id);
  const { query, item } = await ask(`/v1/why?${asked}`, options);
  const photos = [["Query", picture, query], ["Found", pictureOf(id, index, 960), item]];
  return photos.map(([name, source, grid]) => make("figure", { className: "why" }, heatOver(source, grid), make("figcaption", {}, name)));
}

/** A photo under a map of similarities [h][w], which covers it; what matters most is left clear, the rest is veiled. */
function heatOver(source, grid) {
  const height = grid.length, width = grid[0].length, values = grid.flat();
  const least = Math.min(...values), range = Math.max(...values) - least || 1;
  const heat = make("canvas", { width, height, className: "heat" }), context = heat.getContext("2d");
  const pixels = context.createImageData(width, height);
  values.forEach((value, i) => pixels.data.set(colour((value - least) / range), 4 * i));
  context.putImageData(pixels, 0, 0);
  return make("div", { className: "under-heat" }, make("img", { src: source, alt: "" }), heat);
}

/** Of a share from 0 to 1: a dark veil for what matters little, through clear, to a warm glow. */
function colour(share) {
  if (share < 0.5) return [12, 14, 28, Math.round(190 * (1 - 2 * share))];
  return [255, 120, 20, Math.round(150 * (2 * share - 1))];
}
