import { lines, mirrored, short } from "./charts.js";
import { make } from "./dom.js";
import { bytes, day } from "./quantities.js";

/** A card of figures under a title. */
export function section(title, note, ...children) {
  return make("section", {}, make("h3", {}, title), make("p", { className: "note" }, note), ...children);
}

/** What was measured of the base, each figure with its meaning; as hdml info --json gives them. */
export function quality(found) {
  const share = (value) => `${(100 * value).toFixed(1)} %`;
  const exact = found.queries === 0;
  const rows = [
    ["kind", found.kind, { exact: "every photo is compared with", ivf: "what the nearest of many lists hold is compared with", hnsw: "a graph of neighbours is walked" }[found.kind]],
    ["overlap_at_10", exact ? "all" : share(found.overlap_at_10), exact ? "the ten nearest are the true ones" : `of the ten true nearest are found; ${share(found.overlap_low)} to ${share(found.overlap_high)} with 95 % confidence, over ${found.queries} photos that nothing was tuned by`],
    ["target", share(found.target), "was asked for"],
    ["p50_ms, p95_ms", `${found.p50_ms.toFixed(2)}, ${found.p95_ms.toFixed(2)} ms`, "half, and 95 %, of the searches by one thread take no longer"],
    ["bytes_per_vector", found.bytes_per_vector === null ? "not on disk" : short(found.bytes_per_vector), "of the base, for each photo"],
    ["dim", String(found.dim), "values in a vector"],
    ["items", found.items.toLocaleString("en"), "vectors in the base; photos since are compared with one by one"],
    ["build_s", `${found.build_s.toFixed(1)} s`, "to build it, measuring included"],
  ];
  if (found.lists) rows.splice(1, 0, ["lists", `${found.settings.nprobe} of ${found.lists}`, "are looked into"]);
  if (found.settings.ef) rows.splice(1, 0, ["ef", String(found.settings.ef), "nodes are kept in view"]);
  const body = rows.map(([name, value, meaning]) => make("tr", {}, make("th", { scope: "row" }, make("code", {}, name)), make("td", { className: "number" }, value), make("td", {}, meaning)));
  return section("How well a search finds", "Measured when the base was built.", make("table", { className: "plain" }, make("tbody", {}, ...body)));
}

/** What the scores of an index mean, and what was measured of that. */
export function calibration(found) {
  const title = "What a score means";
  if (!found) return section(title, "Not calibrated yet; run hdml index again.");
  if (found.basis === null) return section(title, `Not calibrated: ${found.reason}`);
  const { check } = found, share = (value) => `${(100 * value).toFixed(1)} %`;
  const places = [{ at: found.match, name: "match" }, { at: found.unsure, name: "unsure" }];
  const figure = mirrored(check.present, check.absent, check.low, check.high, places, `Best scores of photos: above, of things that are there; below, of things that are not. Match from ${found.match.toFixed(3)}, unsure from ${found.unsure.toFixed(3)}.`);
  const legend = make("p", { className: "legend" }, make("span", { className: "key present" }, "best score of a photo whose thing is in the gallery"), make("span", { className: "key absent" }, "of one whose thing is not"));
  const rows = [
    ["false matches", `${share(check.false_matches.share)} (${share(check.false_matches.low)} to ${share(check.false_matches.high)})`, `photos of absent things that say match; ${share(found.asked)} were asked for`],
    ["rejected", share(check.rejected), "photos of absent things that say no match"],
    ...(check.matched === null ? [] : [["matched", share(check.matched), "photos of present things that say match"], ["missed", share(check.missed), "photos of present things that say no match"]]),
    ["basis", found.basis, `${check.queries} photos of ${check.labels} ${found.basis === "labels" ? "labels" : "groups"} asked`],
  ];
  const body = rows.map(([name, value, meaning]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", { className: "number" }, value), make("td", {}, meaning)));
  const parts = [figure, legend, curve(check), make("table", { className: "plain" }, make("tbody", {}, ...body))];
  if (found.note) parts.push(make("p", { className: "note" }, found.note));
  return section(title, `Match from ${found.match.toFixed(3)}, no match below ${found.unsure.toFixed(3)}, checked on labels that the thresholds were not made from.`, ...parts);
}

/** Share of false matches achieved against asked, as a line beside the diagonal; on logarithms of both. */
function curve({ curve: points }) {
  const drawn = points.filter(({ asked, achieved }) => asked > 0 && achieved.share > 0);
  if (drawn.length < 2) return make("span", { hidden: true });
  const log = (value) => Math.log10(100 * value);
  const series = [
    { colour: "var(--muted)", dashed: true, points: drawn.map(({ asked }) => [log(asked), log(asked)]) },
    { colour: "var(--accent)", points: drawn.map(({ asked, achieved }) => [log(asked), log(achieved.share)]) },
  ];
  const label = "Share of false matches achieved against asked; dashed where both are equal.";
  const format = (power) => `${+(10 ** power).toPrecision(2)} %`, at = [-1, 0, 1];
  return make("figure", { className: "curve" }, lines(series, { label, height: 170, format, at }), make("figcaption", {}, label));
}

/** The bases and encoders of an index. */
export function bases({ bases: found, models, changed_since: since, migration }) {
  const number = (value) => make("td", { className: "number" }, value);
  const head = (...names) => make("thead", {}, make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name))));
  const rows = found.map((base) => make("tr", {}, make("th", { scope: "row" }, `change ${base.generation}`), number(bytes(base.bytes)), make("td", {}, day(base.built)), make("td", {}, base.searched ? make("b", { className: "kept" }, "searched") : "")));
  const known = models.map((model) => make("tr", {}, make("th", { scope: "row" }, make("code", {}, model.model)), number(`${model.dimension}`), number(model.vectors.toLocaleString("en")), make("td", {}, model.live ? make("b", { className: "kept" }, "searched by") : "")));
  const card = section("Generations", `The base that is searched, and ${since} ${since === 1 ? "photo" : "photos"} that changed since it was built.`,
    make("table", { className: "plain" }, head("Base", "Size", "Built", ""), make("tbody", {}, ...rows)),
    make("table", { className: "plain" }, head("Model", "Values", "Vectors", ""), make("tbody", {}, ...known)));
  if (migration) card.append(make("p", { className: "note" }, "The encoder was compared with another one; hdml info --json has the figures."));
  return card;
}
