import { diamond, draw, number, photoOf, ROW, star, ticks, whenSized } from "./draw.js";

/** The curriculum: what became of a few tuples from a run's first step to its last. */
export function replayView(replay, context) {
  const { looks, tuples, steps, chosen } = replay;
  const input = draw("input", { type: "range", min: 0, max: looks.length - 1, step: 1, "aria-label": "Step of training" });
  const value = draw("output.value"), said = draw("span.said"), picture = draw("svg.ruler", { role: "img" });
  const play = draw("button.quiet", { type: "button", title: "Play training from its first step to its last" }, "Play");
  let at = looks.reduce((best, look, i) => (Math.abs(look.step - chosen) < Math.abs(looks[best].step - chosen) ? i : best), 0), width = 0, timer;
  const stop = () => {
    clearInterval(timer);
    timer = undefined;
    play.textContent = "Play";
  };
  const show = (position) => {
    at = position;
    input.value = at;
    const look = looks[at];
    value.textContent = `step ${look.step}`;
    said.textContent = `of ${steps} · λ = ${look.share.toFixed(3)} · ${look.label_kept.filter(Boolean).length} of ${tuples.length} synthetics keep their label`;
    input.setAttribute("aria-valuetext", `step ${look.step}, λ = ${look.share.toFixed(2)}`);
    if (width) paint();
  };
  input.oninput = () => { stop(); show(+input.value); };
  play.onclick = () => {
    if (timer) return stop();
    play.textContent = "Pause";
    let next = at === looks.length - 1 ? 0 : at;
    timer = setInterval(() => {
      if (next === looks.length || !input.isConnected) return stop();
      show(next++);
    }, 160);
  };
  const member = (photo, name) => (photo.id === null ? draw(`span.${name}`, { title: `${photo.label}, not in this index` }) : photoOf(photo, context, name));
  const names = tuples.map(([anchor, positive, negative]) => draw("div.end.watched", {}, member(anchor, "thumb.anchor"), member(positive, "thumb.same"), member(negative, "thumb.other")));
  const paint = () => {
    // Embeddings are several times as long at the start as later, so that one scale for all looks would hide the later ones.
    const look = looks[at], most = 1.04 * Math.max(...look.d_ap, ...look.d_an, ...look.again_ap, ...look.reembedded), top = 14, bottom = top + tuples.length * ROW, left = 10, right = 22;
    const x = (distance) => left + (distance / (most || 1)) * (width - left - right);
    picture.setAttribute("width", width);
    picture.setAttribute("height", bottom + 34);
    picture.setAttribute("aria-label", `Probe tuples after step ${look.step}: ` + tuples.map(([, , negative], i) => `${negative.label} real ${number(look.d_an[i])}, pulled ${number(look.pulled[i])}, synthetic ${number(look.reembedded[i])}, positive ${number(look.d_ap[i])}`).join("; "));
    const marks = ticks(most, width > 500 ? 8 : 4).flatMap((tick) => [draw("line.grid", { x1: x(tick), x2: x(tick), y1: top, y2: bottom }), draw("text", { x: x(tick), y: bottom + 16, "text-anchor": "middle" }, String(tick))]);
    marks.push(draw("text", { x: width - right, y: bottom + 31, "text-anchor": "end" }, "distance from the anchor"));
    tuples.forEach((_, i) => {
      const y = top + (i + 0.5) * ROW, near = x(look.d_ap[i]), real = x(look.d_an[i]), pulled = x(look.pulled[i]), made = x(look.reembedded[i]);
      marks.push(draw("rect.zone", { x: x(0), y: y - 20, width: Math.max(0, near - x(0)), height: 40 }), draw("line.rail", { x1: x(0), x2: width - right, y1: y, y2: y }));
      marks.push(draw("line.pull", { x1: real, x2: pulled, y1: y, y2: y }), draw("path.jump", { d: `M${pulled} ${y} Q${(pulled + made) / 2} ${y - 26} ${made} ${y}` }));
      marks.push(draw("circle.same", { cx: near, cy: y, r: 5.5 }), draw("polygon.pulled", { points: diamond(pulled, y, 8) }), draw("circle.negative", { cx: real, cy: y, r: 5.5 }));
      marks.push(draw("polygon.same.hollow", { points: star(x(look.again_ap[i]), y, 8) }), draw(look.label_kept[i] ? "polygon.synthetic" : "polygon.synthetic.lost", { points: star(made, y, 10.5) }));
    });
    picture.replaceChildren(...marks);
  };
  const field = draw("div.field", {}, picture);
  const node = draw("div.shares", {}, draw("div.readout", {}, value, said, draw("span.buttons", {}, play)), draw("div.track", {}, input),
    draw("div.scale.replay", { style: `--rows: ${tuples.length}` }, draw("div.names", {}, ...names), field),
    draw("p.note", {}, `The same ${tuples.length} tuples of training photos, looked at ${looks.length} times: anchor, positive, negative; nothing was learned from the looks. ` +
      "Full marks are real distances, stars are distances once all is generated and embedded again, the hollow green one that of the positive. The scale is that of each look. Here the classifier that trained beside the model says whether a label is kept."));
  whenSized(field, (size) => { width = size; paint(); });
  show(at);
  return node;
}
