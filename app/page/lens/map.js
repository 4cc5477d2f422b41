import { canLook, choice, diamond, draw, percent, star, whenSized } from "./draw.js";

const KINDS = [["principal components", "pca"], ["t-SNE", "tsne"]];
const NEEDED = ' t-SNE, the other map, keeps neighbours together; it needs a package: pip install "hdml[tsne]".';

/** The gallery on a plane; on the page, which can ask for it, on another kind of plane too. */
export function galleryMap(first, map, context) {
  const picture = draw("svg.map", { role: "img", "aria-label": `Map of ${map.dots.length} photos, with the anchor, its positive, its negatives and their synthetics` });
  const hint = draw("div.hint", { hidden: true });
  const frame = draw("div.frame", {}, picture, hint);
  const note = draw("p.note", { role: "status" });
  let near = true, width = 0, shown, turn = 0, look, bounds, places = [];
  const members = () => [look.anchor, look.positive, ...look.negatives.map(({ photo }) => photo)];
  const use = (placed, on) => {
    [look, map] = [placed, on];
    bounds = {
      true: extent([...members().map(({ at }) => at), ...look.negatives.flatMap(({ at, pulled_at }) => [...at, ...pulled_at])]),
      false: extent([...map.dots.map(({ at }) => at), ...members().map(({ at }) => at), ...look.negatives.flatMap(({ at }) => at)]),
    };
    note.textContent = explained(map);
    paint();
  };
  const turnTo = async (kind) => {
    const own = ++turn;
    note.textContent = "Placing the photos on that map; the first time after the index has changed takes some seconds…";
    frame.classList.add("waiting");
    try {
      const found = await context.mapOn(kind);
      if (own === turn) use(found.look, found.map);
    } catch (error) {
      if (own !== turn) return;
      note.textContent = error.message;
      kinds.press(map.kind);
    }
    if (own === turn) frame.classList.remove("waiting");
  };
  const zoom = choice("Show", [["around the anchor", () => { near = true; paint(); }], ["the whole gallery", () => { near = false; paint(); }]]);
  const kinds = choice("Map", KINDS.map(([text, kind]) => [text, () => turnTo(kind), { value: kind, disabled: !(map.kinds ?? []).includes(kind) }]));
  const node = draw("section.panel", { "aria-label": "Map" }, draw("div.heading", {}, draw("h2", {}, "Where does it lie?"), zoom.node),
    ...(context.mapOn ? [kinds.node] : []), frame, note);
  const byLabel = new Map([[first.anchor.label, "same"], ...first.negatives.map(({ photo }) => [photo.label, "other"])]);
  const paint = () => {
    if (!shown || !width) return;
    const height = Math.round(Math.min(640, Math.max(300, width * 0.95))), [left, right, low, high] = bounds[near];
    const scale = Math.min((width - 80) / (right - left || 1), (height - 80) / (high - low || 1));
    const x = (at) => width / 2 + (at[0] - (left + right) / 2) * scale, y = (at) => height / 2 - (at[1] - (low + high) / 2) * scale;
    const inside = (at) => x(at) > -8 && x(at) < width + 8 && y(at) > -8 && y(at) < height + 8;
    picture.setAttribute("width", width);
    picture.setAttribute("height", height);
    places = [];
    const marks = [];
    for (const dot of map.dots.filter(({ at }) => inside(at))) {
      places.push({ photo: dot, x: x(dot.at), y: y(dot.at) });
      marks.push(draw(`circle.dot.${byLabel.get(dot.label) ?? "rest"}`, { cx: x(dot.at).toFixed(1), cy: y(dot.at).toFixed(1), r: near ? 4 : 3 }));
    }
    for (const { photo, pulled_at, at } of look.negatives) {
      const [start, pulled, made] = [look.anchor.at, pulled_at[shown.place], at[shown.place]];
      if (map.kind === "pca") {
        marks.push(draw("line.ray", { x1: x(start), y1: y(start), x2: x(photo.at), y2: y(photo.at) }));
        marks.push(draw("line.pull", { x1: x(photo.at), y1: y(photo.at), x2: x(pulled), y2: y(pulled) }));
      } else {
        // No line: between two steps a pull may cross the whole map.
        marks.push(draw("path.steps", { d: pulled_at.slice(shown.place).map((step) => `M${x(step).toFixed(1)} ${y(step).toFixed(1)}h0`).join("") }));
      }
      marks.push(draw("line.jump", { x1: x(pulled), y1: y(pulled), x2: x(made), y2: y(made) }));
    }
    const photo = ({ id, at }, name, size) => {
      const [left, top] = [x(at) - size / 2, y(at) - size / 2];
      return draw("g", {}, draw("image", { href: context.pictureOf(id, 96), x: left, y: top, width: size, height: size, preserveAspectRatio: "xMidYMid slice" }),
        draw(`rect.border.${name}`, { x: left, y: top, width: size, height: size, rx: 4 }));
    };
    look.negatives.forEach((negative) => marks.push(photo(negative.photo, "other", 26)));
    marks.push(photo(look.positive, "same", 30), photo(look.anchor, "anchor", 34));
    members().forEach((member) => places.push({ photo: member, x: x(member.at), y: y(member.at) }));
    for (const negative of look.negatives) {
      const pulled = negative.pulled_at[shown.place], made = negative.at[shown.place], kept = negative.label_kept[shown.place];
      marks.push(draw("polygon.pulled", { points: diamond(x(pulled), y(pulled), 6) }), draw(kept ? "polygon.synthetic" : "polygon.synthetic.lost", { points: star(x(made), y(made), 10) }));
      places.push({ photo: negative.photo, what: "pulled from", x: x(pulled), y: y(pulled) }, { photo: negative.photo, what: "synthetic of", x: x(made), y: y(made) });
    }
    picture.replaceChildren(...marks);
  };
  const under = (event) => {
    const box = picture.getBoundingClientRect(), [px, py] = [event.clientX - box.left, event.clientY - box.top];
    let best, least = 16 ** 2;
    for (const place of places) {
      const distance = (place.x - px) ** 2 + (place.y - py) ** 2;
      if (distance <= least) [best, least] = [place, distance];
    }
    return best;
  };
  picture.onpointermove = (event) => {
    const found = under(event);
    hint.hidden = !found;
    if (!found) return;
    const { photo, what, x, y } = found;
    hint.replaceChildren(draw("img", { src: context.pictureOf(photo.id, 96), alt: "" }),
      draw("span", {}, draw("b", {}, `${what ? `${what} ` : ""}${photo.label ?? "no label"}`), draw("small", {}, photo.path), canLook(photo, context) ? draw("small", {}, "Click to look from it.") : ""));
    hint.style.left = `${Math.min(x + 14, Math.max(0, width - 230))}px`;
    hint.style.top = `${y + 14}px`;
  };
  picture.onpointerleave = () => { hint.hidden = true; };
  picture.onclick = (event) => {
    const found = under(event);
    if (found && canLook(found.photo, context)) context.onLook(found.photo.id);
  };
  whenSized(frame, (size) => { width = size; paint(); });
  use(first, map);
  if (context.mapOn && context.kind !== map.kind && map.kinds.includes(context.kind)) {
    kinds.press(context.kind);
    turnTo(context.kind);
  }
  return { node, show(state) { shown = state; paint(); } };
}

function extent(points) {
  const [xs, ys] = [0, 1].map((axis) => points.map((at) => at[axis]));
  return [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
}

/** What a map shows truly, and what it does not. */
function explained({ kind, kinds, share, trustworthiness, dots, photos }) {
  const trust = trustworthiness === null ? "" : ` Trustworthiness ${trustworthiness.toFixed(3)} of 1: how far neighbours on the map are neighbours in truth.`;
  const some = dots.length < photos ? ` ${dots.length} of ${photos} photos are shown.` : "";
  const told = kind === "pca"
    ? `Two principal components, which hold ${percent(share)} of the variance; straight lines stay straight, distances do not stay true: the ruler is the truth.`
    : "t-SNE by cosine similarity: neighbours stay together, but how far groups lie apart means nothing. Every step of λ is placed among the photos by itself; " +
      "the dots are those from 1 to here, since a pull is no straight line on this map, and what lies outside the gallery is drawn inside: the ruler is the truth.";
  return `${told}${trust}${some}${kinds && !kinds.includes("tsne") ? NEEDED : ""}`;
}
