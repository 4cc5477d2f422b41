import { lines, mirrored, short } from "./charts.js";
import { ask, failure, indexChoice, make, openLens, OverIndexes, pictureOf } from "./dom.js";
import { forget, marks } from "./marks.js";

const PAGE = 200; // items asked for at once
const CELL = 148; // pixels that a photo has at least
const GAP = 6;
const BEYOND = 3; // rows that are ready above and below the window
const SETTLED = 80; // milliseconds that a photo stays in view before its picture is asked for
const TALLEST = 30_000_000; // pixels; browsers draw nothing below
const SORTS = { id: "First indexed", newest: "Newest file", oldest: "Oldest file", path: "Path", label: "Label", largest: "Most pixels", smallest: "Fewest pixels" };
const TABS = { photos: "Photos", figures: "Figures", failed: "Unreadable", marks: "Marks" };

/** All photos of an index, what is known of it, what could not be read, and what people have marked. */
class PhotoGallery extends OverIndexes {
  constructor() {
    super();
    this.shadowRoot.insertBefore(make("link", { rel: "stylesheet", href: "/page/gallery.css" }), this.shadowRoot.lastChild);
  }

  build(names) {
    this.turn = 0; // of the newest question; an answer to an older one is not shown
    this.choice = indexChoice(names, (name) => this.open(name));
    this.tabs = Object.entries(TABS).map(([name, words]) => {
      const tab = make("button", { type: "button", role: "tab", id: `tab-${name}`, tabIndex: -1 }, words);
      tab.onclick = () => this.turnTo(name);
      tab.dataset.name = name;
      return tab;
    });
    const list = make("div", { className: "tabs", role: "tablist", ariaLabel: "Views of the gallery" }, ...this.tabs);
    list.onkeydown = (event) => this.walkTabs(event);
    this.panes = { photos: this.photos(), figures: make("div", { className: "figures" }), failed: make("div"), marks: make("div") };
    for (const [name, pane] of Object.entries(this.panes)) {
      pane.setAttribute("role", "tabpanel");
      pane.setAttribute("aria-labelledby", `tab-${name}`);
    }
    this.fill(make("div", { className: "gallery" }, make("div", { className: "top" }, list, this.choice), ...Object.values(this.panes)));
    this.turnTo("photos");
    // Nothing is asked for before the tab is looked at.
    const seen = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      seen.disconnect();
      this.open(names[0]);
    });
    seen.observe(this);
  }

  /** Show another index from its beginning. */
  async open(index) {
    this.index = index;
    this.choice.control.value = index;
    this.statistics = undefined;
    this.clear();
    this.turnTo(this.view);
    await this.refresh(); // first, since whoever looks wants to see photos
    try {
      if (index !== this.index) return;
      const found = await ask(`/v1/statistics?${new URLSearchParams({ index })}`);
      if (index !== this.index) return;
      this.statistics = found;
      this.offer(found);
      this.tabs[2].textContent = found.failed ? `${TABS.failed} (${found.failed})` : TABS.failed;
      if (this.view === "figures") this.showFigures();
    } catch (error) {
      if (index === this.index) this.panes.figures.replaceChildren(failure(error.message, () => this.open(index)));
    }
  }

  turnTo(view) {
    this.view = view;
    for (const tab of this.tabs) {
      const chosen = tab.dataset.name === view;
      tab.ariaSelected = String(chosen);
      tab.tabIndex = chosen ? 0 : -1;
    }
    for (const [name, pane] of Object.entries(this.panes)) pane.hidden = name !== view;
    if (!this.index) return;
    if (view === "photos") this.place();
    if (view === "figures") this.showFigures();
    if (view === "failed") this.showFailed();
    if (view === "marks") this.showMarks();
  }

  walkTabs(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const names = Object.keys(TABS), next = names[(names.indexOf(this.view) + step + names.length) % names.length];
    this.turnTo(next);
    this.tabs.find((tab) => tab.dataset.name === next).focus();
  }

  // Photos

  photos() {
    const field = (words, control) => make("label", { className: "field" }, make("span", {}, words), control);
    this.label = make("select", { ariaLabel: "Label" });
    this.attribute = make("select", { ariaLabel: "Attribute" });
    this.path = make("input", { type: "search", placeholder: "shop/*.jpg", ariaLabel: "Path, as a glob", spellcheck: false });
    this.since = make("input", { type: "date", ariaLabel: "Changed since" });
    this.until = make("input", { type: "date", ariaLabel: "Changed until" });
    this.side = make("input", { type: "number", min: 1, max: 100000, placeholder: "px", ariaLabel: "Least pixels of the shorter side" });
    this.sort = make("select", { ariaLabel: "Order" }, ...Object.entries(SORTS).map(([value, words]) => make("option", { value }, words)));
    const undo = make("button", { type: "button", className: "quiet", textContent: "Clear" });
    undo.onclick = () => { this.clear(); this.refresh(); };
    this.attributeField = field("Attribute", this.attribute);
    const filters = make("form", { className: "filters", ariaLabel: "Filters" },
      field("Label", this.label), this.attributeField, field("Path", this.path), field("Since", this.since), field("Until", this.until),
      field("Shorter side from", this.side), field("Order", this.sort), undo);
    filters.onsubmit = (event) => event.preventDefault();
    filters.onchange = () => this.refresh();
    filters.oninput = (event) => {
      if (event.target !== this.path && event.target !== this.side) return;
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.refresh(), 300);
    };
    this.count = make("p", { className: "status", role: "status" });
    this.sheet = make("div", { className: "sheet", role: "list", ariaLabel: "Photos" });
    this.sheet.onkeydown = (event) => this.walk(event);
    this.cells = new Map();
    let asked = false;
    const soon = () => {
      if (asked) return;
      asked = true;
      requestAnimationFrame(() => { asked = false; this.place(); });
    };
    window.addEventListener("scroll", soon, { passive: true, capture: true });
    new ResizeObserver(soon).observe(this.sheet);
    return make("div", { className: "photos" }, filters, this.count, this.sheet);
  }

  clear() {
    for (const control of [this.label, this.attribute, this.path, this.since, this.until, this.side]) control.value = "";
    this.sort.value = "id";
  }

  /** The labels and attributes that there are to filter by. */
  offer({ labels, attributes }) {
    const label = this.label.value, attribute = this.attribute.value;
    const option = (value, words) => make("option", { value }, words);
    this.label.replaceChildren(option("", "any"), ...labels.map((each) => option(each.label, `${each.label} (${each.items})`)));
    this.attribute.replaceChildren(option("", "any"), ...attributes.map(({ name, values }) =>
      make("optgroup", { label: name }, ...values.map(({ value, items }) => option(`${name}=${value}`, `${name}: ${value} (${items})`)))));
    this.attributeField.hidden = attributes.length === 0;
    this.label.value = label;
    this.attribute.value = attribute;
  }

  filters() {
    const asked = { label: this.label.value, attribute: this.attribute.value, path: this.path.value.trim(), since: this.since.value, until: this.until.value, min_side: this.side.value };
    return Object.fromEntries(Object.entries(asked).filter(([, value]) => value));
  }

  /** Ask anew for what the filters let through. */
  async refresh() {
    const turn = ++this.turn;
    this.asked = { index: this.index, sort: this.sort.value, ...this.filters() };
    this.pages = new Map();
    this.active = 0;
    try {
      const { total } = await this.pageOf(0);
      if (turn !== this.turn) return;
      this.total = total;
      for (const cell of this.cells.values()) cell.remove();
      this.cells.clear();
      const filtered = Object.keys(this.filters()).length > 0;
      this.count.textContent = `${total.toLocaleString("en")} ${total === 1 ? "photo" : "photos"}${filtered ? " match" : ""} in ${this.index}`;
      this.sheet.replaceChildren();
      if (total === 0) this.sheet.append(make("p", { className: "empty" }, filtered ? "No photo passes these filters. Clear some of them." : "This index holds no photo that can be read."));
      this.place();
    } catch (error) {
      if (turn !== this.turn) return;
      this.total = 0;
      this.count.textContent = "";
      this.cells.clear();
      this.sheet.style.height = "";
      this.sheet.replaceChildren(failure(error.message, () => this.refresh()));
    }
  }

  /** A page of items, asked for once. */
  pageOf(number) {
    if (!this.pages.has(number)) {
      const found = ask(`/v1/items?${new URLSearchParams({ ...this.asked, offset: number * PAGE, limit: PAGE })}`);
      found.catch(() => this.pages.delete(number));
      this.pages.set(number, found);
    }
    return this.pages.get(number);
  }

  /** Put the photos that lie in the window, and a few beside them, to their places; take away all others. */
  place() {
    const width = this.sheet.clientWidth;
    if (!this.total || !width || this.view !== "photos") return;
    this.columns = Math.max(3, Math.floor((width + GAP) / (CELL + GAP)));
    this.step = (width + GAP) / this.columns;
    const rows = Math.ceil(this.total / this.columns);
    this.sheet.style.height = `${Math.min(TALLEST, rows * this.step - GAP)}px`;
    const top = -this.sheet.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(top / this.step) - BEYOND) * this.columns;
    const last = Math.min(this.total, Math.max(0, Math.ceil((top + innerHeight) / this.step) + BEYOND) * this.columns);
    for (const [place, cell] of this.cells) {
      if (place >= first && place < last) continue;
      cell.querySelector("img")?.removeAttribute("src"); // what is still on its way is not waited for
      cell.remove();
      this.cells.delete(place);
    }
    let after = this.sheet.firstChild;
    for (let place = first; place < last; place++) {
      let cell = this.cells.get(place);
      if (!cell) {
        cell = this.cell(place);
        this.cells.set(place, cell);
        this.sheet.insertBefore(cell, after);
      } else after = cell.nextSibling;
      const side = this.step - GAP;
      Object.assign(cell.style, { width: `${side}px`, height: `${side}px`, transform: `translate(${(place % this.columns) * this.step}px, ${Math.floor(place / this.columns) * this.step}px)` });
    }
  }

  cell(place) {
    const cell = make("div", { className: "cell", role: "listitem", ariaSetSize: String(this.total), ariaPosInSet: String(place + 1) });
    setTimeout(() => cell.isConnected && this.furnish(cell, place), SETTLED);
    return cell;
  }

  async furnish(cell, place) {
    const { turn, index } = this;
    const page = await this.pageOf(Math.floor(place / PAGE)).catch(() => undefined);
    const item = page?.items[place % PAGE];
    if (turn !== this.turn || !cell.isConnected || !item) return;
    const picture = make("img", { src: pictureOf(item.id, index), alt: "", decoding: "async" });
    picture.onerror = () => cell.classList.add("unseen");
    const name = item.label ?? item.path;
    const button = make("button", { type: "button", tabIndex: place === this.active ? 0 : -1, title: item.path, ariaLabel: item.path }, picture, make("span", {}, name));
    button.onclick = () => this.look(place);
    cell.replaceChildren(button);
    if (this.wanted === place) {
      this.wanted = undefined;
      button.focus({ preventScroll: true });
    }
  }

  /** Arrow keys go from photo to photo. */
  walk(event) {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns, Home: -this.total, End: this.total };
    if (!(event.key in steps)) return;
    event.preventDefault();
    this.focusOn(Math.min(this.total - 1, Math.max(0, this.active + steps[event.key])));
  }

  focusOn(place) {
    const before = this.cells.get(this.active)?.querySelector("button");
    if (before) before.tabIndex = -1;
    this.active = this.wanted = place;
    const top = this.sheet.getBoundingClientRect().top + Math.floor(place / this.columns) * this.step;
    if (top < 80) window.scrollBy(0, top - 80);
    else if (top + this.step > innerHeight) window.scrollBy(0, top + this.step - innerHeight + 8);
    this.place();
    const button = this.cells.get(place)?.querySelector("button");
    if (!button) return;
    this.wanted = undefined;
    button.tabIndex = 0;
    button.focus({ preventScroll: true });
  }

  /** A photo by itself, with what is known of it and the photos most like it. */
  async look(place) {
    const { index } = this;
    const item = (await this.pageOf(Math.floor(place / PAGE))).items[place % PAGE];
    if (!item) return;
    const old = this.shadowRoot.querySelector("dialog");
    const dialog = make("dialog", { className: "look", ariaLabel: item.path });
    const action = (words, quiet, act) => {
      const button = make("button", { type: "button", className: quiet ? "quiet" : "", textContent: words });
      button.onclick = act;
      return button;
    };
    const leave = (then) => () => { dialog.close(); then?.(); };
    const go = (step) => place + step >= 0 && place + step < this.total && this.look(place + step);
    const picture = make("img", { className: "large", src: pictureOf(item.id, index, 960), alt: item.path, width: item.width ?? 960, height: item.height ?? 960 });
    const known = [
      ["Path", item.path],
      ["Label", item.label ?? "none"],
      ...Object.entries(item.attributes),
      ["Pixels", item.width === null ? "unknown" : `${item.width} × ${item.height}`],
      ["File", item.size === null ? "none; a vector from a table" : `${bytes(item.size)}, changed ${day(item.changed)}`],
      ["Id", String(item.id)],
    ];
    const table = make("dl", {}, ...known.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
    const similar = make("ol", { className: "similar" });
    const close = make("button", { type: "button", className: "quiet", ariaLabel: "Close", title: "Close", textContent: "✕" });
    close.onclick = leave();
    const actions = make("div", { className: "controls" },
      action("Search from it", false, leave(() => searchFrom(index, item.id))),
      action("Hardness lens", true, leave(() => openLens(index, item.id))));
    const beside = [["←", "Previous photo", -1], ["→", "Next photo", 1]].map(([words, ariaLabel, step]) => {
      const button = action(words, true, () => go(step));
      return Object.assign(button, { ariaLabel, title: ariaLabel, disabled: place + step < 0 || place + step >= this.total });
    });
    const heading = make("div", { className: "heading" }, make("h2", {}, item.label ?? item.path), make("div", { className: "beside" }, ...beside, close));
    const words = make("div", { className: "words" }, heading, table, actions, make("h3", {}, "Most like it"), similar);
    dialog.append(make("div", { className: "stage" }, picture), words);
    dialog.onkeydown = (event) => {
      if (event.key === "ArrowRight" || event.key === "ArrowLeft") go(event.key === "ArrowRight" ? 1 : -1);
    };
    dialog.onclose = () => {
      if (!dialog.isConnected) return;
      dialog.remove();
      this.focusOn(place);
    };
    this.active = place;
    this.shadowRoot.lastChild.append(dialog);
    old?.remove();
    dialog.showModal();
    try {
      const { results } = await ask(`/v1/search?${new URLSearchParams({ index, id: item.id, k: 8 })}`, { method: "POST" });
      similar.replaceChildren(...results.map((result) => this.like(index, item, result)));
    } catch (error) {
      similar.replaceChildren(make("li", { className: "failed" }, error.message));
    }
  }

  like(index, item, result) {
    const picture = make("img", { src: pictureOf(result.id, index), alt: result.path, loading: "lazy" });
    const name = result.label ?? result.path;
    const score = make("span", { className: "value", title: "Cosine similarity of the embeddings: 1 is the same direction" }, result.score.toFixed(3));
    return make("li", {}, picture, make("b", { title: result.path }, name), make("div", { className: "verdicts" }, score, marks(index, { id: item.id }, result)));
  }

  // Figures

  async showFigures() {
    const found = this.statistics, { index } = this;
    if (!found) return this.panes.figures.replaceChildren(make("p", { className: "status" }, "Counting …"));
    const generations = await ask(`/v1/generations?${new URLSearchParams({ index })}`).catch(() => undefined);
    if (index !== this.index) return;
    const head = make("dl", { className: "head" }, ...[
      ["Photos", found.items.toLocaleString("en")],
      ["Labels", found.labels.length.toLocaleString("en")],
      ["Without a label", found.unlabelled.toLocaleString("en")],
      ["Files of photos", bytes(found.bytes.photos)],
      ["Index on disk", bytes(found.bytes.index)],
      ["Model", found.model],
      ["Up to date as of", day(found.updated)],
    ].map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
    const cards = [this.labelBars(found), calibration(found.calibration), quality(found.quality), sideBars(found.sides)];
    if (generations) cards.push(bases(generations));
    this.panes.figures.replaceChildren(head, make("div", { className: "cards" }, ...cards));
  }

  labelBars({ labels }) {
    const sorted = [...labels].sort((a, b) => b.items - a.items || (a.label < b.label ? -1 : 1));
    const most = sorted[0]?.items ?? 1;
    const row = ({ label, items }) => {
      const bar = make("i");
      bar.style.width = `${(100 * items) / most}%`;
      const button = make("button", { type: "button", className: "bare", title: `Show the photos of ${label}` }, make("span", { className: "of" }, label), make("span", { className: "track" }, bar), make("span", { className: "number" }, items.toLocaleString("en")));
      button.onclick = () => {
        this.clear();
        this.label.value = label;
        this.turnTo("photos");
        this.refresh();
      };
      return make("li", {}, button);
    };
    const list = make("ol", { className: "bars" }, ...sorted.slice(0, 24).map(row));
    const card = section("Labels", "Number of photos of each; choose one to see them.", sorted.length ? list : make("p", { className: "note" }, "No photo has a label: photos get that of the folder they lie in."));
    if (sorted.length > 24) {
      const all = make("button", { type: "button", className: "quiet", textContent: `Show all ${sorted.length}` });
      all.onclick = () => { list.replaceChildren(...sorted.map(row)); all.remove(); };
      card.append(all);
    }
    return card;
  }

  // Unreadable

  async showFailed(offset = 0) {
    const pane = this.panes.failed, { index } = this;
    try {
      const { failures, total } = await ask(`/v1/failures?${new URLSearchParams({ index, offset, limit: PAGE })}`);
      if (index !== this.index) return;
      if (total === 0) return pane.replaceChildren(make("p", { className: "empty" }, "Every photo file of this gallery could be read."));
      const rows = failures.map(({ path, reason }) => make("tr", {}, make("th", { scope: "row" }, path), make("td", {}, reason)));
      if (offset) pane.querySelector("tbody").append(...rows);
      else pane.replaceChildren(
        make("p", { className: "status" }, `${total} ${total === 1 ? "file" : "files"} could not be read. The next hdml index tries ${total === 1 ? "it" : "them"} again.`),
        make("div", { className: "scroll" }, make("table", { className: "plain" }, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "File"), make("th", { scope: "col" }, "Reason"))), make("tbody", {}, ...rows))));
      pane.querySelector(".more")?.remove();
      if (offset + failures.length < total) {
        const more = make("button", { type: "button", className: "quiet more", textContent: "Show more" });
        more.onclick = () => this.showFailed(offset + PAGE);
        pane.append(more);
      }
    } catch (error) {
      if (index === this.index) pane.replaceChildren(failure(error.message, () => this.showFailed()));
    }
  }

  // Marks

  async showMarks() {
    const pane = this.panes.marks, { index } = this;
    const asked = new URLSearchParams({ index });
    try {
      const { marks: found, total } = await ask(`/v1/feedback?${asked}`);
      if (index !== this.index) return;
      if (total === 0) {
        pane.replaceChildren(make("p", { className: "empty" }, "Nothing is marked yet. Mark results as right or wrong where you search, or beside a photo here; training can learn from it."));
        return;
      }
      const command = `hdml train PHOTOS --feedback ${/^[\w.-]+$/.test(index) ? index : `'${index.replaceAll("'", "'\\''")}'`}`;
      const copy = make("button", { type: "button", className: "quiet", textContent: "Copy" });
      copy.onclick = async () => { await navigator.clipboard.writeText(command); copy.textContent = "Copied"; };
      const right = found.filter((mark) => mark.right).length;
      const table = make("a", { href: `/v1/feedback?${asked}&format=csv`, download: "marks.csv" }, "CSV");
      const json = make("a", { href: `/v1/feedback?${asked}`, download: "marks.json" }, "JSON");
      pane.replaceChildren(
        make("p", { className: "status" }, `${right} marked right and ${total - right} wrong. Download them as `, table, " or ", json, ", or train with them:"),
        make("div", { className: "command" }, make("code", {}, command), copy),
        make("ol", { className: "marked" }, ...[...found].reverse().map((mark) => this.mark(index, mark))));
    } catch (error) {
      if (index === this.index) pane.replaceChildren(failure(error.message, () => this.showMarks()));
    }
  }

  mark(index, mark) {
    const photo = (present, source, name) => {
      const shown = present ? make("img", { src: source, alt: "", loading: "lazy" }) : make("span", { className: "gone" }, "gone");
      return make("figure", {}, shown, make("figcaption", { title: name }, name));
    };
    const asked = mark.photo === null ? pictureOf(mark.query, index) : `/v1/feedback/${mark.id}/photo?${new URLSearchParams({ index })}`;
    const word = make("b", { className: mark.right ? "kept" : "lost" }, mark.right ? "right" : "wrong");
    const undo = make("button", { type: "button", className: "quiet", textContent: "Take back", ariaLabel: `Take back the mark of ${mark.item_path}` });
    undo.onclick = async () => {
      await ask(`/v1/feedback/${mark.id}?${new URLSearchParams({ index })}`, { method: "DELETE" }).catch(() => {});
      forget(index);
      this.showMarks();
    };
    return make("li", {}, photo(mark.query_present, asked, mark.query_path), word, photo(mark.item_present, pictureOf(mark.item, index), mark.item_path), make("small", {}, day(mark.marked)), undo);
  }
}

