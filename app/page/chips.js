import { icon } from "./icons.js";
import { make, pictureOf } from "./dom.js";
import { filterWords } from "./filters.js";

/** What shapes the results beside the query, each as a chip that can be taken away; `onChange` gets what changes of the state. */
export function chips(state, weights, { onChange, onUndo }) {
  const examples = ["more", "less"].flatMap((kind) => state[kind].map((id) => example(kind, id, state, weights, onChange)));
  const filters = filterWords(state).map(({ name, value, without }) => {
    const words = make("span", {}, make("small", {}, name), " ", make("bdi", {}, value));
    return chip("filter", [words], `${name} ${value}`, () => onChange(without));
  });
  const shown = [...examples, ...filters];
  if (shown.length === 0) return [];
  if (examples.length && weights && (state.photo !== null || state.id !== null)) {
    shown.unshift(make("span", { className: "chip" }, "Query", weight(weights.query)));
  }
  if (onUndo) {
    const undo = make("button", { type: "button", className: "quiet undo", title: "Take the last step back" }, icon("undo"), "Undo");
    undo.onclick = onUndo;
    shown.push(undo);
  }
  return shown;
}

function example(kind, id, state, weights, onChange) {
  const picture = make("img", { src: pictureOf(id, state.index, 96), alt: "" });
  // Each of several examples has its share of the weight of their mean.
  const share = weights ? weight(weights[kind] / state[kind].length) : "";
  const words = make("span", {}, kind === "more" ? "More" : "Less", make("small", {}, ` #${id}`));
  return chip(kind, [icon(kind), picture, words, share], `${kind} like ${id}`, () => onChange({ [kind]: state[kind].filter((one) => one !== id) }));
}

function weight(value) {
  return make("span", { className: "weight", title: "Weight in the mean of embeddings that is searched by" }, `× ${Number(Math.abs(value).toFixed(2))}`);
}

function chip(kind, content, name, onRemove) {
  const remove = make("button", { type: "button", className: "remove", title: `Remove ${name}`, ariaLabel: `Remove ${name}` }, icon("close"));
  remove.onclick = onRemove;
  return make("span", { className: `chip ${kind}` }, ...content, remove);
}

