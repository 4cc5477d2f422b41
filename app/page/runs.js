import { lines, short } from "./charts.js";
import { ask, failure, Isolated, make } from "./dom.js";

const COLOURS = ["var(--accent)", "#d9822b", "#2e9e6b", "#b0479b", "#0e9aa7", "#8a6d3b"];
const MOST = COLOURS.length; // runs that are drawn over one another
const EVERY = 5000; // milliseconds between looks at a run that is under way
const SMOOTHED = 9; // points of the running mean over the raw values
const PANELS = [
  ["recall_at_1", "R@1", "share of the validation photos whose nearest is of their class"],
  ["map_at_r", "MAP@R", "mean average precision at R on the validation classes; chooses the checkpoint"],
  ["metric_loss", "J_m", "metric loss of the real tuples"],
  ["synthetic_loss", "J_syn", "metric loss of the synthetic tuples"],
  ["pulling_share", "λ", "share of the way from positive to negative that a pulled negative keeps: 1 is not pulled"],
  ["real_weight", "exp(−β/J_gen)", "weight of the real tuples; the synthetic ones have the rest"],
  ["reconstruction_loss", "J_recon", "how far generated features are from the real ones"],
  ["label_loss", "J_soft", "how badly the classifier knows the label of a generated feature"],
  ["label_preservation", "Labels kept", "share of the synthetic negatives that keep their label"],
];
const SHARES = new Set(["recall_at_1", "map_at_r", "pulling_share", "real_weight", "label_preservation"]);

/** The runs of the workspace side by side, and their curves over one another. */
class TrainingRuns extends Isolated {
  constructor() {
    super();
    this.shadowRoot.insertBefore(make("link", { rel: "stylesheet", href: "/page/runs.css" }), this.shadowRoot.lastChild);
  }

  connectedCallback() {
    if (this.chosen) return;
    this.chosen = new Map(); // name of a run to its colour
    this.curves = new Map();
    this.table = make("div", { className: "scroll" });
    this.status = make("p", { className: "status", role: "status" });
    this.damaged = make("div");
    this.panels = make("div", { className: "panels" });
    this.fill(make("div", { className: "runs" }, this.status, this.table, this.damaged, this.panels));
    new IntersectionObserver((entries) => {
      this.seen = entries.some((entry) => entry.isIntersecting);
      if (this.seen) this.load();
    }).observe(this);
  }

  async load() {
    clearTimeout(this.later);
    try {
      const { runs, damaged } = await ask("/v1/runs");
      this.show(runs, damaged);
      const live = runs.filter((run) => run.status === "under way");
      for (const run of live) this.curves.delete(run.name);
      await this.draw();
      if (live.length && this.seen) this.later = setTimeout(() => this.load(), EVERY);
    } catch (error) {
      this.status.replaceChildren(failure(error.message, () => this.load()));
    }
  }

  show(runs, damaged) {
    this.runs = runs;
    const drawable = runs.filter((run) => run.step !== null);
    const gone = [...this.chosen.keys()].filter((name) => !drawable.some((run) => run.name === name));
    for (const name of gone) this.chosen.delete(name);
    if (!this.touched && this.chosen.size === 0) drawable.slice(0, 3).forEach((run) => this.choose(run.name));
    if (runs.length === 0 && damaged.length === 0) {
      this.status.replaceChildren();
      this.table.replaceChildren(make("div", { className: "first-steps" }, make("h2", {}, "Nothing has been trained yet"),
        make("p", {}, "A run appears here from its first step on, with its curves."), make("div", { className: "command" }, make("code", {}, "hdml train photos/"))));
      return;
    }
    const counted = `${runs.length} ${runs.length === 1 ? "run" : "runs"}`;
    const live = runs.filter((run) => run.status === "under way").length;
    this.status.textContent = live ? `${counted}, ${live} under way` : counted;
    const columns = ["", "Run", "Method", "Loss", "Backbone", "Steps", "R@1", "MAP@R", "λ", "Time", "Serves"];
    const head = make("tr", {}, ...columns.map((name) => make("th", { scope: "col" }, name)));
    const kept = this.shadowRoot.activeElement?.dataset.run;
    this.table.replaceChildren(make("table", {}, make("thead", {}, head), make("tbody", {}, ...runs.map((run) => this.row(run)))));
    if (kept) this.table.querySelector(`[data-run="${CSS.escape(kept)}"]`)?.focus();
    this.damaged.replaceChildren(...(damaged.length === 0 ? [] : [make("section", { className: "damaged" }, make("h3", {}, "Folders that cannot be read as runs"),
      make("ul", {}, ...damaged.map(({ name, reason }) => make("li", {}, make("b", {}, name), `: ${reason}`))))]));
  }

