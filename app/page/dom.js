import { askedOf, followAddress, openTab, writeAddress } from "./address.js";

// Small pieces that the elements use. Text from the gallery only ever becomes textContent or an attribute, never markup.

/**
 * An element in a shadow root of its own, so that Gradio's style sheets and ours cannot disturb each other.
 *
 * A subclass names its own style sheets, beside the one of all, in `static sheets`.
 */
export class Isolated extends HTMLElement {
  constructor() {
    super();
    const sheets = ["elements.css", ...(this.constructor.sheets ?? [])];
    const links = sheets.map((sheet) => make("link", { rel: "stylesheet", href: `/page/${sheet}` }));
    this.attachShadow({ mode: "open" }).append(...links, make("div"));
  }

  /** Replace what is shown. */
  fill(...children) {
    this.shadowRoot.lastChild.replaceChildren(...children);
  }
}

/** An element over the indexes that can be searched; a subclass builds itself from them, the default one first. */
export class OverIndexes extends Isolated {
  async connectedCallback() {
    if (this.started) return;
    this.started = true;
    await this.start();
  }

  async start() {
    let found;
    try {
      found = await indexes();
    } catch (error) {
      this.fill(failure(error.message, () => this.start()));
      return;
    }
    if (found.length === 0) this.fill(firstSteps());
    else this.build(found.map((index) => index.name));
  }
}

/** What went wrong, with a button that tries again, or does what its words say. */
export function failure(sentence, again, words = "Try again") {
  const retry = make("button", { type: "button", className: "quiet", textContent: words });
  retry.onclick = again;
  return make("p", { className: "failed", role: "alert" }, sentence, " ", retry);
}

/** An element with properties and children; children are nodes or strings. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** The address of an item's picture, encoded anew by the server. */
export function pictureOf(id, index, size = 320) {
  return `/image/${id}?${new URLSearchParams({ index, size })}`;
}

/**
 * JSON from one of the server's routes; an Error with the server's sentence when it refuses, or with ours when it is gone.
 *
 * Of a refusal, `status` is the HTTP status and `wait` the seconds after which the server can be asked again, where it says so.
 */
export async function ask(path, options = {}) {
  const response = await fetch(path, options).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer; see whether hdml serve still runs.");
  });
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    const wait = Number.parseInt(response.headers.get("Retry-After"), 10);
    const refusal = new Error(problem.detail ?? `The server answered ${response.status}.`);
    throw Object.assign(refusal, { status: response.status, wait: Number.isNaN(wait) ? undefined : wait });
  }
  return response.json();
}

export function isDark() {
  return document.body.classList.contains("dark");
}

/** A command with a button that copies it. */
export function commandLine(command) {
  const copy = make("button", { type: "button", className: "quiet", textContent: "Copy", ariaLabel: `Copy ${command}` });
  const code = make("code", {}, command);
  copy.onclick = async () => {
    try {
      await navigator.clipboard.writeText(command);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // browsers lend the clipboard only to some pages
    }
  };
  return make("div", { className: "command" }, code, copy);
}

/** What to run before anything can be searched. */
export function firstSteps() {
  const steps = [
    ["Fine-tune an embedding on your labelled photos", "hdml train photos/"],
    ["Embed a folder and build its index", "hdml index ./gallery"],
    ["Open this page again", "hdml serve"],
  ];
  return make(
    "div",
    { className: "first-steps" },
    make("h2", {}, "Nothing is indexed yet"),
    make("p", {}, "Three commands take you from a folder of photos to a page that finds them."),
    make("ol", {}, ...steps.map(([what, command]) => make("li", {}, make("span", {}, what), commandLine(command)))),
    make("div", { className: "aside" }, make("h3", {}, "No photos at hand?"),
      make("p", {}, "One command draws a set of butterflies, trains on it in a few minutes, indexes it and opens this page."), commandLine("hdml demo")),
  );
}

/** The indexes that can be searched, the default one first; asked for once by the whole page, until it is answered. */
let listed;
function indexes() {
  listed ??= ask("/v1/indexes")
    .then((answer) => answer.indexes)
    .catch((error) => {
      listed = undefined;
      throw error;
    });
  return listed;
}

/** A choice among the indexes, a label around a select; hidden while there is only one. */
export function indexChoice(names, onChange) {
  const choice = make("select", { ariaLabel: "Index" }, ...names.map((name) => make("option", { value: name }, name)));
  choice.onchange = () => onChange(choice.value);
  const label = make("label", { className: "choice" }, "Index ", choice);
  label.hidden = names.length < 2;
  return label;
}

/** Turn to the lens with an item as its anchor. */
export function openLens(index, anchor) {
  wish.anchor = undefined; // the lens may have looked elsewhere since
  writeAddress("lens", new URLSearchParams({ index, anchor }));
  grantWish();
}

/** What the lens is wished to look from; it may not be on the page yet, so that the wish is kept for it. */
export const wish = { index: undefined, anchor: undefined };
function grantWish() {
  const asked = askedOf("lens"), index = asked.get("index") ?? undefined, anchor = asked.get("anchor") ?? undefined;
  if (anchor === wish.anchor && index === wish.index) return;
  Object.assign(wish, { index, anchor });
  if (anchor !== undefined) window.dispatchEvent(new Event("hdml-look"));
}
grantWish();
followAddress("lens", grantWish);

/** Put what the lens looks from into the address, if it is the lens that is shown. */
export function keepLook(index, anchor) {
  if (openTab() !== "lens") return;
  Object.assign(wish, { index, anchor: String(anchor) });
  writeAddress("lens", new URLSearchParams({ index, anchor }), { replace: true });
}
