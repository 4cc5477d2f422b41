import { ask, firstSteps, indexChoice, indexes, isDark, Isolated, make, pictureOf, wish } from "./dom.js";

/** One anchor, its positive and negatives, and what the trained synthesis makes of them. */
class HardnessLens extends Isolated {
  async connectedCallback() {
    if (this.ready) return;
    this.ready = true;
    const found = await indexes();
    if (found.length === 0) {
      this.fill(firstSteps());
      return;
    }
    this.index = wish.index ?? found[0].name;
    this.build(found.map((index) => index.name));
    await this.listLabels();
    window.addEventListener("hdml-look", () => this.look(wish.anchor, null, wish.index));
    new MutationObserver(() => this.shown && this.look(this.shown.anchor.id, this.shown.positive.id)).observe(document.body, {
      attributeFilter: ["class"],
    });
    this.look(wish.anchor);
  }

  build(names) {
    this.labels = make("select", { ariaLabel: "Label of the anchor" });
    this.labels.onchange = () => this.listItems();
    const surprise = make("button", { type: "button", textContent: "Surprise me" });
    surprise.onclick = () => this.look();
    const choice = indexChoice(names, async (name) => {
      this.index = name;
      await this.listLabels();
      this.look();
    });
    this.items = make("div", { className: "strip", ariaLabel: "Photos of the label" });
    this.status = make("p", { className: "status", role: "status" });
    // Plotly's style sheet is the document's, so that the figure is drawn there and shown here through a slot.
    this.plot = make("div", { slot: "plot", className: "plot" });
    this.append(this.plot);
    this.hint = make("div", { className: "hint", hidden: true });
    this.caption = make("p", { className: "caption" });
    this.table = make("div", { className: "table" });
    const controls = make("div", { className: "controls" }, make("label", { className: "choice" }, "Anchor from ", this.labels), surprise, choice);
    const frame = make("div", { className: "frame" }, make("slot", { name: "plot" }), this.hint);
    const view = make("div", { className: "view" }, make("figure", {}, frame, this.caption), this.table);
    this.fill(make("div", { className: "hardness" }, controls, this.items, this.status, view));
  }

  async listLabels() {
    const { labels } = await ask(`/v1/labels?${new URLSearchParams({ index: this.index })}`);
    this.labels.replaceChildren(...labels.map(({ label, items }) => make("option", { value: label }, `${label} (${items})`)));
  }

  async listItems() {
    const { items } = await ask(`/v1/items?${new URLSearchParams({ index: this.index, label: this.labels.value })}`);
    this.items.replaceChildren(
      ...items.map((item) => {
        const picture = make("img", { src: pictureOf(item.id, this.index, 96), alt: item.path, loading: "lazy" });
        const photo = make("button", { type: "button", title: item.path }, picture);
        photo.classList.toggle("chosen", item.id === this.shown?.anchor.id);
        photo.onclick = () => this.look(item.id);
        return photo;
      }),
    );
  }

  /** Look around an anchor; without one, around a random one. */
  async look(anchor, positive, index) {
    this.index = index ?? this.index;
    const parameters = new URLSearchParams({ index: this.index, theme: isDark() ? "dark" : "light" });
    if (anchor != null) parameters.set("anchor", anchor);
    if (positive != null) parameters.set("positive", positive);
    try {
      const shown = await ask(`/v1/lens?${parameters}`);
      this.show(shown);
    } catch (error) {
      this.shown = undefined;
      this.status.textContent = error.message;
      this.status.classList.add("failed");
      this.plot.replaceChildren();
      this.caption.textContent = "";
      this.table.replaceChildren();
    }
  }

