import { icon } from "./icons.js";
import { make, pictureOf } from "./dom.js";
import { marks } from "./marks.js";

/** Shapes beyond these are shown with a margin, so that no photo takes a whole row or leaves no room for its name. */
const NARROWEST = 0.66, WIDEST = 2.4;
const SIGNS = { match: "✓", unsure: "?", "no match": "–" };
const KEYS = { "+": "more", "-": "less", s: "search", l: "lens" };

/** A verdict as a word, a sign and a colour. */
function verdictMark(verdict) {
  return make("span", { className: `verdict ${verdict.replace(" ", "-")}` }, make("span", { ariaHidden: "true" }, SIGNS[verdict]), verdict);
}

/** A score from 0 to 1 as `bar`, with marks where a match begins and where no match ends, and what that means on hover and focus; beside it `value` and `mark`. */
export function scoreParts(score, verdict, calibration) {
  const fill = make("i");
  fill.style.width = `${100 * Math.max(0, score)}%`;
  const marks = calibration ? [calibration.unsure, calibration.match].map((least) => make("u")) : [];
  marks.forEach((mark, i) => (mark.style.left = `${100 * Math.max(0, [calibration.unsure, calibration.match][i])}%`));
  const bar = make("span", { className: "bar" }, make("span", { className: "track" }, fill), ...marks);
  const meaning = make("span", { className: "meaning", role: "tooltip" }, meaningOf(score, verdict, calibration));
  const ariaLabel = `Score ${score.toFixed(3)}${verdict ? `, ${verdict}` : ""}`;
  const button = make("button", { type: "button", className: `score ${verdict ? verdict.replace(" ", "-") : ""}`, ariaLabel, ariaDescription: meaning.textContent }, bar, meaning);
  button.onfocus = button.onpointerenter = () => {
    meaning.classList.toggle("leftward", button.getBoundingClientRect().left > innerWidth / 2);
  };
  return { bar: button, value: make("span", { className: "value" }, score.toFixed(3)), mark: verdict ? verdictMark(verdict) : "" };
}

function meaningOf(score, verdict, calibration) {
  const cosine = "Cosine similarity of the embeddings: 1 is the same direction.";
  if (!calibration) return `${cosine} This index has no thresholds that say which scores are a match.`;
  const share = `${Number((100 * calibration.false_matches).toPrecision(2))} %`;
  const meanings = {
    match: `A match: from ${calibration.match.toFixed(3)} on, which at most ${share} of photos of things that are not here reach.`,
    unsure: `Unsure: a match begins at ${calibration.match.toFixed(3)}, no match ends at ${calibration.unsure.toFixed(3)}.`,
    "no match": `No match: below ${calibration.unsure.toFixed(3)}, where photos of things that are not here are as usual.`,
  };
  return `${cosine} ${meanings[verdict]}`;
}

/**
 * Photos in rows of equal height, each in its own shape.
 *
 * `acts` holds what can be done with an item: `open`, `more`, `less`, `search` and `lens`, each called with it.
 */
export function photoGrid(acts) {
  const list = make("ol", { className: "results", ariaLabel: "Photos" });
  let shown = [];

  list.addEventListener("keydown", (event) => {
    const cards = [...list.children], at = cards.findIndex((card) => card.contains(event.target));
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: cards.length - 1 }[event.key] ?? vertical(cards, at, event.key);
    if (to !== undefined) cards[Math.min(cards.length - 1, Math.max(0, to))].querySelector(".photo").focus();
    else if (KEYS[event.key]) cards[at].querySelector(`[data-act=${KEYS[event.key]}]:not([hidden])`)?.click();
    else return;
    event.preventDefault();
  });
  // One card at a time is in the order of the tab key: twenty cards of six buttons would be a long way.
  list.addEventListener("focusin", (event) => {
    for (const card of list.children) reachable(card, card.contains(event.target));
  });

  return {
    element: list,
    /** Items of an index, or of an answer with scores, its `calibration` and the `query` that results can be marked for. */
    show(items, index, about = {}) {
      const focused = list.contains(list.getRootNode().activeElement);
      shown = items;
      list.replaceChildren(...items.map((item) => card(item, index, acts, about)));
      if (list.firstChild) reachable(list.firstChild, true);
      if (focused) list.querySelector(".photo")?.focus(); // whoever goes by keyboard is not sent back to the top of the page
    },
    items: () => shown,
    focus: (id) => (list.querySelector(`[data-id="${id}"] .photo`) ?? list.querySelector(".photo"))?.focus(),
  };
}

