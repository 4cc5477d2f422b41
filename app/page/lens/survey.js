import { draw, number, percent, signed, whenSized } from "./draw.js";

/** What becomes of the tuples of a label or of all: figures, distributions, and every label. */
export function surveyView(survey, context) {
  const { means } = survey;
  const tile = (name, value, more) => draw("div.tile", {}, draw("b", {}, value), draw("span", {}, name), draw("small", {}, more));
  const some = survey.anchors < survey.of ? `${survey.anchors} of ${survey.of} possible anchors, evenly spaced` : `${survey.anchors} anchors`;
  return draw("div.survey", {},
    draw("p.note", {}, `${some}, ${means.tuples} tuples, pulled at the model’s own λ = ${survey.share.toFixed(3)}: each anchor with its nearest positive and the nearest photo of each of the nearest other labels. Violates: ${survey.violation}.`),
    draw("div.tiles", {},
      tile("keep their label", percent(means.kept), "the real photo nearest to the synthetic has the negative’s label"),
      tile("are harder", percent(means.harder), `nearer than the real negative; ${signed(means.gain)} on average`),
      tile("violate", `${percent(means.violations)} → ${percent(means.synthetic_violations)}`, "real → synthetic"),
      tile(`loss (${survey.loss})`, `${number(means.loss)} → ${number(means.synthetic_loss)}`, "real → synthetic, mean of single tuples")),
    draw("div.pair.charts", {},
      draw("figure", {}, draw("figcaption", {}, "How much nearer the synthetic is than its real negative"),
        bars(survey.gains.edges, [["synthetic", survey.gains.counts]], { zero: true, format: (value) => `${Math.round(100 * value)} %` })),
      draw("figure", {}, draw("figcaption", {}, "Loss of the tuple, ", draw("span.negative", {}, "real"), " and ", draw("span.synthetic", {}, "synthetic")),
        bars(survey.losses.edges, [["negative", survey.losses.counts], ["synthetic", survey.synthetic_losses.counts]], { format: (value) => (Math.abs(value) < 0.005 * survey.losses.edges.at(-1) ? "0" : value.toPrecision(2)) }))),
    labelTable(survey.labels, context));
}

/** A histogram as SVG: outlines over the same edges, in their colours. */
function bars(edges, series, { zero = false, format }) {
  const picture = draw("svg.bars", { height: 170, role: "img", "aria-label": series.map(([name, counts]) => `${name}: ${counts.join(", ")}`).join("; ") });
  const holder = draw("div", {}, picture);
  whenSized(holder, (width) => {
    const first = edges[0], last = edges.at(-1), most = Math.max(1, ...series.flatMap(([, counts]) => counts));
    const x = (value) => 8 + ((value - first) / (last - first || 1)) * (width - 16), y = (count) => 146 - (count / most) * 134;
    const marks = [draw("line.axis", { x1: 8, x2: width - 8, y1: 146, y2: 146 })];
    for (const [name, counts] of series) {
      const outline = counts.map((count, i) => `L${x(edges[i]).toFixed(1)} ${y(count).toFixed(1)}H${x(edges[i + 1]).toFixed(1)}`).join("");
      marks.push(draw(`path.area.${name}`, { d: `M${x(first)} 146${outline}V146Z` }));
    }
    if (zero && first < 0 && last > 0) marks.push(draw("line.cursor", { x1: x(0), x2: x(0), y1: 6, y2: 146 }));
    const told = zero && first < 0 && last > 0 ? [first, 0, last] : [first, (first + last) / 2, last];
    told.forEach((value, i) => marks.push(draw("text", { x: x(value), y: 163, "text-anchor": ["start", "middle", "end"][i] }, format(value))));
    picture.setAttribute("width", width);
    picture.replaceChildren(...marks);
  });
  return holder;
}

function labelTable(labels, context) {
  const head = ["Label of the anchor", "tuples", "label kept", "harder", "nearer by", "loss real", "synthetic", "violate real", "synthetic"];
  const bar = (share) => draw("td.share", {}, draw("span", {}, percent(share)), draw("i", { style: `--share: ${share}` }));
  const rows = labels.map(({ label, means }) => draw("tr", {},
    draw("th", { scope: "row" }, context.onLabel ? draw("button.plain", { type: "button", onclick: () => context.onLabel(label) }, label) : label),
    draw("td", {}, String(means.tuples)), bar(means.kept), bar(means.harder), draw("td", {}, signed(means.gain)), draw("td", {}, number(means.loss)), draw("td", {}, number(means.synthetic_loss)),
    draw("td", {}, percent(means.violations)), draw("td", {}, percent(means.synthetic_violations))));
  return draw("div.scroll", { tabindex: 0, role: "region", "aria-label": "Every label" }, draw("table.labels", {}, draw("thead", {}, draw("tr", {}, ...head.map((name) => draw("th", { scope: "col" }, name)))), draw("tbody", {}, ...rows)));
}
