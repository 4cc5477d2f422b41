import { called, diamond, draw, nearestOf, number, photoOf, ROW, star, ticks, verdict, whenSized } from "./draw.js";

/** Distances from the anchor, true to scale, a row for each negative. */
export function ruler(look, context) {
  const picture = draw("svg.ruler", { role: "img" });
  const names = [
    draw("div.end.top", {}, photoOf(look.anchor, context, "thumb.large"), draw("span", {}, draw("b", {}, "Anchor"), draw("small", {}, called(look.anchor)))),
    draw("div.end", {}, photoOf(look.positive, context, "thumb.same"), draw("span", {}, draw("b", {}, "Positive"), draw("small", {}, called(look.positive)))),
    ...look.negatives.map(({ photo }) => draw("div.end.negative", {}, photoOf(photo, context, "thumb.other"), draw("span", {}, draw("b", {}, called(photo)), draw("small", {}, `d = ${number(photo.distance)}`)))),
  ];
  const found = look.negatives.map(() => draw("div.made"));
  const node = draw("div.scale", { style: `--rows: ${look.negatives.length + 1}` },
    draw("div.names", {}, ...names), draw("div.field", {}, picture),
    draw("div.names.right", {}, draw("div.end.top", {}, draw("small", {}, "Real photos nearest to the synthetic")), draw("div.end"), ...found));
  let width = 0, shown, before;
  const paint = () => {
    const series = (negative) => (shown.again ? negative.reembedded : negative.distances);
    const most = 1.04 * Math.max(look.positive.distance, look.reembedded_positive, ...look.negatives.map(({ photo }) => photo.distance),
      ...look.negatives.flatMap((negative) => [...negative.reembedded, ...(shown.again ? [] : negative.distances)]));
    const rows = look.negatives.length + 1, top = 62, height = top + rows * ROW + 34, left = 14, right = 26;
    const x = (distance) => left + (distance / (most || 1)) * (width - left - right);
    const middle = (row) => top + row * ROW + ROW / 2;
    const bottom = top + rows * ROW;
    const d_ap = look.positive.distance, again = look.reembedded_positive;
    picture.setAttribute("width", width);
    picture.setAttribute("height", height);
    picture.setAttribute("aria-label", `Distances from ${look.anchor.path} at λ = ${look.shares[shown.place].toFixed(2)}: positive ${number(d_ap)}; ` +
      look.negatives.map((negative) => `${called(negative.photo)} real ${number(negative.photo.distance)}, pulled ${number(negative.pulled[shown.place])}, synthetic ${number(series(negative)[shown.place])}`).join("; "));
    const marks = [draw("rect.zone", { x: x(0), y: top - 8, width: Math.max(0, x(d_ap) - x(0)), height: bottom - top + 8 })];
    for (const tick of ticks(most, width > 500 ? 8 : 4)) {
      marks.push(draw("line.grid", { x1: x(tick), x2: x(tick), y1: top - 8, y2: bottom }), draw("text", { x: x(tick), y: bottom + 16, "text-anchor": "middle" }, String(tick)));
    }
    marks.push(draw("text", { x: width - right, y: bottom + 31, "text-anchor": "end" }, "distance from the anchor"));
    marks.push(draw("line.positive", { x1: x(d_ap), x2: x(d_ap), y1: top - 14, y2: bottom }), draw("text.same", { x: x(d_ap), y: top - 20, "text-anchor": "middle" }, `d⁺ ${number(d_ap)}`));
    if (shown.again) {
      marks.push(draw("line.positive.again", { x1: x(again), x2: x(again), y1: top - 30, y2: bottom }),
        draw("text.same", { x: x(again), y: top - 36, "text-anchor": "middle" }, `d̃⁺ ${number(again)}`));
      marks.push(draw("polygon.same.hollow", { points: star(x(again), middle(0), 9) }));
    }
    marks.push(draw("line.axis", { x1: x(0), x2: x(0), y1: top - 14, y2: bottom }), draw("circle.same", { cx: x(d_ap), cy: middle(0), r: 7 }));
    look.negatives.forEach((negative, row) => {
      const y = middle(row + 1), real = x(negative.photo.distance), pulled = x(negative.pulled[shown.place]), made = series(negative)[shown.place];
      const kept = negative.label_kept[shown.place], lift = y - 15;
      marks.push(draw("line.rail", { x1: x(0), x2: width - right, y1: y, y2: y }));
      if (real - pulled > 1) marks.push(draw("line.pull", { x1: real, x2: pulled, y1: y, y2: y }));
      marks.push(draw("path.jump", { d: `M${pulled} ${y} Q${(pulled + x(made)) / 2} ${y - 26} ${x(made)} ${y}` }));
      marks.push(draw("polygon.pulled", { points: diamond(pulled, y, 8) }), draw("circle.negative", { cx: real, cy: y, r: 5.5 }));
      marks.push(draw(kept ? "polygon.synthetic" : "polygon.synthetic.lost", { points: star(x(made), y, 10.5) }));
      marks.push(draw("text.synthetic", { x: x(made), y: lift, "text-anchor": "middle" }, number(made)));
      if (negative.violations[shown.place]) marks.push(draw("text.flag", { x: x(made), y: y + 24, "text-anchor": "middle" }, "violates"));
    });
    picture.replaceChildren(...marks);
  };
  whenSized(node.children[1], (size) => { width = size; if (shown) paint(); });
  return {
    node,
    show(state) {
      shown = state;
      const places = look.negatives.map((negative) => JSON.stringify([negative.nearest[state.place].map(([id]) => id), negative.label_kept[state.place]]));
      look.negatives.forEach((negative, row) => {
        if (before?.[row] === places[row]) return; // photos that stay are not loaded anew
        found[row].replaceChildren(...nearestOf(look, negative, state.place, context), verdict(negative.label_kept[state.place]));
      });
      before = places;
      if (width) paint();
    },
  };
}

/** What the marks of the ruler stand for. */
export function legend() {
  const entry = (mark, text) => draw("li", {}, draw("svg", { width: 22, height: 18, "aria-hidden": "true" }, mark), text);
  return draw("ul.legend", {},
    entry(draw("circle.same", { cx: 11, cy: 9, r: 6 }), "positive"),
    entry(draw("circle.negative", { cx: 11, cy: 9, r: 6 }), "real negative"),
    entry(draw("polygon.pulled", { points: diamond(11, 9, 7) }), "pulled to λ·d + (1 − λ)·d⁺"),
    entry(draw("polygon.synthetic", { points: star(11, 9, 8.5) }), "synthetic, label kept"),
    entry(draw("polygon.synthetic.lost", { points: star(11, 9, 8.5) }), "synthetic, label lost"));
}
