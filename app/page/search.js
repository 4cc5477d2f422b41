import { closeOpened, followAddress, stepsBack } from "./address.js";
import { chips } from "./chips.js";
import { detailDialog } from "./detail.js";
import { ask, indexChoice, make, openLens, OverIndexes, pictureOf } from "./dom.js";
import { filterPanel } from "./filters.js";
import { photoGrid, scoreParts } from "./grid.js";
import { queryPanel } from "./query.js";
import { COUNTS, FILTERS, hasFilters, hasQuery, NO_FILTERS, NO_QUERY, parameters, readState, SWITCHES, writeState } from "./state.js";
import { empty, failed, noMatch, notice, nothing, photoElsewhere, tooLarge } from "./states.js";

const PHOTOS_KEPT = 20;
const SLOW = 700; // milliseconds after which a search tells why it may take long

/** Search by a photo that is chosen, dropped, pasted or taken, or by a photo of the gallery. */
class PhotoSearch extends OverIndexes {
  static sheets = ["search.css"];

  build(names) {
    this.names = names;
    this.photos = new Map(); // that were chosen on this page, by what the address calls them
    this.query = queryPanel(this, {
      onPhoto: (file) => this.takePhoto(file),
      onCrop: (crop) => this.go({ crop }),
      onClear: () => this.go({ ...NO_QUERY }),
      onFailure: (sentence) => this.tell(notice("No camera", sentence)),
    });
    this.count = make("select", { ariaLabel: "Number of results" }, ...COUNTS.map((k) => make("option", { value: k }, k)));
    this.count.onchange = () => this.go({ k: Number(this.count.value) });
    this.choice = indexChoice(names, (index) => this.changeIndex(index));
    this.filters = filterPanel((changed) => this.go(changed));
    this.status = make("p", { className: "status", role: "status" });
    this.chips = make("div", { className: "chips", role: "group", ariaLabel: "What shapes the results", hidden: true });
    this.place = make("div", { className: "notices" });
    const acts = {
      open: ({ id }) => this.go({ open: id }),
      more: ({ id }) => this.exemplify("more", id),
      less: ({ id }) => this.exemplify("less", id),
      search: ({ id }) => this.go({ ...NO_QUERY, id }),
      lens: ({ id }) => openLens(this.state.index, id),
    };
    this.grid = photoGrid(acts);
    const count = make("label", { className: "choice" }, "Results ", this.count);
    const keys = make("p", { className: "keys" }, ...[["/", "query"], ["←→↑↓", "photos"], ["Enter", "open"], ["+ −", "more, less"], ["s", "search from"]].map(([key, does]) => make("span", {}, make("kbd", {}, key), does)));
    const side = make("div", { className: "side" }, this.query.element, make("div", { className: "controls" }, count, this.choice), this.filters.element, keys);
    this.fill(make("div", { className: "search" }, side, make("div", { className: "found" }, this.chips, this.status, this.place, this.grid.element)));
    this.detail = detailDialog(this.shadowRoot.lastChild, {
      ...acts,
      open: (id) => this.go({ open: id }, { replace: true }),
      close: () => closeOpened(() => this.go({ open: null }, { replace: true })),
      siblings: () => this.grid.items().map(({ id }) => id),
      found: (id) => this.found(id),
      marked: () => this.marked(),
      question: () => this.question(),
      closed: (id) => this.grid.focus(id),
    });
    followAddress("search", () => this.show(readState()), () => this.detail.hide());
    window.addEventListener("keydown", (event) => this.slash(event));
    this.show(readState());
  }

  /** Change what is asked: a step in the browser's history. */
  go(changed, how) {
    const state = { ...this.state, ...changed };
    writeState(state, how);
    if (this.keyOf(state) !== this.shownKey && this.getBoundingClientRect().top < 0) this.scrollIntoView();
    this.show(state);
  }

  /** Search from an item of an index; for other elements. */
  searchItem(index, id) {
    this.go({ ...NO_QUERY, ...(index === this.state.index ? {} : NO_FILTERS), index, id });
  }

  takePhoto(file) {
    const sentence = tooLarge(file);
    if (sentence) {
      this.tell(notice("This photo is too large", sentence));
      return;
    }
    const photo = Date.now().toString(36);
    this.photos.set(photo, { file, picture: URL.createObjectURL(file) });
    const [oldest] = this.photos.keys();
    if (this.photos.size > PHOTOS_KEPT) {
      URL.revokeObjectURL(this.photos.get(oldest).picture);
      this.photos.delete(oldest);
    }
    // An address that somebody sent without its photo keeps the rest of what it asks.
    const asked = this.awaitsPhoto ? { more: this.state.more, less: this.state.less, crop: this.state.crop } : {};
    this.go({ ...NO_QUERY, ...asked, photo });
  }

  /** A photo that was sent is looked for in the other index as well; items and labels of one index mean nothing to another. */
  changeIndex(index) {
    const { photo, crop } = this.state;
    this.go({ ...NO_QUERY, ...NO_FILTERS, index, photo, crop: photo ? crop : null });
  }

  /** More or less like an item; once more takes it back. */
  exemplify(kind, id) {
    const other = kind === "more" ? "less" : "more", had = this.state[kind].includes(id);
    const without = (ids) => ids.filter((one) => one !== id);
    this.go({ [kind]: had ? without(this.state[kind]) : [...this.state[kind], id], [other]: without(this.state[other]), open: null });
  }

