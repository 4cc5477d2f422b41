import { called, draw, nearestOf, number, percent, photoOf, verdict } from "./draw.js";

/** A card of each synthetic: what the generator made, and how hard that is. */
export function cards(look, context) {
  const holders = look.negatives.map(() => draw("article.card"));
  const node = draw("section.panel", { "aria-label": "Synthetics" }, draw("h2", {}, "What the generator thinks it made"), draw("div.cards", {}, ...holders),
    draw("p.note", {}, `Violates: ${look.violation}. Losses are of the single tuple, by the run’s ${look.loss} loss.`));
  return {
    node,
    show({ place }) {
      look.negatives.forEach((negative, i) => {
        const gain = 1 - negative.reembedded[place] / (negative.photo.distance || 1), nearest = look.names[negative.nearest[place][0][0]];
        const row = (name, real, made, mark) => draw("tr", {}, draw("th", { scope: "row" }, name), draw("td", {}, real), draw("td", {}, made), draw("td", {}, mark));
        const yes = (violates) => (violates ? "yes" : "no");
        holders[i].replaceChildren(
          draw("header", {}, photoOf(negative.photo, context, "thumb.other"), draw("span.arrow", { "aria-hidden": "true" }, "→"), ...nearestOf(look, negative, place, context)),
          draw("h3", {}, called(negative.photo)),
          draw("p", {}, verdict(negative.label_kept[place]), ` · nearest: ${nearest.label ?? nearest.path}`),
          draw("table", {}, draw("thead", {}, draw("tr", {}, draw("td"), draw("th", { scope: "col" }, "real"), draw("th", { scope: "col" }, "synthetic"), draw("td"))),
            draw("tbody", {},
              row("distance", number(negative.photo.distance), number(negative.reembedded[place]), draw(gain > 0 ? "b.harder" : "span", {}, gain > 0 ? `${percent(gain)} nearer` : `${percent(-gain)} farther`)),
              row("loss", number(negative.loss), number(negative.losses[place]), ""),
              row("violates", yes(negative.violates), yes(negative.violations[place]), ""))));
      });
    },
  };
}
