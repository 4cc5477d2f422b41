import { make } from "./dom.js";

const LEAST = 0.04; // of a side; less is a click
const STEP = 0.02; // of a side, for a press of an arrow
const HOW = "Part to search by. Arrows move it, Shift with arrows changes its size, Enter searches, Delete takes it away.";

/**
 * A layer over a photo on which a part of it is chosen by mouse, touch or keyboard.
 *
 * A part is [left, top, right, bottom] in shares of the photo; `onCrop` is called with it, or with null when it is taken away.
 */
export function cropper(onCrop) {
  const handles = ["nw", "ne", "sw", "se"].map((corner) => make("i", { className: `handle ${corner}` }));
  const box = make("div", { className: "crop-box", tabIndex: 0, role: "group", ariaLabel: HOW, hidden: true }, ...handles);
  const layer = make("div", { className: "crop-layer" }, box);
  let part = null, before = null, drag = null;

  function show(next) {
    part = next;
    box.hidden = part === null;
    layer.classList.toggle("ready", part !== null); // only then does touch not scroll
    if (part === null) return;
    const [left, top, right, bottom] = part.map((share) => `${100 * share}%`);
    Object.assign(box.style, { left, top, width: `calc(${right} - ${left})`, height: `calc(${bottom} - ${top})` });
  }

  function place(event) {
    const { left, top, width, height } = layer.getBoundingClientRect();
    return [within((event.clientX - left) / width), within((event.clientY - top) / height)];
  }

  layer.onpointerdown = (event) => {
    const at = place(event), handle = handles.indexOf(event.target);
    if (event.button !== 0 || (handle < 0 && event.target !== box && event.pointerType !== "mouse" && part === null)) return;
    event.preventDefault();
    layer.setPointerCapture(event.pointerId);
    before = part;
    if (handle >= 0) drag = { fixed: [part[handle % 2 ? 0 : 2], part[handle < 2 ? 3 : 1]] };
    else if (event.target === box) drag = { from: at };
    else drag = { fixed: at };
  };
  layer.onpointermove = (event) => {
    if (!drag) return;
    const [x, y] = place(event);
    if (drag.fixed) {
      const [a, b] = drag.fixed;
      show([Math.min(a, x), Math.min(b, y), Math.max(a, x), Math.max(b, y)]);
    } else {
      show(moved(before, x - drag.from[0], y - drag.from[1]));
    }
  };
  layer.onpointerup = () => {
    const wasDrag = drag !== null;
    drag = null;
    if (!wasDrag || part === before) return;
    if (part && part[2] - part[0] >= LEAST && part[3] - part[1] >= LEAST) onCrop(part);
    else show(before);
  };
  layer.onpointercancel = () => {
    if (drag) show(before);
    drag = null;
  };

  box.onkeydown = (event) => {
    const arrow = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key];
    if (arrow) show(event.shiftKey ? stretched(part, ...arrow) : moved(part, ...arrow));
    else if (event.key === "Enter") onCrop(part);
    else if (event.key === "Delete" || event.key === "Backspace") clear();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };

  function clear() {
    show(null);
    onCrop(null);
  }

  /** Offer a part in the middle, to be moved; it is searched by when it is let go of or on Enter. */
  function offer() {
    show(part ?? [0.2, 0.2, 0.8, 0.8]);
    box.focus();
  }

  return { layer, show, offer, clear };
}

function within(share) {
  return Math.min(1, Math.max(0, share));
}

function moved([left, top, right, bottom], x, y) {
  const across = Math.min(1 - right, Math.max(-left, x)), down = Math.min(1 - bottom, Math.max(-top, y));
  return [left + across, top + down, right + across, bottom + down];
}

function stretched([left, top, right, bottom], x, y) {
  return [left, top, Math.min(1, Math.max(left + LEAST, right + x)), Math.min(1, Math.max(top + LEAST, bottom + y))];
}
