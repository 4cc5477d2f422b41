import { make, pictureOf } from "./dom.js";

const CELL = 148; // pixels that a photo has at least
const GAP = 6;
const BEYOND = 3; // rows that are ready above and below the window
const SETTLED = 80; // milliseconds that a photo stays in view before its picture is asked for
const STILL = 250; // milliseconds without a move after which a place is told of
const TALLEST = 30_000_000; // pixels; browsers draw nothing below

/**
 * Any number of photos as a grid, of which only those that lie in the window are held.
 *
 * `onOpen` is called with the place of a photo that is chosen, `onRest` with the place of the first one in view after scrolling.
 */
export function photoSheet({ onOpen, onRest }) {
  const element = make("div", { className: "sheet", role: "list", ariaLabel: "Photos" });
  const cells = new Map(); // by place
  let photos, total = 0, columns = 1, step = CELL;
  let active = 0, wanted; // the place that the Tab key reaches, and the one that gets the focus as soon as it is there
  let top = 0, due; // the place of the first photo in view, and one to scroll to as soon as there is room

  let asked = false;
  const soon = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; place(); });
  };
  let rest;
  const scrolled = () => {
    soon();
    clearTimeout(rest);
    rest = setTimeout(() => total && element.clientWidth && due === undefined && onRest(top), STILL);
  };
  window.addEventListener("scroll", scrolled, { passive: true, capture: true });
  new ResizeObserver(soon).observe(element);
  element.onkeydown = (event) => walk(event);

  /** Put the photos that lie in the window, and a few beside them, to their places; take away all others. */
  function place() {
    const width = element.clientWidth;
    if (!width) due ??= top; // another tab is shown, which scrolls the window as it likes
    if (!total || !width) return;
    columns = Math.max(3, Math.floor((width + GAP) / (CELL + GAP)));
    step = (width + GAP) / columns;
    element.style.height = `${Math.min(TALLEST, Math.ceil(total / columns) * step - GAP)}px`;
    if (due !== undefined) scrollTo(due);
    const above = -element.getBoundingClientRect().top;
    top = above < step ? 0 : Math.min(total - 1, Math.round(above / step) * columns);
    const first = Math.max(0, Math.floor(above / step) - BEYOND) * columns;
    const last = Math.min(total, Math.max(0, Math.ceil((above + innerHeight) / step) + BEYOND) * columns);
    for (const [at, cell] of cells) {
      if (at >= first && at < last) continue;
      cell.querySelector("img")?.removeAttribute("src"); // what is still on its way is not waited for
      cell.remove();
      cells.delete(at);
    }
    let after = element.firstChild;
    for (let at = first; at < last; at++) {
      let cell = cells.get(at);
      if (!cell) {
        cell = cellOf(at);
        cells.set(at, cell);
        element.insertBefore(cell, after);
      } else after = cell.nextSibling;
      const side = step - GAP;
      Object.assign(cell.style, { width: `${side}px`, height: `${side}px`, transform: `translate(${(at % columns) * step}px, ${Math.floor(at / columns) * step}px)` });
    }
  }

  function scrollTo(at) {
    due = undefined;
    const row = Math.floor(at / columns);
    if (row) window.scrollBy(0, element.getBoundingClientRect().top + row * step);
    else if (element.getBoundingClientRect().top < 0) window.scrollTo(0, 0);
  }

  function cellOf(at) {
    const cell = make("div", { className: "cell", role: "listitem", ariaSetSize: String(total), ariaPosInSet: String(at + 1) });
    setTimeout(() => cell.isConnected && furnish(cell, at), SETTLED);
    return cell;
  }

  async function furnish(cell, at) {
    const item = await photos.at(at).catch(() => undefined);
    if (!cell.isConnected || !item) return;
    const picture = make("img", { src: pictureOf(item.id, photos.index), alt: "", decoding: "async" });
    picture.onerror = () => cell.classList.add("unseen");
    const name = item.label ?? item.path;
    const button = make("button", { type: "button", tabIndex: at === active ? 0 : -1, title: item.path, ariaLabel: item.path }, picture, make("span", {}, name));
    button.onclick = () => onOpen(at);
    cell.replaceChildren(button);
    if (wanted === at) {
      wanted = undefined;
      button.focus({ preventScroll: true });
    }
  }

  /** Arrow keys go from photo to photo. */
  function walk(event) {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -total, End: total };
    if (!(event.key in steps)) return;
    event.preventDefault();
    focusOn(Math.min(total - 1, Math.max(0, active + steps[event.key])));
  }

  function focusOn(at) {
    const before = cells.get(active)?.querySelector("button");
    if (before) before.tabIndex = -1;
    active = wanted = at;
    const edge = element.getBoundingClientRect().top + Math.floor(at / columns) * step;
    if (edge < 80) window.scrollBy(0, edge - 80);
    else if (edge + step > innerHeight) window.scrollBy(0, edge + step - innerHeight + 8);
    place();
    const button = cells.get(at)?.querySelector("button");
    if (!button) return;
    wanted = undefined;
    button.tabIndex = 0;
    button.focus({ preventScroll: true });
  }

  return {
    element,
    /** Show a listing of so many photos from a place on; `instead` is shown where there is none. */
    show(shown, count, from, instead = "") {
      photos = shown;
      total = count;
      active = due = Math.min(from, Math.max(0, count - 1));
      cells.clear();
      element.style.height = "";
      element.replaceChildren(...(count ? [] : [instead]));
      place();
    },
    /** Scroll to a place. */
    goTo(at) {
      due = at;
      soon();
    },
    focusOn,
  };
}
