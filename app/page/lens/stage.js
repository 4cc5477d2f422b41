import { cards } from "./cards.js";
import { choice, draw } from "./draw.js";
import { galleryMap } from "./map.js";
import { legend, ruler } from "./ruler.js";
import { shares } from "./shares.js";

/** The whole of a look: λ, ruler, map and cards, which move together. */
export function stage(look, map, context) {
  const state = { place: look.own, again: true };
  const views = [shares(look, (place) => show(place)), ruler(look, context), cards(look, context)];
  if (map) views.push(galleryMap(look, map, context));
  const [slider, rule, made, plane] = views;
  const choose = (again) => () => {
    state.again = again;
    views.forEach((view) => view.show(state));
  };
  function show(place) {
    state.place = place;
    views.forEach((view) => view.show(state));
  }
  const measured = choice("Synthetics measured from", [["the anchor embedded again", choose(true)], ["the real anchor", choose(false)]]);
  const facts = draw("p.note", {},
    `Every distance is Euclidean, between ${look.on_sphere ? "unit" : "unnormalised"} embeddings, as the method has it. `,
    "A filled star keeps the label of its negative, a hollow one does not. Measured from the anchor embedded again, a star is as far as the synthetic loss sees it, to be compared with d̃⁺; ",
    "from the real anchor, it is on one scale with all other marks. Generator and head run as exported, with running statistics; training uses those of each batch.");
  const node = draw("div.stage", {},
    draw("section.panel.hero", { "aria-label": "Ruler of true distances" },
      draw("div.heading", {}, draw("h2", {}, "How hard is it from here?"), measured.node),
      slider.node, rule.node, legend(), facts),
    draw("div.pair", {}, ...(plane ? [plane.node] : []), made.node));
  show(look.own);
  return { node, show, state };
}