  row(run) {
    const cell = (...children) => make("td", {}, ...children);
    const box = make("input", { type: "checkbox", checked: this.chosen.has(run.name), disabled: run.step === null, ariaLabel: `Draw the curves of ${run.name}` });
    box.dataset.run = run.name;
    if (this.chosen.has(run.name)) box.style.accentColor = this.chosen.get(run.name);
    box.onchange = () => {
      this.touched = true;
      if (box.checked) this.choose(run.name);
      else this.chosen.delete(run.name);
      this.show(this.runs, []);
      this.load();
    };
    const name = make("th", { scope: "row" }, make("span", { title: run.name }, run.name), ...this.progress(run));
    const options = [run.setting === "paper" && "paper setting", ...run.variants, run.feedback && "with marks"].filter(Boolean).join(", ");
    const pixels = run.image_size === null ? "" : [`${run.image_size} px`, run.weights === "none" ? "from scratch" : run.weights].filter(Boolean).join(", ");
    const chosen = run.chosen_step !== null && run.chosen_step !== run.steps ? make("small", {}, `${run.chosen_step} chosen`) : "";
    const serves = run.serves.length ? make("b", { className: "kept" }, run.serves.join(", ")) : make("small", {}, run.encoder ? "none" : "no encoder yet");
    return make("tr", {}, cell(box), name, cell(run.method ?? "–", make("small", {}, options)), cell(run.loss ?? "–"), cell(run.backbone ?? "–", make("small", {}, pixels)),
      cell(run.steps === null ? "–" : run.steps.toLocaleString("en"), chosen), change(run, "recall_at_1"), change(run, "map_at_r"),
      cell(run.lambda === null ? "–" : run.lambda.toFixed(3)), cell(run.seconds === null ? "–" : duration(run.seconds)), cell(serves));
  }

  progress(run) {
    if (run.status === "finished") return [make("small", {}, [run.data, run.measured_on && `figures of: ${run.measured_on}`].filter(Boolean).join(" · "))];
    const step = run.step ?? 0, steps = run.steps ?? 0;
    const words = run.status === "under way" ? `step ${step} of ${steps}` : `stopped at step ${step} of ${steps}; hdml train --resume --run ${run.name}`;
    return [make("progress", { max: steps || 1, value: step, ariaLabel: `Progress of ${run.name}` }), make("small", {}, words)];
  }

  choose(name) {
    if (this.chosen.size >= MOST) this.chosen.delete(this.chosen.keys().next().value);
    const taken = new Set(this.chosen.values());
    this.chosen.set(name, COLOURS.find((colour) => !taken.has(colour)));
  }

  async draw() {
    const names = [...this.chosen.keys()];
    await Promise.all(names.filter((name) => !this.curves.has(name)).map(async (name) => {
      const { curves } = await ask(`/v1/runs/${encodeURIComponent(name)}`).catch(() => ({ curves: {} }));
      this.curves.set(name, curves);
    }));
    const found = PANELS.map(([key, title, meaning]) => this.panel(key, title, meaning)).filter(Boolean);
    this.panels.replaceChildren(...found);
  }

  panel(key, title, meaning) {
    const series = [...this.chosen].map(([name, colour]) => ({ name, colour, points: this.curves.get(name)?.[key] })).filter(({ points }) => points?.length);
    if (series.length === 0) return undefined;
    const range = SHARES.has(key) ? { low: 0, high: 1 } : {};
    const label = `${title} by step: ${series.map(({ name, points }) => `${name} ends at ${short(points.at(-1)[1])}`).join(", ")}`;
    const chart = lines(series, { label, smooth: SMOOTHED, ...range });
    const legend = make("p", { className: "legend" });
    const tell = (step) => legend.replaceChildren(...series.map(({ name, colour, points }) => {
      const [at, value] = step === undefined ? points.at(-1) : points.reduce((best, point) => (Math.abs(point[0] - step) < Math.abs(best[0] - step) ? point : best));
      const key = make("i");
      key.style.background = colour;
      return make("span", { title: name }, key, make("span", { className: "of" }, name), make("b", {}, value.toPrecision(3)), make("small", {}, `at ${at}`));
    }));
    chart.onpointermove = (event) => {
      const { left, width } = chart.getBoundingClientRect(), { x0, x1, left: start, right: end, width: whole } = chart.scale;
      tell(x0 + ((((event.clientX - left) / width) * whole - start) / (end - start)) * (x1 - x0));
    };
    chart.onpointerleave = () => tell();
    tell();
    return make("section", {}, make("h3", {}, title), make("p", { className: "note" }, meaning), chart, legend);
  }
}

/** A measure before training and after it, in per cent. */
function change(run, name) {
  const [before, after] = [run.before[name], run.after[name]].map((value) => (value === null ? null : (100 * value).toFixed(1)));
  if (before === null && after === null) return make("td", {}, "–");
  return make("td", { className: "change", title: "per cent, before training and after it" }, make("span", {}, before ?? "–"), " → ", make("b", {}, after ?? "–"));
}

function duration(seconds) {
  if (seconds < 60) return `${seconds.toFixed(0)} s`;
  if (seconds < 3600) return `${(seconds / 60).toFixed(1)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

customElements.define("training-runs", TrainingRuns);
