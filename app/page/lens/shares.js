import { draw, THUMB, whenSized } from "./draw.js";

/** λ as a slider, under the curve of what it was while the run trained. */
export function shares(look, onChange) {
  const { shares: values, own, training } = look;
  const input = draw("input", { type: "range", min: 0, max: 1, step: "any", value: values[own], "aria-label": "λ, share of the way that a negative keeps" });
  const nearest = (value) => values.reduce((best, share, i) => (Math.abs(share - value) < Math.abs(values[best] - value) ? i : best), 0);
  let place = own, timer;
  const stop = () => {
    clearInterval(timer);
    timer = undefined;
    play.textContent = "Play";
  };
  input.oninput = () => { stop(); onChange(nearest(+input.value)); };
  input.onkeydown = (event) => {
    const moves = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -values.length, End: values.length };
    if (!(event.key in moves)) return;
    event.preventDefault();
    stop();
    onChange(Math.max(0, Math.min(values.length - 1, place + moves[event.key])));
  };
  const play = draw("button.quiet", { type: "button", title: "Move λ from 1 to 0 and back to the model’s own" }, "Play");
  play.onclick = () => {
    if (timer) return stop();
    play.textContent = "Pause";
    const path = [...values.keys()].reverse().concat([...values.keys()].slice(0, own + 1));
    let at = 0;
    timer = setInterval(() => {
      if (at === path.length || !input.isConnected) return stop();
      onChange(path[at++]);
    }, 45);
  };
  const back = draw("button.quiet", { type: "button", onclick: () => { stop(); onChange(own); } }, "Model’s own λ");
  const value = draw("output.value");
  const said = draw("span.said");
  const height = training ? 122 : 44; // pixels
  const chart = draw("svg.course", { height, role: "img", "aria-label": course(training) });
  const node = draw("div.shares", {}, draw("div.readout", {}, value, said, draw("span.buttons", {}, play, back)),
    draw("div.track", {}, chart, input, draw("div.ends", {}, draw("span", {}, "0 · as near as the positive"), draw("span", {}, "1 · left where it is"))));
  let width = 0;
  const paint = () => {
    const x = (share) => THUMB / 2 + share * (width - THUMB);
    const y = (step) => 12 + (94 * step) / Math.max(1, training?.steps ?? 1);
    chart.setAttribute("width", width);
    const marks = [draw("line.cursor", { x1: x(values[place]), x2: x(values[place]), y1: 4, y2: height })];
    if (training) {
      const path = training.stages.map(({ step, share }, i) => `${i ? "L" : "M"}${x(share).toFixed(1)} ${y(step).toFixed(1)}`).join("");
      marks.push(draw("path.curve", { d: path }));
      for (const { step, share } of milestones(training)) {
        const isOwn = step === training.chosen, right = x(share) < width - (isOwn ? 165 : 80);
        marks.push(draw(isOwn ? "circle.own" : "circle.mark", { cx: x(share), cy: y(step), r: isOwn ? 5.5 : 3.5 }));
        marks.push(draw(isOwn ? "text.strong" : "text", { x: x(share) + (right ? 10 : -10), y: y(step) + 4, "text-anchor": right ? "start" : "end" },
          isOwn ? `this model, step ${step}` : `step ${step}`));
      }
    } else {
      marks.push(draw("circle.own", { cx: x(values[own]), cy: height - 16, r: 5.5 }));
      marks.push(draw("text.strong", { x: x(values[own]) + (values[own] < 0.8 ? 10 : -10), y: height - 12, "text-anchor": values[own] < 0.8 ? "start" : "end" }, "this model"));
    }
    chart.replaceChildren(...marks);
  };
  whenSized(chart.parentNode ?? node, (size) => { width = Math.min(size, node.clientWidth || size); paint(); });
  return {
    node,
    show(state) {
      place = state.place;
      input.value = values[place];
      value.textContent = `λ = ${values[place].toFixed(place === own ? 3 : 2)}`;
      said.textContent = when(look, place);
      input.setAttribute("aria-valuetext", `${values[place].toFixed(2)}, ${said.textContent}`);
      if (width) paint();
    },
  };
}

const course = (training) => training
  ? `λ over training, from ${training.stages[0].share.toFixed(2)} at its start to ${training.stages.at(-1).share.toFixed(2)} at step ${training.stages.at(-1).step}`
  : "The model’s own λ";

/** A few stages of training, and the one of this model, none of which covers another. */
function milestones({ stages, steps, chosen }) {
  const wanted = [0, 0.25, 0.5, 0.75, 1].map((share) => share * steps).filter((step) => Math.abs(step - chosen) > 0.15 * steps);
  const near = (step) => stages.reduce((best, stage) => (Math.abs(stage.step - step) < Math.abs(best.step - step) ? stage : best));
  return [...new Set([...wanted, chosen].map(near))];
}

/** When the model had a λ. */
function when({ shares: values, own, training }, place) {
  if (place === own) return training ? `the model’s own, after step ${training.chosen} of ${training.steps}` : "the model’s own";
  if (!training) return values[place] > values[own] ? "softer than the model’s own" : "harder than the model’s own";
  const crossing = training.stages.findIndex((stage, i) => i && (stage.share - values[place]) * (training.stages[i - 1].share - values[place]) <= 0);
  if (crossing > 0) return `as at about step ${training.stages[crossing].step} of ${training.steps}`;
  return values[place] > Math.max(...training.stages.map((stage) => stage.share)) ? "softer than training ever was" : "harder than training ever got";
}