function section(title, note, ...children) {
  return make("section", {}, make("h3", {}, title), make("p", { className: "note" }, note), ...children);
}

function sideBars(sides) {
  const shown = sides.slice(sides.findIndex(({ items }) => items), sides.findLastIndex(({ items }) => items) + 1);
  const most = Math.max(...shown.map(({ items }) => items), 1);
  const bars = shown.map(({ from, below, items }) => {
    const bar = make("i");
    bar.style.height = `${(100 * items) / most}%`;
    const range = below === null ? `${from} and more` : `${from}–${below - 1}`;
    return make("li", {}, make("span", { className: "number" }, items.toLocaleString("en")), make("span", { className: "column" }, bar), make("span", { className: "of" }, range));
  });
  return section("Sizes", "Photos by their shorter side, in pixels.", make("ol", { className: "columns" }, ...bars));
}

/** What was measured of the base, each figure with its meaning; as hdml info --json gives them. */
function quality(found) {
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

function calibration(found) {
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

function bases({ bases: found, models, changed_since: since, migration }) {
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

/** Search from an item in the tab beside. */
function searchFrom(index, id) {
  [...document.querySelectorAll('button[role="tab"]')].find((button) => button.textContent.trim() === "Search")?.click();
  document.querySelector("photo-search")?.searchItem(index, id);
}

function bytes(count) {
  const units = ["bytes", "kB", "MB", "GB", "TB"], unit = Math.min(4, Math.floor(Math.log10(Math.max(1, count)) / 3));
  return `${+(count / 1000 ** unit).toPrecision(3)} ${units[unit]}`;
}

function day(moment) {
  return moment === null ? "unknown" : new Date(moment).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}

customElements.define("photo-gallery", PhotoGallery);
