import { ask, failure, indexChoice, isDark, make, OverIndexes, pictureOf, wish } from "./dom.js";

/** One anchor, its positive and negatives, and what the trained synthesis makes of them. */
class HardnessLens extends OverIndexes {
  build(names) {
    this.turn = 0; // of the newest look; an answer to an older one is not shown
    this.labels = make("select", { ariaLabel: "Label of the anchor" });
    this.labels.onchange = () => this.listItems();
    const surprise = make("button", { type: "button", textContent: "Surprise me" });
    surprise.onclick = () => this.look();
    this.choice = indexChoice(names, (name) => this.look(null, null, name));
    this.items = make("div", { className: "strip", ariaLabel: "Photos of the label" });
    this.status = make("p", { className: "status", role: "status" });
    // Plotly's style sheet is the document's, so that the figure is drawn there and shown here through a slot.
    this.plot = make("div", { slot: "plot", className: "plot" });
    this.append(this.plot);
    this.hint = make("div", { className: "hint", hidden: true });
    this.caption = make("p", { className: "caption" });
    this.table = make("div", { className: "table" });
    const controls = make("div", { className: "controls" }, make("label", { className: "choice" }, "Anchor from ", this.labels), surprise, this.choice);
    const frame = make("div", { className: "frame" }, make("slot", { name: "plot" }), this.hint);
    const view = make("div", { className: "view" }, make("figure", {}, frame, this.caption), this.table);
    this.fill(make("div", { className: "hardness" }, controls, this.items, this.status, view));
    window.addEventListener("hdml-look", () => this.look(wish.anchor, null, wish.index));
    new MutationObserver(() => this.shown && this.look(this.shown.anchor.id, this.shown.positive.id, this.shown.index)).observe(
      document.body,
      { attributeFilter: ["class"] },
    );
    this.look(wish.anchor, null, wish.index ?? names[0]);
  }

  /** Look around an anchor; without one, around a random one. */
  async look(anchor, positive, index = this.index) {
    const turn = ++this.turn;
    this.index = this.choice.control.value = index;
    const parameters = new URLSearchParams({ index, theme: isDark() ? "dark" : "light" });
    if (anchor != null) parameters.set("anchor", anchor);
    if (positive != null) parameters.set("positive", positive);
    try {
      if (index !== this.listed) await this.listLabels(index);
      const shown = await ask(`/v1/lens?${parameters}`);
      if (turn === this.turn) this.show(shown);
    } catch (error) {
      if (turn === this.turn) this.refuse(error.message);
    }
  }

  async listLabels(index) {
    const { labels } = await ask(`/v1/labels?${new URLSearchParams({ index })}`);
    if (index !== this.index) return;
    this.labels.replaceChildren(...labels.map(({ label, items }) => make("option", { value: label }, `${label} (${items})`)));
    this.items.replaceChildren();
    this.listed = index;
  }

  async listItems() {
    const { index } = this, label = this.labels.value;
    const isCurrent = () => index === this.index && label === this.labels.value;
    try {
      const { items, total } = await ask(`/v1/items?${new URLSearchParams({ index, label })}`);
      if (!isCurrent()) return;
      const photos = items.map((item) => this.photo(item, index));
      items.forEach((item, i) => photos[i].classList.toggle("chosen", item.id === this.shown?.anchor.id));
      this.items.replaceChildren(...photos);
      if (total > items.length) this.items.append(make("span", { className: "more" }, `and ${total - items.length} more`));
    } catch (error) {
      if (isCurrent()) this.items.replaceChildren(failure(error.message, () => this.listItems()));
    }
  }

  refuse(sentence) {
    this.shown = undefined;
    this.status.textContent = sentence;
    this.status.classList.add("failed");
    Plotly.purge(this.plot);
    this.hint.hidden = true;
    this.caption.textContent = "";
    this.table.replaceChildren();
    if (this.labels.value) this.listItems();
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
      `${Math.round(100 * look.angle_share)} % of the variation among directions. The dashed circle is d⁺, the distance of the positive. ` +
      "Re-embedded: the distance once the anchor, too, has passed generator and head, at inference, with running statistics; " +
      "training uses those of each batch.";
    this.table.replaceChildren(this.ruler(look));
  }

  draw(look) {
    const { data, layout } = look.figure;
    Plotly.react(this.plot, data, layout, { displayModeBar: false, responsive: true });
    for (const kind of ["hover", "unhover", "click"]) this.plot.removeAllListeners(`plotly_${kind}`);
    this.plot.on("plotly_hover", ({ points: [point], event }) => {
      const [id, label, distance] = point.customdata;
      const picture = make("img", { src: pictureOf(id, look.index, 96), alt: "" });
      const made = point.data.name === "synthetics" || point.data.name === "pulled negatives";
      const text = `${made ? `${point.data.name.replace(/s$/, "")} of ` : ""}${label ?? "no label"}`;
      this.hint.replaceChildren(picture, make("span", {}, make("b", {}, text), ` at ${distance.toFixed(3)}`, make("small", {}, label === null ? "" : "Click to look from it.")));
      const frame = this.plot.getBoundingClientRect();
      this.hint.style.left = `${event.clientX - frame.left + 12}px`;
      this.hint.style.top = `${event.clientY - frame.top + 12}px`;
      this.hint.hidden = false;
    });
    this.plot.on("plotly_unhover", () => (this.hint.hidden = true));
    this.plot.on("plotly_click", ({ points: [point] }) => {
      const [id, label] = point.customdata;
      if (label !== null) this.look(id, null, look.index); // photos without a label can be no anchors
    });
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

  /** A small photo of an index, to look from. */
  photo({ id, label, path }, index = this.shown.index) {
    const picture = make("img", { src: pictureOf(id, index, 96), alt: label ?? path, loading: "lazy" });
    const title = `Look from ${path}`;
    const button = make("button", { type: "button", className: "small", title, ariaLabel: title }, picture);
    button.onclick = () => this.look(id, null, index);
    return button;
  }
}

customElements.define("hardness-lens", HardnessLens);