  slash(event) {
    const typing = event.composedPath()[0].matches?.("input, select, textarea");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || !this.checkVisibility() || this.detail.isOpen()) return;
    event.preventDefault();
    this.query.file.focus();
  }

  keyOf(state) {
    return JSON.stringify({ ...state, open: null });
  }

  /** Show a state: controls at once, results when they are answered. */
  show(state) {
    state.index ??= this.names[0];
    this.state = state;
    this.count.value = state.k;
    this.choice.control.value = state.index;
    this.filters.show(state);
    const key = this.keyOf(state);
    if (key !== this.shownKey) this.answer(key);
    else this.showChips(this.weights); // the step back may be another one by now
    this.detail.show(state.open, state.index, hasQuery(state));
  }

  /** What is asked, as parameters and options of a request; the name of the photo that it needs and that is not here, if any. */
  question() {
    const { state } = this, asked = parameters(state, ["index", "id", "crop", "more", "less"]), options = { method: "POST" };
    const photo = this.photos.get(state.photo);
    if (photo) {
      options.body = new FormData();
      options.body.append("image", photo.file);
    }
    const picture = photo?.picture ?? (state.id !== null ? pictureOf(state.id, state.index, 960) : null);
    return { asked, options, picture, name: photo?.file.name, missing: state.photo !== null && !photo };
  }

  async answer(key) {
    const { state } = this, { asked, options, picture, name, missing } = this.question(), again = () => this.answer(key);
    this.shownKey = key;
    this.awaitsPhoto = missing;
    this.waiting?.abort();
    this.waiting = new AbortController();
    const { signal } = this.waiting;
    this.query.show(picture, picture ? state.crop : null);
    this.showChips(null);
    this.place.replaceChildren();
    if (missing) {
      this.tell(photoElsewhere());
      return;
    }
    this.busy(true);
    try {
      if (hasQuery(state)) {
        for (const [one, value] of parameters(state, ["k", ...FILTERS, ...Object.keys(SWITCHES)])) asked.append(one, value);
        this.present(await ask(`/v1/search?${asked}`, { ...options, signal }), name);
      } else {
        const wanted = parameters(state, ["index", ...FILTERS]);
        if (hasFilters(state)) wanted.set("limit", state.k);
        this.list(await ask(`/v1/items?${wanted}`, { signal }));
      }
    } catch (error) {
      if (signal.aborted) return;
      this.tell(failed(error, { again, browse: () => this.browse() }));
    }
    if (!signal.aborted) this.busy(false);
  }

  /** Photos of the index, or of the default one where an address names another that there is none of. */
  browse() {
    const { index } = this.state;
    this.go({ ...NO_QUERY, ...NO_FILTERS, index: this.names.includes(index) ? index : this.names[0] });
  }

  present(answer, name) {
    const { state } = this, { results, verdict, calibration } = answer;
    this.calibration = calibration;
    this.grid.show(results, state.index, { calibration, query: this.marked(), more: state.more, less: state.less });
    this.detail.refresh();
    this.showChips(answer.weights);
    if (results.length === 0) this.place.append(this.none());
    const words = [`${results.length} photos${name ? ` like ${name}` : ""}`, `${Math.round(answer.elapsed_ms)} ms`];
    const summary = verdict ? [make("b", { className: verdict.replace(" ", "-") }, `${verdict[0].toUpperCase()}${verdict.slice(1)}`), " · "] : [];
    this.say(make("span", {}, ...summary, words.join(" · ")), make("small", {}, `model ${answer.model}, index ${answer.index}`));
  }

  /** Photos of an index: a few of all, to search from, or those that pass the filters. */
  list({ items, total }) {
    const { state } = this;
    this.grid.show(items, state.index);
    this.detail.refresh();
    if (total === 0) this.place.append(this.none());
    const words = hasFilters(state) ? `${total} photos in ${state.index} pass the filters.` : `${total} photos in ${state.index}. Choose one to look for its like.`;
    this.say(words);
  }

  /** Why there is nothing, as far as what is asked tells. */
  none() {
    const { state } = this;
    if (hasQuery(state) && state.min_score) return noMatch(() => this.go({ min_score: null }));
    return hasFilters(state) ? nothing(() => this.go({ ...NO_FILTERS })) : empty();
  }

  /** The query that results can be marked right or wrong for; examples alone are none. */
  marked() {
    const { id, photo, crop } = this.state, { file } = this.photos.get(photo) ?? {};
    if (!file && id === null) return null;
    return { ...(file ? { file } : { id }), ...(crop ? { crop } : {}) };
  }

  /** What is known of an item from the results, and the parts of its score if it has one. */
  found(id) {
    const item = this.grid.items().find((one) => one.id === id);
    return item && { ...item, parts: item.score === undefined ? [] : Object.values(scoreParts(item.score, item.verdict, this.calibration)) };
  }

  showChips(weights) {
    this.weights = weights;
    const onUndo = stepsBack() > 0 ? () => history.back() : null;
    const focused = this.chips.contains(this.shadowRoot.activeElement);
    const shown = chips(this.state, weights, { onChange: (changed) => this.go(changed), onUndo });
    this.chips.replaceChildren(...shown);
    this.chips.hidden = shown.length === 0;
    if (focused) (this.chips.querySelector("button") ?? this.count).focus();
  }

  busy(it) {
    this.grid.element.ariaBusy = String(it);
    clearTimeout(this.slow);
    if (!it) return;
    this.say("Searching …");
    this.slow = setTimeout(() => {
      const megapixels = Math.round(this.query.megapixels());
      if (this.state.photo && megapixels >= 20) this.say(`Searching … A photo of ${megapixels} megapixels takes a few seconds to read.`);
    }, SLOW);
  }

  say(...words) {
    this.status.replaceChildren(...words);
  }

  /** Put a state of its own in the place of results. */
  tell(shown) {
    this.busy(false);
    this.say();
    this.grid.show([], this.state.index);
    this.place.replaceChildren(shown);
  }
}

customElements.define("photo-search", PhotoSearch);
