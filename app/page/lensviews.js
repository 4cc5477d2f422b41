// What the hardness lens draws, from its answers alone: the page and the file that `hdml hardness` writes both run this module.
// It imports nothing, so that it can stand in a file of its own. Text from the gallery only ever becomes textContent.

const SVG = "http://www.w3.org/2000/svg";
const HTML = "http://www.w3.org/1999/xhtml";
const ROW = 64; // pixels
const THUMB = 20; // of the slider, pixels, as in lens.css

/** An element: draw("p.note", { title }, ...children); names that SVG knows alone become SVG elements. */
function draw(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const isSvg = /^(svg|g|path|line|circle|rect|text|tspan|polygon|image|title|clipPath)$/.test(tag);
  const element = document.createElementNS(isSvg ? SVG : HTML, tag);
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (key.startsWith("on")) element[key] = value;
    else if (key === "style") element.style.cssText = value; // a style attribute may be against the page's security policy
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

const number = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(3));
const percent = (share) => `${Math.round(100 * share)} %`;
const signed = (share) => `${share >= 0 ? "+" : "−"}${Math.abs(Math.round(100 * share))} %`;
const called = (photo) => photo.label ?? photo.path;

function star(x, y, radius) {
  const points = Array.from({ length: 10 }, (_, i) => {
    const angle = (Math.PI * i) / 5 - Math.PI / 2, r = i % 2 ? radius * 0.45 : radius;
    return `${(x + r * Math.cos(angle)).toFixed(2)},${(y + r * Math.sin(angle)).toFixed(2)}`;
  });
  return points.join(" ");
}

const diamond = (x, y, r) => `${x},${y - r} ${x + r},${y} ${x},${y + r} ${x - r},${y}`;

/** Round numbers from 0 to at most `most`, about `count` of them. */
function ticks(most, count = 6) {
  const power = 10 ** Math.floor(Math.log10(most / count));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => most / size <= count);
  return Array.from({ length: Math.floor(most / step + 1e-9) + 1 }, (_, i) => +(i * step).toPrecision(6));
}

/** Run again whenever an element has another width; the observer goes with the element. */
function whenSized(element, paint) {
  let last = 0;
  new ResizeObserver(([entry]) => {
    const width = Math.round(entry.contentRect.width);
    if (width && width !== last) paint((last = width));
  }).observe(element);
}

/** Whether an item can be looked from: on the page every labelled one, in a file those that it holds the looks of. */
const canLook = ({ id, label }, context) => Boolean(context.onLook) && label != null && (context.canLook?.(id) ?? true);

/** A small photo: a button that looks from it where there is something to look by. */
function photoOf(photo, context, name = "thumb") {
  const { id, label, path } = photo;
  const image = draw("img", { src: context.pictureOf(id, 96), alt: label ?? path ?? "", loading: "lazy" });
  if (!canLook(photo, context)) return draw(`span.${name}`, { title: path }, image);
  return draw(`button.${name}`, { type: "button", title: path, "aria-label": `Look from ${path}`, onclick: () => context.onLook(id) }, image);
}

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
      draw("div.heading", {}, draw("h2", {}, "How hard is it from here?"), measured),
      slider.node, rule.node, legend(), facts),
    draw("div.pair", {}, ...(plane ? [plane.node] : []), made.node));
  show(look.own);
  return { node, show, state };
}

/** Buttons of which one is pressed. */
function choice(name, options) {
  const buttons = options.map(([text, act]) =>
    draw("button.option", { type: "button", onclick: (event) => { press(event.currentTarget); act(); } }, text));
  const press = (pressed) => buttons.forEach((button) => button.setAttribute("aria-pressed", button === pressed));
  press(buttons[0]);
  return draw("div.choices", { role: "group", "aria-label": name }, draw("span", {}, name), ...buttons);
}

function legend() {
  const entry = (mark, text) => draw("li", {}, draw("svg", { width: 22, height: 18, "aria-hidden": "true" }, mark), text);
  return draw("ul.legend", {},
    entry(draw("circle.same", { cx: 11, cy: 9, r: 6 }), "positive"),
    entry(draw("circle.negative", { cx: 11, cy: 9, r: 6 }), "real negative"),
    entry(draw("polygon.pulled", { points: diamond(11, 9, 7) }), "pulled to λ·d + (1 − λ)·d⁺"),
    entry(draw("polygon.synthetic", { points: star(11, 9, 8.5) }), "synthetic, label kept"),
    entry(draw("polygon.synthetic.lost", { points: star(11, 9, 8.5) }), "synthetic, label lost"));
}

