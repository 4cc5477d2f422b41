import { ask, make } from "./dom.js";
import { bases, calibration, quality, section } from "./quality.js";
import { bytes, day } from "./quantities.js";

const LABELS = 24; // shown at first

/** Into a pane, the figures of an index, from its `statistics`; `onLabel` is called with a label that is chosen. */
export async function showFigures(pane, found, isCurrent, onLabel) {
  const generations = await ask(`/v1/generations?${new URLSearchParams({ index: found.index })}`).catch(() => undefined);
  if (!isCurrent()) return;
  const head = make("dl", { className: "head" }, ...[
    ["Photos", found.items.toLocaleString("en")],
    ["Labels", found.labels.length.toLocaleString("en")],
    ["Without a label", found.unlabelled.toLocaleString("en")],
    ["Files of photos", bytes(found.bytes.photos)],
    ["Index on disk", bytes(found.bytes.index)],
    ["Model", found.model],
    ["Up to date as of", day(found.updated)],
  ].map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
  const cards = [labelBars(found.labels, onLabel), calibration(found.calibration), quality(found.quality), sideBars(found.sides)];
  if (generations) cards.push(bases(generations));
  pane.replaceChildren(head, make("div", { className: "cards" }, ...cards));
}

function labelBars(labels, onLabel) {
  const sorted = [...labels].sort((a, b) => b.items - a.items || (a.label < b.label ? -1 : 1));
  const most = sorted[0]?.items ?? 1;
  const row = ({ label, items }) => {
    const bar = make("i");
    bar.style.width = `${(100 * items) / most}%`;
    const button = make("button", { type: "button", className: "bare", title: `Show the photos of ${label}` }, make("span", { className: "of" }, label), make("span", { className: "track" }, bar), make("span", { className: "number" }, items.toLocaleString("en")));
    button.onclick = () => onLabel(label);
    return make("li", {}, button);
  };
  const list = make("ol", { className: "bars" }, ...sorted.slice(0, LABELS).map(row));
  const card = section("Labels", "Number of photos of each; choose one to see them.", sorted.length ? list : make("p", { className: "note" }, "No photo has a label: photos get that of the folder they lie in."));
  if (sorted.length > LABELS) {
    const all = make("button", { type: "button", className: "quiet", textContent: `Show all ${sorted.length}` });
    all.onclick = () => { list.replaceChildren(...sorted.map(row)); all.remove(); };
    card.append(all);
  }
  return card;
}

function sideBars(sides) {
  const shown = sides.slice(sides.findIndex(({ items }) => items), sides.findLastIndex(({ items }) => items) + 1);
  const most = Math.max(...shown.map(({ items }) => items), 1);
  const bars = shown.map(({ from, below, items }) => {
    const bar = make("i");
    bar.style.height = `${(100 * items) / most}%`;
    const range = below === null ? `${from} and more` : `${from}–${below - 1}`;
    return make("li", {}, make("span", { className: "number" }, items.toLocaleString("en")), make("span", { className: "column" }, bar), make("span", { className: "of" }, range));
  });
  return section("Sizes", "Photos by their shorter side, in pixels.", make("ol", { className: "columns" }, ...bars));
}
