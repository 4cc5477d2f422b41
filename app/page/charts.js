// Small charts as SVG; all text is textContent.

const SVG = "http://www.w3.org/2000/svg";

/** An SVG element with attributes and children. */
export function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Round numbers that divide a range into about `count` parts. */
export function ticks(low, high, count = 4) {
  if (!(high > low)) return [low];
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((each) => each >= raw * 0.999);
  const first = Math.ceil(low / step - 1e-9), found = [];
  for (let at = first; at * step <= high + step * 1e-9; at++) found.push(at * step);
  return found;
}

/** A number as short as it can be read. */
export function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`;
  if (size >= 1e4) return `${+(value / 1e3).toPrecision(3)}k`;
  if (size < 1e-3) return value.toExponential(0);
  return String(+value.toPrecision(3));
}

/** Lines over x: series are {colour, dashed, points: [[x, y], …]}; `label` says it in words, `at` places marks on both axes. */
export function lines(series, { width = 420, height = 210, label, low, high, smooth = 1, at, format = short }) {
  const edge = { left: 46, right: 10, top: 10, bottom: 24 };
  const all = series.flatMap(({ points }) => points);
  const [x0, x1] = extent(all.map(([x]) => x)), [y0, y1] = padded(all.map(([, y]) => y), low, high);
  const x = (value) => edge.left + ((value - x0) / (x1 - x0 || 1)) * (width - edge.left - edge.right);
  const y = (value) => height - edge.bottom - ((value - y0) / (y1 - y0 || 1)) * (height - edge.top - edge.bottom);
  const figure = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, class: "chart" });
  const inside = (first, last) => at?.filter((tick) => tick >= first && tick <= last);
  for (const tick of inside(y0, y1) ?? ticks(y0, y1)) {
    figure.append(draw("line", { x1: edge.left, x2: width - edge.right, y1: y(tick), y2: y(tick), class: "grid" }));
    figure.append(draw("text", { x: edge.left - 7, y: y(tick) + 4, "text-anchor": "end" }, format(tick)));
  }
  for (const tick of inside(x0, x1) ?? ticks(x0, x1)) figure.append(draw("text", { x: x(tick), y: height - 6, "text-anchor": "middle" }, format(tick)));
  for (const { colour, dashed, points } of series) {
    const dense = smooth > 1 && points.length > 2 * smooth;
    const path = (found) => `M${found.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join("L")}`;
    const style = { fill: "none", stroke: colour, "stroke-linejoin": "round", ...(dashed && { "stroke-dasharray": "5 4" }) };
    if (dense) figure.append(draw("path", { d: path(points), ...style, "stroke-width": 1, opacity: 0.25 }));
    if (points.length > 1) figure.append(draw("path", { d: path(dense ? running(points, smooth) : points), ...style, "stroke-width": 2 }));
    if (points.length < 25) for (const [a, b] of points) figure.append(draw("circle", { cx: x(a), cy: y(b), r: 2.6, fill: colour }));
  }
  figure.scale = { x0, x1, left: edge.left, right: width - edge.right, width };
  return figure;
}

/** Two histograms over the same bins, mirrored, with marked places: counts, counts, and {at, name} of each. */
export function mirrored(above, below, low, high, places, label) {
  const width = 640, height = 200, middle = 92, most = Math.max(...above, ...below, 1);
  const step = width / above.length, scale = (count) => (count / most) * 80;
  const figure = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, class: "chart" });
  above.forEach((count, i) => figure.append(draw("rect", { x: i * step, y: middle - scale(count), width: step - 1, height: scale(count), class: "present" })));
  below.forEach((count, i) => figure.append(draw("rect", { x: i * step, y: middle + 1, width: step - 1, height: scale(count), class: "absent" })));
  for (const { at, name } of places) {
    const x = ((at - low) / (high - low || 1)) * width;
    const left = x > width - 90;
    figure.append(draw("line", { x1: x, x2: x, y1: 0, y2: height - 24, class: "place" }));
    figure.append(draw("text", { x: left ? x - 5 : x + 5, y: name === "match" ? 12 : height - 30, "text-anchor": left ? "end" : "start", class: "strong" }, name));
  }
  for (const tick of ticks(low, high, 6)) {
    const x = ((tick - low) / (high - low || 1)) * width;
    figure.append(draw("text", { x, y: height - 6, "text-anchor": x < 12 ? "start" : x > width - 12 ? "end" : "middle" }, short(tick)));
  }
  return figure;
}

function extent(values) {
  return [Math.min(...values), Math.max(...values)];
}

function padded(values, low, high) {
  const [least, most] = extent(values);
  const room = (most - least || Math.abs(most) || 1) * 0.06;
  return [low ?? least - room, high ?? most + room];
}

/** Mean of each value and those up to `size` − 1 before it. */
function running(points, size) {
  let sum = 0;
  return points.map(([at, value], i) => {
    sum += value - (i >= size ? points[i - size][1] : 0);
    return [at, sum / Math.min(i + 1, size)];
  });
}