/** λ as a slider, under the curve of what it was while the run trained. */
function shares(look, onChange) {
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
  const chart = draw("svg.course", { height: 122, role: "img", "aria-label": course(training) });
  const node = draw("div.shares", {}, draw("div.readout", {}, value, said, draw("span.buttons", {}, play, back)),
    draw("div.track", {}, chart, input, draw("div.ends", {}, draw("span", {}, "0 · as near as the positive"), draw("span", {}, "1 · left where it is"))));
  let width = 0;
  const paint = () => {
    const x = (share) => THUMB / 2 + share * (width - THUMB);
    const y = (step) => 12 + (94 * step) / Math.max(1, training?.steps ?? 1);
    chart.setAttribute("width", width);
    const marks = [draw("line.cursor", { x1: x(values[place]), x2: x(values[place]), y1: 4, y2: 122 })];
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
      marks.push(draw("circle.own", { cx: x(values[own]), cy: 106, r: 5.5 }));
      marks.push(draw("text.strong", { x: x(values[own]) + (values[own] < 0.8 ? 10 : -10), y: 110, "text-anchor": values[own] < 0.8 ? "start" : "end" }, "this model"));
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

/** Distances from the anchor, true to scale, a row for each negative. */
function ruler(look, context) {
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

function nearestOf(look, negative, place, context) {
  return negative.nearest[place].map(([id, score]) => {
    const known = look.names[id];
    const photo = photoOf({ id, ...known }, context, known.label === negative.photo.label ? "thumb.own" : "thumb.foreign");
    photo.title = `${known.path}, ${known.label ?? "no label"}, cosine similarity ${score.toFixed(3)}`;
    return photo;
  });
}

const verdict = (kept) => draw(kept ? "b.kept" : "b.lost", {}, kept ? "label kept" : "label lost");

/** A card of each synthetic: what the generator made, and how hard that is. */
function cards(look, context) {
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

/** The gallery in the plane of its two principal components. */
function galleryMap(look, map, context) {
  const picture = draw("svg.map", { role: "img", "aria-label": `Map of ${map.dots.length} photos, with the anchor, its positive, its negatives and their synthetics` });
  const hint = draw("div.hint", { hidden: true });
  const frame = draw("div.frame", {}, picture, hint);
  let near = true, width = 0, shown;
  const zoom = choice("Show", [["around the anchor", () => { near = true; paint(); }], ["the whole gallery", () => { near = false; paint(); }]]);
  const trust = map.trustworthiness === null ? "" : ` Trustworthiness ${map.trustworthiness.toFixed(2)} of 1: how far neighbours on the map are neighbours in truth.`;
  const some = map.dots.length < map.photos ? ` ${map.dots.length} of ${map.photos} photos are shown.` : "";
  const node = draw("section.panel", { "aria-label": "Map" }, draw("div.heading", {}, draw("h2", {}, "Where does it lie?"), zoom), frame,
    draw("p.note", {}, `Two principal components, which hold ${percent(map.share)} of the variance; straight lines stay straight, distances do not stay true: the ruler is the truth.${trust}${some}`));
  const members = [look.anchor, look.positive, ...look.negatives.map(({ photo }) => photo)];
  const byLabel = new Map([[look.anchor.label, "same"], ...look.negatives.map(({ photo }) => [photo.label, "other"])]);
  let places = [];
  const extent = (points) => {
    const [xs, ys] = [0, 1].map((axis) => points.map((at) => at[axis]));
    return [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  };
  const bounds = {
    true: extent([...members.map(({ at }) => at), ...look.negatives.flatMap(({ at, pulled_at }) => [...at, ...pulled_at])]),
    false: extent([...map.dots.map(({ at }) => at), ...members.map(({ at }) => at), ...look.negatives.flatMap(({ at }) => at)]),
  };
  const paint = () => {
    if (!shown || !width) return;
    const height = Math.round(Math.min(640, Math.max(300, width * 0.95))), [left, right, low, high] = bounds[near];
    const scale = Math.min((width - 80) / (right - left || 1), (height - 80) / (high - low || 1));
    const x = (at) => width / 2 + (at[0] - (left + right) / 2) * scale, y = (at) => height / 2 - (at[1] - (low + high) / 2) * scale;
    const inside = (at) => x(at) > -8 && x(at) < width + 8 && y(at) > -8 && y(at) < height + 8;
    picture.setAttribute("width", width);
    picture.setAttribute("height", height);
    places = [];
    const marks = [];
    for (const dot of map.dots.filter(({ at }) => inside(at))) {
      places.push({ photo: dot, x: x(dot.at), y: y(dot.at) });
      marks.push(draw(`circle.dot.${byLabel.get(dot.label) ?? "rest"}`, { cx: x(dot.at).toFixed(1), cy: y(dot.at).toFixed(1), r: near ? 4 : 3 }));
    }
    for (const { photo, pulled_at, at } of look.negatives) {
      const [start, pulled, made] = [look.anchor.at, pulled_at[shown.place], at[shown.place]];
      marks.push(draw("line.ray", { x1: x(start), y1: y(start), x2: x(photo.at), y2: y(photo.at) }));
      marks.push(draw("line.pull", { x1: x(photo.at), y1: y(photo.at), x2: x(pulled), y2: y(pulled) }));
      marks.push(draw("line.jump", { x1: x(pulled), y1: y(pulled), x2: x(made), y2: y(made) }));
    }
    const photo = ({ id, at }, name, size) => {
      const [left, top] = [x(at) - size / 2, y(at) - size / 2];
      return draw("g", {}, draw("image", { href: context.pictureOf(id, 96), x: left, y: top, width: size, height: size, preserveAspectRatio: "xMidYMid slice" }),
        draw(`rect.border.${name}`, { x: left, y: top, width: size, height: size, rx: 4 }));
    };
    look.negatives.forEach((negative) => marks.push(photo(negative.photo, "other", 26)));
    marks.push(photo(look.positive, "same", 30), photo(look.anchor, "anchor", 34));
    members.forEach((member) => places.push({ photo: member, x: x(member.at), y: y(member.at) }));
    for (const negative of look.negatives) {
      const pulled = negative.pulled_at[shown.place], made = negative.at[shown.place], kept = negative.label_kept[shown.place];
      marks.push(draw("polygon.pulled", { points: diamond(x(pulled), y(pulled), 6) }), draw(kept ? "polygon.synthetic" : "polygon.synthetic.lost", { points: star(x(made), y(made), 10) }));
      places.push({ photo: negative.photo, what: "pulled from", x: x(pulled), y: y(pulled) }, { photo: negative.photo, what: "synthetic of", x: x(made), y: y(made) });
    }
    picture.replaceChildren(...marks);
  };
  const under = (event) => {
    const box = picture.getBoundingClientRect(), [px, py] = [event.clientX - box.left, event.clientY - box.top];
    let best, least = 16 ** 2;
    for (const place of places) {
      const distance = (place.x - px) ** 2 + (place.y - py) ** 2;
      if (distance <= least) [best, least] = [place, distance];
    }
    return best;
  };
  picture.onpointermove = (event) => {
    const found = under(event);
    hint.hidden = !found;
    if (!found) return;
    const { photo, what, x, y } = found;
    hint.replaceChildren(draw("img", { src: context.pictureOf(photo.id, 96), alt: "" }),
      draw("span", {}, draw("b", {}, `${what ? `${what} ` : ""}${photo.label ?? "no label"}`), draw("small", {}, photo.path), canLook(photo, context) ? draw("small", {}, "Click to look from it.") : ""));
    hint.style.left = `${Math.min(x + 14, Math.max(0, width - 230))}px`;
    hint.style.top = `${y + 14}px`;
  };
  picture.onpointerleave = () => { hint.hidden = true; };
  picture.onclick = (event) => {
    const found = under(event);
    if (found && canLook(found.photo, context)) context.onLook(found.photo.id);
  };
  whenSized(frame, (size) => { width = size; paint(); });
  return { node, show(state) { shown = state; paint(); } };
}

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
        bars(survey.losses.edges, [["negative", survey.losses.counts], ["synthetic", survey.synthetic_losses.counts]], { format: (value) => value.toPrecision(2) }))),
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
