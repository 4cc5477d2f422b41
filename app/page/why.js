import { ask, make, pictureOf } from "./dom.js";

/**
 * Query and item side by side, each under a map of which regions of it are like the other photo.
 *
 * Throws what the server says against it; a query that is no photo is left out.
 */
export async function whyView({ asked, options, picture }, { id, index }) {
  asked.set("item", id);
  const { query, query_area, item, item_area } = await ask(`/v1/why?${asked}`, options);
  const photos = [["Query", picture, query, query_area], ["Found", pictureOf(id, index, 960), item, item_area]].filter(([, , regions]) => regions);
  const figures = photos.map(([name, ...seen]) => make("figure", { className: "why" }, underHeat(...seen), make("figcaption", {}, name)));
  const legend = make("p", { className: "legend" }, "Warm: like the other photo. Dark: unlike it, or not seen by the encoder.");
  return [...figures, legend];
}

/** A photo under a map of similarities [h][w], which divide the area that the encoder saw evenly. */
function underHeat(source, similarities, area) {
  const height = similarities.length, width = similarities[0].length, values = similarities.flat();
  const least = Math.min(...values), range = Math.max(...values) - least || 1;
  const heat = make("canvas", { width, height, className: "heat" }), context = heat.getContext("2d");
  const pixels = context.createImageData(width, height);
  values.forEach((value, i) => pixels.data.set(colour((value - least) / range), 4 * i));
  context.putImageData(pixels, 0, 0);
  const share = (value) => `${100 * value}%`;
  Object.assign(heat.style, {
    left: share(area.left),
    top: share(area.top),
    width: share(area.right - area.left),
    height: share(area.bottom - area.top),
  });
  const photo = make("img", { src: source, alt: "" }), frame = make("div", { className: "under-heat" }, photo, heat);
  photo.onload = () => frame.style.setProperty("--ratio", photo.naturalWidth / photo.naturalHeight);
  return frame;
}

/** Of a share from 0 to 1: a dark veil for what is unlike, through clear, to a warm glow. */
function colour(share) {
  if (share < 0.5) return [12, 14, 28, Math.round(190 * (1 - 2 * share))];
  return [255, 120, 20, Math.round(150 * (2 * share - 1))];
}