function card(item, index, acts, { calibration = null, query = null, more = [], less = [] }) {
  const { id, path, label, score, verdict, width, height, copies } = item;
  const name = label ?? path.split("/").at(-1);
  const picture = make("img", { src: pictureOf(id, index), alt: "", loading: "lazy", decoding: "async", draggable: false });
  const photo = make("button", { type: "button", className: "photo", ariaLabel: `Open ${path}` }, picture);
  photo.onclick = () => acts.open(item);
  const buttons = [
    act("more", "More like", item, acts, more.includes(id)),
    act("less", "Less like", item, acts, less.includes(id)),
    act("search", "Search from", item, acts),
    act("lens", "Lens on", item, acts),
  ];
  buttons[1].hidden = score === undefined; // nothing yet to subtract from
  const frame = make("div", { className: "picture" }, photo, make("div", { className: "acts" }, ...buttons));
  if (query) frame.append(marks(index, query, item));
  if (copies?.length) frame.append(copyBadge(copies));
  const made = make("li", { className: "card" }, frame);
  made.dataset.id = id;
  made.style.setProperty("--ratio", Math.min(WIDEST, Math.max(NARROWEST, width && height ? width / height : 1)));
  const { bar, value, mark } = score === undefined ? { bar: "", value: "", mark: "" } : scoreParts(score, verdict, calibration);
  const known = make("div", { className: "line" }, make("b", { className: "label", title: name, dir: "auto" }, name), value);
  made.append(bar, known, make("div", { className: "line" }, make("p", { className: "path", title: path }, make("bdi", { dir: "ltr" }, path)), mark));
  reachable(made, false);
  return made;
}

/** That a photo stands for copies of it, too. */
function copyBadge(copies) {
  const title = copies.map((copy) => `${copy.path} (${copy.kind})`).join("\n");
  return make("span", { className: "copies", title }, `+ ${copies.length} ${copies.length === 1 ? "copy" : "copies"}`);
}

function act(name, words, item, acts, pressed) {
  const meaning = `${words} ${item.path}`;
  const button = make("button", { type: "button", className: "act", title: meaning, ariaLabel: meaning }, icon(name));
  button.dataset.act = name;
  if (pressed !== undefined) button.ariaPressed = String(pressed);
  button.onclick = () => acts[name](item);
  return button;
}

function reachable(card, it) {
  const of = [card, ...[...card.querySelectorAll("result-marks")].map((each) => each.shadowRoot)];
  for (const button of of.flatMap((each) => [...each.querySelectorAll("button")])) button.tabIndex = it ? 0 : -1;
}

/** The card in the row above or below whose middle is nearest; undefined for other keys. */
function vertical(cards, at, key) {
  if (key !== "ArrowUp" && key !== "ArrowDown") return undefined;
  const boxes = cards.map((card) => card.getBoundingClientRect()), own = boxes[at];
  const beyond = boxes.filter((box) => (key === "ArrowUp" ? box.top < own.top - 1 : box.top > own.top + 1)).map((box) => box.top);
  if (beyond.length === 0) return at;
  const row = key === "ArrowUp" ? Math.max(...beyond) : Math.min(...beyond), middle = (box) => box.left + box.width / 2;
  const near = boxes.map((box, i) => [Math.abs(box.top - row) > 1 ? Infinity : Math.abs(middle(box) - middle(own)), i]);
  return near.reduce((best, one) => (one[0] < best[0] ? one : best))[1];
}
