import { ask, failure, indexChoice, keepLook, make, OverIndexes, pictureOf, wish } from "./dom.js";
import { replayView } from "./lens/replay.js";
import { stage } from "./lens/stage.js";
import { surveyView } from "./lens/survey.js";

const STARTS = { label: "Photos of a label", hardest: "Highest loss", pulled: "Highest loss, all negatives pulled", confused: "Most confused labels" };

/** One anchor, its positive and negatives, and what the trained synthesis makes of them at every λ. */
class HardnessLens extends OverIndexes {
  constructor() {
    super();
    this.shadowRoot.prepend(make("link", { rel: "stylesheet", href: "/page/lens.css" }));
  }

  build(names) {
    this.mapKind = "pca"; // the one that looks are shown on
    this.surveys = new Map();
    this.turn = 0; // of the newest look; an answer to an older one is not shown
    this.labels = make("select", { ariaLabel: "Label of the anchor" });
    this.labels.onchange = () => this.listStarts();
    this.starting = make("select", { ariaLabel: "Where to look" }, ...Object.entries(STARTS).map(([value, text]) => make("option", { value }, text)));
    this.starting.onchange = () => this.listStarts();
    const surprise = make("button", { type: "button", textContent: "Surprise me" });
    surprise.onclick = () => this.look();
    this.choice = indexChoice(names, (name) => this.look(null, null, name));
    this.items = make("div", { className: "starts", ariaLabel: "Photos to look from", role: "group" });
    this.status = make("p", { className: "status", role: "status" });
    this.view = make("div", { className: "stage" });
    this.scope = make("select", { ariaLabel: "Labels of the summary" });
    this.scope.onchange = () => this.survey();
    this.summary = make("div", {});
    const heading = make("div", { className: "heading" }, make("h2", {}, "And in all?"), make("label", { className: "choice" }, "Anchors of ", this.scope));
    this.summaryPanel = make("section", { className: "panel", ariaLabel: "Summary" }, heading, this.summary);
    this.replayed = make("div", {});
    this.replayPanel = make("section", { className: "panel", ariaLabel: "Replay", hidden: true }, make("h2", {}, "How did training get there?"), this.replayed);
    this.labelChoice = make("label", { className: "choice" }, this.labels);
    this.numbers = make("a", { className: "numbers", hidden: true }, "Download the numbers");
    const controls = make("div", { className: "controls" }, make("label", { className: "choice" }, "Look from ", this.starting), this.labelChoice, surprise, this.choice, this.numbers);
    this.fill(make("div", { className: "lens" }, controls, this.items, this.status, this.view, this.summaryPanel, this.replayPanel));
    window.addEventListener("hdml-look", () => this.look(wish.anchor, null, wish.index));
    this.look(wish.anchor, null, wish.index ?? names[0]);
  }

  get context() {
    const { index } = this;
    return {
      pictureOf: (id, size) => pictureOf(id, index, size),
      onLook: (id) => this.look(id, null, index),
      onLabel: (label) => {
        this.scope.value = label;
        this.survey();
      },
    };
  }

  /** Look around an anchor; without one, around a random one. */
  async look(anchor, positive, index = this.index) {
    const turn = ++this.turn;
    this.index = this.choice.control.value = index;
    const parameters = new URLSearchParams({ index });
    if (anchor != null) parameters.set("anchor", anchor);
    if (positive != null) parameters.set("positive", positive);
    try {
      if (index !== this.listed) await this.listLabels(index);
      const [look, map] = await Promise.all([ask(`/v1/lens?${parameters}`), this.mapOf(index)]);
      if (turn === this.turn) this.show(look, map);
    } catch (error) {
      if (turn === this.turn) this.refuse(error.message);
    }
  }

  /** The map of an index, which the browser keeps until the server has another; a look goes without it where there is none. */
  async mapOf(index) {
    return ask(`/v1/lens/map?${new URLSearchParams({ index })}`).catch(() => null);
  }

  /** A look that is shown, and its map, on another kind of map. */
  async placed(shown, index, map) {
    this.mapKind = map;
    const parameters = new URLSearchParams({ index, map, anchor: shown.anchor.id, positive: shown.positive.id });
    const [look, gallery] = await Promise.all([ask(`/v1/lens?${parameters}`), ask(`/v1/lens/map?${new URLSearchParams({ index, map })}`)]);
    return { look, map: gallery };
  }

  async listLabels(index) {
    const { labels } = await ask(`/v1/labels?${new URLSearchParams({ index })}`);
    if (index !== this.index) return;
    const options = () => labels.map(({ label, items }) => make("option", { value: label }, `${label} (${items})`));
    this.labels.replaceChildren(...options());
    this.scope.replaceChildren(make("option", { value: "" }, "all labels"), ...options());
    this.items.replaceChildren();
    this.surveys = new Map();
    this.listed = index;
    this.listReplay(index);
  }

