import { icon } from "./icons.js";
import { ask, make, pictureOf } from "./dom.js";
import { marks } from "./marks.js";
import { bytes } from "./quantities.js";
import { whyView } from "./why.js";

const NEIGHBOURS = 12;

/**
 * A dialog about one item: large, with what is known of it, its own neighbours, and why it was found.
 *
 * `acts` has `more`, `less`, `search` and `lens` of an item, `open` of an id, `close`, `closed` of an id, `siblings` for the ids
 * that arrows go through, `found` for what the answer holds of an id, `marked` for
 * the query that it can be marked for, and `question` for what was asked.
 */
export function detailDialog(place, acts) {
  let shown = null, turn = 0;
  const title = make("h2", { id: "detail-title", dir: "auto" }), path = make("bdi");
  const picture = make("img", { alt: "" }), view = make("div", { className: "large" }, picture);
  const why = toggle("why", "Why?", "Which regions of both photos matter for this match");
  const buttons = { search: button("search", "Search from this"), more: button("more", "More like this"), less: button("less", "Less like this"), lens: button("lens", "Lens") };
  const previous = button("previous", "", "Previous photo (left arrow)"), next = button("next", "", "Next photo (right arrow)"), close = button("close", "", "Close (Escape)");
  close.autofocus = true;
  const score = make("div", { className: "of-query" }), known = make("dl"), neighbours = make("div", { className: "strip", role: "group", ariaLabel: "Photos like this one" });
  const heading = make("h3", {}, "Its own neighbours"), failure = make("p", { className: "failed", role: "alert", hidden: true });
  const head = make("div", { className: "detail-head" }, title, previous, next, close);
  const about = make("div", { className: "about" }, make("p", { className: "path" }, path), score, make("div", { className: "controls" }, ...Object.values(buttons), why), failure, known);
  const dialog = make("dialog", { className: "detail" }, head, make("div", { className: "detail-body" }, view, about, make("div", { className: "like-it" }, heading, neighbours)));
  dialog.setAttribute("aria-labelledby", "detail-title");
  place.append(dialog);

  for (const [name, one] of Object.entries(buttons)) {
    one.onclick = () => acts[name]({ id: shown.id });
  }
  previous.onclick = () => step(-1);
  next.onclick = () => step(1);
  close.onclick = () => acts.close();
  dialog.oncancel = (event) => {
    event.preventDefault();
    acts.close();
  };
  dialog.onclick = (event) => event.target === dialog && acts.close();
  dialog.onkeydown = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) step(by);
  };
  why.onclick = async () => {
    const asked = turn;
    why.ariaPressed = String(why.ariaPressed !== "true");
    failure.hidden = true;
    if (why.ariaPressed !== "true") return view.replaceChildren(picture);
    try {
      const explained = await whyView(acts.question(), shown);
      if (asked === turn) view.replaceChildren(...explained);
    } catch (error) {
      if (asked === turn) fail(error);
    }
  };

  function step(by) {
    const ids = acts.siblings(), at = ids.indexOf(shown.id) + by;
    if (at >= 0 && at < ids.length) acts.open(ids[at]);
  }

  /** Where the item stands in the answer, which may come later than the dialog. */
  function rank() {
    const ids = acts.siblings(), at = ids.indexOf(shown.id);
    previous.disabled = at <= 0;
    next.disabled = at < 0 || at === ids.length - 1;
    const item = acts.found(shown.id);
    const query = item?.parts.length ? acts.marked() : null;
    score.replaceChildren(...(item?.parts ?? []), ...(query ? [marks(shown.index, query, item)] : []));
    if (item) entitle(item);
  }

  function entitle({ label, path: where }) {
    title.textContent = label ?? where.split("/").at(-1);
    path.textContent = where;
    picture.alt = label ?? where;
  }

  function fail(error) {
    failure.textContent = error.message;
    failure.hidden = false;
  }

  async function fill(id, index, isAnswer) {
    const mine = ++turn;
    shown = { id, index };
    title.textContent = path.textContent = "…";
    rank();
    why.hidden = !isAnswer;
    why.ariaPressed = "false";
    failure.hidden = true;
    known.replaceChildren();
    neighbours.replaceChildren();
    picture.src = pictureOf(id, index, 960);
    view.replaceChildren(picture);
    const asked = new URLSearchParams({ index });
    const like = new URLSearchParams({ index, id, k: NEIGHBOURS });
    const [item, near] = await Promise.allSettled([ask(`/v1/items/${id}?${asked}`), ask(`/v1/search?${like}`, { method: "POST" })]);
    if (mine !== turn) return;
    if (item.status === "fulfilled") tellOf(item.value);
    else fail(item.reason);
    if (near.status === "fulfilled") neighbours.replaceChildren(...near.value.results.map((one) => neighbour(one, index)));
    heading.hidden = near.status !== "fulfilled";
  }

  function tellOf(item) {
    const { width, height, size, changed, attributes, id, model } = item;
    entitle(item);
    const pairs = [
      ["Photo", width && height && `${width} × ${height} px`],
      ["File", size && bytes(size)],
      ["Changed", changed && new Date(changed).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" })],
      ...Object.entries(attributes ?? {}),
      ["Id", id],
      ["Model", model],
      ["Copies", acts.found(id)?.copies?.map((copy) => `${copy.path} (${copy.kind})`).join(", ")],
    ];
    known.replaceChildren(...pairs.filter(([, value]) => value).flatMap(([name, value]) => [make("dt", {}, name), make("dd", { dir: "auto" }, String(value))]));
  }

  function neighbour({ id, path: where, label, score: cosine }, index) {
    const words = `Open ${where}`;
    const photo = make("img", { src: pictureOf(id, index), alt: "", loading: "lazy" });
    const one = make("button", { type: "button", className: "neighbour", title: words, ariaLabel: words }, photo, make("span", {}, label ?? where), make("small", {}, cosine.toFixed(3)));
    one.onclick = () => acts.open(id);
    return one;
  }

  return {
    isOpen: () => dialog.open,
    /** Show an item of an index, or nothing; `isAnswer` where there is a query that found it. */
    show(id, index, isAnswer) {
      if (id === null) {
        if (!dialog.open) return;
        this.hide();
        acts.closed(shown.id);
      } else if (!dialog.open || id !== shown.id || index !== shown.index) {
        if (!dialog.open) dialog.showModal();
        fill(id, index, isAnswer);
      }
    },
    /** Away with it until it is shown again: another tab is looked at. */
    hide() {
      dialog.close();
      turn++;
    },
    /** Another answer is shown. */
    refresh: () => dialog.open && rank(),
  };
}

function button(drawing, words, meaning = words) {
  return make("button", { type: "button", className: words ? "quiet" : "quiet bare", title: meaning, ariaLabel: meaning }, icon(drawing), words);
}

function toggle(drawing, words, meaning) {
  const made = button(drawing, words, meaning);
  made.ariaPressed = "false";
  return made;
}