  show(look) {
    this.shown = look;
    this.status.classList.remove("failed");
    const kept = look.negatives.filter((negative) => negative.label_kept).length;
    const share = look.pulling_share.toFixed(3);
    this.status.textContent =
      `${look.anchor.path} · λ = ${share}, the model’s own · ` +
      `${kept} of ${look.negatives.length} synthetics keep their label · model ${look.model}`;
    this.labels.value = look.anchor.label;
    this.listItems();
    this.draw(look);
    this.caption.textContent =
      "True: every distance from the anchor (the centre) is the Euclidean distance between unnormalised embeddings, and each pulled " +
      "negative lies on the straight line from its negative to the anchor. Projected: the angles, which keep " +
      `${Math.round(100 * look.angle_share)} % of the variation among directions. The dashed circle is d⁺, the distance of the positive.`;
    this.table.replaceChildren(this.ruler(look));
  }

  draw(look) {
    const { data, layout } = look.figure;
    Plotly.react(this.plot, data, layout, { displayModeBar: false, responsive: true });
    this.plot.removeAllListeners("plotly_hover");
    this.plot.removeAllListeners("plotly_unhover");
    this.plot.on("plotly_hover", ({ points: [point], event }) => {
      const [id, label, distance] = point.customdata;
      const picture = make("img", { src: pictureOf(id, this.index, 96), alt: "" });
      const made = point.data.name === "synthetics" || point.data.name === "pulled negatives";
      const text = `${made ? `${point.data.name.replace(/s$/, "")} of ` : ""}${label ?? "no label"}`;
      this.hint.replaceChildren(picture, make("span", {}, make("b", {}, text), ` at ${distance.toFixed(3)}`));
      const frame = this.plot.getBoundingClientRect();
      this.hint.style.left = `${event.clientX - frame.left + 12}px`;
      this.hint.style.top = `${event.clientY - frame.top + 12}px`;
      this.hint.hidden = false;
    });
    this.plot.on("plotly_unhover", () => (this.hint.hidden = true));
  }

  /** The numbers behind the figure, negative by negative, and the real photos nearest to each synthetic. */
  ruler(look) {
    const headings = ["Negative", "d", "pulled", "synthetic", "re-embedded", "Real photos nearest to the synthetic"];
    const head = make("tr", {}, ...headings.map((heading) => make("th", { scope: "col" }, heading)));
    const rows = look.negatives.map((negative) => this.row(look, negative));
    const positive = make("p", { className: "positive" }, this.photo(look.positive), make("span", {},
      make("b", {}, "Positive "), `the nearest photo of ${look.anchor.label}: d⁺ = ${look.positive.distance.toFixed(3)}; `,
      `after re-embedding both, ${look.reembedded_positive_distance.toFixed(3)}`));
    return make("div", {}, positive, make("div", { className: "scroll" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows))));
  }

  row(look, negative) {
    const number = (value) => make("td", { className: "number" }, value.toFixed(3));
    const harder = negative.synthetic_distance < negative.photo.distance;
    const verdict = make("td", { className: "number" }, negative.synthetic_distance.toFixed(3), make("small", {}, harder ? " harder" : " easier"));
    const nearest = negative.nearest.map((result) => {
      const own = result.label === negative.photo.label;
      const photo = this.photo(result);
      photo.classList.add(own ? "own" : "other");
      return photo;
    });
    const kept = make("span", { className: negative.label_kept ? "kept" : "lost" }, negative.label_kept ? "label kept" : "label lost");
    return make("tr", {},
      make("th", { scope: "row" }, this.photo(negative.photo), make("span", {}, negative.photo.label)),
      number(negative.photo.distance), number(negative.pulled_distance), verdict, number(negative.reembedded_distance),
      make("td", { className: "nearest" }, ...nearest, kept));
  }

  photo({ id, label, path }) {
    const picture = make("img", { src: pictureOf(id, this.index, 96), alt: label ?? path, loading: "lazy" });
    const button = make("button", { type: "button", className: "small", title: `${path}: look from here` }, picture);
    button.onclick = () => this.look(id);
    return button;
  }
}

customElements.define("hardness-lens", HardnessLens);