  /** What the run watched while it trained, where it watched anything. */
  async listReplay(index) {
    this.replayPanel.hidden = true;
    this.replayed.replaceChildren();
    const { replay } = await ask(`/v1/lens/replay?${new URLSearchParams({ index })}`).catch(() => ({ replay: null }));
    if (index !== this.index || !replay) return;
    this.replayed.replaceChildren(replayView(replay, this.context));
    this.replayPanel.hidden = false;
  }

  /** The survey of a label or of all, asked for once while the index is listed; one that was refused is asked for again. */
  surveyOf(index, label) {
    const key = JSON.stringify([index, this.shown?.model, label]), { surveys } = this;
    if (!surveys.has(key)) {
      const answer = ask(`/v1/lens/survey?${new URLSearchParams({ index, ...(label && { label }) })}`);
      surveys.set(key, answer);
      answer.catch(() => surveys.delete(key));
    }
    return surveys.get(key);
  }

  async survey() {
    const { index } = this, label = this.scope.value;
    const isCurrent = () => index === this.index && label === this.scope.value;
    try {
      const survey = await this.surveyOf(index, label);
      if (isCurrent()) this.summary.replaceChildren(surveyView(survey, this.context));
    } catch (error) {
      if (isCurrent()) this.summary.replaceChildren(failure(error.message, () => this.survey()));
    }
  }

  async listStarts() {
    const { index } = this, label = this.labels.value, kind = this.starting.value;
    this.labelChoice.hidden = kind !== "label";
    const isCurrent = () => index === this.index && label === this.labels.value && kind === this.starting.value;
    try {
      const { items, total } = await (kind === "label" ? ask(`/v1/items?${new URLSearchParams({ index, label })}`) : this.found(index, kind));
      if (!isCurrent()) return;
      this.items.replaceChildren(...items.map((item) => this.photo(item, index)));
      if (total > items.length) this.items.append(make("span", { className: "more" }, `and ${total - items.length} more`));
    } catch (error) {
      if (isCurrent()) this.items.replaceChildren(failure(error.message, () => this.listStarts()));
    }
  }

  async found(index, kind) {
    const survey = await this.surveyOf(index, "");
    const told = (start) => (kind !== "confused" ? `loss ${start.value.toFixed(2)}` : `${Math.round(100 * start.value)} % violate`);
    const items = survey[kind].map((start) => ({ ...start, caption: `${told(start)}, ${start.label} and ${start.other}` }));
    return { items, total: items.length };
  }

  /** A photo to look from. */
  photo({ id, label, path, caption }, index) {
    const picture = make("img", { src: pictureOf(id, index, 96), alt: label ?? path, loading: "lazy" });
    const name = `Look from ${path}`;
    const button = make("button", { type: "button", className: "thumb", title: caption ?? path, ariaLabel: name }, picture);
    button.onclick = () => this.look(id, null, index);
    const figure = make("figure", {}, button, ...(caption ? [make("figcaption", { title: caption }, caption)] : []));
    figure.classList.toggle("chosen", id === this.shown?.anchor.id);
    return figure;
  }

  refuse(sentence) {
    this.shown = undefined;
    this.status.textContent = sentence;
    this.status.classList.add("failed");
    this.view.replaceChildren();
    this.numbers.hidden = true;
    this.summaryPanel.hidden = this.replayPanel.hidden = true;
    if (this.labels.value) this.listStarts();
  }

  show(look, map) {
    const { index } = this;
    this.shown = look;
    this.status.classList.remove("failed");
    const kept = look.negatives.filter((negative) => negative.label_kept[look.own]).length;
    this.status.textContent =
      `${look.anchor.path} · λ = ${look.shares[look.own].toFixed(3)}, the model’s own · ` +
      `${kept} of ${look.negatives.length} synthetics keep their label · model ${look.model}`;
    const { anchor, positive } = look, asked = new URLSearchParams({ index, anchor: anchor.id, positive: positive.id });
    Object.assign(this.numbers, { href: `/v1/lens?${asked}`, download: `lens-${anchor.id}.json`, hidden: false });
    keepLook(index, anchor.id);
    this.labels.value = look.anchor.label;
    this.listStarts();
    this.view.replaceChildren(stage(look, map, { ...this.context, kind: this.mapKind, mapOn: (kind) => this.placed(look, index, kind) }).node);
    this.summaryPanel.hidden = false;
    this.replayPanel.hidden = !this.replayed.hasChildNodes();
    this.survey();
  }
}

customElements.define("hardness-lens", HardnessLens);
