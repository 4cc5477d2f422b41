import { ask, make, pictureOf } from "./dom.js";

const WHOLE = 960; // pixels of the picture that a part of an item is cut from

const sheet = new CSSStyleSheet();
sheet.replaceSync(`
  :host { display: inline-flex; gap: 4px; }
  button { font: 13px/1 system-ui, sans-serif; display: grid; place-items: center; width: 26px; height: 26px; padding: 0; border-radius: 8px; border: 1px solid var(--line); background: var(--paper); color: var(--muted); cursor: pointer; }
  button:hover { color: var(--ink); border-color: var(--muted); }
  button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
  button:disabled { opacity: 0.5; cursor: default; }
  .right[aria-pressed="true"] { color: var(--paper); background: var(--good); border-color: var(--good); }
  .wrong[aria-pressed="true"] { color: var(--paper); background: var(--bad); border-color: var(--bad); }
  svg { width: 14px; height: 14px; fill: none; stroke: currentColor; stroke-width: 2.2; stroke-linecap: round; stroke-linejoin: round; }
`);
const TICK = "M2.5 7.5 L5.8 10.8 L11.5 3.8", CROSS = "M3.2 3.2 L10.8 10.8 M10.8 3.2 L3.2 10.8";

/** Two buttons that say of a result whether it is right or wrong; pressed again, what was said is taken back. */
class ResultMarks extends HTMLElement {
  constructor() {
    super();
    this.attachShadow({ mode: "open" }).adoptedStyleSheets = [sheet];
  }

  /** Show the buttons of a result; `query` is {id} of an item or {file}, either with the `crop` that was searched by. */
  show(index, query, item) {
    Object.assign(this, { index, query, item });
    this.buttons = { true: this.button("right", TICK, true), false: this.button("wrong", CROSS, false) };
    this.shadowRoot.replaceChildren(...Object.values(this.buttons));
    if (query.id !== undefined && !query.crop) this.recall();
  }

  button(word, path, right) {
    const drawn = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    drawn.setAttribute("viewBox", "0 0 14 14");
    drawn.setAttribute("aria-hidden", "true");
    drawn.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
    drawn.firstChild.setAttribute("d", path);
    const ariaLabel = `${word[0].toUpperCase()}${word.slice(1)}: ${this.item.path ?? this.item.id}`;
    const title = right ? "Right: the same thing as the query" : "Wrong: another thing than the query";
    const button = make("button", { type: "button", className: word, ariaPressed: "false", ariaLabel, title }, drawn);
    button.onclick = () => this.press(right);
    return button;
  }

  async recall() {
    const known = (await marksOf(this.index).catch(() => new Map())).get(`${this.query.id} ${this.item.id}`);
    if (known && this.made === undefined) this.set(known);
  }

  set(made) {
    this.made = made;
    this.toggleAttribute("made", Boolean(made));
    for (const right of [true, false]) this.buttons[right].ariaPressed = String(made?.right === right);
  }

  async press(right) {
    for (const button of Object.values(this.buttons)) button.disabled = true;
    try {
      if (this.made?.right === right) {
        await ask(`/v1/feedback/${this.made.id}?${new URLSearchParams({ index: this.index })}`, { method: "DELETE" });
        this.set(null);
      } else {
        this.set(await this.send(right));
      }
      forget(this.index);
      this.dispatchEvent(new CustomEvent("marked", { bubbles: true, composed: true }));
    } catch (error) {
      for (const button of Object.values(this.buttons)) button.title = error.message;
    } finally {
      for (const button of Object.values(this.buttons)) button.disabled = false;
      this.buttons[right].focus();
    }
  }

  async send(right) {
    const { index, query, item } = this;
    if (query.id !== undefined && !query.crop) {
      const body = JSON.stringify({ index, query: { id: query.id }, item: item.id, right });
      return ask("/v1/feedback", { method: "POST", headers: { "content-type": "application/json" }, body });
    }
    const form = new FormData();
    form.append("image", await photoOf(index, query), query.file?.name ?? `part of ${query.id}`);
    return ask(`/v1/feedback?${new URLSearchParams({ index, item: item.id, right })}`, { method: "POST", body: form });
  }
}

customElements.define("result-marks", ResultMarks);

/** Buttons to mark a result of a query: marks(index, {id} or {file} with an optional crop [left, top, right, bottom], {id, path}). */
export function marks(index, query, item) {
  const element = document.createElement("result-marks");
  element.show(index, query, item);
  return element;
}

/** What was searched by: the photo as it was sent, or the part of it, cut out here. */
async function photoOf(index, query) {
  const whole = query.file ?? (await (await fetch(pictureOf(query.id, index, WHOLE))).blob());
  if (!query.crop) return whole;
  const [left, top, right, bottom] = String(query.crop).split(",").map(Number);
  const photo = await createImageBitmap(whole);
  const [width, height] = [photo.width * (right - left), photo.height * (bottom - top)];
  const canvas = make("canvas", { width, height });
  canvas.getContext("2d").drawImage(photo, photo.width * left, photo.height * top, width, height, 0, 0, width, height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.95));
}

/** The marks of an index by query and item, asked for once until one of them changes. */
const listed = new Map();
function marksOf(index) {
  if (!listed.has(index)) {
    const found = ask(`/v1/feedback?${new URLSearchParams({ index })}`).then(
      ({ marks }) => new Map(marks.filter((mark) => mark.query !== null).map((mark) => [`${mark.query} ${mark.item}`, mark])),
    );
    listed.set(index, found);
    found.catch(() => listed.delete(index));
  }
  return listed.get(index);
}

export function forget(index) {
  listed.delete(index);
}
