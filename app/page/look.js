import { ask, make, pictureOf } from "./dom.js";
import { marks } from "./marks.js";
import { bytes, day } from "./quantities.js";

/**
 * A dialog about one photo of the gallery: large, with what is known of it and the photos most like it.
 *
 * `acts` has `search` and `lens` of an item, `step` by one photo forwards or backwards, and `close`.
 */
export function lookDialog(parent, acts) {
  let dialog;

  function action(words, quiet, onclick) {
    return Object.assign(make("button", { type: "button", className: quiet ? "quiet" : "", textContent: words }), { onclick });
  }

  /** An item of an index at a place of a listing, with how far it is to both ends; without a place there is none beside it. */
  async function show(item, index, { before, after }) {
    const old = dialog;
    dialog = make("dialog", { className: "look", ariaLabel: item.path });
    const picture = make("img", { className: "large", src: pictureOf(item.id, index, 960), alt: item.path, width: item.width ?? 960, height: item.height ?? 960 });
    const known = [
      ["Path", item.path],
      ["Label", item.label ?? "none"],
      ...Object.entries(item.attributes),
      ["Pixels", item.width === null ? "unknown" : `${item.width} × ${item.height}`],
      ["File", item.size === null ? "none; a vector from a table" : `${bytes(item.size)}, changed ${day(item.changed)}`],
      ["Id", String(item.id)],
    ];
    const table = make("dl", {}, ...known.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
    const similar = make("ol", { className: "similar" });
    const close = Object.assign(action("✕", true, () => acts.close()), { ariaLabel: "Close", title: "Close" });
    const actions = make("div", { className: "controls" },
      action("Search from it", false, () => acts.search(item)),
      action("Hardness lens", true, () => acts.lens(item)));
    const beside = [["←", "Previous photo", -1, before], ["→", "Next photo", 1, after]].map(([words, ariaLabel, by, room]) =>
      Object.assign(action(words, true, () => acts.step(by)), { ariaLabel, title: ariaLabel, disabled: room < 1 }));
    const heading = make("div", { className: "heading" }, make("h2", {}, item.label ?? item.path), make("div", { className: "beside" }, ...beside, close));
    const words = make("div", { className: "words" }, heading, table, actions, make("h3", {}, "Most like it"), similar);
    dialog.append(make("div", { className: "stage" }, picture), words);
    dialog.onkeydown = (event) => {
      if (event.key === "ArrowLeft" && before > 0) acts.step(-1);
      if (event.key === "ArrowRight" && after > 0) acts.step(1);
    };
    dialog.oncancel = (event) => {
      event.preventDefault();
      acts.close();
    };
    parent.append(dialog);
    old?.remove();
    dialog.showModal();
    try {
      const { results } = await ask(`/v1/search?${new URLSearchParams({ index, id: item.id, k: 8 })}`, { method: "POST" });
      similar.replaceChildren(...results.map((result) => like(index, item, result)));
    } catch (error) {
      similar.replaceChildren(make("li", { className: "failed" }, error.message));
    }
  }

  return {
    show,
    hide() {
      dialog?.remove();
      dialog = undefined;
    },
  };
}

function like(index, item, result) {
  const picture = make("img", { src: pictureOf(result.id, index), alt: result.path, loading: "lazy" });
  const name = result.label ?? result.path;
  const score = make("span", { className: "value", title: "Cosine similarity of the embeddings: 1 is the same direction" }, result.score.toFixed(3));
  return make("li", {}, picture, make("b", { title: result.path }, name), make("div", { className: "verdicts" }, score, marks(index, { id: item.id }, result)));
}
