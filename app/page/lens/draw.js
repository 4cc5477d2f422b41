// What the views of the hardness lens are drawn with. Text from the gallery only ever becomes textContent.

const SVG = "http://www.w3.org/2000/svg";
const HTML = "http://www.w3.org/1999/xhtml";
export const ROW = 64; // pixels
export const THUMB = 20; // of the slider, pixels, as in lens.css

/** An element: draw("p.note", { title }, ...children); names that SVG knows alone become SVG elements. */
export function draw(name, attributes = {}, ...children) {
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

export const number = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(3));
export const percent = (share) => `${Math.round(100 * share)} %`;
export const signed = (share) => `${share >= 0 ? "+" : "−"}${Math.abs(Math.round(100 * share))} %`;
export const called = (photo) => photo.label ?? photo.path;

export function star(x, y, radius) {
  const points = Array.from({ length: 10 }, (_, i) => {
    const angle = (Math.PI * i) / 5 - Math.PI / 2, r = i % 2 ? radius * 0.45 : radius;
    return `${(x + r * Math.cos(angle)).toFixed(2)},${(y + r * Math.sin(angle)).toFixed(2)}`;
  });
  return points.join(" ");
}

export const diamond = (x, y, r) => `${x},${y - r} ${x + r},${y} ${x},${y + r} ${x - r},${y}`;

/** Round numbers from 0 to at most `most`, about `count` of them. */
export function ticks(most, count = 6) {
  const power = 10 ** Math.floor(Math.log10(most / count));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => most / size <= count);
  return Array.from({ length: Math.floor(most / step + 1e-9) + 1 }, (_, i) => +(i * step).toPrecision(6));
}

/** Run again whenever an element has another width; the observer goes with the element. */
export function whenSized(element, paint) {
  let last = 0;
  new ResizeObserver(([entry]) => {
    const width = Math.round(entry.contentRect.width);
    if (width && width !== last) paint((last = width));
  }).observe(element);
}

/** Whether an item can be looked from: on the page every labelled one, in a file those that it holds the looks of. */
export const canLook = ({ id, label }, context) => Boolean(context.onLook) && label != null && (context.canLook?.(id) ?? true);

/** A small photo: a button that looks from it where there is something to look by. */
export function photoOf(photo, context, name = "thumb") {
  const { id, label, path } = photo;
  const image = draw("img", { src: context.pictureOf(id, 96), alt: label ?? path ?? "", loading: "lazy" });
  if (!canLook(photo, context)) return draw(`span.${name}`, { title: path }, image);
  return draw(`button.${name}`, { type: "button", title: path, "aria-label": `Look from ${path}`, onclick: () => context.onLook(id) }, image);
}

/** Buttons of which one is pressed, at first that of the first option: [text, what it does, further attributes]. */
export function choice(name, options) {
  const buttons = options.map(([text, act, attributes]) =>
    draw("button.option", { type: "button", value: text, ...attributes, onclick: (event) => { press(event.currentTarget.value); act(); } }, text));
  const press = (value) => buttons.forEach((button) => button.setAttribute("aria-pressed", button.value === value));
  press(buttons[0].value);
  return { node: draw("div.choices", { role: "group", "aria-label": name }, draw("span", {}, name), ...buttons), press };
}

export function nearestOf(look, negative, place, context) {
  return negative.nearest[place].map(([id, score]) => {
    const known = look.names[id];
    const photo = photoOf({ id, ...known }, context, known.label === negative.photo.label ? "thumb.own" : "thumb.foreign");
    photo.title = `${known.path}, ${known.label ?? "no label"}, cosine similarity ${score.toFixed(3)}`;
    return photo;
  });
}

export const verdict = (kept) => draw(kept ? "b.kept" : "b.lost", {}, kept ? "label kept" : "label lost");
