import { closeOpened, followAddress, openTab, writeAddress } from "./address.js";
import { ALL_PHOTOS, browsingControls, browsingParameters, filtersOf, readBrowsing, VIEWS } from "./browsing.js";
import { ask, failure, indexChoice, make, openLens, OverIndexes } from "./dom.js";
import { showFigures } from "./figures.js";
import { listing } from "./listing.js";
import { lookDialog } from "./look.js";
import { showMarked } from "./marked.js";
import { photoSheet } from "./sheet.js";
import { showUnreadable } from "./unreadable.js";

/** All photos of an index, what is known of it, what could not be read, and what people have marked. */
class PhotoGallery extends OverIndexes {
  static sheets = ["gallery.css"];

  build(names) {
    this.names = names;
    this.looked = null; // what the dialog shows
    this.choice = indexChoice(names, (index) => this.go({ ...ALL_PHOTOS, index }));
    this.tabs = Object.entries(VIEWS).map(([view, words]) => {
      const tab = make("button", { type: "button", role: "tab", id: `tab-${view}`, tabIndex: -1 }, words);
      tab.onclick = () => this.go({ view });
      tab.dataset.view = view;
      return tab;
    });
    const list = make("div", { className: "tabs", role: "tablist", ariaLabel: "Views of the gallery" }, ...this.tabs);
    list.onkeydown = (event) => this.walkTabs(event);
    this.controls = browsingControls((changed, replace) => this.go(changed, { replace }));
    this.status = make("p", { className: "status", role: "status" });
    this.sheet = photoSheet({ onOpen: (place) => this.open(place), onRest: (at) => this.rest(at) });
    this.panes = {
      photos: make("div", { className: "photos" }, this.controls.element, this.status, this.sheet.element),
      figures: make("div", { className: "figures" }),
      failed: make("div"),
      marks: make("div"),
    };
    for (const [view, pane] of Object.entries(this.panes)) {
      pane.setAttribute("role", "tabpanel");
      pane.setAttribute("aria-labelledby", `tab-${view}`);
    }
    this.fill(make("div", { className: "gallery" }, make("div", { className: "top" }, list, this.choice), ...Object.values(this.panes)));
    this.dialog = lookDialog(this.shadowRoot.lastChild, {
      search: ({ id }) => document.querySelector("photo-search")?.searchItem(this.state.index, id),
      lens: ({ id }) => openLens(this.state.index, id),
      step: (by) => this.open(this.state.at + by, { replace: true }),
      close: () => closeOpened(() => this.go({ open: null }, { replace: true })),
    });
    followAddress("gallery", () => this.show(readBrowsing(), { scroll: true }), () => this.hideDialog());
    // Nothing is asked for before the tab is looked at.
    const seen = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      seen.disconnect();
      if (!this.state) this.show(readBrowsing());
    });
    seen.observe(this);
  }

  /** Change what is asked for: a step in the browser's history, unless it replaces the present one. */
  go(changed, how) {
    const state = { ...this.state, ...changed };
    writeAddress("gallery", browsingParameters(state), how);
    this.show(state);
  }

  /** Another place is at the top of the window. */
  rest(at) {
    const { state } = this;
    if (openTab() !== "gallery" || state.view !== "photos" || state.open !== null || this.photos !== this.shown) return;
    state.at = at;
    writeAddress("gallery", browsingParameters(state), { replace: true });
  }

  show(state, { scroll = false } = {}) {
    state.index ??= this.names[0];
    const { index, view } = this.state ?? {};
    this.state = state;
    this.choice.control.value = state.index;
    this.controls.show(state);
    for (const tab of this.tabs) {
      const chosen = tab.dataset.view === state.view;
      tab.ariaSelected = String(chosen);
      tab.tabIndex = chosen ? 0 : -1;
    }
    for (const [name, pane] of Object.entries(this.panes)) pane.hidden = name !== state.view;
    const key = JSON.stringify([state.index, state.sort, filtersOf(state)]);
    if (key !== this.key) this.listed = this.list(key);
    else if (scroll && this.looked === null) this.sheet.goTo(state.at);
    if (index !== state.index) this.count();
    if (index !== state.index || view !== state.view) this.showView();
    this.look();
  }

  /** Ask anew for what the filters let through. */
  async list(key) {
    const { index, sort } = this.state, filters = filtersOf(this.state), photos = listing({ index, sort, ...filters });
    this.key = key;
    this.photos = photos;
    try {
      const total = await photos.total();
      if (photos !== this.photos) return;
      const filtered = Object.keys(filters).length > 0;
      this.status.textContent = `${total.toLocaleString("en")} ${total === 1 ? "photo" : "photos"}${filtered ? " match" : ""} in ${index}`;
      const none = filtered ? "No photo passes these filters. Clear some of them." : "This index holds no photo that can be read.";
      this.total = total;
      this.sheet.show(photos, total, this.state.at, make("p", { className: "empty" }, none));
    } catch (error) {
      if (photos !== this.photos) return;
      this.key = undefined;
      this.status.textContent = "";
      this.sheet.show(photos, 0, 0, this.refusal(error, () => this.show(this.state)));
    }
    this.shown = photos;
  }

  refusal(error, again) {
    if (this.names.includes(this.state.index)) return failure(error.message, again);
    const [index] = this.names; // where an address names another that there is none of
    return failure(error.message, () => this.go({ ...ALL_PHOTOS, index }), `Show ${index}`);
  }

  /** The figures of another index. */
  async count() {
    const { index } = this.state;
    this.statistics = undefined;
    this.tabs[2].textContent = VIEWS.failed;
    await this.listed; // first, since whoever looks wants to see photos
    try {
      const found = await ask(`/v1/statistics?${new URLSearchParams({ index })}`);
      if (index !== this.state.index) return;
      this.statistics = found;
      this.controls.offer(found);
      if (found.failed) this.tabs[2].textContent = `${VIEWS.failed} (${found.failed})`;
      if (this.state.view === "figures") this.showView();
    } catch (error) {
      if (index === this.state.index) this.panes.figures.replaceChildren(this.refusal(error, () => this.count()));
    }
  }

  showView() {
    const { index, view } = this.state, pane = this.panes[view], isCurrent = () => index === this.state.index;
    if (view === "failed") showUnreadable(pane, index, isCurrent);
    if (view === "marks") showMarked(pane, index, isCurrent);
    if (view !== "figures") return;
    if (this.statistics) showFigures(pane, this.statistics, isCurrent, (label) => this.go({ ...ALL_PHOTOS, label, view: "photos" }));
    else pane.replaceChildren(make("p", { className: "status" }, "Counting …"));
  }

  walkTabs(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const names = Object.keys(VIEWS), view = names[(names.indexOf(this.state.view) + step + names.length) % names.length];
    this.go({ view });
    this.tabs.find((tab) => tab.dataset.view === view).focus();
  }

  /** Look at the photo of a place by itself. */
  async open(place, how) {
    const item = await this.photos.at(place).catch(() => undefined);
    if (item) this.go({ open: item.id, at: place }, how);
  }

  /** Show in the dialog what the state says; an item of an address may have another place by now, or none. */
  async look() {
    const { index, open, at } = this.state, before = this.looked;
    if (open === before?.open && index === before?.index) return;
    if (open === null) {
      this.hideDialog();
      if (before) this.sheet.focusOn(before.at);
      return;
    }
    const looked = (this.looked = { index, open, at });
    await this.listed;
    try {
      const there = await this.photos.at(at), isThere = there?.id === open;
      const item = isThere ? there : await ask(`/v1/items/${open}?${new URLSearchParams({ index })}`);
      const room = isThere ? { before: at, after: this.total - 1 - at } : { before: 0, after: 0 };
      if (looked === this.looked) this.dialog.show(item, index, room);
    } catch (error) {
      if (looked !== this.looked) return;
      this.go({ open: null }, { replace: true });
      this.status.textContent = error.message;
    }
  }

  hideDialog() {
    this.looked = null;
    this.dialog.hide();
  }
}

customElements.define("photo-gallery", PhotoGallery);
